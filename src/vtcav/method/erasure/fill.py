"""Ways to fill in a region of a picture from around it (erasure 4).

They work on the network's input x [n, c, H, W], in whatever units it has: all commute with a
normalisation by channel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tensor

from vtcav.method.erasure.fill_names import PLAIN, FillName
from vtcav.method.erasure.inpainting import navier_stokes, telea
from vtcav.method.positions import axes

__all__ = ["FILLS", "Fill", "filled", "others"]

Fill: TypeAlias = FillName | Callable[[Tensor, Tensor], Tensor]
"""How a region is filled: by name, or a callable of x [n, c, H, W] and H [n, 1, H, W]."""

Box: TypeAlias = tuple[slice, ...]

SIGMA = 0.1
_FLOOR = 1e-4


def filled(x: Tensor, H: Tensor, fill: Fill = "convolution") -> Tensor:
    """Return pictures with their regions filled in; outside the regions they are as they were.

    Args:
        x: Network inputs [n, c, H, W].
        H: Regions [n, H, W] of 0 and 1.
        fill: "convolution" takes the mean of the pixels outside, weighted by a Gaussian of a tenth
            of the side (normalised convolution); "mean" that of all pixels outside; "blur" blurs
            the picture, so that coarse structure stays; "telea" and "navier-stokes" are OpenCV's
            inpainting (`inpainting`); a callable gets x and H [n, 1, H, W].

    Raises:
        ExtraError: When OpenCV is needed and not installed.

    Example:
        >>> x = torch.tensor([[[[1.0, 9.0, 3.0]]]])
        >>> filled(x, torch.tensor([[[0.0, 1.0, 0.0]]]), "mean")
        tensor([[[[1., 2., 3.]]]])
    """
    H = H[:, None].to(x)
    content = fill(x, H) if callable(fill) else FILLS[fill](x, H)
    return torch.where(H > 0, content, x)


def others(fill: Fill) -> list[Fill]:
    """Return the ways to fill beside one, which say how far the answer depends on it.

    OpenCV's are not among them: the answer must not depend on what is installed.

    Example:
        >>> others("mean")
        ['convolution', 'blur']
    """
    return [name for name in PLAIN if name != fill]


def _mean(x: Tensor, H: Tensor) -> Tensor:
    keep = 1 - H
    positions = axes(x, 2)
    total = keep.sum(positions, keepdim=True)
    outside = (x * keep).sum(positions, keepdim=True) / total.clamp(min=1.0)
    # nothing is outside of a region that covers all
    return torch.where(total > 0, outside, x.mean(positions, keepdim=True)).expand_as(x)


def _convolution(x: Tensor, H: Tensor) -> Tensor:
    def content(x: Tensor, H: Tensor, box: Box) -> Tensor:
        keep = 1 - H
        blurred = _blurred(torch.cat([x * keep, keep], 1), box)
        return (blurred[:, :-1] + _FLOOR * _mean(x, H)[box]) / (blurred[:, -1:] + _FLOOR)

    return _in_boxes(x, H, content)


def _blur(x: Tensor, H: Tensor) -> Tensor:
    def content(x: Tensor, H: Tensor, box: Box) -> Tensor:
        return _blurred(x, box) / _blurred(torch.ones_like(H), box)

    return _in_boxes(x, H, content)


FILLS: dict[FillName, Callable[[Tensor, Tensor], Tensor]] = {
    "convolution": _convolution,
    "mean": _mean,
    "blur": _blur,
    "telea": telea,
    "navier-stokes": navier_stokes,
}


def _in_boxes(x: Tensor, H: Tensor, content: Callable[[Tensor, Tensor, Box], Tensor]) -> Tensor:
    """Return pictures with other content in the box around each one's region.

    Args:
        x: Pictures [n, c, H, W].
        H: Regions [n, 1, H, W].
        content: Returns that of a box, of one picture and its region.
    """
    found = x.clone()
    for n in H.flatten(1).any(1).nonzero().flatten().tolist():
        one, inside = slice(n, n + 1), H[n, 0] > 0
        box = one, slice(None), *map(_stretch, range(inside.ndim), [inside] * inside.ndim)
        found[box] = content(x[one], H[one], (slice(None), *box[1:]))
    return found


def _stretch(axis: int, inside: Tensor) -> slice:
    """Return the stretch of an axis that a region [H, W] lies in."""
    at = inside.movedim(axis, 0).flatten(1).any(1).nonzero()
    return slice(int(at[0]), int(at[-1]) + 1)


def _blurred(x: Tensor, box: Box) -> Tensor:
    """Return a box of x [n, c, H, W] blurred with a Gaussian of a tenth of the shorter side.

    Outside of x there is 0. A volume is blurred across its slices by a tenth of their number.
    """
    sigma = SIGMA * min(x.shape[-2:])
    rows, columns = (_gaussian(side, sigma).to(x) for side in x.shape[-2:])
    # as matrix products, which are faster than wide depthwise convolutions
    blurred = rows[box[-2]] @ x @ columns[:, box[-1]]
    if x.ndim == 4:
        return blurred
    slices = _gaussian(x.shape[2], SIGMA * x.shape[2]).to(x)
    return torch.einsum("de,ncehw->ncdhw", slices[box[2]], blurred)


@lru_cache(maxsize=8)
def _gaussian(side: int, sigma: float) -> Tensor:
    """Return the matrix of a convolution with a Gaussian, cut off at three sigma [side, side]."""
    position = torch.arange(side, dtype=torch.float64)
    distance = position[:, None] - position
    reach = int(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).double() ** 2)
    weight = torch.exp(-0.5 * (distance / sigma) ** 2) / kernel.sum()
    return torch.where(distance.abs() <= reach, weight, 0.0)
