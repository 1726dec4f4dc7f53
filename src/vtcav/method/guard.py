"""The small constant that the paper adds to divisors, scaled to the sums."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-7
_ORDINARY = 0.01


def guarded(total: Tensor) -> Tensor:
    """Return a sum plus the guard that the paper divides by, above 0.

    The paper adds 1e-7. Where sums are small because a layer or a network computes in small units,
    that would decide the result: below 0.01 the guard is in proportion to the sum.

    Args:
        total: Sums of numbers that are at least 0.

    Returns:
        The sums with their guards; 1 for a sum of 0, whose parts are 0 too.

    Example:
        >>> guarded(torch.tensor([0.0, 1.0])) - torch.tensor([0.0, 1.0])
        tensor([1.0000e+00, 1.1921e-07])
    """
    guard = EPSILON * (total / _ORDINARY).clamp(max=1.0)
    return torch.where(total > 0, total + guard, 1.0)
