"""The axes of positions in tensors: h and w of pictures, or d, h and w of volumes.

The method treats positions alike, however they are arranged. Shapes in this package are written
[..., h, w]; for volumes they are [..., d, h, w].
"""

from __future__ import annotations

from torch import Tensor


def axes(x: Tensor, start: int) -> tuple[int, ...]:
    """Return the axes of a tensor from `start` on, to sum over.

    Example:
        >>> import torch
        >>> axes(torch.zeros(1, 2, 3, 4, 5), 2)
        (2, 3, 4)
    """
    return tuple(range(start, x.ndim))


def broadcast(x: Tensor, like: Tensor) -> Tensor:
    """Return x with axes of length 1 at its end, as many axes in all as `like` has.

    Example:
        >>> import torch
        >>> broadcast(torch.zeros(3), torch.zeros(3, 4, 4, 4)).shape
        torch.Size([3, 1, 1, 1])
    """
    return x.reshape(*x.shape, *(1,) * (like.ndim - x.ndim))
