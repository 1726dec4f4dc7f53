"""Integrated gradients at a layer (step 5), as finely as each image asks for.

Where the mean gradients between two points are known (`mean_gradients`), a few intervals do
(`intervals`). Elsewhere the points of the trapezoid rule are doubled (`doubling`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from vtcav.budget import BatchSize, is_out_of_memory
from vtcav.integration.doubling import INCOMPLETE, integrate_by_doubling, missing_share
from vtcav.integration.intervals import integrate_by_intervals
from vtcav.integration.mean_gradients import OtherOperationsError, at_zero
from vtcav.models.base import Head
from vtcav.quadrature import Integral, rows_of

__all__ = ["integrate_adaptive"]

_log = logging.getLogger("vtcav")


def integrate_adaptive(
    head: Head,
    F: Tensor,
    classes: Tensor,
    rise: Tensor,
    attributions: Callable[[Tensor, Tensor], Tensor],
    *,
    tolerance: float,
    batch_size: int | BatchSize,
) -> Integral:
    """Integrate as finely as the concept attributions of each image ask for.

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
        IG [N, T, C, h, w], the errors reached and the cost per image.
    """
    size = BatchSize.from_(batch_size)
    found = _by_intervals(head, F, classes, attributions, tolerance, size)
    if found is None:
        return integrate_by_doubling(
            head, F, classes, rise, attributions, tolerance=tolerance, batch_size=size
        )
    # mean gradients miss nothing of the rise: where they do, the network does what is not seen
    missing = missing_share(found.IG, F, rise)
    [overlooked] = torch.nonzero(missing > INCOMPLETE, as_tuple=True)
    if len(overlooked):
        at = overlooked.to(F.device)
        again = integrate_by_doubling(
            rows_of(head, at),
            F[at],
            classes[at],
            rise[at],
            lambda IG, on: attributions(IG, at[on]),
            tolerance=tolerance,
            batch_size=size,
        )
        _put(again, overlooked, into=found)
        missing[overlooked] = 0
    return replace(found, error=torch.maximum(found.error, missing[:, None, None]))


def _by_intervals(
    head: Head,
    F: Tensor,
    classes: Tensor,
    attributions: Callable[[Tensor, Tensor], Tensor],
    tolerance: float,
    size: BatchSize,
) -> Integral | None:
    """Integrate with mean gradients, or return None where they are not known."""
    if getattr(head, "per_image", False):
        return None  # the point 0 differs from image to image
    try:
        zero = at_zero(head, F)
        if zero is None:
            return None
        return integrate_by_intervals(
            head, F, classes, attributions, zero, tolerance=tolerance, batch_size=size
        )
    except (OtherOperationsError, RuntimeError, TypeError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        # the code does not bear what replaces its activations; it may bear plain gradients
        _log.info("layer %r: no mean gradients (%s)", getattr(head, "layer", "?"), error)
        return None


def _put(part: Integral, images: Tensor, *, into: Integral) -> None:
    """Put the integrals of some images [m] in the place of others; both were paid for."""
    into.IG[images.to(into.IG.device)] = part.IG
    into.error[images], into.converged[images] = part.error, part.converged
    into.evaluations[images] += part.evaluations
