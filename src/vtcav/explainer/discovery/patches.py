"""Patches of pictures around a place of the feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.explainer.learning.example_passes import THUMBNAIL_SIDE, thumbnail
from vtcav.images.input_box import Shares, shown_picture
from vtcav.images.preprocess import to_tensor
from vtcav.images.references import ImageRef
from vtcav.models.base import Model

PATCHES = 8
"""Patches of a found concept."""
_CELLS, _SHARE = 2, 0.3
"""A patch is as wide as so many cells of the map, and at least this share of the input."""


def patches(
    model: Model, refs: Sequence[ImageRef], cells: Sequence[int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the surroundings of one place of each image, uint8 [n, 96, 96, 3].

    Args:
        model: The network, whose preprocessing says where its input lies on a picture.
        refs: The images.
        cells: A place of each, as a position in the flattened feature maps.
        size: Height and width of the feature maps.
    """
    cut = [_patch(model, ref, cell, size) for ref, cell in zip(refs, cells, strict=True)]
    empty = np.zeros((0, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), np.uint8)
    return np.stack(cut) if cut else empty


def _patch(model: Model, ref: ImageRef, cell: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    picture = ref.load()
    x = to_tensor(model.preprocess, picture, ref.name)
    shown, inside = shown_picture(picture, x, model.preprocess)
    high, wide = shown.shape[:2]
    return thumbnail(Image.fromarray(shown).crop(patch_box(cell, size, (wide, high), inside)))


def patch_box(
    cell: int, size: tuple[int, int], picture: tuple[int, int], inside: Shares
) -> tuple[int, int, int, int]:
    """Return the surroundings of a place: left, top, right and bottom in pixels of a picture.

    Args:
        cell: The place, as a position in the flattened feature maps.
        size: Height and width of the feature maps.
        picture: Width and height of the picture.
        inside: Where the network's input lies on it.

    Example:
        >>> patch_box(5, (4, 4), (100, 80), (0.0, 0.0, 1.0, 1.0))
        (18, 10, 58, 50)
    """
    left, top, right, bottom = inside
    wide, high = picture
    row, column = divmod(cell, size[1])
    y = (top + (row + 0.5) / size[0] * (bottom - top)) * high
    x_ = (left + (column + 0.5) / size[1] * (right - left)) * wide
    width = min((right - left) * wide, (bottom - top) * high)
    side = min(width * max(_SHARE, _CELLS / min(size)), high, wide)
    corner = [min(max(0.0, at - side / 2), end - side) for at, end in ((x_, wide), (y, high))]
    x_, y = corner
    return round(x_), round(y), round(x_ + side), round(y + side)
