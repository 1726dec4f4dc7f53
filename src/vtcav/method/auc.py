"""The area under the ROC curve: how often one set of values exceeds another."""

from __future__ import annotations

import torch
from torch import Tensor


def auc_of(high: Tensor, low: Tensor) -> float:
    """Return how often one value exceeds another, ties counting half, without a table of all pairs.

    Args:
        high: Values [n], finite.
        low: The others [m], finite.

    Example:
        >>> auc_of(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0]))
        0.5833333333333334
    """
    order = low.sort().values
    below, up_to = (torch.searchsorted(order, high.contiguous(), right=r) for r in (False, True))
    return float((below + up_to).sum()) / 2 / (len(high) * len(low))


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
