"""The page of each concept: its examples, what the diagnostics found, and its neighbours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vtcav.diagnostics.levels import FINE, LEVELS
from vtcav.report.rows import Trust, records
from vtcav.results.figures.data_uri import data_uri
from vtcav.results.provenance import Provenance
from vtcav.results.words import interval, value

if TYPE_CHECKING:
    from vtcav.diagnostics.result import Diagnostics

__all__ = ["Check", "ConceptPart", "Matrix", "concept_parts", "matrices"]

_SIDE = 96


@dataclass(frozen=True)
class Check:
    """A finding of the diagnostics, as texts."""

    layer: str
    check: str
    number: str
    interval: str
    level: str
    meaning: str
    note: str


@dataclass(frozen=True)
class ConceptPart:
    """A concept.

    Attributes:
        name: Its name.
        pictures: A few examples, as addresses of their own content.
        examples: How many it was learned from.
        negatives: How many it was contrasted with.
        levels: Layer, level and the reason for it.
        separability: Whether each layer tells it from its negatives.
        warnings: The other findings that are not fine.
        fine: The other findings that are.
    """

    name: str
    pictures: tuple[str, ...]
    examples: int
    negatives: int
    levels: tuple[tuple[str, str, str], ...]
    separability: tuple[Check, ...]
    warnings: tuple[Check, ...]
    fine: tuple[Check, ...]


@dataclass(frozen=True)
class Matrix:
    """Cosines at a layer, as texts with a shade from 0 to 5."""

    layer: str
    names: tuple[str, ...]
    cells: tuple[tuple[tuple[str, int], ...], ...]


def concept_parts(
    thumbnails: Mapping[str, NDArray[np.uint8]],
    provenances: Sequence[Provenance],
    diagnostics: Diagnostics | None,
    trust: Trust,
) -> list[ConceptPart]:
    """Return every concept of the report, in the order in which they are met.

    Args:
        thumbnails: A few examples of each.
        provenances: Of the explanations.
        diagnostics: What was found about them.
        trust: In them.
    """
    diagnosed = [] if diagnostics is None else [diagnostics.provenance]
    ordered = [*diagnosed, *provenances]
    learned = {c.name: c for p in reversed(ordered) for c in p.concepts}
    checks = [] if diagnostics is None else list(map(_check, records(diagnostics.table)))
    layers = () if diagnostics is None else diagnostics.layers
    parts = []
    for name, pictures in thumbnails.items():
        own = [check for concept, check in checks if concept in ("", name)]
        others = [check for check in own if check.check != "separability"]
        others.sort(key=lambda check: -LEVELS.index(check.level))
        record = learned.get(name)
        known = diagnostics is not None and name in diagnostics.concepts
        parts.append(
            ConceptPart(
                name=name,
                pictures=tuple(data_uri(picture, _SIDE) for picture in pictures),
                examples=0 if record is None else len(record.examples),
                negatives=0 if record is None else len(record.negatives),
                levels=tuple(
                    (layer, trust.level(layer, name), trust.reason(layer, name))
                    for layer in layers
                    if known
                ),
                separability=tuple(c for c in own if known and c.check == "separability"),
                warnings=tuple(c for c in others if known and c.level != FINE),
                fine=tuple(c for c in others if known and c.level == FINE),
            )
        )
    return parts


def _check(row: dict[str, Any]) -> tuple[str, Check]:
    return str(row["concept"]), Check(
        layer=str(row["layer"]),
        check=str(row["check"]),
        number=value(float(row["value"])),
        interval=interval(float(row["low"]), float(row["high"])),
        level=str(row["level"]),
        meaning=str(row["meaning"]),
        note=str(row["note"]),
    )


def matrices(diagnostics: Diagnostics | None) -> list[Matrix]:
    """Return the cosines between the concepts' directions at every layer."""
    if diagnostics is None or len(diagnostics.concepts) < 2:
        return []
    return [
        Matrix(
            layer,
            diagnostics.concepts,
            tuple(tuple(map(_cell, row)) for row in diagnostics.cosines(layer).to_numpy()),
        )
        for layer in diagnostics.layers
    ]


def _cell(cosine: float) -> tuple[str, int]:
    if math.isnan(cosine):
        return "–", 0
    return f"{cosine:.2f}", round(5 * min(abs(float(cosine)), 1.0))
