"""Integrated gradients (step 5) by successive refinement of the trapezoid rule, for any network.

Every level doubles the steps of the paper's rule and keeps all points, until the attributions no
longer change. Where the units of a piecewise-linear network switch, the integrand jumps, so a level
about halves the error.
"""

from __future__ import annotations

from dataclasses import replace

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
from vtcav.method.positions import axes, broadcast
from vtcav.models.memory import BatchSize


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
    rule = _Refinement(integrand, UniformSpacing(), tolerance, batch_size)
    integral = rule.run()
    [unresolved] = torch.nonzero(rule.unresolved, as_tuple=True)
    if len(unresolved):
        part = integrand.of(unresolved)
        spacing = GradedSpacing(_logits_at(part, PILOT, batch_size))
        again = _Refinement(part, spacing, tolerance, batch_size).run()
        integral.replace_images(unresolved, again)
        integral.evaluations[unresolved] += len(PILOT)
    return replace(integral, error=integral.error[:, None, None])


class _Refinement:
    """The refinement of n images with one spacing of the points.

    Args:
        integrand: The gradients of the images.
        spacing: The spacing.
        tolerance: The relative error to reach.
        batch_size: Feature maps per pass through the head.

    Attributes:
        integral: The integral so far; its error is of a whole image [n].
        unresolved: The images that equidistant points do not resolve [n]; none with a graded
            spacing.
    """

    def __init__(
        self,
        integrand: Integrand,
        spacing: Spacing,
        tolerance: float,
        batch_size: int | BatchSize,
    ) -> None:
        n, T = integrand.classes.shape
        IG = torch.zeros(
            n, T, *integrand.F.shape[1:], dtype=torch.float32, device=integrand.F.device
        )
        no, infinite = torch.zeros(n, dtype=torch.bool), torch.full((n,), torch.inf)
        self.integral = Integral(IG, infinite, no, torch.zeros(n, dtype=torch.int64), None)
        self.unresolved = no.clone()
        self._integrand, self._spacing = integrand, spacing
        self._tolerance, self._batch_size = tolerance, batch_size
        self._change = infinite.clone()  # of attributions at the last level, relative to them
        self._trend = torch.zeros(
            n, dtype=torch.float32
        )  # the change, or what is left of earlier ones if larger
        self._a = torch.zeros(0, dtype=torch.float32)  # attributions at the last level [n, T, K]

    def run(self) -> Integral:
        """Refine the images until they have converged or are known to be unresolved."""
        uniform = isinstance(self._spacing, UniformSpacing)
        active = torch.arange(len(self.unresolved))
        for level in range(constants.MOST_LEVEL + 1):
            here = self._integrand.of(active)
            self._add(here, active, level)
            if level == 0:
                self._a = here.attributions(self.integral.IG, active.to(here.F.device))
                continue
            stable, complete, linear = self._judge(here, active)
            late = level >= constants.RESOLVED_LEVEL
            self.unresolved[active] = uniform & ~complete & (stable | late)
            if uniform:
                look = stable & complete & ~linear
                self._look_near_zero(here.of(torch.nonzero(look)[:, 0]), active[look], level)
            enough = linear | (level >= constants.LEAST_LEVEL)
            converged = stable & complete & enough & ~self.unresolved[active]
            self.integral.converged[active] = converged
            active = active[~(converged | self.unresolved[active])]
            if not len(active):
                break
        return self.integral

    def _add(self, here: Integrand, active: Tensor, level: int) -> None:
        """Add the points of a level to some images."""
        u, weight = refinement(level)
        alpha, slope = self._spacing.at(u, active)
        gradients = self._gradients(here, alpha, weight * slope)
        on = active.to(here.F.device)
        self.integral.IG[on] = gradients if level == 0 else self.integral.IG[on] / 2 + gradients
        self.integral.evaluations[active] += len(u)

    def _gradients(self, here: Integrand, alpha: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted sum of gradients at points of the lines, both [n, P]."""
        return weighted_gradients(here.head, here.F, here.classes, alpha, weight, self._batch_size)

    def _judge(self, here: Integrand, active: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return whether some images are stable, complete, and have a linear head [n]."""
        on = active.to(here.F.device)
        a = here.attributions(self.integral.IG[on], torch.arange(len(on), device=on.device))
        last, change = self._change[active], _relative_change(a, self._a[on])
        self._a[on], self._change[active] = a, change
        self._trend[active] = torch.maximum(change, self._trend[active] / constants.DECAY)
        gap = completeness_gap(self.integral.IG[on], here.F, here.logit_difference)
        error = torch.maximum(constants.SAFETY * self._trend[active], gap)
        self.integral.error[active] = error.clamp(min=constants.EXACT)
        linear = last.isinf() & (change <= constants.EXACT) & (gap <= constants.EXACT_SUM)
        judged = torch.where(linear, change, torch.maximum(change, last / 4))
        return judged <= self._tolerance, gap <= constants.COMPLETENESS, linear

    def _look_near_zero(self, here: Integrand, at: Tensor, level: int) -> None:
        """Mark images [n] as unresolved where much depends on the gradient near alpha = 0.

        Gradients may change there without the logits: where a normalisation follows, the parts of
        the gradient that cancel in the sum over channels fall like 1 / alpha. Either much of the
        integral lies below alpha = 2^-7, or the point 0 is not typical of its first interval.
        """
        if not len(at):
            return
        F, n = here.F, len(at)
        at_zero, near = (
            self._gradients(
                here,
                torch.full((n, 1), alpha, dtype=torch.float32),
                torch.ones(n, 1, dtype=torch.float32),
            )
            for alpha in (0.0, constants.NEAR_ZERO)
        )
        below = constants.NEAR_ZERO * _size(near, F)
        from_zero = 2.0**-level / 2 * _size(at_zero - near, F)
        total = _size(self.integral.IG[at.to(F.device)], F)
        worst = torch.maximum(below, from_zero / constants.ZERO_POINT)
        worst = worst / torch.where(total > 0, total, 1.0)
        self.unresolved[at] = worst.amax(1).cpu() > constants.COMPLETENESS
        self.integral.evaluations[at] += 2


def _size(IG: Tensor, F: Tensor) -> Tensor:
    """Return the sum of |IG F| over channels and positions [n, T]."""
    D = (IG * F[:, None]).abs()
    return D.sum(axes(D, 2))


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
            maps = F[rows] * broadcast(scale[part], F)
            return rows_of(integrand.head, rows)(maps).gather(1, classes[rows])

    parts = list(BatchSize.from_(batch_size).run(len(image), work))
    return torch.cat(parts).reshape(len(F), len(alpha), -1).transpose(1, 2)
