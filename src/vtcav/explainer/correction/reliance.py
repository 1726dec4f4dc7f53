"""Reliance that is left: classes whose score a concept still carries after it was taken out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vtcav.explainer.settings import When
from vtcav.method.significance import student_interval
from vtcav.results.verdicts import FEWEST, SMALL_LOGITS
from vtcav.results.words import clear, listed

if TYPE_CHECKING:
    import pandas as pd

_LEFT = 0.25
"""The share of an effect from which on a class still relies on the concept."""
_AS_HIGH = 0.9
"""The share of its share of the score from which on that is as high as it was."""
_MOST = 3  # classes that a sentence names


@dataclass(frozen=True)
class Reliance:
    """An effect that a correction leaves.

    Attributes:
        class_name: The class.
        before: How far its logit falls without the concept, before the correction.
        after: The same after it.
        shares: Both as shares of the class's score; NaN where there is none.
    """

    class_name: str
    before: float
    after: float
    shares: tuple[float, float]

    @property
    def change(self) -> str:
        """From what to what the effect changed, in words."""
        text = f"from {self.before:z.2f} to {self.after:z.2f}"
        if any(map(isnan, self.shares)):
            return f"{text} logits"
        before, after = (f"{100 * share:.0f} %" for share in self.shares)
        return f"{text} logits, and from {before} to {after} of the score"


def effect_shares(rows: pd.DataFrame) -> dict[str, float]:
    """Return mean effects as shares of the class's score above the negatives'.

    Args:
        rows: Rows with the columns of `CorrectedRow` that have effects.
    """
    found = {}
    for when in ("", "_after"):
        gap, drop = (float(rows[f"{name}{when}"].mean()) for name in ("gap", "drop"))
        found[f"share{when or '_before'}"] = drop / gap if gap > 0 else nan
    return found


def left(rows: pd.DataFrame, concept: str) -> list[Reliance]:
    """Return the classes that still rely on a concept, the largest effects first.

    Args:
        rows: Rows with the columns of `CorrectedRow`.
        concept: A concept that was taken out.
    """
    known = rows["drop"].notna() & rows["drop_after"].notna() & (rows["concept"] == concept)
    found = []
    for name, own in rows[known].groupby("true_class", sort=False):
        before, after = float(own["drop"].mean()), float(own["drop_after"].mean())
        shares = effect_shares(own)
        both = shares["share_before"], shares["share_after"]
        # over images, also where these come in groups: of few, nothing would ever be left
        sure = len(own) >= FEWEST and all(
            _beyond(own[column].to_numpy(float)) for column in ("drop", "drop_after")
        )
        much = after / before >= _LEFT if before else False
        as_high = both[0] > 0 and both[1] >= _AS_HIGH * both[0] and after * before > 0
        if sure and min(abs(before), abs(after)) >= SMALL_LOGITS and (much or as_high):
            found.append(Reliance(str(name), before, after, both))
    return sorted(found, key=lambda each: -abs(each.after))


def _beyond(values: NDArray[np.float64]) -> bool:
    """Return whether the interval of a mean leaves out 0."""
    _, low, high = student_interval(values)
    return bool(low * high > 0)


def reliance_sentences(rows: pd.DataFrame, concepts: Collection[str], when: When) -> Iterator[str]:
    """Yield for each concept which classes still rely on it, and what to try.

    Args:
        rows: Rows with the columns of `CorrectedRow`.
        concepts: What was taken out.
        when: Where it was.
    """
    other = "other layers" if when == "always" else 'other layers or when="always"'
    for concept in concepts:
        most, name = left(rows, concept), repr(clear(concept))
        if not most:
            continue
        first, *others = most
        fell = "fell only" if abs(first.after) < abs(first.before) else "went"
        too = [f"{clear(one.class_name)!r} ({one.change})" for one in others[: _MOST - 1]]
        if more := len(others) - len(too):
            too.append(f"{more} more")
        yield (
            f"{clear(first.class_name)!r} still relies on {name}: its effect {fell} "
            f"{first.change}. {f'So do {listed(too)}. ' if too else ''}Do not use the corrected "
            f"network as one without {name}; try {other}."
        )
