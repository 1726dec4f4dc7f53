"""What the explorer found: of a picture, and of a concept on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtcav.results.bank import ConceptRecord
from vtcav.results.rows import Row

__all__ = ["Found", "Learned", "Progress", "Seen"]


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network makes of a picture.

    Attributes:
        x: The network's input [1, 3, H, W].
        z: The logits [1, T].
        probabilities: [T].
        box: Where the input lies on the picture, as shares of its sides.
        input: The input itself, uint8 [H, W, 3], where it is not known where it lies: the
            preprocessing is not vtcav's. Maps belong on it then.
        maps: F [1, C, h, w] by layer, of those asked for so far.
    """

    x: Tensor
    z: Tensor
    probabilities: Tensor
    box: tuple[float, float, float, float]
    input: NDArray[np.uint8] | None
    maps: dict[str, Tensor]

    def top(self, count: int) -> list[int]:
        """Return the most probable classes."""
        order = self.probabilities.argsort(descending=True, stable=True)
        return [int(i) for i in order[:count]]


@dataclass(frozen=True, eq=False)
class Found:
    """One concept on one picture at one layer.

    Attributes:
        concept: Its name.
        layer: The layer.
        M: The concept map [h, w].
        separated: Whether the layer separates it from its negatives.
        rows: The rows of `LocalExplanation.attributions`, without q-values, of those classes
            whose integral is known.
        rough: Attributions with half the steps, by class.
        pending: Classes whose integral is not known yet.
        record: What the concept was learned from.
    """

    concept: str
    layer: str
    M: NDArray[np.float32]
    separated: bool
    rows: tuple[Row, ...]
    rough: Mapping[int, float]
    pending: tuple[int, ...]
    record: ConceptRecord


@dataclass
class Progress:
    """What is being computed, for a page that waits."""

    what: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Learned:
    """A concept of a file of CAVs: it can be looked at and not changed."""

    name: str
    examples: int
    negatives: int
