"""The axis of the charts: one scale for the whole report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vtcav.report.classes import ClassRow
from vtcav.results.figures.page import nice_limit
from vtcav.results.words import NOT_SEPARATED

__all__ = ["Axis", "axis"]


@dataclass(frozen=True)
class Axis:
    """The axis of every chart, in units of its drawing.

    Attributes:
        most: The value at its end; 0 at its start.
        left: Position of 0.
        width: Its length.
        height: Of a chart.
    """

    most: float
    left: int = 8
    width: int = 304
    height: int = 30

    def position(self, x: float) -> float:
        """Return the position of a value, at an end where it lies beyond."""
        return round(self.left + self.width * min(max(x / self.most, 0.0), 1.0), 2)

    def marks(self, values: Iterable[float]) -> list[int]:
        """Return the positions of values, each once."""
        return sorted({round(self.position(x)) for x in values})

    @property
    def labels(self) -> list[tuple[float, str]]:
        """Positions and texts of the labels."""
        return [(self.position(self.most * s), f"{self.most * s:g}") for s in (0, 0.5, 1)]


def axis(rows: Sequence[ClassRow]) -> Axis:
    """Return the axis up to a round number above all means, images and intervals."""
    ends = [0.0]
    for row in rows:
        if row.verdict != NOT_SEPARATED:
            ends += [row.mean, *row.images, row.ci[1], row.cav[1]]
    return Axis(nice_limit(min(1.0, max(end for end in ends if not math.isnan(end)))))
