"""The picture that figures show, and the part of it that the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtcav.images.decoding import as_rgb, shallow
from vtcav.images.preprocess import Preprocess
from vtcav.images.scaling import windowed
from vtcav.images.signature import channel_count
from vtcav.images.volumes import VolumePicture, takes_volumes

Shares: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom of a box, as shares of a picture's width and height."""

SIDE = 1024
SLICES = (
    "single slices of volumes: of an example the one in the middle, under a map the one where it "
    "is highest"
)


def input_box(picture: Image.Image, preprocess: Preprocess) -> Shares:
    """Return where the network's input lies on a picture.

    Example:
        >>> input_box(Image.new("RGB", (400, 200)), Preprocess(100))
        (0.25, 0.0, 0.75, 1.0)
    """
    width, height = picture.size
    left, top, right, bottom = preprocess.box(width, height)
    return left / width, top / height, right / width, bottom / height


def shown_picture(
    picture: Image.Image, x: Tensor, preprocess: object
) -> tuple[NDArray[np.uint8], Shares]:
    """Return the picture for figures, and where the network's input lies on it.

    Args:
        picture: The upright image, of any depth.
        x: The network's input [3, H, W].
        preprocess: A `Preprocess`, whose geometry is known, or another callable.

    Returns:
        uint8 [H, W, 3] of at most 1024 pixels a side, and the box of the input. For another
        callable the picture is the network's input, stretched to the full range of grey. Of a
        volume it is the input, too, slice by slice [D, H, W, 3].
    """
    if isinstance(preprocess, Preprocess) and not preprocess.volumes:
        small = preprocess.rgb(picture).copy()
        small.thumbnail((SIDE, SIDE))
        return np.array(small), input_box(picture, preprocess)
    return shown_input(x, preprocess, x), (0.0, 0.0, 1.0, 1.0)


def input_affine(picture: Image.Image, preprocess: object) -> NDArray[np.float64] | None:
    """Return the matrix from (slice, row, column, 1) of the network's input to millimetres.

    Args:
        picture: The volume.
        preprocess: A `Preprocess`, whose geometry is known.

    Returns:
        The matrix [4, 4]; None for a picture, and where the volume or a callable does not tell it.
    """
    affine = getattr(picture, "affine", None)
    if not isinstance(picture, VolumePicture) or affine is None:
        return None
    if not isinstance(preprocess, Preprocess) or not preprocess.volumes:
        return None
    left, top, right, bottom = preprocess.box(*picture.size)
    ends = (0, len(picture.values)), (top, bottom), (left, right)
    return rescaled(affine, ends, cast("tuple[int, ...]", preprocess.size))


def rescaled(
    affine: NDArray[np.float64], ends: Sequence[tuple[float, float]], cells: Sequence[int]
) -> NDArray[np.float64]:
    """Return the affine matrix of cells that divide a part of a volume evenly.

    Args:
        affine: That of the volume, whose voxels have their centres at whole numbers.
        ends: Where the part begins and ends along each axis, from the edge of the first voxel.
        cells: The number of cells along each axis.

    Example:
        >>> rescaled(np.eye(4), [(0, 4), (0, 4), (2, 4)], (2, 4, 1))[:3].tolist()
        [[2.0, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 2.5]]
    """
    to_volume = np.eye(4)
    for axis, ((start, end), count) in enumerate(zip(ends, cells, strict=True)):
        step = (end - start) / count
        to_volume[axis, axis], to_volume[axis, 3] = step, start + step / 2 - 0.5
    product: NDArray[np.float64] = affine @ to_volume
    return product


def shown_as(preprocess: object) -> str:
    """Return which channels and slices figures show; empty where they show all of grey or RGB."""
    slices = SLICES if takes_volumes(preprocess) else ""
    if isinstance(preprocess, Preprocess):
        return "; ".join(filter(None, [preprocess.shown_as, slices]))
    count = channel_count(preprocess)
    mean = "" if count in (1, 3) else f"the mean of the {count} channels, in grey"
    return "; ".join(filter(None, [mean, slices]))


def shown_input(x: Tensor, preprocess: object, like: Tensor) -> NDArray[np.uint8]:
    """Return network inputs [..., C, H, W] as pictures, uint8 [..., H, W, 3].

    Args:
        x: The inputs.
        preprocess: A `Preprocess`, whose scale is known, or another callable.
        like: The input whose range is stretched to the full range of grey where the scale is not
            known.

    Example:
        >>> import torch
        >>> shown_input(torch.tensor([[[0.0, 0.5, 1.0]]]), None, torch.tensor([0.0, 2.0]))[0, :, 0]
        array([  0,  64, 128], dtype=uint8)
    """
    if isinstance(preprocess, Preprocess):
        return preprocess.pixels(x)
    low, high = float(like.min()), float(like.max())
    shown = x.float().movedim(-4 if takes_volumes(preprocess) else -3, -1)
    if shown.shape[-1] != 3:
        shown = shown.mean(-1, keepdim=True).expand(*shown.shape[:-1], 3)
    grey = ((shown - low) / max(high - low, 1e-12) * 255).round().clamp(0, 255).byte()
    return grey.cpu().numpy()


def viewed(preprocess: object, image: Image.Image) -> Image.Image:
    """Return a picture in RGB as it is shown beside results.

    Args:
        preprocess: A `Preprocess`, whose window counts; another callable, for which pictures of
            more than 8 bits are stretched from their own minimum to their maximum.
        image: The picture, upright.

    Raises:
        ImageError: As `Preprocess.rgb`.
    """
    if isinstance(preprocess, Preprocess):
        return preprocess.rgb(image)
    if shallow(image):
        return as_rgb(image)
    values = np.asarray(image)
    if values.ndim == 4:
        values = values[len(values) // 2]
    if values.ndim == 3:
        values = values.mean(2, dtype=np.float32)
        image = Image.fromarray(values)
    low, high = float(values.min()), float(values.max())
    return windowed(image, low, high if high > low else low + 1)
