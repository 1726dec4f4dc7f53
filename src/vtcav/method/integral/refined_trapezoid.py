"""Integrated gradients (step 5) by successive refinement of the trapezoid rule, for any network.

Every level doubles the steps of the paper's rule and keeps all points, until the attributions no
longer change. Where the units of a piecewise-linear network switch, the integrand jumps, so a level
about halves the error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.method.integral import constants
from vtcav.method.integral.alpha_spacing import PILOT, GradedSpacing, Spacing, UniformSpacing
from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.trapezoid import (
    FLOOR,
    Integral,
    completeness_gap,
    rows_of,
    trapezoid,
    weighted_gradients,
)
from vtcav.models.heads.batch_size import BatchSize

__all__ = ["integrate_by_refinement", "refinement"]


def refinement(level: int) -> tuple[Tensor, Tensor]:
    """Return the points that a level of the refined trapezoid rule adds, and their weights.

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


def integrate_by_refinement(
    integrand: Integrand, *, tolerance: float, batch_size: int | BatchSize
) -> Integral:
    """Refine each image until its concept attributions no longer change.

    **Convergence.** The change of a level is relative to the attribution, or to 0.01 where that is
    smaller; the largest over concepts and classes counts. Changes about halve from level to level
    for the piecewise-linear networks that converge most slowly, and one may be small by chance, so
    a quarter of the previous change counts where that is larger. An image is done when this is at
    most the tolerance, or when the middle point changes nothing (a linear head).

    **Error estimate.** The changes still to come add up to about the last one. The error reported
    is three times that, taking earlier changes into account (each divided by 2.5 per level since).
    It is a conservative estimate, not a proven bound.

    **Completeness.** Small changes prove nothing while all points see one gradient: a network may
    be dead near zero and linear beyond, or a normalisation may make everything happen near zero.
    So IG F must also sum to z(F) - z(0) up to 2 % of what moves the logits, and the gap is part of
    the error. A last look at alpha = 0 and 2^-7 must find at most 2 % of the integral below it, and
    at most 5 % that depends on the point 0. Images for which equidistant points fail this, or are
    still incomplete with 17 points, start again with a graded spacing.

    Args:
        integrand: The gradients, and the attributions that they serve.
        tolerance: The relative error to reach.
        batch_size: Feature maps per pass through the head.

    Returns:
        IG [N, T, C, h, w], the error reached and the cost per image.
    """
    rule = _Refinement(integrand, tolerance, batch_size)
    integral, unresolved = rule.run(UniformSpacing(), torch.arange(len(integrand.F)))
    if len(unresolved):
        z = _logits_at(integrand.of(unresolved), PILOT, batch_size)
        again, _ = rule.run(GradedSpacing(z), unresolved)
        integral.replace_images(unresolved, again)
        integral.evaluations[unresolved] += len(PILOT)
    return replace(integral, error=integral.error[:, None, None])


@dataclass(frozen=True, eq=False)
class _Refinement:
    """The rule, with the arguments of `integrate_by_refinement`."""

    integrand: Integrand
    tolerance: float
    batch_size: int | BatchSize

    def run(self, spacing: Spacing, images: Tensor) -> tuple[Integral, Tensor]:
        """Refine some images [n] with one spacing of the points.

        Returns:
            Their integral, and the images that equidistant points do not resolve [m]; none for a
            graded spacing.
        """
        uniform = isinstance(spacing, UniformSpacing)
        integrand = self.integrand.of(images)
        state = _State.of(integrand)
        active = torch.arange(len(images))
        for level in range(constants.MOST_LEVEL + 1):
            here = integrand.of(active)
            u, weight = refinement(level)
            alpha, slope = spacing.at(u, active)
            state.add(active, self._gradients(here, alpha, weight * slope), level)
            if level == 0:
                state.a = here.attributions(state.integral.IG, active.to(here.F.device))
                continue
            stable, complete, linear = state.judge(here, active, self.tolerance)
            late = level >= constants.RESOLVED_LEVEL
            state.unresolved[active] = uniform & ~complete & (stable | late)
            if uniform:
                look = stable & complete & ~linear
                self._look_near_zero(here.of(torch.nonzero(look)[:, 0]), state, active[look])
            enough = linear | (level >= constants.LEAST_LEVEL)
            state.integral.converged[active] = (
                stable & complete & enough & ~state.unresolved[active]
            )
            active = active[~(state.integral.converged[active] | state.unresolved[active])]
            if not len(active):
                break
        return state.integral, images[state.unresolved]

    def _gradients(self, here: Integrand, alpha: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted sum of gradients at points of the lines, both [n, P]."""
        return weighted_gradients(here.head, here.F, here.classes, alpha, weight, self.batch_size)

    def _look_near_zero(self, here: Integrand, state: _State, at: Tensor) -> None:
        """Mark images [n] as unresolved where much depends on the gradient near alpha = 0.

        Gradients may change there without the logits: where a normalisation follows, the parts of
        the gradient that cancel in the sum over channels fall like 1 / alpha. Either much of the
        integral lies below alpha = 2^-7, or the point 0 is not typical of its first interval.
        """
        if not len(at):
            return
        F, n = here.F, len(at)
        at_zero, near = (
            self._gradients(here, torch.full((n, 1), alpha), torch.ones(n, 1))
            for alpha in (0.0, constants.NEAR_ZERO)
        )
        below = constants.NEAR_ZERO * _size(near, F)
        from_zero = state.step / 2 * _size(at_zero - near, F)
        total = _size(state.integral.IG[at.to(F.device)], F)
        worst = torch.maximum(below, from_zero / constants.ZERO_POINT)
        worst = worst / torch.where(total > 0, total, 1.0)
        state.unresolved[at] = worst.amax(1).cpu() > constants.COMPLETENESS
        state.integral.evaluations[at] += 2


@dataclass(eq=False)
class _State:
    """The state of the refinement of some images.

    Attributes:
        integral: The integral so far; its error is of a whole image [n].
        change: Change of the attributions at the last level, relative to them [n].
        trend: The change, or what is left of earlier ones where that is larger [n].
        unresolved: Whether equidistant points fail [n].
        a: The attributions [n, T, K] at the last level; empty before the first.
        step: The distance between points.
    """

    integral: Integral
    change: Tensor
    trend: Tensor
    unresolved: Tensor
    a: Tensor
    step: float = 1.0

    @classmethod
    def of(cls, integrand: Integrand) -> _State:
        """Return the state before the first level."""
        n, T = integrand.classes.shape
        IG = torch.zeros(n, T, *integrand.F.shape[1:], device=integrand.F.device)
        no, infinite = torch.zeros(n, dtype=torch.bool), torch.full((n,), torch.inf)
        integral = Integral(IG, infinite.clone(), no.clone(), torch.zeros(n, dtype=torch.int64))
        return cls(integral, infinite, torch.zeros(n), no, torch.zeros(0))

    def add(self, active: Tensor, gradients: Tensor, level: int) -> None:
        """Add the points of a level to some images."""
        on = active.to(self.integral.IG.device)
        self.integral.IG[on] = gradients if level == 0 else self.integral.IG[on] / 2 + gradients
        self.integral.evaluations[active] += len(refinement(level)[0])
        self.step = 2.0**-level

    def judge(
        self, here: Integrand, active: Tensor, tolerance: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return whether some images are stable, complete, and have a linear head [n]."""
        on = active.to(self.integral.IG.device)
        a = here.attributions(self.integral.IG[on], torch.arange(len(on), device=on.device))
        last, change = self.change[active], _relative_change(a, self.a[on])
        self.a[on], self.change[active] = a, change
        self.trend[active] = torch.maximum(change, self.trend[active] / constants.DECAY)
        gap = completeness_gap(self.integral.IG[on], here.F, here.logit_difference)
        error = torch.maximum(constants.SAFETY * self.trend[active], gap)
        self.integral.error[active] = error.clamp(min=constants.EXACT)
        linear = last.isinf() & (change <= constants.EXACT) & (gap <= constants.EXACT_SUM)
        judged = torch.where(linear, change, torch.maximum(change, last / 4))
        return judged <= tolerance, gap <= constants.COMPLETENESS, linear


def _size(IG: Tensor, F: Tensor) -> Tensor:
    """Return the sum of |IG F| over channels and positions [n, T]."""
    return (IG * F[:, None]).abs().sum((2, 3, 4))


def _relative_change(a: Tensor, before: Tensor) -> Tensor:
    """Return the largest change over concepts and classes, relative to a or to the floor [n]."""
    change = (a - before).abs() / a.abs().clamp(min=FLOOR)
    return change.flatten(1).amax(1).cpu()


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
