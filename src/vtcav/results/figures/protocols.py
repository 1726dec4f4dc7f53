"""The attributes of explanations that figures and notebooks show.

Explanations draw themselves with these modules, which must therefore not know their classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vtcav.method.variants import Variant
from vtcav.results.erased import ErasedPicture
from vtcav.results.verdicts import Verdict

if TYPE_CHECKING:
    import pandas as pd


class HasNotes(Protocol):
    """Where results come from, as `vtcav.results.provenance.Provenance` says it."""

    @property
    def picture_notes(self) -> list[str]:
        """What to know of the pictures."""


class _Provenance(HasNotes, Protocol):
    @property
    def variant(self) -> Variant: ...
    @property
    def null_cavs(self) -> int: ...
    @property
    def shares_note(self) -> str: ...


class _Explained(Protocol):
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def concepts(self) -> tuple[str, ...]: ...
    @property
    def best_layers(self) -> Mapping[str, str]: ...
    @property
    def thumbnails(self) -> Mapping[str, NDArray[np.uint8]]: ...
    @property
    def provenance(self) -> _Provenance: ...
    @property
    def attributions(self) -> pd.DataFrame: ...


class _Image(Protocol):
    @property
    def image(self) -> str:
        """Its name."""

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The image as shown, uint8 [H, W, 3]; of a volume [D, H, W, 3]."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The network's input on the picture: left, top, right and bottom in shares."""

    @property
    def predictions(self) -> pd.DataFrame:
        """All classes, the most probable first."""

    @property
    def effects(self) -> pd.DataFrame:
        """The measured effects of erasure."""

    def sentences(self) -> list[str]:
        """Return what erasure says."""


class ErasedRegion(_Image, Protocol):
    """A region erased by hand, as `vtcav.results.erasure.Erasure` is."""

    @property
    def provenance(self) -> HasNotes:
        """What the numbers depend on."""

    @property
    def region(self) -> str:
        """The region in words."""

    @property
    def erased(self) -> ErasedPicture:
        """The network's input before and after."""


class ExplainedImage(_Explained, _Image, Protocol):
    """An image explained, as `vtcav.LocalExplanation` is."""

    @property
    def shows_erased(self) -> bool:
        """Whether there are pictures without the concepts."""

    def erased(self, concept: str) -> ErasedPicture:
        """Return the network's input before and after a concept was erased."""

    def region(self, concept: str) -> NDArray[np.bool_]:
        """Return the region of a concept that was erased."""

    def concept_map(self, layer: str, concept: str) -> NDArray[np.float32]:
        """Return M of a concept at a layer [h, w]; of a volume [d, h, w]."""


class ExplainedClass(_Explained, Protocol):
    """A class explained, as `vtcav.GlobalExplanation` is."""

    @property
    def class_name(self) -> str:
        """Its name."""

    @property
    def skipped(self) -> Sequence[object]:
        """Images that could not be read."""

    @property
    def used(self) -> int:
        """The number of images that could be read."""

    def summary(self) -> pd.DataFrame:
        """Return one row per layer and concept."""

    @property
    def resampled(self) -> pd.DataFrame:
        """The mean attributions of null and bootstrap CAVs: layer, concept, kind, draw, mean."""

    def shown_attributions(self) -> pd.DataFrame:
        """Return the attributions of the images that are shown one by one."""

    def shown_effects(self) -> pd.DataFrame:
        """Return the effects of erasure in the same images."""

    def class_effects(self) -> pd.DataFrame:
        """Return the measured effects of erasure, one row per concept."""

    def verdicts(self) -> list[Verdict]:
        """Return what erasure says about each concept."""

    @property
    def erased(self) -> Sequence[ErasedPicture]:
        """A few images without each concept."""


class RankedPicture(Protocol):
    """An image of a ranking, as `vtcav.results.ranking.RankedImage` is."""

    @property
    def image(self) -> str:
        """Its name."""

    @property
    def position(self) -> int:
        """Its position in the order, from 1."""

    @property
    def presence(self) -> float:
        """How strongly it shows the concept."""

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The image as shown, uint8 [H, W, 3]."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The network's input on the picture, in shares."""

    @property
    def concept_map(self) -> NDArray[np.float32]:
        """The concept map [h, w]."""


class RankedImages(Protocol):
    """Images in order, as `vtcav.results.ranking.Ranking` is."""

    @property
    def concept(self) -> str:
        """The concept."""

    @property
    def provenance(self) -> HasNotes:
        """What the numbers depend on."""

    @property
    def place(self) -> str:
        """Whose maps were ranked, in words."""

    @property
    def described(self) -> str:
        """The number of images in words."""

    @property
    def caution(self) -> str:
        """What casts doubt on the order."""

    @property
    def shown(self) -> Sequence[RankedPicture]:
        """Some images with their maps, in order."""

    @property
    def table(self) -> pd.DataFrame:
        """One row per image."""
