"""Integrated gradients by doubling the points until attributions stand still.

For networks of any kind. The rule is the paper's trapezoid rule, with twice as many steps from
level to level, keeping all points. Where units of a piecewise-linear network switch, the integrand
jumps, so every doubling about halves the error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.method.integral.alpha_spacing import PILOT, CrowdedPath, Path, StraightPath
from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.trapezoid import FLOOR, Integral, rows_of, trapezoid, weighted_gradients
from vtcav.models.heads.batch_size import BatchSize

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
_LEAST = 3  # the level, 9 points, from which attributions may stand still; before, by chance
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
    integrand: Integrand, *, tolerance: float, batch_size: int | BatchSize
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
    where something happens (`vtcav.method.integral.alpha_spacing`).

    Args:
        integrand: The gradients, and the attributions that they are for.
        tolerance: The relative error to reach.
        batch_size: Feature maps per pass through the head.

    Returns:
        IG [N, T, C, h, w], the error reached and the cost per image.
    """
    run = _Doubling(integrand, tolerance, batch_size)
    N = len(integrand.F)
    found, uneven = run.along(StraightPath(), torch.arange(N))
    if len(uneven):
        z = _logits_at(integrand.of(uneven), PILOT, batch_size)
        again, _ = run.along(CrowdedPath(z), uneven)
        at = uneven.to(integrand.F.device)
        found.IG[at] = again.IG
        found.error[uneven], found.converged[uneven] = again.error, again.converged
        found.evaluations[uneven] += again.evaluations + len(PILOT)
    return replace(found, error=found.error[:, None, None])


@dataclass(frozen=True, eq=False)
class _Doubling:
    """What `integrate_by_doubling` is given."""

    integrand: Integrand
    tolerance: float
    batch_size: int | BatchSize

    def along(self, path: Path, images: Tensor) -> tuple[Integral, Tensor]:
        """Refine some images [n] along a path.

        Returns:
            Their integral, and the images for which equidistant points are no good [m]: what they
            see does not sum to the rise. For a crowded path there are none.
        """
        straight = isinstance(path, StraightPath)
        of_all = self.integrand.of(images)
        so_far = _SoFar.of(of_all)
        active = torch.arange(len(images))
        for level in range(MAX_LEVEL + 1):
            here = of_all.of(active)
            u, weight = refinement(level)
            alpha, slope = path.at(u, active)
            so_far.add(active, self._gradients(here, alpha, weight * slope), level)
            still, whole, linear = so_far.judged(here, active, self.tolerance)
            if level > 0:
                so_far.uneven[active] = straight & ~whole & (still | (level >= _UNEVEN))
                if straight:
                    look = still & whole & ~linear
                    self._look_near_zero(here.of(torch.nonzero(look)[:, 0]), so_far, active[look])
                enough = linear | (level >= _LEAST)
                so_far.converged[active] = still & whole & enough & ~so_far.uneven[active]
                active = active[~(so_far.converged[active] | so_far.uneven[active])]
            if not len(active):
                break
        return so_far.integral, images[so_far.uneven]

    def _gradients(self, here: Integrand, alpha: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted sum of gradients at points of the lines, both [n, P]."""
        return weighted_gradients(here.head, here.F, here.classes, alpha, weight, self.batch_size)

    def _look_near_zero(self, here: Integrand, so_far: _SoFar, at: Tensor) -> None:
        """Take images [n] for uneven of which much hangs on what happens near alpha = 0.

        Scores need not change there for gradients to: where a normalisation follows, the parts
        of the gradient that cancel in the sum over channels fall like 1 / alpha. Either there is
        much below alpha = 2^-7, or the point 0 stands for what is not like it.
        """
        if not len(at):
            return
        F, n = here.F, len(at)
        at_zero, near = (
            self._gradients(here, torch.full((n, 1), alpha), torch.ones(n, 1))
            for alpha in (0.0, _NEAR)
        )
        below = _NEAR * _size(near, F)
        mistaken = so_far.step / 2 * _size(at_zero - near, F)
        every = _size(so_far.IG[at.to(F.device)], F)
        worst = torch.maximum(below, mistaken / _ENDS) / torch.where(every > 0, every, 1.0)
        so_far.uneven[at] = worst.amax(1).cpu() > INCOMPLETE
        so_far.evaluations[at] += 2


@dataclass(eq=False)
class _SoFar:
    """How far some images have come.

    Attributes:
        IG: Integrated gradients [n, T, C, h, w].
        change: What the last level changed [n], relative to the attributions.
        trend: The change, or what is left of earlier ones where that is larger [n].
        error: The estimated relative error [n].
        converged: Whether the tolerance is reached [n].
        uneven: Whether equidistant points are no good [n].
        evaluations: What it took [n].
        step: The distance between points.
        a: The attributions [n, T, K] of the last level; None before the first.
    """

    IG: Tensor
    change: Tensor
    trend: Tensor
    error: Tensor
    converged: Tensor
    uneven: Tensor
    evaluations: Tensor
    step: float = 1.0
    a: Tensor | None = None

    @classmethod
    def of(cls, integrand: Integrand) -> _SoFar:
        """Return the beginning."""
        n, T = integrand.classes.shape
        F = integrand.F
        return cls(
            IG=torch.zeros(n, T, *F.shape[1:], device=F.device),
            change=torch.full((n,), torch.inf),
            trend=torch.zeros(n),
            error=torch.full((n,), torch.inf),
            converged=torch.zeros(n, dtype=torch.bool),
            uneven=torch.zeros(n, dtype=torch.bool),
            evaluations=torch.zeros(n, dtype=torch.int64),
        )

    @property
    def integral(self) -> Integral:
        """What is found."""
        return Integral(self.IG, self.error, self.converged, self.evaluations)

    def add(self, active: Tensor, gradients: Tensor, level: int) -> None:
        """Add the points of a level to some images."""
        on = active.to(self.IG.device)
        self.IG[on] = gradients if level == 0 else self.IG[on] / 2 + gradients
        self.evaluations[active] += len(refinement(level)[0])
        self.step = 2.0**-level

    def judged(
        self, here: Integrand, active: Tensor, tolerance: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return whether some images stand still, are complete, and have a linear head [n]."""
        on = active.to(self.IG.device)
        a = here.attributions(self.IG[on], torch.arange(len(on), device=on.device))
        if self.a is None:
            self.a = a
            return (torch.zeros(len(on), dtype=torch.bool),) * 3
        last, change = self.change[active], _relative_change(a, self.a[on])
        self.a[on], self.change[active] = a, change
        self.trend[active] = torch.maximum(change, self.trend[active] / DECAY)
        missing = missing_share(self.IG[on], here.F, here.rise)
        self.error[active] = torch.maximum(SAFETY * self.trend[active], missing).clamp(min=EXACT)
        linear = last.isinf() & (change <= EXACT) & (missing <= _EXACT_SUM)
        judged = torch.where(linear, change, torch.maximum(change, last / 4))
        return judged <= tolerance, missing <= INCOMPLETE, linear


def _size(IG: Tensor, F: Tensor) -> Tensor:
    """Return the sum of |IG F| over channels and places [n, T]."""
    return (IG * F[:, None]).abs().sum((2, 3, 4))


def _logits_at(
    integrand: Integrand, alpha: NDArray[np.float64], batch_size: int | BatchSize
) -> Tensor:
    """Return the logits [N, T, P] at points alpha [P] of the lines from 0 to F."""
    F, classes = integrand.F, integrand.classes
    image = torch.arange(len(F), device=F.device).repeat_interleave(len(alpha))
    scale = torch.tensor(alpha).float().repeat(len(F)).to(F.device)

    def work(part: slice) -> Tensor:
        rows = image[part]
        with torch.no_grad():
            maps = F[rows] * scale[part][:, None, None, None]
            return rows_of(integrand.head, rows)(maps).gather(1, classes[rows])

    parts = list(BatchSize.from_(batch_size).run(len(image), work))
    return torch.cat(parts).reshape(len(F), len(alpha), -1).transpose(1, 2)


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
