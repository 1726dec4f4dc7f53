"""The area under the ROC curve: how often one set of values exceeds another."""

from __future__ import annotations

from torch import Tensor


def auc(D: Tensor) -> float:
    """Return the share of pairs in the right order: margins above 0, ties counting half.

    Args:
        D: Margins [n, m]: how far each of n values exceeds each of m others.

    Example:
        >>> import torch
        >>> auc(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        0.625
    """
    return float(((D > 0).double() + (D == 0).double() / 2).mean())
