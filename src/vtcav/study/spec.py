"""The parts of a study: sources of images, and the settings of the method and the diagnostics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from vtcav.explainer.settings import ExplainerSettings, FitSettings
from vtcav.images.listing import is_remote
from vtcav.parameters import Constraint, parameter

Source: TypeAlias = str | tuple[str, ...]
"""A folder or file, or several of them; as they are written in the study."""

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
class ImageSpec:
    """A single photograph; `classes` None takes the study's `top`."""

    file: str
    classes: TopOrNames | None = None


@dataclass(frozen=True)
class DiagnosticsSpec:
    """How concepts are diagnosed: draws of each kind, and other negatives to compare with."""

    resamples: int = 100
    other_negatives: Source | None = None


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


def paths(source: Source) -> str | Path | list[str | Path]:
    """Return a source as the API takes it."""
    if isinstance(source, str):
        return source if is_remote(source) else Path(source)
    return [source if is_remote(source) else Path(source) for source in source]
