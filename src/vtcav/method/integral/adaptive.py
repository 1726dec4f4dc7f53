"""Integrated gradients at a layer (step 5), as finely as each image needs.

The rescale rule needs few intervals where the network's operations are known
(`rescale_intervals`). Elsewhere the trapezoid rule is refined (`refined_trapezoid`).
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from vtcav.method.integral import constants
from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.refined_trapezoid import integrate_by_refinement
from vtcav.method.integral.rescale_gradients import OperationsChangedError, zero_pass
from vtcav.method.integral.rescale_intervals import integrate_by_rescale_rule
from vtcav.method.integral.trapezoid import Integral, completeness_gap
from vtcav.models.base import recomputes
from vtcav.models.memory import BatchSize

_log = logging.getLogger("vtcav")


def integrate_adaptive(
    integrand: Integrand, *, tolerance: float, batch_size: int | BatchSize
) -> Integral:
    """Integrate as finely as the concept attributions of each image need.

    Args:
        integrand: The gradients, and the attributions that they serve.
        tolerance: The relative error to reach.
        batch_size: Feature maps per pass through the head.

    Returns:
        IG [N, T, C, h, w], the errors reached and the cost per image.
    """
    size = BatchSize.from_(batch_size)
    integral = _by_rescale_rule(integrand, tolerance, size)
    if integral is None:
        return integrate_by_refinement(integrand, tolerance=tolerance, batch_size=size)
    # the rescale rule is complete: a gap means that the network does something it did not see
    gap = completeness_gap(integral.IG, integrand.F, integrand.logit_difference)
    [wrong] = torch.nonzero(gap > min(constants.COMPLETENESS, tolerance), as_tuple=True)
    if len(wrong):
        again = integrate_by_refinement(integrand.of(wrong), tolerance=tolerance, batch_size=size)
        integral.replace_images(wrong, again)
        gap[wrong] = 0
    return replace(integral, error=torch.maximum(integral.error, gap[:, None, None]))


def _by_rescale_rule(integrand: Integrand, tolerance: float, size: BatchSize) -> Integral | None:
    """Integrate with the rescale rule, or return None where it does not apply."""
    head = integrand.head
    if getattr(head, "per_image", False):
        return None  # the point alpha = 0 differs from image to image
    if recomputes(head):
        return None  # what runs again in the backward pass has no replaced activations
    try:
        zero = zero_pass(head, integrand.F)
        if zero is None:
            return None
        return integrate_by_rescale_rule(integrand, zero, tolerance=tolerance, batch_size=size)
    except (OperationsChangedError, RuntimeError) as error:
        # PyTorch cannot replace an activation here, or it takes too much memory. Plain gradients
        # need less of both, and raise by themselves if something else is wrong.
        _log.info("layer %r: no rescale rule (%s)", getattr(head, "layer", "?"), error)
        return None
