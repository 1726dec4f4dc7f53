"""Footnotes of figures: letters at the numbers, explanations at the foot of the page."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vtcav.results.words import SIGNIFICANT, not_significant, number

if TYPE_CHECKING:
    import pandas as pd


def ns_means(table: pd.DataFrame, null_cavs: int, whole: pd.DataFrame | None = None) -> list[str]:
    """Return the footnote on values that are not significant, if any was tested.

    Args:
        table: All values shown, with p_value and q_value.
        null_cavs: How many null CAVs they were tested against.
        whole: All values that were tested together; None for those shown.
    """
    if table["q_value"].isna().all():
        return []
    tests = int((table if whole is None else whole)["p_value"].notna().sum())
    found = not_significant(table, null_cavs, tests) or "No value here"
    about = (
        f"ns: not significant (q > {SIGNIFICANT}, the false discovery rate over all values). "
        "Random directions are CAVs learned from random draws of the negatives. "
    )
    return [f"{about}{found}."]


class Marks:
    """The letters that stand for the parts of notes, and the footnotes that explain them.

    A part that all notes share gets no letter.

    Args:
        notes: The note of every value. Its parts are joined by "; ".

    Example:
        >>> marks = Marks(["odd; rough", "rough; thin", "rough"])
        >>> marks.suffix("rough; thin"), marks.legend()
        (' [b]', ['All values: rough', '[a] odd', '[b] thin'])
    """

    def __init__(self, notes: Iterable[str]) -> None:
        split = [_parts(note) for note in notes]
        parts = dict.fromkeys(part for note in split for part in note)
        self._everywhere = [part for part in parts if all(part in note for note in split)]
        marked = [part for part in parts if part not in self._everywhere]
        letters = string.ascii_lowercase
        self._letters = {part: letters[k % 26] * (k // 26 + 1) for k, part in enumerate(marked)}

    def number(self, value: float, note: str, q: float = 0.0) -> str:
        """Return a value with its marks: "ns" where it is not significant, letters for its note.

        Args:
            value: The value.
            note: Its note.
            q: Its q-value; NaN where it was not tested.
        """
        return number(value) + (" ns" if q > SIGNIFICANT else "") + self.suffix(note)

    def suffix(self, note: str) -> str:
        """Return what follows a number that has this note."""
        marks = sorted(self._letters[part] for part in _parts(note) if part in self._letters)
        return f" [{','.join(marks)}]" if marks else ""

    def legend(self, notes: Iterable[str] | None = None) -> list[str]:
        """Return the footnotes.

        Args:
            notes: Those of the values that are shown; None for all.
        """
        shown = None if notes is None else {part for note in notes for part in _parts(note)}
        shared = [f"All values: {part}" for part in self._everywhere]
        return shared + [
            f"[{mark}] {part}"
            for part, mark in self._letters.items()
            if shown is None or part in shown
        ]


def _parts(note: str) -> list[str]:
    return [part for part in note.split("; ") if part]
