"""Levels of trust in a concept, the limits between them, and findings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from vtcav.method.alignment import R2_FINE, R2_USABLE

FINE, LOOK, BAD = "fine", "look", "do not use"
NOT_APPLICABLE = "not applicable"
"""The level of a check that needs what is missing, such as a second concept. It lowers no level."""

LEVELS = FINE, LOOK, BAD
"""From the best to the worst."""

CHECKS = (
    "text",
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
    "not raised",
    "zero maps",
)
"""All checks, the gravest first: the order decides between findings of one level."""


class Limit(NamedTuple):
    """The values at which levels begin.

    A value should be high where `fine` is above `usable`, and low where it is below.

    Attributes:
        fine: The level is fine from here on.
        usable: The level is "do not use" from here on.
    """

    fine: float
    usable: float = -math.inf

    def level(self, value: float) -> str:
        """Return the level of a value.

        Example:
            >>> [Limit(0.8, 0.5).level(value) for value in (0.9, 0.7, 0.5)]
            ['fine', 'look', 'do not use']
            >>> [Limit(0.2, 0.5).level(value) for value in (0.1, 0.3, 0.5)]
            ['fine', 'look', 'do not use']
        """
        sign = 1 if self.fine > self.usable else -1
        if not sign * value > sign * self.usable:
            return BAD
        return FINE if sign * value >= sign * self.fine else LOOK


_FINE, _USABLE = 0.8, 0.5  # replication cosines, from which two other limits follow


class Limits(NamedTuple):
    """The limits of the checks.

    They are judgements; a limit that is derived from another says how.

    Attributes:
        auc: Of the lower end of the held-out AUC. Fine is "excellent" on the scale of Hosmer and
            Lemeshow; not usable is not shown to be better than guessing.
        replication: Of the replication cosine. Fine: the chance errors have a quarter of the
            squared length of the direction, the usual demand on a reliability (Nunnally). Not
            usable: they are as long as the direction.
        error: Of the relative standard error, which is sqrt(1 - replication).
        bootstrap: Of the mean cosine between v and its bootstrap directions. A draw adds the
            chance errors once more, so that the cosine is 1 / sqrt(1 + error^2); noise alone has
            0.71.
        examples: Of the number of images in a set. Half of fewer than the first is too few to show
            how much the direction depends on the choice; `fit` refuses fewer than the second by
            default.
        overlap: Of the share of negatives at or above e+, or of examples at or below e-: one in
            ten; and one in two, as for images that do not differ.
        neighbour: Of the cosine between the directions of two concepts: half of the squared length
            in common.
        one_direction: The cosine from which on two concepts have one direction, nine tenths of the
            squared length in common. That is a finding, and no fault of the concepts: a network
            that takes a mark for a disease has one direction for both.
        common: Of the mean cosine between all concepts: the part they share is as long as the part
            that is each one's own.
        other: Of the AUC of a concept's examples against another's, as for the negatives. Where its
            upper end is below one half, the direction points to the other concept.
        negatives: Of the cosine between directions with other negatives: 26 degrees; and where the
            part that changes is as long as the part that stays.
        place: Of the effective share of the image that the mean map fills; 1 where it is even.
        agreement: Of the rank correlation of projections between layers.
        not_raised: Of the share of images whose most probable class scores no higher than at zero
            feature maps, so that every concept gets 0. That is no fault of a concept.
        zero_maps: Of how far the classes' scores lie apart at zero feature maps, as a share of that
            for images: a quarter of their variance.
        text: Of the R2 of a text on held-out images: half of its similarities, or a fifth.
        copies: Of the share of images that are copies: one is worth a look, one in five changes the
            numbers.
        curve_most: The replication cosine above which more examples are not worth asking for.
    """

    auc: Limit = Limit(0.8, 0.5)
    replication: Limit = Limit(_FINE, _USABLE)
    error: Limit = Limit(math.sqrt(1 - _FINE), math.sqrt(1 - _USABLE))
    bootstrap: Limit = Limit(1 / math.sqrt(2 - _FINE), 1 / math.sqrt(2 - _USABLE))
    examples: Limit = Limit(10, 5)
    overlap: Limit = Limit(0.1, 0.5)
    neighbour: Limit = Limit(math.sqrt(0.5), math.inf)
    common: Limit = Limit(0.5)
    other: Limit = Limit(0.8)
    negatives: Limit = Limit(0.9, 0.5)
    place: Limit = Limit(0.6)
    agreement: Limit = Limit(0.5)
    not_raised: Limit = Limit(0.05, math.inf)
    zero_maps: Limit = Limit(0.5, math.inf)
    text: Limit = Limit(R2_FINE, R2_USABLE)
    copies: Limit = Limit(0.0, 0.2)
    curve_most: float = 0.95
    one_direction: float = 0.95

    def to_dict(self) -> dict[str, float]:
        """Return every limit by its name in capitals, for provenance."""
        *limits, most, one = self._asdict().items()
        ends = {f"{name}_{end}": x for name, limit in limits for end, x in limit._asdict().items()}
        named = {**ends, **dict((most, one))}
        return {name.upper(): float(x) for name, x in named.items() if math.isfinite(x)}


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
        other: The other concept that the layer does not tell from this one; empty for none.
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
    other: str = ""


def worst(levels: Iterable[str]) -> str:
    """Return the worst of some levels; fine if there are none.

    Example:
        >>> worst(["fine", "do not use", "look"])
        'do not use'
    """
    return max(levels, key=LEVELS.index, default=FINE)


def by_level(level: str, fine: str, look: str, bad: str) -> str:
    """Return the text that belongs to a level.

    Example:
        >>> by_level("look", ".", "; look closer.", "; throw it away.")
        '; look closer.'
    """
    return {FINE: fine, LOOK: look, BAD: bad}[level]


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
