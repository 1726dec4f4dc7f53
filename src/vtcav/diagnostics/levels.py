"""Levels of trust in a concept, the limits between them, and findings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "BAD",
    "CHECKS",
    "FINE",
    "LEVELS",
    "LIMITS",
    "LOOK",
    "NOT_APPLICABLE",
    "Finding",
    "Limits",
    "at_least",
    "at_most",
    "percent",
    "worst",
]

FINE, LOOK, BAD = "fine", "look", "do not use"
NOT_APPLICABLE = "not applicable"
"""Of a check that needs what is not there, such as a second concept. It lowers no level."""

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
"""All checks, the gravest first: the order decides between findings of one level."""


@dataclass(frozen=True)
class Limits:
    """The values at which levels begin.

    They are judgements; docs/trust.md says where each comes from. A limit that is derived from
    another says how.

    Attributes:
        auc_fine: Of the lower end of the held-out AUC: "excellent" on Hosmer and Lemeshow's scale,
            here asked of the lower end.
        auc_usable: Not shown to be better than guessing.
        replication_fine: Of the replication cosine: the chance errors have a quarter of the squared
            length of the direction; the usual demand on a reliability (Nunnally).
        replication_usable: The chance errors are as long as the direction.
        error_fine: Of the relative standard error, which is sqrt(1 - replication).
        error_usable: The same.
        bootstrap_fine: Of the mean cosine between v and its bootstrap directions. A draw adds the
            chance errors once more, so that the cosine is 1 / sqrt(1 + error^2); noise alone has
            0.71.
        bootstrap_usable: The same.
        examples_fine: Images of a set: a half of fewer is too few to show how much the direction
            depends on the choice.
        examples_usable: `fit` refuses fewer by default.
        overlap_fine: Share of negatives at or above e+, or of examples at or below e-: one in ten.
        overlap_usable: One in two, as for images that do not differ.
        neighbour_fine: Of the cosine between two concepts' directions: half of the squared length
            in common.
        neighbour_usable: Nine tenths: they are one direction.
        common_fine: Of the mean cosine between all concepts: the part they share is as long as the
            part that is each one's own.
        other_fine: Of the AUC of a concept's examples against another's, as for the negatives.
        other_usable: Of its upper end: the direction points to the other concept.
        negatives_fine: Of the cosine between directions with other negatives: 26 degrees.
        negatives_usable: The part that changes is as long as the part that stays.
        place_fine: Effective share of the image that the mean map fills; 1 where it is even.
        agreement_fine: Of the rank correlation of projections between layers.
        copies_usable: Share of images that are copies: one is worth a look, one in five changes
            the numbers.
        curve_most: Replication cosine above which more examples are not worth asking for.
    """

    auc_fine: float = 0.8
    auc_usable: float = 0.5
    replication_fine: float = 0.8
    replication_usable: float = 0.5
    error_fine: float = math.sqrt(1 - replication_fine)
    error_usable: float = math.sqrt(1 - replication_usable)
    bootstrap_fine: float = 1 / math.sqrt(2 - replication_fine)
    bootstrap_usable: float = 1 / math.sqrt(2 - replication_usable)
    examples_fine: float = 10
    examples_usable: float = 5
    overlap_fine: float = 0.1
    overlap_usable: float = 0.5
    neighbour_fine: float = math.sqrt(0.5)
    neighbour_usable: float = 0.95
    common_fine: float = 0.5
    other_fine: float = 0.8
    other_usable: float = 0.5
    negatives_fine: float = 0.9
    negatives_usable: float = 0.5
    place_fine: float = 0.6
    agreement_fine: float = 0.5
    copies_usable: float = 0.2
    curve_most: float = 0.95

    def to_dict(self) -> dict[str, float]:
        """Return every limit by its name in capitals, for provenance."""
        return {name.upper(): float(value) for name, value in vars(self).items()}


LIMITS = Limits()


class Finding(NamedTuple):
    """The result of a check on a concept at a layer.

    Attributes:
        layer: The layer; empty where it concerns all.
        concept: The concept; empty where it concerns all.
        check: One of `CHECKS`.
        value: The number; NaN where there is none (the note says why).
        low: Lower end of its interval, 95 %; NaN where there is none.
        high: Upper end.
        level: One of `LEVELS`, or `NOT_APPLICABLE`.
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


def worst(levels: Iterable[str]) -> str:
    """Return the worst of some levels; fine if there are none.

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


def at_most(value: float, fine: float, usable: float) -> str:
    """Return the level of a value that should be low.

    Example:
        >>> at_most(0.1, 0.2, 0.5), at_most(0.3, 0.2, 0.5), at_most(0.5, 0.2, 0.5)
        ('fine', 'look', 'do not use')
    """
    return at_least(-value, -fine, -usable)


def percent(share: float) -> str:
    """Return a share as text; 0 % and 100 % only for exactly these.

    Example:
        >>> percent(0.126), percent(0.001), percent(0.9999), percent(1)
        ('13 %', 'below 1 %', 'above 99 %', '100 %')
    """
    if 0 < share < 0.005:
        return "below 1 %"
    if 0.995 <= share < 1:
        return "above 99 %"
    return f"{share:.0%}".replace("%", " %")
