"""How far a concept can be trusted: levels, where they begin, and findings.

The limits are judgements. Each says what it stands for, and docs/trust.md lists them; a limit that
is derived from another says how.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "BAD",
    "CHECKS",
    "FINE",
    "LEVELS",
    "LOOK",
    "Finding",
    "at_least",
    "count",
    "limits",
    "percent",
    "untested",
    "worst",
]

FINE, LOOK, BAD = "fine", "look", "do not use"
LEVELS = FINE, LOOK, BAD
"""From the best to the worst."""

CHECKS = (
    "separability",
    "emblem gap",
    "shared with negatives",
    "split half",
    "examples",
    "standard error",
    "bootstrap",
    "leakage",
    "duplicates",
    "other concepts",
    "entanglement",
    "common part",
    "emblem overlap",
    "place",
    "negatives halves",
    "other negatives",
    "shared with concepts",
    "layer agreement",
)
"""What is looked at, the gravest first: it decides between findings of one level."""

AUC_FINE, AUC_USABLE = 0.8, 0.5
"""Of the lower end of the held-out AUC. 0.8: "excellent" on Hosmer and Lemeshow's scale, here asked
of the lower end. 0.5: not shown to be better than guessing."""

REPLICATION_FINE, REPLICATION_USABLE = 0.8, 0.5
"""Of the replication cosine. 0.5: the chance errors of the direction are as long as what it is to
show. 0.8: a quarter of that in squared length; the usual demand on a reliability (Nunnally)."""

ERROR_FINE, ERROR_USABLE = math.sqrt(1 - REPLICATION_FINE), math.sqrt(1 - REPLICATION_USABLE)
"""Of the relative standard error, the same limits: it is sqrt(1 - replication)."""

BOOTSTRAP_FINE = 1 / math.sqrt(2 - REPLICATION_FINE)
BOOTSTRAP_USABLE = 1 / math.sqrt(2 - REPLICATION_USABLE)
"""Of the mean cosine between v and its bootstrap directions, the same limits: a draw adds the
chance errors once more, so the cosine is 1 / sqrt(1 + error^2); noise alone has 0.71."""

EXAMPLES_FINE, EXAMPLES_USABLE = 10, 5
"""Images of a set. Below 5 `fit` refuses unless it is told otherwise; below 10 a half of them is
too few to see how much the direction depends on the choice."""

OVERLAP_FINE, OVERLAP_USABLE = 0.1, 0.5
"""Share of negatives at or above e+, or of examples at or below e-: one in ten; and one in two,
which is what images that do not differ have."""

NEIGHBOUR_FINE, NEIGHBOUR_USABLE = math.sqrt(0.5), 0.95
"""Of the cosine between two concepts' directions: half of the squared length in common; nine
tenths, where they are one direction."""

COMMON_FINE = 0.5
"""Of the mean cosine between all concepts: what they share is as long as what is each one's own."""

OTHER_FINE, OTHER_USABLE = 0.8, 0.5
"""Of the AUC of a concept's examples against another's: as for the negatives; at 0.5 (its upper
end) the direction points to the other concept rather than to its own."""

NEGATIVES_FINE, NEGATIVES_USABLE = 0.9, 0.5
"""Of the cosine between directions with other negatives: 26 degrees; and where what changes is as
long as what stays."""

PLACE_FINE = 0.6
"""Share of the image that the mean map fills in effect; 1 where it is spread evenly."""

AGREEMENT_FINE = 0.5
"""Of the rank correlation of projections between layers."""

COPIES_USABLE = 0.2
"""Share of images that are copies: one is worth a look, from one in five on the numbers change."""

CURVE_MOST = 0.95
"""Replication cosine from which more examples are not worth asking for."""


class Finding(NamedTuple):
    """One thing found out about a concept at a layer.

    Attributes:
        layer: The layer; empty where it concerns all.
        concept: The concept; empty where it concerns all.
        check: What was looked at, one of `CHECKS`.
        value: The number; NaN where there is none (the note says why).
        low: Lower end of its interval, 95 %; NaN where there is none.
        high: Upper end.
        level: One of `LEVELS`.
        meaning: The finding in one plain sentence.
        note: Why a number is missing.
    """

    layer: str
    concept: str
    check: str
    value: float
    low: float
    high: float
    level: str
    meaning: str
    note: str = ""


def untested(
    layer: str, concept: str, check: str, meaning: str, note: str, level: str = LOOK
) -> Finding:
    """Return the finding that something could not be tested, which is never fine."""
    return Finding(layer, concept, check, math.nan, math.nan, math.nan, level, meaning, note)


def worst(levels: Iterable[str]) -> str:
    """Return the worst of some levels; fine of none.

    Example:
        >>> worst(["fine", "do not use", "look"])
        'do not use'
    """
    return max(levels, key=LEVELS.index, default=FINE)


def at_least(value: float, fine: float, usable: float) -> str:
    """Return the level of a value that should be high.

    Example:
        >>> at_least(0.9, 0.8, 0.5), at_least(0.7, 0.8, 0.5), at_least(0.5, 0.8, 0.5)
        ('fine', 'look', 'do not use')
    """
    if not value > usable:
        return BAD
    return FINE if value >= fine else LOOK


def percent(share: float) -> str:
    """Return a share as text: 3 %, and 0 % or 100 % only for exactly these.

    Example:
        >>> percent(0.126), percent(0.001), percent(0.9999), percent(1)
        ('13 %', 'below 1 %', 'above 99 %', '100 %')
    """
    if 0 < share < 0.005:
        return "below 1 %"
    if 0.995 <= share < 1:
        return "above 99 %"
    return f"{share:.0%}".replace("%", " %")


def count(number: int, noun: str) -> str:
    """Return a number of things.

    Example:
        >>> count(1, "image"), count(3, "image")
        ('1 image', '3 images')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def limits() -> dict[str, float]:
    """Return every limit by its name, for provenance."""
    return {
        name: float(value)
        for name, value in globals().items()
        if name.endswith(("_FINE", "_USABLE", "_MOST"))
    }
