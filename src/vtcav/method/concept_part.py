"""The part of feature maps that is a concept, and the maps without it.

Letters and shapes: F [N, C, h, w] feature maps, and

- d [C]: the direction that is removed;
- alpha [h, w]: the amount of the direction at each position;
- beta: its usual amount;
- D = ReLU(alpha - beta) d [C, h, w]: the concept's part of the feature maps.

Insertion and deletion (`evaluation.removal`) read alpha off along d itself: alpha = F'd / |d|^2,
with d a pooled CAV and beta the mean of the negatives. Removal from feature maps in erasure reads
it off with a place filter: alpha = w.(F - m-), with d its pattern, where w.d = 1, and beta the
median of the negatives' highest responses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtcav.method.positions import broadcast


def coefficient(F: Tensor, d: Tensor) -> Tensor:
    """Return alpha = F'd / |d|^2: the amount of a direction at each position.

    Args:
        F: Feature maps [N, C, h, w].
        d: A direction for all, [C], or one for each, [N, C].

    Returns:
        alpha [N, h, w]; 0 for a direction of zeros.

    Example:
        >>> import torch
        >>> F = torch.tensor([[[[4.0, 1.0]], [[2.0, 0.0]]]])
        >>> coefficient(F, torch.tensor([1.0, 1.0]))
        tensor([[[3.0000, 0.5000]]])
    """
    d = d.expand(len(F), -1)
    length = d.square().sum(1)
    dot = torch.einsum("nc...,nc->n...", F, d)
    return dot / broadcast(torch.where(length > 0, length, 1.0), dot)


def concept_part(F: Tensor, d: Tensor, beta: Tensor | float) -> Tensor:
    """Return D = ReLU(alpha - beta) d: the part of a concept beyond its usual amount.

    Without it, F - D has beta of the direction at every position that had more, and is F elsewhere.
    It may be negative in channels where F is not.

    Args:
        F: Feature maps [N, C, h, w].
        d: A direction for all, [C], or one for each, [N, C].
        beta: The mean alpha of the negatives, for all or for each [N].

    Returns:
        D [N, C, h, w].

    Example:
        >>> import torch
        >>> F = torch.tensor([[[[4.0, 1.0]], [[2.0, 0.0]]]])
        >>> concept_part(F, torch.tensor([1.0, 1.0]), 1.0)
        tensor([[[[2., 0.]],
        <BLANKLINE>
                 [[2., 0.]]]])
    """
    return excess(coefficient(F, d), beta, d)


def excess(alpha: Tensor, beta: Tensor | float, d: Tensor) -> Tensor:
    """Return D = ReLU(alpha - beta) d for amounts that are known.

    Args:
        alpha: Amounts [N, h, w].
        beta: The usual amount, for all or for each [N].
        d: A direction for all, [C], or one for each, [N, C].

    Returns:
        D [N, C, h, w].
    """
    usual = torch.as_tensor(beta, dtype=alpha.dtype, device=alpha.device).reshape(-1)
    return torch.einsum(
        "n...,nc->nc...", (alpha - broadcast(usual, alpha)).relu(), d.expand(len(alpha), -1)
    )


def without(F: Tensor, D: Tensor) -> Tensor:
    """Return F - D, which goes below 0 nowhere where F is not below 0 itself.

    After a ReLU, feature maps below 0 would be ones that the network never sees.

    Args:
        F: Feature maps [N, C, h, w].
        D: Parts of them [N, C, h, w].

    Example:
        >>> without(torch.tensor([[[[3.0, 1.0, -1.0]]]]), torch.tensor([[[[2.0, 2.0, 2.0]]]]))
        tensor([[[[ 1.,  0., -1.]]]])
    """
    return torch.maximum(F - D, F.clamp(max=0.0))
