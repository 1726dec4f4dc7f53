"""Arrays of decoded values as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ImageError
from vtcav.images.decoding import CUT, BandPicture, DeepPicture, deep


def grey_picture(values: NDArray[Any]) -> DeepPicture:
    """Return the picture of values [H, W], at their full depth.

    Whole numbers that fit are kept as such.

    Raises:
        ImageError: When they are not finite.

    Example:
        >>> np.asarray(grey_picture(np.array([[-1024.0, 3071.0]]))).tolist()
        [[-1024, 3071]]
    """
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ImageError("it holds values that are not finite")
        whole = np.rint(values)
        if (whole == values).all() and np.abs(whole).max(initial=0) < 2**31:
            values = whole.astype(np.int32)
    elif values.size and (values.min() < -(2**31) or values.max() >= 2**31):
        values = values.astype(np.float64)
    kind = np.float32 if values.dtype.kind == "f" else np.int32
    return deep(Image.fromarray(np.ascontiguousarray(values.astype(kind))), ())


def in_colour(values: NDArray[Any]) -> Image.Image:
    """Return the picture of values [H, W, 3] of 8 or 16 bits.

    Raises:
        ImageError: For values of another type.
    """
    if values.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(values[..., :3]))
    if values.dtype != np.uint16:
        raise ImageError(f"expected colours of 8 or 16 bits, got {values.dtype}")
    values = np.ascontiguousarray(values[..., :3])
    base = Image.fromarray((values >> 8).astype(np.uint8))
    base.info[CUT] = True
    return BandPicture.of(values, base, "colours")
