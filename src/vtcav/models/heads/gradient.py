"""Gradients of logits with respect to feature maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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
        weight: Weights of the values, of the shape of z; None means 1.
        retain_graph: Whether more gradients of the same pass follow.
        recomputes: Whether parts of the network run again for the gradient (activation
            checkpointing). Reentrant checkpointing only computes gradients of all leaves; F must
            then be the only one.

    Example:
        >>> F = torch.ones(1, 2, 1, 1, requires_grad=True)
        >>> gradient((3 * F).sum((1, 2, 3)), F).flatten()
        tensor([3., 3.])
    """
    with torch.enable_grad():
        # weights as `grad_outputs` would be the same, but import a part of PyTorch's compiler
        total = (z if weight is None else z * weight).sum()
    if not recomputes:
        return torch.autograd.grad(total, F, retain_graph=retain_graph)[0]
    F.grad = None
    torch.autograd.backward(total, retain_graph=retain_graph)
    found, F.grad = F.grad, None
    assert found is not None
    return found


def logit_gradients(
    forward: Callable[[Tensor], Tensor],
    F: Tensor,
    classes: Tensor,
    weight: Tensor,
    *,
    recomputes: bool = False,
) -> list[Tensor]:
    """Return the gradients of several logits, from one forward pass.

    Args:
        forward: From feature maps to logits [n, all classes].
        F: Feature maps [n, C, h, w].
        classes: Indices of the logits to differentiate, per map [n, T].
        weight: The factor of each map's gradient [n].
        recomputes: As in `gradient`.

    Returns:
        weight * dz_t/dF, one float32 tensor [n, C, h, w] per class.

    Example:
        >>> F, weight = torch.ones(1, 2, 1, 1), torch.tensor([2.0])
        >>> [G] = logit_gradients(lambda F: F.sum((2, 3)), F, torch.tensor([[1]]), weight)
        >>> G.flatten()
        tensor([0., 2.])
    """
    F = F.detach().requires_grad_()
    with torch.enable_grad():
        z = forward(F).gather(1, classes)
        last = z.shape[1] - 1
        return [
            gradient(z[:, t], F, weight, retain_graph=t < last, recomputes=recomputes).float()
            for t in range(last + 1)
        ]
