"""Example images of a localisation's figure, with their masks and concept maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.images.input_box import Shares

_SIDE = 320  # pixels of a picture and its mask, at most


@dataclass(frozen=True, eq=False)
class MaskedImage:
    """An image with the mask of a concept and the concept's maps.

    Attributes:
        image: Its name.
        concept: The concept.
        picture: uint8 [H, W, 3].
        box: Where the network's input, and so every map, lies on the picture.
        mask: The location of the concept, [H, W] in [0, 1].
        mask_box: Where the mask lies on the picture.
        maps: M [h, w] by layer.
    """

    image: str
    concept: str
    picture: NDArray[np.uint8] = field(repr=False)
    box: Shares
    mask: NDArray[np.float32] = field(repr=False)
    mask_box: Shares
    maps: Mapping[str, NDArray[np.float32]] = field(repr=False)


def shrunk(values: NDArray[Any], filter_: Image.Resampling) -> NDArray[Any]:
    """Return a picture or a mask [H, W, ...] with as many pixels as are drawn."""
    image = Image.fromarray(values)
    image.thumbnail((_SIDE, _SIDE), filter_)
    return np.asarray(image)
