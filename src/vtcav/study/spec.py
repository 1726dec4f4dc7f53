"""The parts of a study: sources of images, and the settings of the method and the diagnostics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vtcav.datasets.slices import slices
from vtcav.datasets.tables import from_table
from vtcav.datasets.volumes import volumes
from vtcav.errors import DatasetError
from vtcav.explainer.settings import (
    MARGIN,
    NEUTRAL,
    SHARE,
    CorrectionSettings,
    DiscoverySettings,
    ErrorSettings,
    ExplainerSettings,
    FitSettings,
    When,
)
from vtcav.images.listing import is_remote
from vtcav.images.references import ImageRef
from vtcav.parameters import Constraint, did_you_mean, parameter

Source: TypeAlias = str | tuple[str, ...]
"""A folder or file, the rows of a table with a label (TABLE:LABEL), medical scans (volumes:FOLDER,
slices:FOLDER), or several of them; as they are written in the study."""

_SCANS = re.compile(r"(volumes|slices):([^/].*|/[^/].*)")
_ROWS = re.compile(r"(.+\.(?:csv|tsv|parquet)):([^/\\].*)", re.IGNORECASE)

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
    margin: float = MARGIN


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


def paths(source: Source) -> str | Path | list[str | Path | ImageRef]:
    """Return a source as the API takes it.

    Raises:
        DatasetError: For a table that cannot be read, or has no such label.
    """
    if isinstance(source, str) and not (_ROWS.fullmatch(source) or _SCANS.fullmatch(source)):
        return source if is_remote(source) else Path(source)
    parts = [source] if isinstance(source, str) else source
    return [each for part in parts for each in _parts(part)]


def labels_in(table: str) -> list[str]:
    """Return the labels in a table of images, each with its rows as a source: "TABLE:LABEL".

    Raises:
        DatasetError: For a table that cannot be read.
    """
    return list(_table(table, str(Path.cwd()), _changed(table)))


def _parts(part: str) -> Sequence[str | Path | ImageRef]:
    """Return the images of one source."""
    if scans := _SCANS.fullmatch(part):
        return (volumes if scans[1] == "volumes" else slices)(scans[2])
    if (rows := _ROWS.fullmatch(part)) is None:
        return [part if is_remote(part) else Path(part)]
    table, label = rows.groups()
    known = _table(table, str(Path.cwd()), _changed(table))
    if label not in known:
        hint = did_you_mean(label, known) or f"; it has {', '.join(map(repr, list(known)[:12]))}"
        raise DatasetError(f"{table!r} has no label {label!r}{hint}")
    return known[label]


def _changed(table: str) -> int:
    return Path(table).stat().st_mtime_ns if Path(table).is_file() else 0


@lru_cache(maxsize=4)
def _table(table: str, folder: str, changed: int) -> Mapping[str, tuple[ImageRef, ...]]:
    """Return the images of a table by their labels; it is read again where it has changed."""
    return from_table(table)
