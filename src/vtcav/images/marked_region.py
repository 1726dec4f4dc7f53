"""Regions of a picture marked by hand, as a box or a mask, and where they lie on the input."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from vtcav.errors import ImageError, brief
from vtcav.images.decoding import identify, open_file, reason_of
from vtcav.images.listing import collect
from vtcav.images.preprocess import Preprocess
from vtcav.images.signature import tensor_of_rgb

RegionSource: TypeAlias = (
    "Sequence[int] | str | os.PathLike[str] | Image.Image | NDArray[np.bool_ | np.number[Any]]"
)
"""A box (left, top, right, bottom) in pixels of the upright picture, or a mask of its size, white
where the region is: a picture file, a PIL image, or an array [H, W] of bool, 0..1 or 0..255."""

_WHITE = 128
_COVERED = 0.5
"""The share of an input's pixel that must be marked."""
_LINEAR = 1e-3


@dataclass(frozen=True, eq=False)
class MarkedRegion:
    """A region marked by hand.

    Attributes:
        name: The region in words: "box 10, 20, 110, 90" or "mask.png".
        H: The region on the network's input, [H, W] of 0 and 1, at least one of them 1.
        outside: The share of the marked pixels that the network does not see; 0 where the geometry
            of the preprocessing is not known.
    """

    name: str
    H: Tensor
    outside: float


def marked_region(
    region: RegionSource,
    picture: Image.Image,
    preprocess: Callable[[Image.Image], Tensor],
    x: Tensor,
    name: str = "",
) -> MarkedRegion:
    """Return where a marked region lies on the network's input.

    Args:
        region: A box or a mask, on the picture as it is displayed.
        picture: The upright picture.
        preprocess: The network's preprocessing. Where it is no `Preprocess`, it is tried on black
            and white pictures, to see where it moves the region.
        x: The network's input [C, H, W] for this picture.
        name: The name of a mask in messages; left out, that of its file.

    Raises:
        ImageError: For a box that is none or not inside the picture, a mask that cannot be read,
            is of another size or marks nothing, and a region that the network does not see.

    Example:
        >>> picture, preprocess = Image.new("RGB", (40, 20)), Preprocess(20)
        >>> found = marked_region((10, 0, 20, 20), picture, preprocess, preprocess(picture))
        >>> found.name, found.H.sum().item(), found.H[0, :10].all().item()
        ('box 10, 0, 20, 20', 200.0, True)
    """
    box = _box(region, picture.size)
    if box is not None:
        left, top, right, bottom = box
        mask = np.zeros(picture.size[::-1], bool)
        mask[top:bottom, left:right] = True
        name = f"box {left}, {top}, {right}, {bottom}"
    else:
        mask, known = _mask(region)
        name = name or known
        if mask.shape != picture.size[::-1]:
            raise ImageError(
                f"expected a mask of {_size(*picture.size)} pixels like the picture as it is "
                f"displayed, got {name!r} of {_size(*mask.shape[::-1])}"
            )
    share = _on_input(mask, preprocess, x)
    H = (share >= _COVERED).float()
    if not H.any():
        raise ImageError(_unseen(name, mask, preprocess, x))
    return MarkedRegion(name, H, _outside(mask, preprocess))


def _box(region: object, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the box that a region is; None where it is something else."""
    if not isinstance(region, list | tuple) and getattr(region, "shape", None) != (4,):
        return None
    wide, high = size
    expected = (
        "expected a box (left, top, right, bottom) in whole pixels of the picture as it is "
        f"displayed, which has {_size(wide, high)}"
    )
    given: Any = region
    try:
        left, top, right, bottom = edges = [int(edge) for edge in given]
        whole = all(edge == number for edge, number in zip(edges, given, strict=True))
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise ImageError(f"{expected}, or a mask of its size, got {brief(region)}")
    if not (0 <= left < right <= wide and 0 <= top < bottom <= high):
        raise ImageError(
            f"{expected}: 0 <= left < right <= {wide} and 0 <= top < bottom <= {high}; got "
            f"{left}, {top}, {right}, {bottom}"
        )
    return left, top, right, bottom


# -- masks ------------------------------------------------------------------------------------


def _mask(region: Any) -> tuple[NDArray[np.bool_], str]:
    """Return a mask [h, w] and its name."""
    if isinstance(region, np.ndarray):
        return _marked(_shades(region), "the mask"), "mask"
    if isinstance(region, Image.Image):
        return _marked(_brightness(region), "the mask"), "mask"
    refs = collect(region)
    if len(refs) != 1:
        raise ImageError(f"expected one mask, got {len(refs)} pictures in {str(region)!r}")
    source = refs[0].fetch().source
    try:
        if isinstance(source, Path):
            with open_file(source) as file:
                values = _brightness(identify(file))
        elif isinstance(source, bytes):
            values = _brightness(identify(BytesIO(source)))
        else:
            raise ImageError("it is no picture file")
    except Exception as error:
        # decoders meet damaged files with exceptions of every kind; all are this mask's
        raise ImageError(f"cannot read the mask {refs[0].name!r}: {reason_of(error)}") from error
    return _marked(values, repr(refs[0].name)), refs[0].name


def _brightness(image: Image.Image) -> NDArray[Any]:
    """Return the brightness of a mask's pixels [h, w]; what is transparent is black."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        return _shades(np.asarray(upright))
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        black = Image.new("RGBA", upright.size, "black")
        upright = Image.alpha_composite(black, upright)
    return np.asarray(upright.convert("L"))


def _shades(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values of an array as brightness from 0 to 255, where they have a range."""
    if values.ndim == 3 and values.shape[2] in (1, 3, 4):
        values = values[..., :3].max(2)
    if values.ndim != 2 or not values.size or values.dtype.kind not in "biuf":
        raise ImageError(
            f"expected a mask [H, W] of bool, 0..1 or 0..255, got {values.dtype} of shape "
            f"{list(values.shape)}"
        )
    if values.dtype.kind == "b":
        return np.where(values, 255, 0)
    if values.dtype.kind == "f":
        if not (values.min() >= 0 and values.max() <= 1):  # so that NaN fails
            raise ImageError(
                f"expected a mask of floating point in 0..1, got {values.min():g} to "
                f"{values.max():g}"
            )
        return np.asarray(values * 255)
    return np.asarray(values / 257) if values.max() > 255 else values


def _marked(values: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """Return which pixels are white; of a mask of 0 and one other value, those that are not 0."""
    known = np.unique(values)
    marked = np.asarray(values > 0 if len(known) == 2 and known[0] == 0 else values >= _WHITE)
    if not marked.any():
        raise ImageError(
            f"{name} marks nothing: its brightest pixel is {float(known[-1]):g} of 255; paint "
            "white what is to be erased"
        )
    return marked


# -- on the input -----------------------------------------------------------------------------


def _on_input(
    mask: NDArray[np.bool_], preprocess: Callable[[Image.Image], Tensor], x: Tensor
) -> Tensor:
    """Return the share of every pixel of the input that is marked [H, W]."""
    white = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB")
    if isinstance(preprocess, Preprocess):
        geometry = Preprocess(
            preprocess.size, preprocess.resize, "bilinear", crop_pct=preprocess.crop_pct
        )
        return geometry(white)[0]
    inverse = ImageOps.invert(white)
    all_black, all_white = (Image.new("RGB", white.size, tone) for tone in ("black", "white"))
    low, high, marked, others = (
        tensor_of_rgb(preprocess, tried, "a mask").float()
        for tried in (all_black, all_white, white, inverse)
    )
    span = high - low
    if low.shape != x.shape or not (span.abs() > _LINEAR).all():
        raise ImageError(_UNKNOWN)
    share, rest = (marked - low) / span, (others - low) / span
    if not torch.allclose(share + rest, torch.ones_like(share), atol=1e-2):
        raise ImageError(_UNKNOWN)
    return share.mean(0)


_UNKNOWN = (
    "the preprocessing is a callable that does more than resize, crop and scale, so that a region "
    "of the picture cannot be found on the network's input; use vtcav.Preprocess"
)


def _outside(mask: NDArray[np.bool_], preprocess: object) -> float:
    """Return the share of a mask that lies outside of what the network sees."""
    if not isinstance(preprocess, Preprocess):
        return 0.0
    high, wide = mask.shape
    left, top, right, bottom = preprocess.box(wide, high)
    across, down = np.arange(wide) + 0.5, np.arange(high) + 0.5
    seen = mask[(down > top) & (down < bottom)][:, (across > left) & (across < right)]
    return 1 - float(seen.sum()) / float(mask.sum())


def _unseen(name: str, mask: NDArray[np.bool_], preprocess: object, x: Tensor) -> str:
    """Return why nothing of a region is on the network's input."""
    if isinstance(preprocess, Preprocess) and _outside(mask, preprocess) > _COVERED:
        left, top, right, bottom = preprocess.box(*mask.shape[::-1])
        return (
            f"the network does not see the region {name!r}: its input is the box {left:.0f}, "
            f"{top:.0f}, {right:.0f}, {bottom:.0f} of the picture; mark a region inside it"
        )
    return (
        f"the region {name!r} is smaller than a pixel of the network's input "
        f"({_size(*x.shape[:0:-1])}); mark a larger one"
    )


def _size(wide: int, high: int) -> str:
    return f"{wide} x {high}"
