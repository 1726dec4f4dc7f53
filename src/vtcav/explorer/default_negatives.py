"""The negatives of all concepts: the user's, or a stand-in that says that it is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ExtraError
from vtcav.images.listing import ImageSource, collect

__all__ = ["Negatives", "drawn", "find_negatives"]

COUNT = 120


@dataclass(frozen=True, eq=False)
class Negatives:
    """Images that all concepts are contrasted with.

    Attributes:
        images: In any form that `fit` takes.
        described: What they are, in one sentence for the page.
        stand_in: Whether they only stand in for the user's own.
    """

    images: ImageSource
    described: str
    stand_in: bool


def find_negatives(given: ImageSource | None, seed: int = 0) -> Negatives:
    """Return the user's negatives; photographs, or drawings, where there are none.

    Args:
        given: A folder or images; None for a stand-in.
        seed: Seeds crops and drawings.
    """
    if given is not None:
        where = f"of the folder {Path(given).name!r}" if isinstance(given, str | Path) else "given"
        return Negatives(given, f"{len(collect(given))} images {where}", stand_in=False)
    try:
        from vtcav.datasets.demo_photographs import negatives

        crops = negatives(seed)
    except ExtraError:
        return Negatives(
            drawn(COUNT, seed), f"{COUNT} drawings of coloured clouds and noise", stand_in=True
        )
    return Negatives(
        crops, f"{len(crops)} pieces of ten photographs that come with scikit-image", stand_in=True
    )


def drawn(count: int, seed: int = 0, size: int = 224) -> NDArray[np.uint8]:
    """Draw coloured clouds, from smooth to grainy.

    Args:
        count: How many.
        seed: Seeds them.
        size: Their side in pixels.

    Returns:
        uint8 [count, size, size, 3].

    Example:
        >>> drawn(2, size=32).shape
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
