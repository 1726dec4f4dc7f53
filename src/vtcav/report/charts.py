"""Charts of the report: their common axis, and each chart in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vtcav.report.rows import AttributionRow
from vtcav.results.figures.page import nice_limit
from vtcav.results.words import NOT_SEPARATED, interval, value


@dataclass(frozen=True)
class Axis:
    """The axis of every chart, in units of its drawing.

    Attributes:
        most: The value at its end; it starts at 0.
        left: The position of 0.
        width: Its length.
        height: The height of a chart.
    """

    most: float
    left: int = 8
    width: int = 304
    height: int = 30

    def position(self, x: float) -> float:
        """Return the position of a value, clipped to the ends of the axis."""
        return round(self.left + self.width * min(max(x / self.most, 0.0), 1.0), 2)

    def marks(self, values: Iterable[float]) -> list[int]:
        """Return the positions of values, each once."""
        return sorted({round(self.position(x)) for x in values})

    @property
    def labels(self) -> list[tuple[float, str]]:
        """The positions and texts of the labels."""
        return [(self.position(self.most * s), f"{self.most * s:g}") for s in (0, 0.5, 1)]


def axis(rows: Sequence[AttributionRow]) -> Axis:
    """Return the axis up to a round number above all means, images and intervals."""
    ends = [0.0]
    for row in rows:
        if row.verdict != NOT_SEPARATED:
            ends += [row["mean"], *row["images"], row["ci_high"], row["cav_high"]]
    return Axis(nice_limit(min(1.0, max(end for end in ends if not math.isnan(end)))))


def in_words(row: AttributionRow) -> str:
    """Return the chart of a row in words, for screen readers."""
    if row.verdict == NOT_SEPARATED:
        return f"{row['concept']}: not separated from its negatives at this layer"
    images = interval(row["ci_low"], row["ci_high"])
    parts = [
        f"{row['concept']}: mean {value(row['mean'])}, {row.verdict}",
        row.as_much if row.as_much != row.verdict else "",
        images and f"for other images {images}",
        row.examples and f"for other examples {row.examples}",
    ]
    return "; ".join(filter(None, parts))
