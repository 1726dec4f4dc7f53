"""Geometry of a preprocessing: the size to resize to, and what is kept of it."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from vtcav.errors import ImageError

Window: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""

_LARGEST = 2**27  # pixels of a resized picture before its crop; a strip of 1 x 2048 reaches it


def plan(
    width: int,
    height: int,
    size: tuple[int, int] | None,
    resize: Literal["crop", "stretch", "pad"],
    crop_pct: float,
) -> tuple[tuple[int, int], Window]:
    """Return the size to resize a picture to, and the window of the result that is kept.

    Args:
        width: The picture's width.
        height: The picture's height.
        size: Height and width of the network's input; None for the picture's own.
        resize: As of `Preprocess`.
        crop_pct: As of `Preprocess`.

    Returns:
        Width and height, and the window, which reaches beyond the picture where that is padded.

    Raises:
        ImageError: The picture has no pixels, or is too elongated.
    """
    if width < 1 or height < 1:
        raise ImageError(f"expected a picture of at least 1 x 1 pixel, got {width} x {height}")
    if size is None:
        return (width, height), (0, 0, width, height)
    high, wide = size
    resized = wide, high
    left = top = 0
    if resize == "crop":
        resized = _cover(width, height, size, crop_pct)
        # torchvision rounds the corner half to even, as Python does.
        left, top = round((resized[0] - wide) / 2), round((resized[1] - high) / 2)
    elif resize == "pad":
        if width * high >= height * wide:  # the width is what limits it
            resized = wide, max(1, round(height * wide / width))
        else:
            resized = max(1, round(width * high / height)), high
        left, top = -((wide - resized[0]) // 2), -((high - resized[1]) // 2)
    return resized, (left, top, left + wide, top + high)


def _cover(width: int, height: int, size: tuple[int, int], crop_pct: float) -> tuple[int, int]:
    """Return the size of the resized picture that a crop is taken from."""
    high, wide = size
    # Without the millionth, 224 / (224 / 232) could be a hair below the 232 that it means.
    cover_wide = math.floor(wide / crop_pct + 1e-6)
    cover_high = math.floor(high / crop_pct + 1e-6)
    # torchvision rounds the longer side down.
    if width * cover_high >= height * cover_wide:
        resized = int(cover_high * width / height), cover_high
    else:
        resized = cover_wide, int(cover_wide * height / width)
    if resized[0] * resized[1] > _LARGEST:
        raise ImageError(
            f"a picture of {width} x {height} is too elongated for a crop of {wide} x {high}: "
            f"it would be resized to {resized[0]} x {resized[1]}; crop it before, or use "
            'resize="pad" or "stretch"'
        )
    return resized
