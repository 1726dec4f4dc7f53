"""Sentences on two networks: what differs, what does not, and what cannot be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vtcav.explainer.versus.differences import ATTRIBUTION, NOT_SEEN, OWN_SHARE
from vtcav.results.words import (
    SIGNIFICANT,
    clear,
    count,
    equal_or_less,
    interval,
    listed,
    named_layers,
    value,
)

if TYPE_CHECKING:
    import pandas as pd


def told(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that say something of their concept.

    Args:
        table: That of `Versus.differences`.
    """
    return table[table["q_value"].notna() & (table["doubt"] == "")]


def found_sentences(table: pd.DataFrame) -> Iterator[str]:
    """Yield the significant differences in the order of the table, what was measured first.

    Args:
        table: That of `Versus.differences`.
    """
    rows = told(table)
    found = rows[rows["q_value"] <= SIGNIFICANT].to_dict("records")
    for row in sorted(found, key=lambda row: row["quantity"] == ATTRIBUTION):
        more = "more" if row["difference"] > 0 else "less"
        yield (
            f"{clear(row['concept'])!r} counts {more} for {clear(row['class_name'])!r} in b than "
            f"in a: {_numbers(row)} (difference {interval(row['low'], row['high'])}; "
            f"q {equal_or_less(row['q_value'])})."
        )


def doubt_sentences(table: pd.DataFrame) -> Iterator[str]:
    """Yield what looks like a difference and is none of the concept, and what is not seen.

    Args:
        table: That of `Versus.differences`.
    """
    unseen = (table["note_a"] + table["note_b"]).str.contains(NOT_SEEN, regex=False)
    shown = table[(table["doubt"] != "") & ((table["q_value"] <= SIGNIFICANT) | unseen)]
    for (concept, doubt), rows in shown.groupby(["concept", "doubt"], sort=False):
        names = list(dict.fromkeys(repr(clear(name)) for name in rows["class_name"]))
        first = rows.iloc[0].to_dict()
        sure = first["q_value"] <= SIGNIFICANT
        yield (
            f"Whether {clear(concept)!r} counts more or less for {listed(names)} in b than in a "
            f"cannot be told, because {doubt}"
            + (f"; {_numbers(first)} (q {equal_or_less(first['q_value'])})." if sure else ".")
        )


def nothing_found(table: pd.DataFrame, margin: float) -> str:
    """Return what can be said where no difference is significant.

    A difference that could not have been found is not said to be none.

    Args:
        table: That of `Versus.differences`.
        margin: A difference from -margin to margin counts as none.
    """
    rows = told(table)
    if table["q_value"].isna().all():
        return "Nothing could be compared; the notes in the table say why."
    doubtful = int(table["q_value"].notna().sum()) - len(rows)
    others = f"{count(doubtful, 'comparison')} could not tell of the concept (column doubt)"
    if rows.empty:
        return f"Whether the networks differ cannot be told: {others}."
    return _within(rows, margin) + (f" {others}." if doubtful else "")


def _within(rows: pd.DataFrame, margin: float) -> str:
    """Return how many differences are small, and how many might not be."""
    wide = rows[(rows["low"] < -margin) | (rows["high"] > margin)]
    tested, none = count(len(rows), "comparison"), f"q ≤ {SIGNIFICANT:g}"
    if wide.empty:
        return f"No difference beyond {margin:g} was found: none of {tested} has {none}."
    few = f"only differences from {_least(wide)} on could have been found; more {_of(rows)} would"
    if not margin:
        return f"None of {tested} has {none}, but {few} tell of smaller ones."
    reach = "the interval reaches" if len(wide) == 1 else "the intervals reach"
    few = f"{reach} further, and {few} tell."
    if inside := len(rows) - len(wide):
        within = f"No difference beyond {margin:g} in {inside} of {tested}"
        return f"{within}. Of {count(len(wide), 'other')} it cannot be told: {few}"
    return (
        f"Whether the networks differ by more than {margin:g} cannot be told: none of {tested} "
        f"has {none}, but {few}"
    )


def _least(rows: pd.DataFrame) -> str:
    """Return the smallest differences that could have been found, from the least to the most."""
    ends = (float(end) for end in (rows["detectable"].min(), rows["detectable"].max()))
    return " to ".join(dict.fromkeys(f"{end:.2g}" for end in ends))


def _of(rows: pd.DataFrame) -> str:
    """Return over what the intervals are."""
    groups = int(rows["groups"].max())
    return f"groups than {groups}" if groups else "images"


def _numbers(row: Mapping[Any, Any]) -> str:
    """Return both values of a row with what they are."""
    layers = list(dict.fromkeys((row["layer_a"], row["layer_b"])))
    what = f"attribution at {named_layers(layers)}"
    if row["quantity"] != ATTRIBUTION:
        part = " the own part of its region" if row["quantity"] == OWN_SHARE else ""
        what = f"share of the logit that erasing{part} takes"
    return f"{what} {value(row['a'])} in a, {value(row['b'])} in b"
