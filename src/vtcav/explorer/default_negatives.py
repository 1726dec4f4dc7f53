"""The negatives of all concepts: the user's own, or a stand-in that is marked as one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ExtraError
from vtcav.images.listing import ImageSource, collect

__all__ = ["Negatives", "draw_clouds", "find_negatives"]

COUNT = 120


@dataclass(frozen=True, eq=False)
class Negatives:
    """Images that all concepts are contrasted with.

    Attributes:
        images: The images, in any form that `fit` takes.
        described: The images in words, for the page.
        stand_in: Whether they stand in for the user's own.
    """

    images: ImageSource
    described: str
    stand_in: bool


def find_negatives(own: ImageSource | None, seed: int = 0) -> Negatives:
    """Return the user's negatives, or else photographs or drawings.

    Args:
        own: A folder or images; None for a stand-in of photographs, or of drawings where
            scikit-image is not installed.
        seed: Seeds crops and drawings.
    """
    if own is not None:
        where = f" of the folder {Path(own).name!r}" if isinstance(own, str | Path) else ""
        return Negatives(own, f"{len(collect(own))} images{where}", stand_in=False)
    try:
        from vtcav.datasets.demo_photographs import negatives

        crops = negatives(seed)
    except ExtraError:
        return Negatives(
            draw_clouds(COUNT, seed),
            f"{COUNT} drawings of coloured clouds and noise",
            stand_in=True,
        )
    return Negatives(
        crops, f"{len(crops)} crops of ten photographs that come with scikit-image", stand_in=True
    )


def draw_clouds(count: int, seed: int = 0, size: int = 224) -> NDArray[np.uint8]:
    """Draw coloured clouds, from smooth to grainy.

    Args:
        count: The number of drawings.
        seed: Seeds the drawings.
        size: Their side in pixels.

    Returns:
        uint8 [count, size, size, 3].

    Example:
        >>> draw_clouds(2, size=32).shape
        (2, 32, 32, 3)
    """
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        picture = np.tile(rng.uniform(40, 215, 3), (size, size, 1))
        for _ in range(4):
            cells = int(np.exp(rng.uniform(np.log(2), np.log(size / 2))))
            noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            layer = np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC), np.float64)
            picture += rng.uniform(0.1, 0.5) * (layer - 127.5)
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)
