"""Deletion curves and the areas under them.

F [N, C, h, w] are feature maps, D [N, C, h, w] the concept's part of them (`concept_part`), and t
in 0..1 the share of D that is removed. Deletion computes the logits z [N, T] of F - tD, insertion
those of F - (1 - t)D.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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
