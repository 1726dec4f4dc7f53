"""The part of the report on each concept: examples, findings of the diagnostics, cosines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtcav.diagnostics.levels import FINE, LEVELS, NOT_APPLICABLE
from vtcav.diagnostics.result import Diagnostics
from vtcav.report.trust import Trust
from vtcav.results.figures.data_uri import data_uri
from vtcav.results.provenance import Provenance

_SIDE = 96

Finding = dict[Hashable, Any]
"""A row of the diagnostics' table."""


@dataclass(frozen=True)
class ConceptPart:
    """A concept.

    Attributes:
        name: Its name.
        pictures: A few examples, as data URIs.
        origin: Where its direction comes from, if it was given; empty where it was learned.
        examples: The number of examples that it was learned from.
        negatives: The number of negatives that it was contrasted with.
        levels: Layer, level and the reason for it; empty where it was not diagnosed.
        separability: Findings on whether each layer tells it from its negatives.
        warnings: The other findings that are not fine, the gravest first.
        fine: The other findings that are fine.
    """

    name: str
    pictures: list[str]
    origin: str
    examples: int
    negatives: int
    levels: list[tuple[str, str, str]]
    separability: list[Finding]
    warnings: list[Finding]
    fine: list[Finding]


def concept_parts(
    thumbnails: Mapping[str, NDArray[np.uint8]],
    provenances: Sequence[Provenance],
    diagnostics: Diagnostics | None,
    trust: Trust,
) -> list[ConceptPart]:
    """Return every concept of the report.

    Args:
        thumbnails: A few examples of each concept, in the order of the report.
        provenances: The provenance of the diagnostics and of each explanation.
        diagnostics: Diagnostics of the concepts.
        trust: The trust in the concepts.
    """
    learned = {c.name: c for p in reversed(provenances) for c in p.concepts}
    parts = []
    for name, pictures in thumbnails.items():
        layers, findings = _diagnosed(diagnostics, name)
        others = [finding for finding in findings if finding["check"] != "separability"]
        order = NOT_APPLICABLE, *LEVELS
        others.sort(key=lambda finding: -order.index(finding["level"]))
        record = learned.get(name)
        parts.append(
            ConceptPart(
                name=name,
                pictures=[data_uri(picture, _SIDE) for picture in pictures],
                origin=record.origin if record else "",
                examples=len(record.examples) if record else 0,
                negatives=len(record.negatives) if record else 0,
                levels=[(layer, *trust.of(layer, name)) for layer in layers],
                separability=[f for f in findings if f["check"] == "separability"],
                warnings=[f for f in others if f["level"] not in (FINE, NOT_APPLICABLE)],
                fine=[f for f in others if f["level"] in (FINE, NOT_APPLICABLE)],
            )
        )
    return parts


def _diagnosed(
    diagnostics: Diagnostics | None, concept: str
) -> tuple[tuple[str, ...], list[Finding]]:
    """Return the layers at which a concept was diagnosed, and the findings about it."""
    if diagnostics is None or concept not in diagnostics.concepts:
        return (), []
    table = diagnostics.table
    return diagnostics.layers, table[table["concept"].isin(["", concept])].to_dict("records")
