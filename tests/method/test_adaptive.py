"""The adaptive rule: what it costs, that its errors hold, and that nothing fools it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import vtcav
from tests.helpers.small import with_weights
from vtcav.datasets import demo_photographs
from vtcav.method import attribution
from vtcav.method.integral.adaptive import integrate_adaptive
from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.refined_trapezoid import integrate_by_refinement
from vtcav.method.integral.rescale_gradients import zero_pass
from vtcav.method.integral.trapezoid import integrate

few = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def random_maps(N, C, size, seed):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(N, C, *size))).float()


BOTH = pytest.mark.parametrize("rule", [integrate_adaptive, integrate_by_refinement])


@few
@given(st.integers(1, 3), st.integers(1, 4), seeds)
def test_a_linear_head_stops_at_once(N, C, seed):
    head = with_weights(nn.Sequential(nn.Flatten(), nn.Linear(4 * C, 3)), seed)
    F = random_maps(N, C, (2, 2), seed)
    classes = torch.arange(3).expand(N, -1)
    p = torch.from_numpy(np.random.default_rng(seed).uniform(size=C)).float()

    def attributions(IG, on):
        return torch.einsum("ntchw,nchw,c->nt", IG, F[on], p)[..., None]

    for rule, points in ((integrate_adaptive, 1), (integrate_by_refinement, 3)):
        given = Integrand(head, F, classes, head(F) - head(0 * F), attributions)
        integral = rule(given, tolerance=0.01, batch_size=4)
        assert integral.evaluations.tolist() == [points] * N
        assert integral.converged.all()
        assert integral.error.max() <= 1e-4
        weight = head[1].weight.detach().reshape(1, 3, C, 2, 2)
        torch.testing.assert_close(integral.IG, weight.expand(N, -1, -1, -1, -1), rtol=0, atol=1e-6)


def ramps(F, *ramps):
    """A head of two channels: the sum of gain * ReLU(sum(F_c) - threshold) over (c, ...)."""
    totals = F.sum((2, 3))
    return sum(gain * (totals[:, c] - threshold).relu() for c, gain, threshold in ramps)[:, None]


def first_channel_share(rule, head):
    """Attribute the one logit of a head to the first channel of F = 1, as steps 6 and 8 do."""
    F = torch.ones(1, 2, 1, 2)
    s = torch.ones(1, 1)

    def attributions(IG, on):
        B = attribution.positive_relevance(IG, F[on])
        one = torch.ones(len(on), 1, 1, 2)
        return attribution.concept_attribution(B, s[on], one, torch.tensor([[[1.0, 0.0]]])[on])

    difference = (head(F) - head(0 * F)).detach()
    given = Integrand(head, F, torch.tensor([[0]]), difference, attributions)
    integral = rule(given, tolerance=0.01, batch_size=4)
    return float(attributions(integral.IG, torch.tensor([0]))), integral


@BOTH
def test_a_head_that_is_dead_at_zero_is_not_taken_for_a_linear_one(rule):
    # between alpha = 0.1 and 0.4, where the first three points do not look, channel 0 has slope 3
    share, integral = first_channel_share(
        rule, lambda F: ramps(F, (0, 3, 0.2), (0, -2, 0.8), (1, 1, 0.2))
    )
    assert share == pytest.approx(1.5 / 2.4, rel=float(integral.error))
    assert integral.evaluations == 1 if rule is integrate_adaptive else integral.evaluations > 9


@BOTH
def test_a_rise_between_the_points_is_found(rule):
    share, integral = first_channel_share(rule, lambda F: ramps(F, (0, 1, 0.1), (0, -1, 0.15)))
    assert share == pytest.approx(1, abs=1e-5)
    assert integral.converged


@BOTH
def test_a_rise_close_to_zero_is_found(rule):
    share, integral = first_channel_share(rule, lambda F: ramps(F, (0, 1, 0.003), (0, -1, 0.005)))
    assert share == pytest.approx(1, abs=1e-3)
    assert integral.converged
    assert integral.evaluations < 120


def twice(F):
    """Two activations in a row, the second of which switches late: 0.9 of the way."""
    first = (F[:, :1] - 0.1).relu() + F[:, 1:]
    return (first.sum((2, 3)) - 3.2).relu() + 0.1 * first.sum((2, 3))


def test_activations_in_a_row_are_refined_until_the_error_holds():
    F = torch.ones(1, 2, 1, 2)
    classes, difference = torch.tensor([[0]]), (twice(F) - twice(0 * F)).detach()

    def attributions(IG, on):
        return (IG * F[on][:, None])[:, :, :1].sum((3, 4))

    fine = integrate(twice, F, classes, *graded(4096, 1), batch_size=512)
    true = float(attributions(fine.IG, torch.tensor([0])))
    for tolerance in (0.03, 0.003):
        found = integrate_adaptive(
            Integrand(twice, F, classes, difference, attributions),
            tolerance=tolerance,
            batch_size=16,
        )
        error = abs(float(attributions(found.IG, torch.tensor([0]))) / true - 1)
        assert found.converged
        assert error <= float(found.error)
        assert error <= tolerance


def graded(count, power=8):
    """Midpoints in u of alpha = u^power: most of them close to 0."""
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return (u**power).float(), (power * u ** (power - 1) / count).float()


@few
@given(st.integers(3, 8), st.sampled_from([1e-6, 1e-5, 1e-3]), seeds)
def test_adaptive_sees_what_a_normalisation_does_close_to_zero(C, eps, seed):
    layers = nn.Linear(C, 6), nn.GELU(), nn.Linear(6, 2)
    rest = with_weights(nn.Sequential(*layers), seed).requires_grad_(False)

    def head(F):
        return rest(nn.functional.layer_norm(F.mean((2, 3)), (C,), eps=eps))

    F = random_maps(1, C, (2, 2), seed).abs() * (1 + torch.arange(C)[:, None, None])
    p = torch.from_numpy(np.random.default_rng(seed).uniform(size=(1, 2, C))).float()
    s, M = torch.ones(1, 2), torch.ones(1, 2, 2, 2)

    def attributions(IG, on):
        B = attribution.positive_relevance(IG, F[on])
        return attribution.concept_attribution(B, s[on], M[on], p[on])

    classes, difference = torch.tensor([[0, 1]]), (head(F) - head(0 * F)).detach()
    found = integrate_adaptive(
        Integrand(head, F, classes, difference, attributions), tolerance=0.01, batch_size=64
    )
    fine = integrate(head, F, classes, *graded(4096), batch_size=512)
    on = torch.tensor([0])
    true, ours = attributions(fine.IG, on), attributions(found.IG, on)
    # equidistant points are off by 10 % and more
    assert ((true - ours).abs() / true.clamp(min=0.01)).max() <= 0.06
    assert found.evaluations <= 300


def test_few_intervals_do_on_real_weights():
    model = vtcav.load_model("demo", device="cpu")
    x = model.preprocess(demo_photographs.photograph("coffee"))[None]
    layer = "_blocks.10"
    maps, z = model.activations_and_logits(x, [layer])
    F, head = maps[layer], model.head(layer)
    classes, difference = z.topk(2).indices, (z - head(0 * F)).detach()
    s, M = attribution.class_share(z, z - difference), torch.ones(1, 3, *F.shape[2:])
    p = torch.from_numpy(np.random.default_rng(0).uniform(size=(1, 3, F.shape[1]))).float()

    def attributions(IG, on):
        B = attribution.positive_relevance(IG, F[on])
        return attribution.concept_attribution(B, s[on][:, classes[0]], M[on], p[on] ** 8)

    assert zero_pass(head, F).depth == 11
    found = integrate_adaptive(
        Integrand(head, F, classes, difference.gather(1, classes), attributions),
        tolerance=0.01,
        batch_size=32,
    )
    fine = integrate(head, F, classes, *graded(256, 1), batch_size=32)
    true, ours = (attributions(IG, torch.tensor([0])) for IG in (fine.IG, found.IG))
    error = (ours - true).abs() / true.clamp(min=0.01)
    assert (error <= found.error).all()
    assert error.max() <= 0.01
    assert found.converged.all()
    assert found.evaluations.item() <= 20


def test_code_that_does_other_things_later_is_integrated_by_refinement():
    F, calls = torch.ones(1, 2, 1, 2), []

    def head(F):
        calls.append(F)
        return twice(F) if len(calls) > 1 else F.sum((2, 3))[:, :1]

    def attributions(IG, on):
        return (IG * F[on][:, None])[:, :, :1].sum((3, 4))

    given = F, torch.tensor([[0]]), (twice(F) - twice(0 * F)).detach(), attributions
    ours = integrate_adaptive(Integrand(head, *given), tolerance=0.01, batch_size=16)
    plain = integrate_by_refinement(Integrand(twice, *given), tolerance=0.01, batch_size=16)
    assert torch.equal(ours.IG, plain.IG)
    assert torch.equal(ours.evaluations, plain.evaluations)


def test_what_the_rescale_rule_misses_is_integrated_by_refinement():
    F = torch.ones(2, 2, 1, 2)
    F[1] = -1

    def head(F):
        y = F.relu()
        if y.requires_grad:
            y.register_hook(lambda g: g / 2)  # no operation shows that
        return (y + F).sum((2, 3))

    def attributions(IG, on):
        return (IG * F[on][:, None])[:, :, :1].sum((3, 4))

    classes, difference = torch.tensor([[0], [0]]), (head(F) - head(0 * F))[:, :1].detach()
    found = integrate_adaptive(
        Integrand(head, F, classes, difference, attributions), tolerance=0.01, batch_size=16
    )
    assert not found.converged[0]
    assert found.evaluations[0] > 100
    assert found.converged[1]
    assert found.evaluations[1] == 1


def test_code_that_does_not_take_the_rescale_rule_is_integrated_by_refinement(caplog):
    F = torch.ones(1, 2, 1, 2)

    def head(F):
        y = F.relu()
        if y.grad_fn is not None and "Activation" in y.grad_fn.name():
            raise RuntimeError("not my kind of tensor")
        return (y - 0.5).relu().sum((2, 3))

    def attributions(IG, on):
        return (IG * F[on][:, None])[:, :, :1].sum((3, 4))

    given = F, torch.tensor([[0]]), (head(F) - head(0 * F))[:, :1].detach(), attributions
    with caplog.at_level("INFO", "vtcav"):
        ours = integrate_adaptive(Integrand(head, *given), tolerance=0.01, batch_size=16)
    plain = integrate_by_refinement(Integrand(head, *given), tolerance=0.01, batch_size=16)
    assert torch.equal(ours.IG, plain.IG)
    assert "no rescale rule (not my kind of tensor)" in caplog.text


def test_every_point_is_counted_and_small_passes_count_the_same():
    F = torch.ones(1, 2, 1, 2)
    passes = []

    def head(F):
        passes.append(len(F))
        return twice(F)

    def attributions(IG, on):
        return (IG * F[on][:, None])[:, :, :1].sum((3, 4))

    given = Integrand(
        head, F, torch.tensor([[0]]), (twice(F) - twice(0 * F)).detach(), attributions
    )
    found = integrate_adaptive(given, tolerance=0.01, batch_size=64)
    assert sum(passes) == 1 + found.evaluations.item()  # the first is the point 0
    for batch_size in (1, 3):
        again = integrate_adaptive(given, tolerance=0.01, batch_size=batch_size)
        assert torch.equal(again.evaluations, found.evaluations)
        torch.testing.assert_close(again.IG, found.IG)
