"""Figure of a comparison: methods side by side, each on its own scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vtcav.evaluation.compare.methods import ERASURE, OURS, TITLES
from vtcav.evaluation.panels import frame, panels
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.figures.lettering import SMALL, labels, wrap
from vtcav.results.figures.page import nice_limit, own_style
from vtcav.results.figures.palette import GRID, MUTED, PALETTE

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.evaluation.result import EvaluationResult


_MARKERS = "osD^vP*"
_LEVEL = 0.05

_HALF = {"tcav", "tcav_magnitude"}  # their neutral value is 0.5
_SIGNED = {*ERASURE, "tcav_derivative", "bottleneck"}  # theirs is 0
_NEUTRAL = _HALF | _SIGNED
_TESTED = {*OURS, *ERASURE, *_HALF, "tcav_derivative"}
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


class _Drawing:
    """The panels of a comparison."""

    def __init__(
        self, comparison: EvaluationResult, methods: Sequence[str], classes: Sequence[str]
    ) -> None:
        self.comparison, self.methods, self.concepts = comparison, methods, comparison.concepts
        self.table, self.summary = comparison.table, comparison.summary()
        found = set(self.table["layer"])
        self.bands = [layer for layer in ("", *comparison.layers, TOGETHER) if layer in found]
        self.scales = {method: self._scale(method) for method in methods}
        index = dict(zip(self.table["class_name"], self.table["class_index"], strict=True))
        indices = [int(index[name]) for name in classes]
        self.classes = dict(zip(indices, labels(classes, indices, 1.6), strict=True))

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        row = max(0.34, 0.12 * len(self.classes) + 0.14)
        width = max(1.0 + 1.55 * len(self.methods), 6.4)
        height = 0.8 + len(self.bands) * (0.6 + row * len(self.concepts))
        names = *self.concepts, *self.comparison.layers, *self.classes.values()
        handles = [
            Line2D([], [], **_mean(k, filled=True), label=name)
            for k, name in enumerate(self.classes.values())
        ]
        columns = min(len(handles), int(width / 1.9))
        title = "Methods side by side" + "\n" * (2 + (len(handles) - 1) // columns)
        frame(figure, (width, height), title, self._footer(), names)
        below = 0, 1 - 0.2 / figure.get_figheight()
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=below, ncols=columns, frameon=False
        )
        grid = panels(figure, len(self.bands), len(self.methods), sharex="col", sharey=True)
        lines = [wrap(concept, 1.2, SMALL, most=2) for concept in self.concepts]
        grid[0][0].set_yticks(range(len(lines)), ["\n".join(line) for line in lines])
        grid[0][0].set_ylim(len(lines) - 0.5, -0.5)
        for method, axes in zip(self.methods, grid[0], strict=True):
            axes.set_title("\n".join(TITLES[method]), loc="left", size=SMALL)
        for layer, band in zip(self.bands, grid, strict=True):
            name = f"layer {layer}" if layer else f"{_INPUT} (no layer)"
            name = layer if layer == TOGETHER else name
            band[0].set_ylabel(wrap(name, row * len(lines) + 0.5, most=1)[0], weight="bold")
            for method, axes in zip(self.methods, band, strict=True):
                self._draw_panel(axes, method, layer)

    def _draw_panel(self, axes: Axes, method: str, layer: str) -> None:
        """Draw the values of a method at a layer; an empty panel where it has none."""
        means = self.summary.query("method == @method and layer == @layer")
        points = self.table.query("method == @method and layer == @layer and image != ''")
        low, high, neutral = self.scales[method]
        edge = 0.05 * (high - low)
        axes.set(xlim=(low - edge, high + edge), xticks=[low, (low + high) / 2, high])
        axes.xaxis.set_major_formatter("{x:.2g}")
        axes.tick_params(axis="x", labelbottom=True)
        if not len(means):
            axes.tick_params(bottom=False, left=False, labelbottom=False)
            axes.spines[:].set_visible(False)
            return
        axes.set_label(f"{method} {layer}")
        axes.grid(color=GRID, linewidth=0.6)
        if neutral is not None:
            axes.axvline(neutral, color="0.45", linewidth=0.8, linestyle="--", zorder=1)
        self._draw_values(axes, method, means, points)

    def _scale(self, method: str) -> tuple[float, float, float | None]:
        """Return the ends of an axis, and the value of a concept that makes no difference."""
        values = self.table.loc[self.table["method"] == method, "value"].dropna().to_numpy()
        largest = float(np.abs(values).max(initial=0))
        if method in _HALF:
            return 0, 1, 0.5
        if method in _SIGNED:
            end = largest * 1.05 or 1.0
            return -end, end, 0
        return 0, nice_limit(largest), None

    def _draw_values(
        self, axes: Axes, method: str, means: pd.DataFrame, points: pd.DataFrame
    ) -> None:
        T = len(self.classes)
        dots: dict[str, Any] = {"s": 6, "alpha": 0.3, "linewidths": 0, "clip_on": False}
        middle: dict[str, Any] = {"ha": "center", "va": "center", "size": 6, "color": MUTED}
        across = axes.get_yaxis_transform()
        for row in means.to_dict("records"):
            concept, t = row["concept"], row["class_index"]
            k, c = self.concepts.index(concept), list(self.classes).index(t)
            y = k + (c - (T - 1) / 2) * 0.7 / T
            own = points[(points["concept"] == concept) & (points["class_index"] == t)]
            if own["area"].notna().any():
                # the value of an uninformative map
                at = own["area"].mean()
                axes.plot([at, at], [y - 0.3 / T, y + 0.3 / T], color="black", linewidth=0.9)
            heights = np.full(len(own), y)
            axes.scatter(own["value"], heights, color=PALETTE[c % 7], zorder=2, **dots)
            if math.isnan(row["mean"]):
                axes.text(0.5, y, "none", transform=across, **middle)
                continue
            sure = method not in _TESTED or row["p_value"] < _LEVEL
            axes.plot(row["mean"], y, **_mean(c, filled=sure), zorder=3, clip_on=False)

    def _footer(self) -> list[str]:
        """Return the notes for the reader, a paragraph each."""
        texts = [
            "Units differ between columns, and so do the questions that the methods answer: "
            "compare the order of concepts and classes, not values across columns. Large marks "
            "are class means, small dots are single images."
        ]
        methods = set(self.methods)
        if methods & _TESTED:
            texts.append(
                f"Hollow mark (Visual-TCAV, erasure, TCAV): p >= {_LEVEL} in the method's own "
                "test, not corrected, or no test was possible."
                + (" TCAV's test is overconfident: see docs/peers.md." * bool(methods & _HALF))
            )
        if methods & _NEUTRAL:
            texts.append("Dashed line: the value of a concept that makes no difference.")
        if regions := set(self.table["region"]) - {""}:
            texts.append(
                f"Region: {' or '.join(sorted(regions))}. Vertical stroke: the share of the image "
                "that it covers, which is the value of an uninformative map."
            )
            if "concept map" in regions:
                texts[-1] += " These shares depend on the size of Visual-TCAV's maps."
        if skipped := len(self.comparison.skipped):
            texts.append(f"Images skipped because they cannot be read: {skipped}.")
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
