"""The parts of a study: its concepts, texts and images, and the settings of what is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from vtcav.explainer.settings import (
    MARGIN_OF_ONE,
    NEUTRAL,
    SHARE,
    CorrectionSettings,
    DiscoverySettings,
    ErrorSettings,
    ExplainerSettings,
    FitSettings,
    When,
)
from vtcav.parameters import Constraint, parameter
from vtcav.study.sources import Source, paths

TopOrNames: TypeAlias = int | tuple[str, ...]
"""A number of most probable classes, or classes by name or index."""

FORMATS = ("csv", "parquet", "json")
"""Of the summary; the tables of each class and image are always CSV and Parquet."""


@dataclass(frozen=True)
class ConceptSources:
    """The examples of a concept, and the negatives that it is contrasted with."""

    examples: Source
    negatives: Source = ()


@dataclass(frozen=True)
class TextSpec:
    """Concepts as words, and what they are understood with.

    Attributes:
        concepts: For each concept its texts, which are of one meaning.
        images: The probe images.
        model: The folder of the image-text model; None where it is the network itself.
        negatives: Images that do not show the concepts; None takes the other probe images.
        neutral: The texts that each text is compared with.
        share: The share of the probe images that are examples of a text.
    """

    concepts: Mapping[str, tuple[str, ...]]
    images: Source
    model: str | None = None
    negatives: Source | None = None
    neutral: tuple[str, ...] = NEUTRAL
    share: float = SHARE

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `VisualTCAV.fit`, without negatives."""
        return {
            "texts": self.concepts,
            "images": paths(self.images),
            "text_model": self.model,
            "neutral": self.neutral,
            "share": self.share,
        }


@dataclass(frozen=True)
class DiscoverySpec:
    """Where concepts that nobody named are looked for, and how."""

    images: Source
    k: int | Literal["auto"] = DiscoverySettings.k
    attributed: int = DiscoverySettings.attributed
    erased: bool = DiscoverySettings.erased


@dataclass(frozen=True)
class ImageSpec:
    """A single photograph; `classes` None takes the study's `top`."""

    file: str
    classes: TopOrNames | None = None


@dataclass(frozen=True)
class DiagnosticsSpec:
    """How concepts are diagnosed: draws of each kind, and other negatives to compare with."""

    resamples: int = 100
    other_negatives: Source | None = None


@dataclass(frozen=True)
class ErrorsSpec:
    """Labelled images, of which the wrong ones are compared with the right ones.

    Attributes:
        images: A folder with one folder of images per class, or a table of paths and labels.
        pictures: How many wrong images of each finding are kept with their maps.
    """

    images: str
    pictures: int = ErrorSettings.pictures


@dataclass(frozen=True)
class CorrectSpec:
    """Concepts that are taken out of the network, and labelled images to measure the change with.

    Attributes:
        concepts: The concepts, which are taken out together.
        images: As for `ErrorsSpec`.
        layer: As for `CorrectionSettings`, like the others.
        when: Which images are corrected.
        rounds: How often concepts are learned again and taken out.
        anyway: Whether to take out what diagnostics advise not to use.
        attributions: Whether attributions are compared.
    """

    concepts: tuple[str, ...]
    images: str
    layer: str | None = CorrectionSettings.layer
    when: When = CorrectionSettings.when
    rounds: int = CorrectionSettings.rounds
    anyway: bool = CorrectionSettings.anyway
    attributions: bool = CorrectionSettings.attributions


@dataclass(frozen=True)
class VersusSpec:
    """A second network to compare with.

    Attributes:
        network: Its name, or a file of weights for the study's network.
        margin: A difference from -margin to margin counts as none.
    """

    network: str
    margin: float = MARGIN_OF_ONE


def _top(value: Any) -> TopOrNames:
    names = isinstance(value, list | tuple)
    if (len(set(value)) < len(value) or not value) if names else isinstance(value, bool | str):
        raise ValueError
    if not names and value < 1:
        raise ValueError
    return tuple(value) if names else int(value)


TOP = Constraint("a whole number of at least 1, or a list of different classes", _top)
"""The most probable classes, or classes by name or index."""


@dataclass(frozen=True)
class Options(ExplainerSettings, FitSettings):
    """The settings of the method.

    Attributes:
        top: The classes that single photographs are explained for.
    """

    top: TopOrNames = parameter(
        3, TOP, "classes per photograph: the most probable ones, or a list of names"
    )
