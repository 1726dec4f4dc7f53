"""Ownership: whether what erasing a region does is told to be the concept's, and of which part.

Verdicts decide this for a class. Whatever else speaks of an effect (limits, differences between
networks) goes by the same, so that all say one thing of one concept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

from vtcav.results.verdicts.changes import size_of
from vtcav.results.verdicts.contenders import (
    beyond_chance,
    clearly_told,
    contender,
    counts_by_itself,
    hardly_by_itself,
    mostly_of_others,
    own_part,
)
from vtcav.results.verdicts.verdict import SMALL, SMALL_LOGITS
from vtcav.results.words import clear

_LIKE_ANOTHER = "mostly counts where it looks more like another concept"


@dataclass(frozen=True)
class Ownership:
    """Whose effect it is that the erased region of a concept has.

    Attributes:
        own_part: Whether it is that of the own part of the region.
        doubt: Why a large effect may be that of something else, as a clause about "its region";
            empty where there is no doubt.
    """

    own_part: bool = False
    doubt: str = ""

    def effect(self, row: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return a row with the effect that is the concept's."""
        return own_part(row) if self.own_part else dict(row)


def ownership(row: Mapping[Any, Any], rows: Mapping[Any, Mapping[Any, Any]]) -> Ownership:
    """Return whose effect a concept's effect on a class is.

    Args:
        row: A concept's row of `GlobalExplanation.class_effects`.
        rows: The rows of all concepts.
    """
    if isnan(row["drop"]):
        return Ownership()
    other = contender(row, rows)
    if other is None:
        # what hardly changes anything need not be anything's
        counts = abs(size_of(dict(row))) >= (SMALL_LOGITS if isnan(row["share"]) else SMALL)
        others = counts and beyond_chance(row) and mostly_of_others(row)
        return Ownership(doubt=_LIKE_ANOTHER if others else "")
    if counts_by_itself(row) or (hardly_by_itself(row) and clearly_told(row)):
        return Ownership(own_part=True)
    name = repr(clear(other["concept"]))
    return Ownership(doubt=f"overlaps with that of {name}, which accounts for its effect")
