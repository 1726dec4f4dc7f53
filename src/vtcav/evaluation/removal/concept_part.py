"""The mathematics of insertion and deletion: the part of feature maps that is a concept.

Letters and shapes: F [N, C, h, w] feature maps, z [N, T] logits, p [C] a pooled CAV, and

- d [C]: the direction that is removed, p with the signs that step 7 flipped (d = p where v >= 0);
- alpha = F'd / |d|^2 at each position [h, w]: the amount of the direction there;
- beta: the mean alpha over all positions of the negatives, a number;
- D = ReLU(alpha - beta) d [C, h, w]: the concept's part of the feature maps;
- t in 0..1: the share of D that is removed.

Deletion computes the logits of F - tD, insertion those of F - (1 - t)D.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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
    dot = torch.einsum("nchw,nc->nhw", F, d)
    return dot / torch.where(length > 0, length, 1.0)[:, None, None]


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
    alpha = coefficient(F, d)
    excess = (
        alpha - torch.as_tensor(beta, dtype=F.dtype, device=F.device).reshape(-1, 1, 1)
    ).relu()
    return torch.einsum("nhw,nc->nchw", excess, d.expand(len(F), -1))


def curves(
    head: Callable[[Tensor], Tensor], F: Tensor, D: Tensor, t: Tensor, *, batch_size: int = 16
) -> Tensor:
    """Return the logits of F - tD for every t: the deletion curves.

    Args:
        head: The network after the layer, from feature maps to logits.
        F: Feature maps [N, C, h, w].
        D: Parts of them [N, C, h, w].
        t: The shares to remove [P].
        batch_size: Feature maps per pass through the head.

    Returns:
        z [N, P, T]; reversed along P, for an evenly spaced t from 0 to 1, they are the insertion
        curves.

    Example:
        >>> import torch
        >>> F, D = torch.full((1, 1, 1, 2), 3.0), torch.tensor([[[[2.0, 0.0]]]])
        >>> curves(lambda F: F.sum((2, 3)), F, D, torch.tensor([0.0, 0.5, 1.0]))
        tensor([[[6.],
                 [5.],
                 [4.]]])
    """
    pairs = torch.arange(len(F) * len(t), device=F.device)
    t = t.to(F)
    logits = []
    with torch.no_grad():
        for chunk in torch.split(pairs, batch_size):
            n, share = chunk // len(t), t[chunk % len(t)][:, None, None, None]
            logits.append(head(F[n] - share * D[n]))
    return torch.cat(logits).reshape(len(F), len(t), -1)


def area(values: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the areas under curves by the trapezoid rule.

    Args:
        values: The curves [n, P].
        t: Their abscissas [P].

    Returns:
        Areas [n].

    Example:
        >>> area(np.array([[4.0, 2.0, 2.0]]), np.array([0.0, 0.5, 1.0])).tolist()
        [2.5]
    """
    heights: NDArray[np.float64] = (values[:, 1:] + values[:, :-1]) / 2
    return heights @ np.diff(t)
