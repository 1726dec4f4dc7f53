"""Integrated gradients by doubling the points until attributions stand still.

For networks of any kind. The rule is the paper's trapezoid rule, with twice as many steps from
level to level, keeping all points. Where units of a piecewise-linear network switch, the integrand
jumps, so every doubling about halves the error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.budget import BatchSize
from vtcav.integration.path import PILOT, CrowdedPath, Path, StraightPath
from vtcav.models.base import Head
from vtcav.quadrature import FLOOR, Integral, rows_of, trapezoid, weighted_gradients

__all__ = ["EXACT", "INCOMPLETE", "integrate_by_doubling", "missing_share", "refinement"]

SAFETY = 3.0
DECAY = 2.5
MAX_LEVEL = 8
EXACT = 1e-5  # a relative change that is float32 rounding
_EXACT_SUM = 1e-4  # the same for a sum over a whole layer
INCOMPLETE = 0.02
"""The share of z(F) - z(0) that an integral may miss."""

_NEAR = 2.0**-7  # below this there should be no more of an integral than its length
_ENDS = 2.5  # by so much the end of a first interval may be mistaken more than all else
_CROWDED = 3  # the level, 9 points, from which crowded points may stand still
_UNEVEN = 4  # the level, 17 points, at which equidistant points should see all


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


def integrate_by_doubling(
    head: Head,
    F: Tensor,
    classes: Tensor,
    rise: Tensor,
    attributions: Callable[[Tensor, Tensor], Tensor],
    *,
    tolerance: float,
    batch_size: int | BatchSize,
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

    Standing still proves nothing while the points all see one gradient: as where a network is dead
    near zero and linear beyond, or where a normalisation makes all happen close to zero. So the
    integral must also be complete, that is, sum to z(F) - z(0): what is missing, relative to what
    moves the logits, must be at most 2 %, and is part of the error. And a last look at
    alpha = 0 and 2^-7 must find no more than 2 % of it below, and no more than 5 % that hangs on
    the point 0. Where equidistant points stand still
    without that, or are still incomplete with 17 points, they begin anew on a path that crowds them
    where something happens (`vtcav.integration.path`).

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
    run = _Refinement(head, F, classes, rise, attributions, tolerance, batch_size)
    found, uneven = run.along(StraightPath(), torch.arange(len(F)))
    if len(uneven):
        z = _logits_at(head, F, classes, uneven, PILOT, batch_size)
        again, _ = run.along(CrowdedPath(z), uneven)
        at = uneven.to(F.device)
        found.IG[at] = again.IG
        found.error[uneven], found.converged[uneven] = again.error, again.converged
        found.evaluations[uneven] += again.evaluations + len(PILOT)
    return replace(found, error=found.error[:, None, None])


@dataclass(frozen=True, eq=False)
class _Refinement:
    """What `integrate_adaptive` is given."""

    head: Head
    F: Tensor
    classes: Tensor
    rise: Tensor
    attributions: Callable[[Tensor, Tensor], Tensor]
    tolerance: float
    batch_size: int | BatchSize

    def along(self, path: Path, images: Tensor) -> tuple[Integral, Tensor]:
        """Refine some images [n] along a path.

        Returns:
            Their integral, and the images for which equidistant points are no good [m]: what they
            see does not sum to the rise. For a crowded path there are none.
        """
        straight = isinstance(path, StraightPath)
        n, T = len(images), self.classes.shape[1]
        IG = torch.zeros(n, T, *self.F.shape[1:], device=self.F.device)
        error = torch.full((n,), torch.inf)
        trend = torch.zeros(n)
        converged = torch.zeros(n, dtype=torch.bool)
        uneven = torch.zeros(n, dtype=torch.bool)
        evaluations = torch.zeros(n, dtype=torch.int64)
        before: Tensor | None = None
        change = torch.full((n,), torch.inf)
        active = torch.arange(n)
        for level in range(MAX_LEVEL + 1):
            u, weight = refinement(level)
            alpha, slope = path.at(u, active)
            chosen, on = images[active].to(self.F.device), active.to(self.F.device)
            F, rise = self.F[chosen], self.rise[chosen]
            added = weighted_gradients(
                rows_of(self.head, chosen),
                F,
                self.classes[chosen],
                alpha,
                weight * slope,
                self.batch_size,
            )
            IG[on] = added if level == 0 else IG[on] / 2 + added
            evaluations[active] += len(u)
            a = self.attributions(IG[on], chosen)
            if before is not None:
                last, change[active] = change[active].clone(), _relative_change(a, before)
                trend[active] = torch.maximum(change[active], trend[active] / DECAY)
                missing = missing_share(IG[on], F, rise)
                error[active] = torch.maximum(SAFETY * trend[active], missing).clamp(min=EXACT)
                linear = last.isinf() & (change[active] <= EXACT) & (missing <= _EXACT_SUM)
                judged = torch.where(
                    linear, change[active], torch.maximum(change[active], last / 4)
                )
                still = judged <= self.tolerance
                whole = missing <= INCOMPLETE
                uneven[active] = straight & ~whole & (still | (level >= _UNEVEN))
                if straight:
                    last_look = active[still & whole & ~linear]
                    uneven[last_look] = (
                        self._near_zero(IG, images, last_look, 2.0**-level) > INCOMPLETE
                    )
                    evaluations[last_look] += 2
                enough = straight or level >= _CROWDED
                converged[active] = still & whole & enough & ~uneven[active]
                going = ~(converged[active] | uneven[active])
                active, a = active[going], a[going.to(a.device)]
            before = a
            if not len(active):
                break
        return Integral(IG, error, converged, evaluations), images[uneven]

    def _near_zero(self, IG: Tensor, images: Tensor, at: Tensor, step: float) -> Tensor:
        """Return the share of an integral that hangs on what happens near alpha = 0, about [n].

        Scores need not change there for gradients to: where a normalisation follows, the parts
        of the gradient that cancel in the sum over channels fall like 1 / alpha. Either there is
        much below alpha = 2^-7, or the point 0 stands for what is not like it.
        """
        if not len(at):
            return torch.zeros(0)
        chosen = images[at].to(self.F.device)
        F, n = self.F[chosen], len(at)
        at_zero, near = (
            weighted_gradients(
                rows_of(self.head, chosen),
                F,
                self.classes[chosen],
                torch.full((n, 1), alpha),
                torch.ones(n, 1),
                self.batch_size,
            )
            for alpha in (0.0, _NEAR)
        )
        below = _NEAR * _size(near, F)
        mistaken = step / 2 * _size(at_zero - near, F)
        every = _size(IG[at.to(F.device)], F)
        worst = torch.maximum(below, mistaken / _ENDS) / torch.where(every > 0, every, 1.0)
        return worst.amax(1).cpu()


def _size(IG: Tensor, F: Tensor) -> Tensor:
    """Return the sum of |IG F| over channels and places [n, T]."""
    return (IG * F[:, None]).abs().sum((2, 3, 4))


def _logits_at(
    head: Head,
    F: Tensor,
    classes: Tensor,
    images: Tensor,
    alpha: NDArray[np.float64],
    batch_size: int | BatchSize,
) -> Tensor:
    """Return logits [n, T, P] of some images [n] at points alpha [P] of the line from 0 to F."""
    image = images.repeat_interleave(len(alpha)).to(F.device)
    scale = torch.tensor(alpha).float().repeat(len(images)).to(F.device)

    def work(part: slice) -> Tensor:
        rows = image[part]
        with torch.no_grad():
            maps = F[rows] * scale[part][:, None, None, None]
            return rows_of(head, rows)(maps).gather(1, classes[rows])

    parts = list(BatchSize.from_(batch_size).run(len(image), work))
    return torch.cat(parts).reshape(len(images), len(alpha), -1).transpose(1, 2)


def _relative_change(a: Tensor, before: Tensor) -> Tensor:
    """Return the largest change over concepts and classes, relative to a or to the floor [n]."""
    change = (a - before).abs() / a.abs().clamp(min=FLOOR)
    return change.flatten(1).amax(1).cpu()


def missing_share(IG: Tensor, F: Tensor, rise: Tensor) -> Tensor:
    """Return how far sum(IG * F) is from z(F) - z(0), relative to what moves the logits [n]."""
    D = IG * F[:, None]
    gap = (D.sum((2, 3, 4)) - rise).abs().amax(1)
    moved = torch.maximum(D.abs().sum((2, 3, 4)), rise.abs()).amax(1)
    return (gap / torch.where(moved > 0, moved, 1.0)).cpu()
