"""The gradient of logits with respect to feature maps."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gradient"]


def gradient(
    z: Tensor,
    F: Tensor,
    weight: Tensor | None = None,
    *,
    retain_graph: bool = False,
    recomputes: bool = False,
) -> Tensor:
    """Return dz/dF, summed over the values of z with their weights.

    Args:
        z: Values that depend on F, for instance the logits [N] of one class.
        F: Feature maps [N, C, h, w], a leaf of the graph.
        weight: Of each value, of the shape of z; None sums them.
        retain_graph: Whether other gradients follow from the same pass.
        recomputes: Whether parts of the network run again for the gradient (activation
            checkpointing). Reentrant checkpointing knows gradients of all leaves alone; F must
            then be the only one.

    Example:
        >>> F = torch.ones(1, 2, 1, 1, requires_grad=True)
        >>> gradient((3 * F).sum((1, 2, 3)), F).flatten()
        tensor([3., 3.])
    """
    if weight is None:
        weight = torch.ones_like(z)
    if not recomputes:
        return torch.autograd.grad(z, F, weight, retain_graph=retain_graph)[0]
    F.grad = None
    torch.autograd.backward(z, weight, retain_graph=retain_graph)
    found, F.grad = F.grad, None
    assert found is not None
    return found
