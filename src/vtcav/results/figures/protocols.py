"""The attributes of explanations that figures and notebooks show.

Explanations draw themselves with these modules, which must therefore not know their classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vtcav.method.variants import Variant

if TYPE_CHECKING:
    import pandas as pd


class _Provenance(Protocol):
    @property
    def variant(self) -> Variant: ...
    @property
    def null_cavs(self) -> int: ...


class _Explained(Protocol):
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def concepts(self) -> tuple[str, ...]: ...
    @property
    def thumbnails(self) -> Mapping[str, NDArray[np.uint8]]: ...
    @property
    def provenance(self) -> _Provenance: ...
    @property
    def attributions(self) -> pd.DataFrame: ...


class ExplainedImage(_Explained, Protocol):
    """An image explained, as `vtcav.LocalExplanation` is."""

    @property
    def image(self) -> str:
        """Its name."""

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The image as shown, uint8 [H, W, 3]."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The network's input on the picture: left, top, right and bottom in shares."""

    @property
    def predictions(self) -> pd.DataFrame:
        """All classes, the most probable first."""

    def concept_map(self, layer: str, concept: str) -> NDArray[np.float32]:
        """Return M of a concept at a layer [h, w]."""


class ExplainedClass(_Explained, Protocol):
    """A class explained, as `vtcav.GlobalExplanation` is."""

    @property
    def class_name(self) -> str:
        """Its name."""

    @property
    def skipped(self) -> Sequence[object]:
        """Images that could not be read."""

    def summary(self) -> pd.DataFrame:
        """Return one row per layer and concept."""
