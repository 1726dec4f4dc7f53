"""Pairs of concepts that a layer does not tell apart: first those that a verdict depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, TypeAlias

from vtcav.results.effect_tables import of_pictures
from vtcav.results.erased import change_text
from vtcav.results.verdicts import Verdict, overlapping, own_part
from vtcav.results.words import clear, named_layers

if TYPE_CHECKING:
    import pandas as pd

Pairs: TypeAlias = Mapping[tuple[str, str], Sequence[str]]
"""The layers that do not tell two concepts apart, by the two."""
_MOST = 6
"""The rows that are not folded."""
_DEPENDS = "used", "cannot be told"


@dataclass(frozen=True)
class PairRow:
    """Two concepts that have one direction at some layers, and what a class's score does without.

    Attributes:
        concepts: Their names, the one whose verdict is to be read first in front.
        layers: The layers, in words.
        class_name: The class; empty where nothing was erased.
        changes: The change of the score without each, or without its own part where its verdict is
            about that; none where nothing was erased.
        used: Which of them are used, by their verdicts.
        overlap: Whether their regions overlap where most of an effect comes from.
        rank: The place of the first of their verdicts.
    """

    concepts: tuple[str, ...]
    layers: str
    class_name: str = ""
    changes: tuple[str, ...] = ()
    used: tuple[bool, ...] = ()
    overlap: bool = False
    rank: tuple[Any, ...] = ()


@dataclass(frozen=True)
class PairsPart:
    """What the report says of pairs that a layer does not tell apart.

    Attributes:
        shown: The first rows.
        more: All other rows.
        others: Pairs that no verdict depends on, in words.
        erased: Whether concepts were erased.
    """

    shown: Sequence[PairRow]
    more: Sequence[PairRow]
    others: Sequence[str]
    erased: bool


def pairs_part(pairs: Pairs, rows: Sequence[PairRow], *, erased: bool) -> PairsPart:
    """Return all pairs, those first that the verdicts to be read first depend on.

    Args:
        pairs: The pairs.
        rows: Those of all classes that verdicts depend on, from `pair_rows`.
        erased: Whether concepts were erased.
    """
    if not erased:
        rows = [PairRow(pair, named_layers(layers)) for pair, layers in pairs.items()]
    rows = sorted(rows, key=lambda row: row.rank)
    known = {frozenset(row.concepts) for row in rows}
    others = [
        f"“{clear(first)}” and “{clear(second)}” ({named_layers(layers)})"
        for (first, second), layers in pairs.items()
        if frozenset((first, second)) not in known
    ]
    return PairsPart(rows[:_MOST], rows[_MOST:], others, erased)


def pair_rows(
    pairs: Pairs, class_name: str, effects: pd.DataFrame, verdicts: Sequence[Verdict]
) -> Iterator[PairRow]:
    """Yield the pairs of which a verdict says that one is used, or may be.

    Args:
        pairs: The pairs.
        class_name: The class.
        effects: The table of `GlobalExplanation.class_effects`.
        verdicts: The verdicts of the class.
    """
    measured = {row["concept"]: row for row in of_pictures(effects).to_dict("records")}
    by_name = {verdict.concept: verdict for verdict in verdicts}
    for pair, layers in pairs.items():
        if not by_name.keys() >= set(pair):
            continue
        first, second = names = sorted(pair, key=lambda name: by_name[name].rank)
        if by_name[first].kind in _DEPENDS:
            yield PairRow(
                tuple(names),
                named_layers(layers),
                class_name,
                tuple(_change(measured[name], by_name[name]) for name in names),
                tuple(by_name[name].kind == "used" for name in names),
                overlapping(measured[first], measured[second]),
                by_name[first].rank,
            )


def _change(row: Mapping[Any, Any], verdict: Verdict) -> str:
    if isnan(row["drop"]):
        return "not seen"
    if verdict.own_part:
        own = own_part(row)
        return f"{change_text(own['drop'], own['share'])} (own part)"
    told = "" if verdict.kind != "cannot be told" else " (cannot be told)"
    return change_text(row["drop"], row["share"]) + told
