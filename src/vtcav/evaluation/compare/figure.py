"""Figure of a comparison: methods side by side, each on a scale of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vtcav.evaluation.compare.methods import FILTER, TCAV, TITLES
from vtcav.results.figures.lettering import LINE, SMALL, labels, wrap
from vtcav.results.figures.page import MARGIN, Page, nice_limit, own_style, show_axis
from vtcav.results.figures.palette import MUTED, PALETTE

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.evaluation.result import EvaluationResult

__all__ = ["plot_comparison"]

# Inches.
_NAMES = 1.25
_PANEL = 1.25
_GAP = 0.22
_TITLE = 0.24
_AXIS = 0.32

_MARKERS = "osD^vP*"
_LEVEL = 0.05

_HALF = set(TCAV)  # their neutral value is 0.5
_NEUTRAL = {*_HALF, "bottleneck"}
_TESTED = {"visual_tcav", FILTER, *_HALF}
_INPUT = "input"


@own_style()
def plot_comparison(
    comparison: EvaluationResult, methods: Sequence[str], classes: Sequence[str], figure: Figure
) -> Figure:
    """Draw a comparison: a row of panels per layer, a column per method.

    Args:
        comparison: The comparison.
        methods: Its methods.
        classes: Names of its classes.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    _Drawing(comparison, methods, classes).draw(figure)
    return figure


class _Scale(NamedTuple):
    """The axis of a method: its ends, and the value of a concept that makes no difference."""

    low: float
    high: float
    neutral: float | None


class _Drawing:
    """The parts of the figure, their sizes and positions in inches."""

    def __init__(
        self, comparison: EvaluationResult, methods: Sequence[str], classes: Sequence[str]
    ) -> None:
        self.comparison, self.methods = comparison, methods
        self.table = comparison.table
        self.summary = comparison.summary()
        self.bands = [*([""] if (self.table["layer"] == "").any() else []), *comparison.layers]
        self.scales = {method: self._scale(method) for method in methods}
        self.row = max(0.34, 0.12 * len(classes) + 0.14)
        self.height = self.row * len(comparison.concepts)
        indices = [
            int(self.table.loc[self.table["class_name"] == name, "class_index"].iloc[0])
            for name in classes
        ]
        self.classes = dict(zip(indices, labels(classes, indices, 1.6), strict=True))

    def _scale(self, method: str) -> _Scale:
        values = self.table.loc[self.table["method"] == method, "value"].dropna().to_numpy()
        largest = float(np.abs(values).max(initial=0))
        if method in _HALF:
            return _Scale(0, 1, 0.5)
        if method == "bottleneck":
            end = largest * 1.05 or 1.0
            return _Scale(-end, end, 0)
        return _Scale(0, nice_limit(largest), None)

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        methods = self.methods
        left = MARGIN + _NAMES
        width = max(left + len(methods) * (_PANEL + _GAP) - _GAP + MARGIN, 6.4)
        first = MARGIN + 0.62
        step = _TITLE + self.height + _AXIS
        heads = 2 * 8 * LINE / 72 + 0.08
        end = first + heads + len(self.bands) * step
        names = *self.comparison.concepts, *self.comparison.layers, *self.classes.values()
        page = Page(figure, width, end, self._footer(), names)
        page.title("Methods side by side")
        self._draw_legend(page)
        for m, method in enumerate(methods):
            x = left + m * (_PANEL + _GAP)
            title, unit = TITLES[method]
            page.text(x, first, title, 8, weight="bold")
            page.text(x, first + 8 * LINE / 72, unit, color=MUTED)
        for b, layer in enumerate(self.bands):
            top = first + heads + b * step
            name = wrap(f"layer {layer}" if layer else f"{_INPUT} (no layer)", width - 1, 8, most=1)
            page.text(MARGIN, top, name[0], 8, weight="bold")
            self._draw_band(page, top + _TITLE, left, layer)

    def _draw_legend(self, page: Page) -> None:
        handles = [
            Line2D([], [], **_mean(k, filled=True), label=name)
            for k, name in enumerate(self.classes.values())
        ]
        columns = min(len(handles), max(1, int(page.inner / 1.9)))
        page.legend(handles, MARGIN + 0.25, columns)

    def _draw_band(self, page: Page, top: float, left: float, layer: str) -> None:
        """Draw the panels of a layer."""
        for k, concept in enumerate(self.comparison.concepts):
            lines = wrap(concept, _NAMES - 0.1, SMALL, most=2)
            page.text(MARGIN, top + (k + 0.5) * self.row, lines, centred=True)
        for m, method in enumerate(self.methods):
            means = self.summary.query("method == @method and layer == @layer")
            if not len(means):
                continue
            x = left + m * (_PANEL + _GAP)
            axes = page.axes(x, top, _PANEL, self.height, f"{method} {layer}")
            self._draw_axis(axes, self.scales[method])
            points = self.table.query("method == @method and layer == @layer and image != ''")
            self._draw_values(axes, method, means, points)

    def _draw_axis(self, axes: Axes, scale: _Scale) -> None:
        edge = 0.05 * (scale.high - scale.low)
        count = len(self.comparison.concepts)
        axes.set(xlim=(scale.low - edge, scale.high + edge), ylim=(count - 0.5, -0.5))
        ticks = [scale.low, (scale.low + scale.high) / 2, scale.high]
        show_axis(axes, ticks, [f"{tick:.2g}" for tick in ticks], rows=count)
        if scale.neutral is not None:
            axes.axvline(scale.neutral, color="0.45", linewidth=0.8, linestyle="--", zorder=1)

    def _draw_values(
        self, axes: Axes, method: str, means: pd.DataFrame, points: pd.DataFrame
    ) -> None:
        T = len(self.classes)
        for row in means.to_dict("records"):
            concept, t = row["concept"], row["class_index"]
            k, c = self.comparison.concepts.index(concept), list(self.classes).index(t)
            y = k + (c - (T - 1) / 2) * 0.7 / T
            own = points[(points["concept"] == concept) & (points["class_index"] == t)]
            if own["area"].notna().any():
                # the share of a map that knows nothing of the concept
                at = own["area"].mean()
                axes.plot([at, at], [y - 0.3 / T, y + 0.3 / T], color="black", linewidth=0.9)
            axes.scatter(
                own["value"],
                np.full(len(own), y),
                s=6,
                color=PALETTE[c % 7],
                alpha=0.3,
                linewidths=0,
                clip_on=False,
                zorder=2,
            )
            if math.isnan(row["mean"]):
                axes.text(
                    0.5,
                    y,
                    "none",
                    ha="center",
                    va="center",
                    size=6,
                    color=MUTED,
                    transform=axes.get_yaxis_transform(),
                )
                continue
            sure = method not in _TESTED or row["p_value"] < _LEVEL
            axes.plot(row["mean"], y, **_mean(c, filled=sure), zorder=3, clip_on=False)

    def _footer(self) -> list[str]:
        """Return the notes for the reader, a paragraph each."""
        texts = [
            "Units differ between columns, and so do the questions that the methods ask: compare "
            "the order of concepts and classes, never sizes across columns. Large marks are class "
            "means, small dots single images."
        ]
        methods = set(self.methods)
        if methods & _TESTED:
            texts.append(
                f"Hollow mark (Visual-TCAV, TCAV): p >= {_LEVEL} in the method's own test, not "
                "corrected, or no test was possible."
                + (" TCAV's test is overconfident: see docs/peers.md." * bool(methods & _HALF))
            )
        if methods & _NEUTRAL:
            texts.append("Dashed line: the value of a concept that makes no difference.")
        if regions := set(self.table["region"]) - {""}:
            texts.append(
                f"Region: {' or '.join(sorted(regions))}. Vertical stroke: the share of the image "
                "that it covers, which is the value of a map that knows nothing of the concept."
            )
            if "concept map" in regions:
                texts[-1] += " These shares follow the size of Visual-TCAV's maps."
        if skipped := len(self.comparison.skipped):
            texts.append(f"Images skipped, because they cannot be read: {skipped}.")
        if self.summary["mean"].isna().any():
            texts.append("none: no value; the table's note gives the reason.")
        return texts


def _mean(c: int, *, filled: bool) -> dict[str, Any]:
    """Return the look of the mark of class c."""
    colour = PALETTE[c % len(PALETTE)]
    return {
        "marker": _MARKERS[(c + c // len(PALETTE)) % len(_MARKERS)],
        "markersize": 4.5,
        "color": colour,
        "markerfacecolor": colour if filled else "white",
        "markeredgecolor": colour,
        "markeredgewidth": 0.9,
        "linewidth": 0,
    }
