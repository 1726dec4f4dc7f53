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
    contender,
    mostly_of_others,
    own_part,
)
from vtcav.results.verdicts.verdict import SMALL, SMALL_LOGITS, own_part_says
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
    whole = dict(row)
    if isnan(whole["drop"]):
        return Ownership()
    small = SMALL_LOGITS if isnan(whole["share"]) else SMALL
    # what hardly changes anything, or no more than chance, need not be anything's
    if abs(size_of(whole)) < small or not beyond_chance(whole):
        return Ownership()
    other = contender(whole, rows)
    if other is None:
        return Ownership(doubt=_LIKE_ANOTHER if mostly_of_others(whole) else "")
    if own_part_says(whole, small):
        return Ownership(own_part=True)
    name = repr(clear(other["concept"]))
    return Ownership(doubt=f"overlaps with that of {name}, which accounts for its effect")
