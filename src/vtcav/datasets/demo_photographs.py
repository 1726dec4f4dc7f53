"""Photographs from the scikit-image package, and crops of them, for the demo."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ExtraError
from vtcav.images.listing import collect
from vtcav.images.references import read
from vtcav.models.sources.demo_network import HINT

__all__ = ["crops", "negatives", "photograph"]


# Photographs of scikit-image that show none of the textures and are not explained.
_NEGATIVES = (
    *("astronaut", "camera", "cell", "coins", "horse"),
    *("hubble_deep_field", "retina", "rocket", "gravel", "grass"),
)


def photograph(name: str) -> Image.Image:
    """Return a photograph of the scikit-image package, in RGB.

    Raises:
        ExtraError: When scikit-image is not installed.
    """
    try:
        folder = resources.files("skimage.data")
    except ModuleNotFoundError as error:
        raise ExtraError(f"the demo's photographs need scikit-image: {HINT}") from error
    path = next(p for p in folder.iterdir() if Path(p.name).stem == name)
    with resources.as_file(path) as file:
        return read(collect(file)[0])


def crops(
    picture: Image.Image, count: int, *, seed: int, smallest: float = 0.4, largest: float = 0.9
) -> NDArray[np.uint8]:
    """Return square crops from random places and at random scales.

    Args:
        picture: An RGB picture.
        count: The number of crops.
        seed: Seeds the places and scales.
        smallest: The side of the smallest crop, as a share of the picture's shorter side.
        largest: The side of the largest crop.

    Returns:
        uint8 [count, 256, 256, 3].
    """
    rng = np.random.default_rng(seed)
    short = min(picture.size)
    cut = []
    for _ in range(count):
        side = round(short * rng.uniform(smallest, largest))
        left = int(rng.integers(0, picture.width - side + 1))
        top = int(rng.integers(0, picture.height - side + 1))
        piece = picture.crop((left, top, left + side, top + side))
        cut.append(np.asarray(piece.resize((256, 256), Image.Resampling.BICUBIC)))
    return np.stack(cut)


def negatives(seed: int) -> NDArray[np.uint8]:
    """Return 120 crops of photographs that show none of the demo's concepts."""
    return np.concatenate(
        [crops(photograph(name), 12, seed=seed + i) for i, name in enumerate(_NEGATIVES)]
    )
