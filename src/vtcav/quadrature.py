"""Integrated gradients at a layer (step 5): the rule, and when to stop.

The integral over alpha in [0, 1] of dz_t/dF(alpha F) is taken along the straight line from zero
feature maps to F, by the trapezoid rule with equidistant points. With `steps` it is the paper's
(50 steps, 51 points). The adaptive mode doubles the number of steps, keeping all points, until
the concept attributions stand still. Where units of a piecewise-linear network switch, the
integrand jumps, so every doubling about halves the error. The trapezoid rule was chosen because
it is the paper's and nests by doubling, not because it is the most accurate: docs/method.md tells
how other rules compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.models.base import Head

__all__ = ["Integral", "integrate", "integrate_adaptive", "refinement", "trapezoid"]

FLOOR = 0.01
"""Attributions below this need to be right only to the tolerance times this."""

SAFETY = 3.0
DECAY = 2.5
MAX_LEVEL = 8
_EXACT = 1e-5  # a relative change that is float32 rounding
_EXACT_SUM = 1e-4  # the same for a sum over a whole layer
_BELIEVED = 4  # the level from which attributions that never moved are believed


@dataclass(frozen=True, eq=False)
class Integral:
    """Integrated gradients and what they cost.

    Attributes:
        IG: Integrated gradients [N, T, C, h, w].
        error: Estimate, on the safe side, of the relative error of the concept attributions, for
            all concepts and classes of an image [N]; NaN for a fixed rule, which gives none.
        converged: Whether the tolerance was reached [N]; true for a fixed rule.
        evaluations: Forward and backward passes through the head that each image took [N].
    """

    IG: Tensor
    error: Tensor
    converged: Tensor
    evaluations: Tensor


def trapezoid(steps: int) -> tuple[Tensor, Tensor]:
    """Return points and weights of the trapezoid rule.

    Args:
        steps: Number of intervals.

    Returns:
        alpha [steps + 1] from 0 to 1 and the weights [steps + 1], which sum to 1.

    Example:
        >>> trapezoid(2)
        (tensor([0.0000, 0.5000, 1.0000]), tensor([0.2500, 0.5000, 0.2500]))
    """
    alpha = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
    weight = torch.full_like(alpha, 1.0 / steps)
    weight[0] = weight[-1] = 0.5 / steps
    return alpha.float(), weight.float()


def refinement(level: int) -> tuple[Tensor, Tensor]:
    """Return the points that a level of the adaptive rule adds, and their weights.

    Level 0 is the trapezoid rule of one step. Level j has 2^j steps: half the sum of level j - 1,
    plus the new points, the odd multiples of 2^-j, with weight 2^-j.

    Args:
        level: At least 0.

    Returns:
        alpha [P] and weights [P].

    Example:
        >>> refinement(0), refinement(2)  # doctest: +NORMALIZE_WHITESPACE
        ((tensor([0., 1.]), tensor([0.5000, 0.5000])),
         (tensor([0.2500, 0.7500]), tensor([0.2500, 0.2500])))
    """
    if level == 0:
        return trapezoid(1)
    steps = 2**level
    alpha = torch.arange(1, steps, 2, dtype=torch.float64) / steps
    return alpha.float(), torch.full_like(alpha, 1.0 / steps).float()


def integrate(
    head: Head, F: Tensor, classes: Tensor, alpha: Tensor, weight: Tensor, *, batch_size: int
) -> Integral:
    """Integrate with a fixed rule.

    Args:
        head: The network after the layer.
        F: Feature maps [N, C, h, w].
        classes: Indices of the logits to differentiate, per image [N, T].
        alpha: Points of the rule [P].
        weight: Weights of the rule [P].
        batch_size: Feature maps per pass through the head.

    Returns:
        IG [N, T, C, h, w] and its cost.
    """
    IG = _weighted_gradients(head, F, classes, alpha, weight, batch_size)
    N = len(F)
    return Integral(
        IG,
        torch.full((N,), torch.nan),
        torch.ones(N, dtype=torch.bool),
        torch.full((N,), len(alpha)),
    )


def integrate_adaptive(
    head: Head,
    F: Tensor,
    classes: Tensor,
    rise: Tensor,
    attributions: Callable[[Tensor, Tensor], Tensor],
    *,
    tolerance: float,
    batch_size: int,
) -> Integral:
    """Refine each image until its concept attributions stand still.

    The change of a level is taken from the level before, or as a quarter of the change before that
    where it is larger: changes about halve from level to level for the piecewise-linear networks
    that converge most slowly, and one may be small by chance. It is relative to the attribution, or
    to 0.01 for smaller ones, and the worst over concepts and classes counts. An image is done
    when this is at most the tolerance, or when the middle point changes nothing (a linear head).
    The changes still to come add up to about as much as the last one. The error reported is three
    times that, with all earlier changes taken into account (each divided by 2.5 per level since).
    It is an estimate on the safe side, not a proven bound: 3 and 2.5 were chosen on the very
    images and networks (three small ones) on which they then covered every true error.

    Standing still proves nothing while the points all see one gradient, as where a network is
    dead near zero and linear beyond: attributions are shares, which no factor changes. So it is
    checked whether the integral is complete, that is, sums to z(F) - z(0). Attributions that have
    never moved are believed only when it is, or from 17 points on, and what is missing is then
    the error. An integral that misses more than half of z(F) - z(0) is refined in any case.

    Args:
        head: The network after the layer.
        F: Feature maps [N, C, h, w].
        classes: Indices of the logits to differentiate, per image [N, T].
        rise: z(F) - z(0) of these logits [N, T].
        attributions: From IG [n, T, C, h, w] and the positions [n] of its images among the N to
            concept attributions a [n, T, K].
        tolerance: The relative error to reach.
        batch_size: Feature maps per pass through the head.

    Returns:
        IG [N, T, C, h, w], the error reached and the cost per image.
    """
    N, T = classes.shape
    IG = torch.zeros(N, T, *F.shape[1:], device=F.device)
    error = torch.full((N,), torch.inf)
    trend = torch.zeros(N)
    converged = torch.zeros(N, dtype=torch.bool)
    evaluations = torch.zeros(N, dtype=torch.int64)
    before: Tensor | None = None
    change = torch.full((N,), torch.inf)
    active = torch.arange(N)
    for level in range(MAX_LEVEL + 1):
        alpha, weight = refinement(level)
        on = active.to(F.device)
        added = _weighted_gradients(
            _rows(head, on), F[on], classes[on], alpha, weight, batch_size
        )
        IG[on] = added if level == 0 else IG[on] / 2 + added
        evaluations[active] += len(alpha)
        a = attributions(IG[on], on)
        if before is not None:
            last, change[active] = change[active].clone(), _relative_change(a, before)
            trend[active] = torch.maximum(change[active], trend[active] / DECAY)
            missing = _missing_share(IG[on], F[on], rise[on])
            unmoved = (trend[active] <= _EXACT) & (missing > _EXACT_SUM) & _any(a)
            error[active] = torch.where(unmoved, missing, SAFETY * trend[active]).clamp(min=_EXACT)
            linear = last.isinf() & (change[active] <= _EXACT)
            judged = torch.where(linear, change[active], torch.maximum(change[active], last / 4))
            judged[(unmoved & (level < _BELIEVED)) | (missing > 0.5)] = torch.inf
            going = judged > tolerance
            converged[active] = ~going
            active, a = active[going], a[going.to(a.device)]
        before = a
        if not len(active):
            break
    return Integral(IG, error, converged, evaluations)


def _relative_change(a: Tensor, before: Tensor) -> Tensor:
    """Return the largest change over concepts and classes, relative to a or to the floor [n]."""
    change = (a - before).abs() / a.abs().clamp(min=FLOOR)
    return change.flatten(1).amax(1).cpu()


def _any(a: Tensor) -> Tensor:
    """Return whether any attribution of an image is not 0 [n]."""
    return a.flatten(1).any(1).cpu()


def _missing_share(IG: Tensor, F: Tensor, rise: Tensor) -> Tensor:
    """Return how far sum(IG * F) is from z(F) - z(0), relative to what moves the logits [n]."""
    D = IG * F[:, None]
    gap = (D.sum((2, 3, 4)) - rise).abs().amax(1)
    moved = torch.maximum(D.abs().sum((2, 3, 4)), rise.abs()).amax(1)
    return (gap / torch.where(moved > 0, moved, 1.0)).cpu()


def _weighted_gradients(
    head: Head, F: Tensor, classes: Tensor, alpha: Tensor, weight: Tensor, batch_size: int
) -> Tensor:
    """Return sum_p weight_p dz_t/dF(alpha_p F) [N, T, C, h, w].

    Every (image, point) pair is one feature map of a pass, so that the batches are full however
    many images and points there are.
    """
    N, T = classes.shape
    total = torch.zeros(N, T, *F.shape[1:], device=F.device)
    image = torch.arange(N).repeat_interleave(len(alpha)).to(F.device)
    point = torch.arange(len(alpha)).repeat(N)
    for i in range(0, len(image), batch_size):
        rows, points = image[i : i + batch_size], point[i : i + batch_size]
        scale = alpha[points].to(F.device)[:, None, None, None]
        gradients = _gradients(_rows(head, rows), F[rows] * scale, classes[rows])
        weights = weight[points].to(F.device)[:, None, None, None]
        for t, gradient in enumerate(gradients):
            total[:, t].index_add_(0, rows, gradient * weights)
    return total


def _rows(head: Head, index: Tensor) -> Head:
    """Return the head for maps of the images at some positions; any callable is one head for all."""
    return head.rows(index) if hasattr(head, "rows") else head


def _gradients(head: Head, maps: Tensor, classes: Tensor) -> list[Tensor]:
    """Return dz_t/dF at some feature maps, one [n, C, h, w] per class, from one forward pass."""
    maps = maps.detach().requires_grad_()
    with torch.enable_grad():
        z = head(maps).gather(1, classes)
        T = z.shape[1]
        return [
            torch.autograd.grad(z[:, t].sum(), maps, retain_graph=t < T - 1)[0].float()
            for t in range(T)
        ]
