"""The error estimate of a fixed rule, against the integral with very many points."""

import pytest
import torch
from torch.nn import functional as Fn

from vtcav.method import attribution
from vtcav.method.integral.constants import COMPLETENESS, ROUGH
from vtcav.method.integral.trapezoid import (
    FLOOR,
    coarser,
    completeness_gap,
    fixed_rule_error,
    integrate,
    trapezoid,
)

N, T, K, C, SIDE = 6, 4, 5, 12, 5


def draw(*shape, seed, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


WIDE, MIDDLE, LAST = (
    draw(40, C * SIDE**2, seed=1, scale=0.1),
    draw(40, 40, seed=2, scale=0.25),
    draw(T, 40, seed=3, scale=0.3),
)
BIASES, POOLED = draw(2, 40, seed=4, scale=0.3), draw(T, C, seed=5)
KERNEL, BEHIND = draw(16, C, 3, 3, seed=6, scale=0.12), draw(T, 16, seed=7, scale=0.5)


def perceptron(act, biases=BIASES):
    def head(F):
        inner = act(F.flatten(1) @ WIDE.T + biases[0])
        return act(inner @ MIDDLE.T + biases[1]) @ LAST.T

    return head


HEADS = {
    "relu": perceptron(torch.relu),
    "silu": perceptron(Fn.silu),
    "tanh": perceptron(torch.tanh),
    "steep": perceptron(lambda x: torch.sigmoid(20 * x)),
    "max pooling": lambda F: Fn.max_pool2d(Fn.conv2d(F, KERNEL).relu(), 3).mean((2, 3)) @ BEHIND.T,
    "temperature": lambda F: 5 * (30 * F.mean((2, 3))).softmax(1) @ POOLED.T,
    "layer norm": lambda F: Fn.layer_norm(F.mean((2, 3)), (C,)) @ POOLED.T,
    "dead near zero": lambda F: 3 * (F - 0.4).relu().mean((2, 3)) @ POOLED.T,
}
EXACT = {
    "linear": lambda F: F.flatten(1) @ WIDE[:T].T + 1,
    "without bias": perceptron(torch.relu, torch.zeros(2, 1)),
}


def measure(head, steps, seed=8):
    """Return the true and the estimated error [N, T, K], and the completeness gaps [N, 1, 1]."""
    F = draw(N, C, SIDE, SIDE, seed=seed).relu() * draw(N, C, 1, 1, seed=seed + 1).abs()
    M = draw(N, K, SIDE, SIDE, seed=seed + 2).abs() ** 3
    p = draw(N, K, C, seed=seed + 3).relu()
    M, p = M / M.amax((2, 3), keepdim=True), p / p.amax(2, keepdim=True)
    with torch.no_grad():
        z, z0 = head(F), head(torch.zeros_like(F[:1]))
    s = attribution.class_share(z, z0)
    classes = torch.arange(T).expand(N, T)

    def relevance(IG):
        B = attribution.positive_relevance(IG, F)
        return B, attribution.concept_attribution(B, s, M, p)

    found = integrate(head, F, classes, *trapezoid(steps), batch_size=64, coarse=coarser(steps))
    fine = integrate(head, F, classes, *trapezoid(1000), batch_size=128)
    (B, a), (coarse_B, coarse) = relevance(found.IG), relevance(found.coarse)
    gap = completeness_gap(found.IG, F, z - z0)
    true = (a - relevance(fine.IG)[1]).abs() / a.clamp(min=FLOOR)
    return true, fixed_rule_error(gap, a, coarse, B, coarse_B), gap[:, None, None]


@pytest.mark.parametrize("head", HEADS)
def test_the_estimate_covers_the_error_or_a_note_is_due(head):
    for steps in (1, 2, 3, 8, 16, 50):
        true, error, gap = measure(HEADS[head], steps)
        noted = (gap > COMPLETENESS) | (error > ROUGH)
        assert (noted | (true <= 2 * error + 1e-4)).all(), steps


@pytest.mark.parametrize("head", EXACT)
def test_exact_heads_need_no_note(head):
    for steps in (8, 9, 50):
        true, error, gap = measure(EXACT[head], steps)
        assert true.max() < 1e-4
        assert error.max() < ROUGH
        assert gap.max() < COMPLETENESS
    assert measure(EXACT["linear"], 1)[1].max() < 1e-4


def test_the_coarser_rule_is_one_of_half_the_steps():
    F = draw(2, C, SIDE, SIDE, seed=9)
    classes = torch.arange(T).expand(2, T)
    found = integrate(HEADS["silu"], F, classes, *trapezoid(8), batch_size=5, coarse=coarser(8))
    half = integrate(HEADS["silu"], F, classes, *trapezoid(4), batch_size=64)
    torch.testing.assert_close(found.coarse, half.IG)
    for steps in (1, 2, 3, 7, 8):
        assert float(coarser(steps) @ trapezoid(steps)[1]) == pytest.approx(1)
