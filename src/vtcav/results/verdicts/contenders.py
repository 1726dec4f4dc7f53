"""Which other concept may be what was erased, where the regions of two overlap.

Erasing a region erases whatever is there. Where the regions of two concepts overlap in the images
that most of an effect comes from, the effect may be that of either. What erasing only the part does
that is told to be the concept's own (`PlaceClassifier`) may settle it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isnan, nan
from typing import Any

from vtcav.results.rows import names_of
from vtcav.results.words import SIGNIFICANT

MOST = 0.5
"""The share of an effect that must come from images in which the regions overlap."""
HALF = 0.5
"""The share of an effect that a region no larger must take to account for it."""
NEARLY = 0.9
"""The share of an effect that a larger region must take to account for it."""
MORE = 0.2
"""How much more of one effect than of the other must come from the overlap for two concepts not to
count as mostly together."""
OWN = 1 / 3
"""The share of an effect that the part of the region that is told to be the concept's must have
for the concept to count by itself."""
TOLD = 0.5
"""The AUC from which on concepts are told apart better than by chance: an own part counts."""
HARDLY = 0.1
"""The share of an effect below which its own part hardly has any of it."""
CLEARLY_TOLD = 0.9
"""The AUC from which on two concepts are told apart well enough to clear one of them."""
OFTEN_TOLD = 0.5
"""The share of the images that show a concept in which a part must be told to be its own."""


def contender(row: Mapping[Any, Any], rows: Mapping[Any, Any]) -> dict[Any, Any] | None:
    """Return the concept that may be what was erased instead, the one that does most.

    It is one whose region overlaps with that of the concept where most of the effect comes from,
    and that accounts for the effect. Of two that are mostly together, the one whose filters do not
    answer the other has none.

    Args:
        row: A concept's row of `GlobalExplanation.class_effects`.
        rows: The rows of all concepts.
    """
    found = []
    for name, share in overlaps(row).items():
        other = rows.get(name)
        if share <= MOST or other is None or not _accounts_for(other, row):
            continue
        together = share <= overlaps(other).get(row["concept"], 0.0) + MORE
        if not (together and row["concept"] in names_of(other.get("confused_with") or "")):
            found.append(other)
    return max(found, key=lambda other: abs(other["drop"]), default=None)


def overlaps(row: Mapping[Any, Any]) -> dict[str, float]:
    """Return the concepts whose regions overlap where an effect comes from, with the share of it.

    Example:
        >>> overlaps({"same_region": '{"ring": 0.94}'}), overlaps({"same_region": ""})
        ({'ring': 0.94}, {})
    """
    text = row.get("same_region") or ""
    return {str(name): float(share) for name, share in json.loads(text).items()} if text else {}


def overlapping(row: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    """Tell whether most of the effect of either of two concepts comes from where both are."""
    pairs = (row, other["concept"]), (other, row["concept"])
    return any(overlaps(one).get(name, 0.0) > MOST for one, name in pairs)


def own_part(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a row with the effect of the part of the regions that is told to be the concept's.

    Args:
        row: A concept's row of `GlobalExplanation.class_effects`; NaN where it is not known.
    """
    names = "drop_apart", "drop_apart_low", "drop_apart_high", "present_apart", "q_apart"
    drop, low, high, present, q_value = (row.get(name, nan) for name in names)
    less = drop - row["drop"]
    shares = {
        f"share{end}": nan if isnan(row["share"]) else value / row["gap"]
        for end, value in (("", drop), ("_low", low), ("_high", high))
    }
    return {
        **row,
        "drop": drop,
        "drop_low": low,
        "drop_high": high,
        # regions were filled in all ways, their parts in one
        "fill_low": row["fill_low"] + less,
        "fill_high": row["fill_high"] + less,
        **shares,
        "present": present,
        "p_value": row.get("p_apart", nan),
        "q_value": q_value,
    }


def counts_by_itself(row: Mapping[Any, Any]) -> bool:
    """Tell whether its own part has a third of a concept's effect or more, beyond chance."""
    if isnan(row.get("drop_apart", nan)):
        return False
    if row.get("told", nan) < TOLD:  # NaN where nothing contests the regions
        return False
    own = own_part(row)
    enough = own["drop"] * row["drop"] > 0 and abs(own["drop"]) >= OWN * abs(row["drop"])
    return enough and beyond_chance(own)


def mostly_of_others(row: Mapping[Any, Any]) -> bool:
    """Tell whether its own part has too little of a concept's effect to count by itself."""
    return bool(abs(row.get("drop_apart", nan)) < OWN * abs(row["drop"]))


def hardly_by_itself(row: Mapping[Any, Any]) -> bool:
    """Tell whether its own part hardly has any of a concept's effect."""
    return bool(abs(row.get("drop_apart", nan)) < HARDLY * abs(row["drop"]))


def clearly_told(row: Mapping[Any, Any]) -> bool:
    """Tell whether a concept is told apart so well and so often that nothing of it is missed."""
    often = row.get("present_apart", 0.0) >= OFTEN_TOLD * row["present"]
    return bool(often and row.get("told", nan) >= CLEARLY_TOLD)


def beyond_chance(row: Mapping[Any, Any]) -> bool:
    """Tell whether the score changes significantly further than without regions elsewhere."""
    further = row["drop"] * (row["drop"] - row["placebo_mean"]) >= 0
    return bool(row["q_value"] <= SIGNIFICANT and further)


def _accounts_for(other: Mapping[Any, Any], row: Mapping[Any, Any]) -> bool:
    """Return whether erasing one concept does enough to be the reason for the effect of another.

    In a region that is no larger half as much is enough; a larger one does more anyway, and must do
    nearly as much.
    """
    if isnan(other["drop"]) or not other["drop"] * row["drop"] > 0 or not beyond_chance(other):
        return False
    enough = HALF if other["area"] <= row["area"] else NEARLY
    return bool(abs(other["drop"]) >= enough * abs(row["drop"]))
