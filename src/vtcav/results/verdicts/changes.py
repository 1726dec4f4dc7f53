"""How a score changes without a concept, in words and numbers."""

from __future__ import annotations

from math import isnan
from typing import Any

from vtcav.method.erasure.joined_map import below_seen
from vtcav.results.words import listed


def scale_of(row: dict[Any, Any]) -> float:
    """Return the logits that make a share of 1; 1 where there is no share."""
    return 1.0 if isnan(row["share"]) else float(row["gap"])


def size_of(row: dict[Any, Any]) -> float:
    """Return the size of a change: a share of the score, in logits where there is none."""
    return float(row["drop"] if isnan(row["share"]) else row["share"])


def interval(row: dict[Any, Any]) -> tuple[float, float]:
    """Return the interval of the mean drop over images and ways to fill, in logits."""
    ends = [row[name] for name in ("drop_low", "drop_high", "fill_low", "fill_high", "drop")]
    known = [float(end) for end in ends if not isnan(end)]
    return min(known), max(known)


def score_change(row: dict[Any, Any]) -> str:
    """Return how the score changes, with its interval, as a share or in logits."""
    size, low, high, unit = _numbers(row)
    ends = f"{low} to {high}{' %' if unit == '%' else ''}"
    if no_change(row):
        return (
            f"does not change ({size} {unit}{'' if low == high else f', {_signed_interval(row)}'})"
        )
    return f"{verb_of(row)} by {size} {unit} ({ends})"


def size_change(row: dict[Any, Any]) -> str:
    """Return how the score changes, without an interval."""
    size, _, _, unit = _numbers(row)
    return (
        f"does not change ({size} {unit})" if no_change(row) else f"{verb_of(row)} by {size} {unit}"
    )


def change_by_fill(row: dict[Any, Any]) -> str:
    """Return how the score changes in one image, with its interval over the ways to fill."""
    size, low, high, unit = _numbers(row)
    ends = f"{low} to {high}{' %' if unit == '%' else ''}, depending on the fill"
    if no_change(row):
        ends = (
            "whatever the fill"
            if low == high
            else f"{_signed_interval(row)}, depending on the fill"
        )
        return f"does not change ({size} {unit}, {ends})"
    if low == high:
        return f"{verb_of(row)} by {size} {unit}, whatever the fill,"
    return f"{verb_of(row)} by {size} {unit} ({ends})"


def _signed_interval(row: dict[Any, Any]) -> str:
    """Return the ends of a change that is 0 as shown, with signs: a fall is below 0."""
    _, low, high, unit = _numbers(row)
    ends = sorted((1 if row["drop"] <= 0 else -1) * float(end) for end in (low, high))
    form = ".0f" if unit == "%" else ".2f"
    low, high = (f"{end:+z{form}}" if end else f"{0:{form}}" for end in ends)
    return f"{low} to {high}{' %' if unit == '%' else ''}"


def verb_of(row: dict[Any, Any]) -> str:
    """Return whether the score falls or rises."""
    return "falls" if row["drop"] > 0 else "rises"


def no_change(row: dict[Any, Any]) -> bool:
    """Whether nothing changes at the precision that is shown."""
    return float(_numbers(row)[0]) == 0


def _numbers(row: dict[Any, Any]) -> tuple[str, str, str, str]:
    """Return the size of a change, the ends of its interval, and their unit, as texts."""
    sign = 1 if row["drop"] > 0 else -1
    low, high = sorted(sign * end for end in interval(row))
    values = abs(row["drop"]), low, high
    if isnan(row["share"]):
        size, least, most = (f"{x:z.2f}" for x in values)
        return size, least, most, "logits"
    size, least, most = (_percent(x / scale_of(row)) for x in values)
    return size, least, most, "%"


def elsewhere_does(row: dict[Any, Any]) -> str:
    """Return what regions elsewhere do; with a verb where the concept does not do likewise."""
    if isnan(drop := row["placebo_mean"]):
        return "regions of the same size elsewhere: not tried"
    size = f"{abs(drop):.2f}" if isnan(row["share"]) else _percent(abs(drop) / scale_of(row))
    amount = f"{size} {_numbers(row)[3]}"
    if not float(size) or (drop * row["drop"] > 0 and not no_change(row)):
        return f"regions of the same size elsewhere: {amount}"
    return f"without regions of the same size elsewhere it {verb_of({'drop': drop})} by {amount}"


def _percent(share: float) -> str:
    """Return a share in percent, and 0 without a sign."""
    return f"{round(100 * share) + 0:d}"


def why_in_logits(row: dict[Any, Any], target: str) -> str:
    """Return why there is no share; empty where there is one, and where no negatives are known."""
    if not isnan(row["share"]) or isnan(row["gap"]):
        return ""
    return f" In logits, because {target} does not score clearly higher than for the negatives."


def why_not_seen(row: dict[Any, Any], concept: str, target: str) -> str:
    """Return that a concept is not seen, so that nothing can be said of it."""
    return (
        f"{concept} is not seen at these layers ({below_seen(row['seen'])}). Whether {target} "
        "depends on it cannot be said; other negatives or layers, or more varied examples, would "
        "tell."
    )


def that_of(names: list[str]) -> str:
    """Return whose region it is, of concepts in quotes."""
    return f"{'that' if len(names) == 1 else 'those'} of {listed(names)}"
