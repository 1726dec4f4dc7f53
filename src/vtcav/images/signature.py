"""Signatures of preprocessings: measured on a probe picture, to tell whether two behave alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vtcav.errors import ImageError
from vtcav.images.decoding import BandPicture, as_rgb
from vtcav.images.preprocess import Preprocess, to_tensor, without_window
from vtcav.images.volumes import probe_volume, takes_volumes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


_TRIALS = 8  # a random flip then looks fixed once in 128 times
# Multiples of irrational numbers spread the positions evenly over any slices, height and width.
_STEPS = 0.8191725134, 0.7548776662, 0.569840291
_TOLERANCE = 0.03  # between the values of two signatures


def signature(preprocess: Callable[[Image.Image], Tensor]) -> tuple[float, ...]:
    """Measure what a preprocessing does: two that behave alike have the same signature.

    It is applied to one fixed picture of 389 x 283 pixels, in which the size, the crop, the
    interpolation, the mean and the std all leave a trace.

    Args:
        preprocess: A `Preprocess` or any callable from a PIL image to a tensor.

    Returns:
        The tensor's C, H and W (or C, D, H and W), then 64 of its values, rounded to 4 decimals;
        then four numbers of its window where there is one, or its percentiles.

    Raises:
        ImageError: As `to_tensor`, or the preprocessing is random.

    Example:
        >>> from vtcav.images.preprocess import Preprocess
        >>> signature(Preprocess(224))[:3]
        (3.0, 224.0, 224.0)
    """
    import torch

    name = "a probe of 389 x 283"
    picture = probe_picture()
    first = tensor_of_rgb(preprocess, picture.copy(), name).cpu()
    for _ in range(_TRIALS - 1):
        again = tensor_of_rgb(preprocess, picture.copy(), name).cpu()
        if first.shape != again.shape or not torch.allclose(first, again, rtol=1e-4, atol=1e-4):
            raise ImageError(
                "the preprocessing is random: applied twice to one picture, it returned different "
                "tensors; use the evaluation transform, without augmentation"
            )
    channels, *sides = first.shape
    steps = _STEPS[-len(sides) :]
    values = [
        float(first[k % channels, *(int(k * s % 1 * n) for s, n in zip(steps, sides, strict=True))])
        for k in range(1, 65)
    ]
    for start, end in preprocess.ranges if isinstance(preprocess, Preprocess) else ():
        extent = end - start
        # small windows and large ones are to differ by more than `same_preprocessing` allows
        values += [start, extent, 1 / extent, start / extent]
    return (*map(float, first.shape), *(round(value, 4) for value in values))


def same_preprocessing(a: Sequence[float], b: Sequence[float]) -> bool:
    """Tell whether two signatures belong to the same preprocessing.

    Args:
        a: A result of `signature`.
        b: Another one.

    Returns:
        Whether the shapes are equal and all values are within 0.03 of each other.

    Example:
        >>> from vtcav.images.preprocess import Preprocess
        >>> black, grey = signature(Preprocess(32)), signature(Preprocess(32, mean=0.5))
        >>> same_preprocessing(black, black), same_preprocessing(black, grey)
        (True, False)
    """
    if len(a) != len(b) or tuple(a[:3]) != tuple(b[:3]):
        return False
    return all(abs(x - y) <= _TOLERANCE for x, y in zip(a[3:], b[3:], strict=True))


def probe_picture() -> Image.Image:
    """Return a picture of gradients, edges and detail that is the same on every machine."""
    return Image.fromarray(_probe_pixels())


@cache
def _probe_pixels() -> NDArray[np.uint8]:
    y, x = np.mgrid[0:283, 0:389]
    gradient = (x * 255 // 388 + y * 255 // 282) // 2
    checks = (x // 7 + y // 5) % 2 * 255
    speckle = (x // 2 * 7919 ^ y // 2 * 10477) * 31 // 64 % 2 * 255
    rings = (x * x + y * y) // 211 % 2 * 255
    red, green, blue = (gradient + 2 * checks) // 3, (255 - gradient + 2 * rings) // 3, speckle
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def channel_count(preprocess: object) -> int:
    """Return how many channels the pictures for a preprocessing have.

    A callable other than `Preprocess` says it by an attribute `channels`, or takes RGB.
    """
    if isinstance(preprocess, Preprocess):
        return preprocess.count
    count = getattr(preprocess, "channels", 3)
    return count if isinstance(count, int) and count > 0 else 3


def tensor_of_rgb(
    preprocess: Callable[[Image.Image], Tensor], picture: Image.Image, name: str
) -> Tensor:
    """Apply a preprocessing to a test picture in RGB, whatever channels it takes.

    Where it takes neither 1 nor 3 channels, red, green and blue are repeated. There is no window.

    Raises:
        ImageError: As `to_tensor`.

    Example:
        >>> preprocess = Preprocess(8, channels=5, window=(0, 10000))
        >>> tensor_of_rgb(preprocess, Image.new("RGB", (9, 9), "red"), "red")[:, 0, 0].tolist()
        [1.0, 0.0, 0.0, 1.0, 0.0]
    """
    count = channel_count(preprocess)
    if takes_volumes(preprocess):
        picture = probe_volume(as_rgb(picture), count)
    elif count not in (1, 3):
        values = np.asarray(as_rgb(picture))
        picture = BandPicture.of(values[..., [c % 3 for c in range(count)]])
    preprocess = without_window(preprocess)
    if hasattr(preprocess, "named"):  # a test picture has no second input of its own
        preprocess = partial(preprocess)
    return to_tensor(preprocess, picture, name)
