"""Integrated gradients at a layer (step 5), as finely as each image asks for.

Where the mean gradients between two points are known (`mean_gradients`), a few intervals do
(`intervals`). Elsewhere the points of the trapezoid rule are doubled (`doubling`).
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.refined_trapezoid import INCOMPLETE, integrate_by_doubling, missing_share
from vtcav.method.integral.rescale_gradients import OtherOperationsError, at_zero
from vtcav.method.integral.rescale_intervals import integrate_by_intervals
from vtcav.method.integral.trapezoid import Integral
from vtcav.models.base import recomputes
from vtcav.models.heads.batch_size import BatchSize

__all__ = ["integrate_adaptive"]

_log = logging.getLogger("vtcav")


def integrate_adaptive(
    integrand: Integrand, *, tolerance: float, batch_size: int | BatchSize
) -> Integral:
    """Integrate as finely as the concept attributions of each image ask for.

    Args:
        integrand: The gradients, and the attributions that they are for.
        tolerance: The relative error to reach.
        batch_size: Feature maps per pass through the head.

    Returns:
        IG [N, T, C, h, w], the errors reached and the cost per image.
    """
    size = BatchSize.from_(batch_size)
    found = _by_intervals(integrand, tolerance, size)
    if found is None:
        return integrate_by_doubling(integrand, tolerance=tolerance, batch_size=size)
    # mean gradients miss nothing of the rise: where they do, the network does what is not seen
    missing = missing_share(found.IG, integrand.F, integrand.rise)
    [overlooked] = torch.nonzero(missing > min(INCOMPLETE, tolerance), as_tuple=True)
    if len(overlooked):
        again = integrate_by_doubling(
            integrand.of(overlooked), tolerance=tolerance, batch_size=size
        )
        _put(again, overlooked, into=found)
        missing[overlooked] = 0
    return replace(found, error=torch.maximum(found.error, missing[:, None, None]))


def _by_intervals(integrand: Integrand, tolerance: float, size: BatchSize) -> Integral | None:
    """Integrate with mean gradients, or return None where they are not known."""
    head = integrand.head
    if getattr(head, "per_image", False):
        return None  # the point 0 differs from image to image
    if recomputes(head):
        return None  # what runs again in the backward pass has no replaced activations
    try:
        zero = at_zero(head, integrand.F)
        if zero is None:
            return None
        return integrate_by_intervals(integrand, zero, tolerance=tolerance, batch_size=size)
    except (OtherOperationsError, RuntimeError) as error:
        # PyTorch does not bear what replaces an activation here, or it takes too much memory:
        # plain gradients ask for less of both, and fail by themselves if something else is wrong
        layer = getattr(head, "layer", "?")
        _log.info("layer %r: no mean gradients (%s)", layer, error)
        return None


def _put(part: Integral, images: torch.Tensor, *, into: Integral) -> None:
    """Put the integrals of some images [m] in the place of others; both were paid for."""
    into.IG[images.to(into.IG.device)] = part.IG
    into.error[images], into.converged[images] = part.error, part.converged
    into.evaluations[images] += part.evaluations
