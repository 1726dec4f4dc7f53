"""Where the marks of a chart lie: one strip per concept, one scale for the whole report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vtcav.report.rows import ClassPart, Row
from vtcav.results.figures.page import nice_limit
from vtcav.results.words import NOT_SEPARATED, interval, value

__all__ = ["HEIGHT", "LEFT", "WIDTH", "Panel", "Strip", "limit", "panels"]

LEFT, WIDTH, HEIGHT = 8, 304, 30
"""Of a strip, in units of its drawing: where 0 lies, how long the axis is, how high it is."""

_FINEST = 1  # images closer than this are one tick


@dataclass(frozen=True)
class Strip:
    """The marks of one concept, in units of its drawing.

    Attributes:
        row: What is drawn.
        mean: Where the mean lies.
        ci: Ends of the interval over images, cut off at the axis' ends; None without.
        cut: Whether that interval goes on to the left and to the right.
        cav: Ends of the interval over examples.
        ticks: Where images lie.
        alternative: The same in words.
    """

    row: Row
    mean: float
    ci: tuple[float, float] | None
    cut: tuple[bool, bool]
    cav: tuple[float, float] | None
    ticks: tuple[int, ...]
    alternative: str


@dataclass(frozen=True)
class Panel:
    """A class at a layer."""

    part: ClassPart
    layer: str
    strips: tuple[Strip, ...]


def limit(rows: Iterable[Row]) -> float:
    """Return the end of the axis from 0: a round number above all means, images and intervals."""
    ends = [0.0]
    for row in rows:
        if row.verdict != NOT_SEPARATED:
            ends += [row.mean, *row.images, row.ci[1], row.cav[1]]
    return nice_limit(min(1.0, max(end for end in ends if not math.isnan(end))))


def panels(parts: Sequence[ClassPart], most: float) -> list[Panel]:
    """Return the panels of all classes.

    Args:
        parts: The classes.
        most: The end of the axis.
    """
    return [
        Panel(part, layer, tuple(_strip(row, most) for row in part.rows if row.layer == layer))
        for part in parts
        for layer in part.layers
    ]


def _strip(row: Row, most: float) -> Strip:
    def place(x: float) -> float:
        return round(LEFT + WIDTH * min(max(x / most, 0.0), 1.0), 2)

    def ends(pair: tuple[float, float]) -> tuple[float, float] | None:
        return None if any(map(math.isnan, pair)) else (place(pair[0]), place(pair[1]))

    return Strip(
        row=row,
        mean=place(row.mean),
        ci=ends(row.ci),
        cut=(row.ci[0] < 0, row.ci[1] > most),
        cav=ends(row.cav),
        ticks=tuple(sorted({round(place(x) / _FINEST) * _FINEST for x in row.images})),
        alternative=_alternative(row),
    )


def _alternative(row: Row) -> str:
    if row.verdict == NOT_SEPARATED:
        return f"{row.concept}: not separated from its negatives at this layer"
    parts = [f"{row.concept}: mean {value(row.mean)}, {row.verdict}"]
    parts += [f"for other images {text}" for text in [interval(*row.ci)] if text]
    parts += [f"for other examples {text}" for text in [interval(*row.cav)] if text]
    return "; ".join(parts)
