"""The figure of diagnostics: a row per layer and concept, with its level and the reasons.

Of many, a matrix of concepts and layers has all levels, and rows follow for the worst alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from vtcav.diagnostics.levels import BAD, FINE, LEVELS, LIMITS, LOOK, percent
from vtcav.results.figures.lettering import LINE, LINE_HEIGHT, shorten, wrap, wrap_apart
from vtcav.results.figures.page import MARGIN, Page, own_style, show_axis
from vtcav.results.figures.palette import BLUE, GRID, MUTED, ORANGE, VERMILION
from vtcav.results.words import count

# Inches.
_GAP, _ROW, _HEAD, _AXIS = 0.2, 0.56, 0.72, 0.38
_COLUMNS = {
    "concept": 1.25,
    "level": 0.95,
    "picks an unseen example\n(95 % interval)": 1.35,
    "stability by number\nof examples": 1.35,
    "nearest concept,\npicks its own": 1.35,
    "place": 0.46,
    "what decides it": 3.6,
}
_NAMES, _LEVEL, _AUC, _CURVE, _NEAR, _PLACE, _WHY = _WIDTHS = tuple(_COLUMNS.values())
_WIDTH = 2 * MARGIN + sum(_WIDTHS) + (len(_WIDTHS) - 1) * _GAP
_FEW, _MOST = 12, 8  # rows that are all drawn; of more, the rows of the worst
_NAME, _CELL, _HIGHEST = 2.3, 0.21, 1.0  # of the matrix: names, rows, upright heads
_NARROW_CELL, _WIDEST_CELL = 0.6, 1.4
_SIZES = 2, 5, 10, 20, 50, 100, 200, 500, 1000  # ticks
# Colour, marker and word say the same.
_MARKS: dict[str, dict[str, Any]] = {
    FINE: {"color": BLUE, "marker": "o", "markersize": 6, "label": "nothing was found against it"},
    LOOK: {"color": ORANGE, "marker": "^", "markersize": 7, "label": "read the reason first"},
    BAD: {"color": VERMILION, "marker": "X", "markersize": 7, "label": "its numbers mean little"},
}
_LIMIT: dict[str, Any] = {"color": "0.6", "linewidth": 0.6, "linestyle": (0, (5, 2)), "zorder": 0}
_NOTES = (
    "Picks an unseen example: share of pairs of an example and a negative, both held out, that the "
    "direction puts in the right order; dashed: guessing, and the limit that the interval should "
    f"stay above ({LIMITS.auc.fine}). Stability: cosine between directions from two sets of "
    "different images, 0 at the foot of a row and 1 at its head; dotted: extrapolated by the "
    "Spearman-Brown formula to all examples (point) and twice as many; grey: 95 % of the draws; "
    f"dashed: {LIMITS.replication.usable} and {LIMITS.replication.fine}.",
    "Nearest concept: the one with the closest direction, with the cosine free of chance errors; "
    "picks its own: against the examples of the concept that it is most confused with. Place: "
    "where in the image the examples activate on average; bright is most, and each map has its "
    "own scale.",
)


_Row: TypeAlias = tuple[str, str]  # a layer and a concept


class _Diagnosed(Protocol):
    """The parts of `vtcav.Diagnostics` that are drawn."""

    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def concepts(self) -> tuple[str, ...]: ...
    @property
    def table(self) -> pd.DataFrame: ...
    @property
    def curve(self) -> pd.DataFrame: ...
    def summary(self) -> pd.DataFrame: ...
    def cosines(self, layer: str, *, corrected: bool = False) -> pd.DataFrame: ...
    def place(self, layer: str, concept: str) -> NDArray[np.float64]: ...


@own_style()
def plot_diagnostics(diagnostics: _Diagnosed, figure: Figure) -> Figure:
    """Draw diagnostics: a block per layer, a row per concept.

    Args:
        diagnostics: The diagnostics.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    _Drawing(diagnostics).draw(figure)
    return figure


class _Drawing:
    """The drawing: its parts and their positions in inches."""

    def __init__(self, diagnostics: _Diagnosed) -> None:
        self.diagnostics = diagnostics
        self.concepts = diagnostics.concepts
        table = diagnostics.table
        self.rows = {
            (row["layer"], row["concept"], row["check"]): row
            for row in table.to_dict("records")
            if row["concept"]
        }
        summary = diagnostics.summary().to_dict("records")
        self.summary = {(row["layer"], row["concept"]): row for row in summary}
        every = [(layer, concept) for layer in diagnostics.layers for concept in self.concepts]
        self.blocks = [
            (layer, [row for row in every if row[0] == layer]) for layer in diagnostics.layers
        ]
        self.matrix = 0.0
        if len(every) > _FEW:
            self._set_matrix()
            self.matrix = self.matrix_head + len(self.concepts) * _CELL + 0.3
            self.blocks = self._worst(every)
        meanings = {
            row: wrap(self.summary[row]["meaning"], _WHY) for _, rows in self.blocks for row in rows
        }
        self.meanings = meanings
        self.row = max(_ROW, max(map(len, meanings.values()), default=0) * LINE_HEIGHT + 0.08)
        curve = diagnostics.curve
        self.ends = (0.9 * curve["n"].min(), 1.1 * curve["n"].max()) if len(curve) else (1.8, 11.0)
        self.notes = _image_notes(table)

    def column(self, k: int) -> float:
        """Return where column k begins."""
        return MARGIN + sum(_WIDTHS[:k]) + k * _GAP

    def _set_matrix(self) -> None:
        """Set the width of the matrix's columns and their heads, upright where they are narrow."""
        layers = self.diagnostics.layers
        self.cell = min((_WIDTH - 2 * MARGIN - _NAME) / len(layers), _WIDEST_CELL)
        self.upright = self.cell < _NARROW_CELL
        if self.upright:
            most = max(1, int(self.cell / LINE_HEIGHT))
            self.heads = wrap_apart(layers, _HIGHEST, most=most, bold=True)
            self.matrix_head = _HIGHEST + 0.12
        else:
            self.heads = wrap_apart(layers, self.cell - 0.1, most=3, bold=True)
            self.matrix_head = max(map(len, self.heads)) * LINE_HEIGHT + 0.12

    def _worst(self, every: Sequence[_Row]) -> list[tuple[str, list[_Row]]]:
        """Return the rows that are drawn of many, under a title."""
        order = [row for row in every if self.summary[row]["level"] != FINE]
        order.sort(key=lambda row: -LEVELS.index(self.summary[row]["level"]))
        if not order:
            return []
        several = f"the first {_MOST} of {len(order)}; the table has all"
        return [(f"not fine: {several if len(order) > _MOST else len(order)}", order[:_MOST])]

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        images = [line for text in self.notes for line in wrap(text, _WIDTH - 2 * MARGIN)]
        first = MARGIN + 0.72 + len(images) * LINE_HEIGHT + (0.12 if images else 0)
        heights = [_HEAD + len(rows) * self.row + _AXIS for _, rows in self.blocks]
        end = first + self.matrix + sum(heights)
        page = Page(figure, _WIDTH, end, _NOTES, [*self.concepts, *self.diagnostics.layers])
        page.title("How far can each concept be trusted?")
        handles = [
            Line2D([], [], linewidth=0, **{**mark, "label": f"{level}: {mark['label']}"})
            for level, mark in _MARKS.items()
        ]
        page.legend(handles, MARGIN + 0.32)
        page.text(MARGIN, MARGIN + 0.66, images)
        if self.matrix:
            self._draw_matrix(page, first)
        top = first + self.matrix
        for (title, rows), height in zip(self.blocks, heights, strict=True):
            self._draw_block(page, top, title, rows)
            top += height

    def _draw_matrix(self, page: Page, top: float) -> None:
        """Draw the levels of all concepts at all layers."""
        layers, many = self.diagnostics.layers, len(self.concepts)
        cell, body, left = self.cell, top + self.matrix_head, MARGIN + _NAME
        for k, lines in enumerate(self.heads):
            middle = left + (k + 0.5) * cell
            if self.upright:
                start = middle - len(lines) / 2 * LINE_HEIGHT
                page.upright(start, body - 0.06, lines, weight="bold")
            else:
                above = body - 0.06 - len(lines) * LINE_HEIGHT
                page.text(middle, above, lines, ha="center", weight="bold")
        names = wrap_apart(self.concepts, _NAME - 0.15, most=1)
        for k, name in enumerate(names):
            page.rule(body + k * _CELL)
            page.text(MARGIN, body + (k + 0.5) * _CELL, name, centred=True)
        axes = page.axes(left, body, len(layers) * cell, many * _CELL, "levels")
        axes.set(xlim=(0, len(layers)), ylim=(many, 0))
        for i, layer in enumerate(layers):
            for k, concept in enumerate(self.concepts):
                mark = _MARKS[self.summary[layer, concept]["level"]]
                axes.plot(i + 0.5, k + 0.5, linewidth=0, clip_on=False, **mark)

    def _draw_block(self, page: Page, top: float, title: str, rows: Sequence[_Row]) -> None:
        """Draw some rows: title, heads, rows."""
        title = shorten(title, page.inner, 9, bold=True)
        page.text(MARGIN, top, title, 9, weight="bold")
        page.rule(top + 0.2)
        for k, head in enumerate(_COLUMNS):
            page.text(self.column(k), top + 0.28, head.split("\n"), color=MUTED)
        body, height = top + _HEAD, len(rows) * self.row
        names = wrap_apart(list(dict.fromkeys(c for _, c in rows)), _NAMES, 8, most=2)
        lines = dict(zip(dict.fromkeys(c for _, c in rows), names, strict=True))
        for k, row in enumerate(rows):
            self._draw_words(page, body + (k + 0.5) * self.row, row, lines[row[1]])
            self._draw_map(page, body + k * self.row, *row)
        strip = page.axes(self.column(2), body, _AUC, height, f"separability {title}")
        self._draw_separability(strip, rows)
        curves = page.axes(self.column(3), body, _CURVE, height, f"stability {title}")
        self._draw_curves(curves, rows)
        self._draw_marks(page, body, title, rows)

    def _draw_words(self, page: Page, middle: float, at: _Row, name: Sequence[str]) -> None:
        row = self.summary[at]
        step = LINE_HEIGHT / 2 if self.matrix else 0.0
        page.text(MARGIN, middle - step, name, 8, centred=True)
        if self.matrix:
            below = middle + len(name) * 8 * LINE / 144
            page.text(MARGIN, below - step + 0.01, shorten(at[0], _NAMES), color=MUTED)
        page.text(self.column(1) + 0.22, middle, row["level"], 8, centred=True)
        page.text(self.column(6), middle, self.meanings[at], centred=True)
        page.text(self.column(4), middle, self._near(*at), centred=True)

    def _near(self, layer: str, concept: str) -> list[str]:
        """Return the nearest concept with its cosine, and the share of pairs in the right order."""
        cosines = self.diagnostics.cosines(layer, corrected=True).loc[concept]
        cosines = cosines.drop(concept).dropna()
        lines = []
        if not cosines.empty:
            nearest = shorten(str(cosines.idxmax()), _NEAR - 0.35)
            lines.append(f"{nearest} {cosines.max():z.2f}")
        if not math.isnan(own := self.rows[layer, concept, "other concepts"]["value"]):
            lines.append(f"picks own {percent(own)}")
        return lines or ["not tested"]

    def _draw_marks(self, page: Page, top: float, title: str, rows: Sequence[_Row]) -> None:
        """Draw the levels' marks."""
        axes = page.axes(self.column(1), top, 0.18, len(rows) * self.row, f"levels {title}")
        axes.set(xlim=(0, 1), ylim=(len(rows), 0))
        for k, row in enumerate(rows):
            mark = _MARKS[self.summary[row]["level"]]
            axes.plot(0.5, k + 0.5, linewidth=0, clip_on=False, **mark)

    def _draw_separability(self, axes: Axes, rows: Sequence[_Row]) -> None:
        """Draw held-out AUCs with their intervals."""
        axes.set(xlim=(0, 1), ylim=(len(rows), 0))
        show_axis(axes, [0, 0.5, 1], ["0", "0.5 guessing", "1"])
        for limit in LIMITS.auc:
            axes.axvline(limit, **_LIMIT)
        for k, at in enumerate(rows):
            row = self.rows[(*at, "separability")]
            y = k + 0.5
            if math.isnan(row["value"]):
                axes.text(0.5, y, "not tested", ha="center", va="center", color=MUTED)
                continue
            axes.plot([row["low"], row["high"]], [y, y], color="black", linewidth=1.2)
            axes.plot(row["value"], y, "o", color="black", markersize=4, clip_on=False)

    def _draw_curves(self, axes: Axes, rows: Sequence[_Row]) -> None:
        """Draw a small curve in every row, from 0 at its foot to 1 at its head."""
        axes.set(xscale="log", xlim=self.ends, ylim=(len(rows), 0))
        sizes = [n for n in _SIZES if self.ends[0] <= n <= self.ends[1]]
        show_axis(axes, sizes[:: max(1, len(sizes) // 4)])
        axes.minorticks_off()
        curve = self.diagnostics.curve
        for k, (layer, concept) in enumerate(rows):
            own = curve[(curve["layer"] == layer) & (curve["concept"] == concept)]
            for limit in (0.0, *LIMITS.replication, 1.0):
                look = _LIMIT if limit not in (0.0, 1.0) else {"color": GRID, "linewidth": 0.6}
                axes.plot(self.ends, [_height(k, limit)] * 2, **look)
            if own.empty:
                middle = math.sqrt(math.prod(self.ends))
                axes.text(middle, k + 0.5, "not tested", ha="center", va="center", color=MUTED)
                continue
            self._draw_curve(axes, k, own)

    def _draw_curve(self, axes: Axes, k: int, own: pd.DataFrame) -> None:
        measured = own[own["measured"]]
        extended = own[own["n"] >= measured["n"].max()]
        low, high = (_height(k, own[end].to_numpy(float)) for end in ("low", "high"))
        axes.fill_between(own["n"], low, high, color="0.85", linewidth=0, zorder=0.5)
        for part, style in ((measured, "-"), (extended, ":")):
            heights = _height(k, part["stability"].to_numpy(float))
            axes.plot(part["n"], heights, style, color="black", linewidth=1.1)
        now = own[~own["measured"]].iloc[0]
        axes.plot(now["n"], _height(k, now["stability"]), "o", color="black", markersize=3.5)

    def _draw_map(self, page: Page, top: float, layer: str, concept: str) -> None:
        mean_map = self.diagnostics.place(layer, concept)
        if mean_map.sum() <= 0:
            page.text(self.column(5), top + self.row / 2, "empty", centred=True, color=MUTED)
            return
        # of a volume, the mean of its slices
        mean_map = mean_map if mean_map.ndim == 2 else mean_map.mean(0)
        h, w = mean_map.shape
        size = min(_PLACE / w, (self.row - 0.1) / h)
        left = self.column(5) + (_PLACE - w * size) / 2
        upper = top + (self.row - h * size) / 2
        axes = page.axes(left, upper, w * size, h * size, f"place {layer} {concept}")
        axes.imshow(mean_map, cmap="cividis", vmin=0, aspect="auto", interpolation="nearest")


def _image_notes(table: pd.DataFrame) -> list[str]:
    """Return the findings about images that are not fine, each with the concept it concerns."""
    found = table[(table["layer"] == "") & (table["level"] != FINE)]
    worst = found["level"].map(LEVELS.index)
    found = found.loc[worst.sort_values(ascending=False, kind="stable").index]
    more = [f"{count(len(found) - _MOST, 'more finding')}: in the table."] * (len(found) > _MOST)
    return [
        f"{row['level'].upper()}. {row['concept']}{': ' if row['concept'] else ''}{row['meaning']}"
        for row in found.head(_MOST).to_dict("records")
    ] + more


def _height(k: int, value: Any) -> Any:
    """Return the height of a value from 0 to 1 in row k."""
    return k + 0.9 - 0.8 * np.clip(value, 0, 1)
