"""Answers of the explorer about a picture, and about a concept on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtcav.explainer.attributor import ForwardPass
from vtcav.results.bank import ConceptRecord
from vtcav.results.rows import Row

__all__ = ["Answer", "PictureView", "Status"]


@dataclass(frozen=True, eq=False)
class PictureView:
    """A picture as the network sees it.

    Attributes:
        images: The pass of this one image, with its feature maps at all layers.
        box: Where the input lies on the picture, as fractions of its sides.
        input: The input itself, uint8 [H, W, 3], where its location on the picture is unknown
            because the preprocessing is not vtcav's. Maps are then drawn on the input.
    """

    images: ForwardPass
    box: tuple[float, float, float, float]
    input: NDArray[np.uint8] | None

    def top(self, count: int) -> list[int]:
        """Return the most probable classes."""
        order = self.images.probabilities[0].argsort(descending=True, stable=True)
        return [int(i) for i in order[:count]]


@dataclass(frozen=True, eq=False)
class Answer:
    """One concept on one picture at one layer.

    Attributes:
        concept: Its name.
        layer: The layer.
        M: The concept map [h, w].
        separated: Whether the layer separates the concept from its negatives.
        rows: The rows of `LocalExplanation.attributions`, without q-values, for the classes whose
            integral is known.
        rough: Attributions with half the steps, by class.
        pending: Classes whose integral is not known yet.
        record: The images that the concept was learned from.
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
class Status:
    """The computation in progress, for a page that waits."""

    what: str = ""
    done: int = 0
    total: int = 0
