"""Positions of the marks of a chart: one strip per concept, one scale for the whole report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vtcav.report.classes import ClassPart, ClassRow
from vtcav.results.figures.page import nice_limit
from vtcav.results.words import NOT_SEPARATED, interval, value

__all__ = ["HEIGHT", "LEFT", "WIDTH", "Panel", "Strip", "limit", "panels"]

LEFT, WIDTH, HEIGHT = 8, 304, 30
"""Of a strip, in units of its drawing: position of 0, length of the axis, height."""


@dataclass(frozen=True)
class Strip:
    """The marks of one concept, in units of its drawing.

    Attributes:
        row: The row that it draws.
        mean: Position of the mean.
        ci: Ends of the interval over images, cut off at the ends of the axis; None without.
        cut: Whether that interval goes on to the left and to the right.
        cav: Ends of the interval over examples.
        ticks: Positions of the images, each once.
        alternative: The same in words.
    """

    row: ClassRow
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


def limit(rows: Iterable[ClassRow]) -> float:
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


def _strip(row: ClassRow, most: float) -> Strip:
    def position(x: float) -> float:
        return round(LEFT + WIDTH * min(max(x / most, 0.0), 1.0), 2)

    def ends(pair: tuple[float, float]) -> tuple[float, float] | None:
        return None if any(map(math.isnan, pair)) else (position(pair[0]), position(pair[1]))

    return Strip(
        row=row,
        mean=position(row.mean),
        ci=ends(row.ci),
        cut=(row.ci[0] < 0, row.ci[1] > most),
        cav=ends(row.cav),
        ticks=tuple(sorted({round(position(x)) for x in row.images})),
        alternative=_alternative(row),
    )


def _alternative(row: ClassRow) -> str:
    if row.verdict == NOT_SEPARATED:
        return f"{row.concept}: not separated from its negatives at this layer"
    images, examples = interval(*row.ci), interval(*row.cav)
    parts = [
        f"{row.concept}: mean {value(row.mean)}, {row.verdict}",
        images and f"for other images {images}",
        examples and f"for other examples {examples}",
    ]
    return "; ".join(filter(None, parts))
