"""Pictures with nothing in them: of one colour, transparent throughout, or of a few pixels."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from PIL import Image
from torch import Tensor

from vtcav.errors import warn
from vtcav.images.decoding import BandPicture, shallow

SIDE = 8
"""The side in pixels below which a picture can show nothing."""
NAMED = 5
"""The most pictures of a folder that warnings name."""
_WARNED: defaultdict[Path, list[str]] = defaultdict(list)  # pictures by folder


def warn_of_blank(name: str, image: Image.Image, x: Tensor) -> None:
    """Say that there is nothing to see in a picture.

    Args:
        name: The picture's name.
        image: The picture, upright.
        x: The network's input [C, H, W] or [C, D, H, W].

    Warns:
        UserWarning: At most five times a folder.
    """
    fault = _fault(image, x)
    if not fault:
        return
    named = _WARNED[Path(name).parent]
    if name not in named and len(named) < NAMED:  # one that is named already is read again
        named.append(name)
    if name not in named:
        return
    last = name in named[NAMED - 1 :]
    warn(
        f"{name!r} has nothing to see in it: {fault}. It counts as an image all the same; remove "
        f"it unless you mean it{'. Further files in this folder are not reported' * last}"
    )


def _fault(image: Image.Image, x: Tensor) -> str:
    """Return why there is nothing to see; empty where there may be something."""
    if min(image.size) < SIDE:
        return f"it has {image.width} x {image.height} pixels"
    if _one_colour(image):
        return "all of its pixels have one colour, or are transparent"
    flat = x.flatten(1)
    if bool((flat.amax(1) == flat.amin(1)).all()):
        return "all that the network sees of it has one colour"
    return ""


def _one_colour(image: Image.Image) -> bool:
    """Return whether all pixels of a picture of 8 bits have one colour; other ones are not read."""
    if not shallow(image) or (isinstance(image, BandPicture) and image.holds != "colours"):
        return False
    right, below = image.width - 1, image.height - 1
    corners = {image.getpixel(at) for at in ((0, 0), (right, 0), (0, below), (right, below))}
    if len(corners) > 1:  # most pictures, without a look at every pixel
        return False
    return image.getcolors(1) is not None
