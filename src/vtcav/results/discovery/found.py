"""One found concept: its direction, the images that stand for it, and patches of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class ImageKey(NamedTuple):
    """An image by its name and the SHA-256 of its content."""

    name: str
    digest: str


class UncoveredImage(NamedTuple):
    """An image, and where its attribution is covered by no named concept.

    Attributes:
        layer: The layer.
        class_name: The class that is predicted for it.
        image: Its name.
        share: The share of the class's attribution that is not covered.
        picture: What the network sees, uint8 [H, W, 3].
        map: The attribution that is not covered [h, w].
    """

    layer: str
    class_name: str
    image: str
    share: float
    picture: NDArray[np.uint8]
    map: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FoundConcept:
    """A concept that nobody named.

    Attributes:
        number: Its number among all.
        layer: Where it was found.
        v: Its direction [C].
        e_pos: Its emblem e+: of the images that show it most.
        e_neg: Its emblem e-: of some that show it least.
        examples: The images that show it most, in order.
        negatives: The images that it is contrasted with.
        patches: The places of the first of these images that show it most, one of each, uint8
            [n, 96, 96, 3].
    """

    number: int
    layer: str
    v: NDArray[np.float32] = field(repr=False)
    e_pos: float
    e_neg: float
    examples: tuple[ImageKey, ...] = field(repr=False)
    negatives: tuple[ImageKey, ...] = field(repr=False)
    patches: NDArray[np.uint8] = field(repr=False)

    def __post_init__(self) -> None:
        for array in self.arrays().values():
            array.setflags(write=False)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what belongs into a file of arrays, by name."""
        return {"v": self.v, "patches": self.patches}

    def to_dict(self) -> dict[str, Any]:
        """Return the rest as plain data for JSON."""
        return {
            "number": self.number,
            "layer": self.layer,
            "e_pos": self.e_pos,
            "e_neg": self.e_neg,
            "examples": self.examples,
            "negatives": self.negatives,
        }
