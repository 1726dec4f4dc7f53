"""The figure of a class: a panel per layer, a row per concept, a point per image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from vtcav.method.variants import suffix
from vtcav.results.effect_tables import of_pictures
from vtcav.results.figures.effects_panel import EffectsPanel
from vtcav.results.figures.footnotes import Marks, ns_means
from vtcav.results.figures.lettering import LINE, LINE_HEIGHT, text_width, wrap
from vtcav.results.figures.page import (
    MARGIN,
    Page,
    cross_out,
    nice_limit,
    own_style,
    show_axis,
)
from vtcav.results.figures.palette import BLUE, MUTED, ORANGE
from vtcav.results.figures.protocols import ExplainedClass
from vtcav.results.reading import read_first, reading_order
from vtcav.results.words import count, number

# Inches.
_NAMES = 1.35
_EXAMPLES = 0.72
_GAP = 0.2
_AXIS = 0.5

_IN_A_BAND = 3  # panels side by side, at most
_HEADS = "mean", "[95 % interval]"
_JITTER = 0.3  # of a row's height, up and down
_POINT: dict[str, Any] = {
    "marker": "o",
    "markersize": 3.5,
    "color": BLUE,
    "linewidth": 0,
    "markeredgewidth": 0.5,
}
_MEAN: dict[str, Any] = {
    "marker": "D",
    "markersize": 4.5,
    "color": "black",
    "markeredgecolor": "white",
    "markeredgewidth": 0.7,
    "linewidth": 0,
}
_BAND: dict[str, Any] = {"color": ORANGE, "linewidth": 6, "solid_capstyle": "butt"}
_BAR: dict[str, Any] = {"color": "black", "linewidth": 1.4, "solid_capstyle": "butt"}


@own_style()
def plot_global(explanation: ExplainedClass, figure: Figure) -> Figure:
    """Draw an explanation of a class.

    Args:
        explanation: The explanation.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    _Global(explanation).draw(figure)
    return figure


class _Global:
    """The drawing: its parts, their sizes and positions in inches."""

    def __init__(self, explanation: ExplainedClass) -> None:
        self.explanation = explanation
        table = explanation.shown_attributions()
        self.points = dict(list(table.groupby(["layer", "concept"], sort=False)))
        self.images = explanation.used
        self.shown = max(map(len, self.points.values()))
        self.otherwise = bool((table["predicted_class"] != explanation.class_name).any())
        self.summary = explanation.summary()
        self.rows = {(row.layer, row.concept): row for row in self.summary.itertuples(index=False)}
        effects = of_pictures(explanation.class_effects())
        self.effects = None if effects.empty else EffectsPanel(explanation)
        layers = reading_order(explanation.layers, explanation.best_layers)
        self.panels: list[str | None] = [*([None] if self.effects else []), *layers]
        self.marks = Marks(self.summary["note"])
        self.resampled = bool(self.summary["cav_low"].notna().any())
        # Attributions lie between 0 and 1; an interval that reaches beyond is cut off there.
        ends = [table["attribution"], self.summary["ci_high"], self.summary["cav_high"]]
        self.limit = nice_limit(min(1.0, float(np.nanmax(np.concatenate(ends)))))
        texts = [text for row in self.rows.values() for text in self._numbers(row)]
        if self.effects:
            texts += [text for c in explanation.concepts for text in self.effects.numbers(c)]
        self.numbers = max(map(text_width, [*texts, _HEADS[1]])) + 0.05
        self.panel = 3.2 if len(self.panels) == 1 else 2.0
        self.titles = {
            layer: wrap(layer, self.panel, 8, most=3, bold=True) for layer in explanation.layers
        }
        self.head = max(2, *map(len, self.titles.values())) * 8 * LINE / 72 + 0.15
        self.row = 0.42 if len(explanation.concepts) <= 10 else 0.36
        self.height = len(explanation.concepts) * self.row

    def _numbers(self, row: Any) -> list[str]:
        """Return the mean and its interval as text; no interval for one image."""
        mean = self.marks.number(row.mean, row.note, row.q_value)
        interval = (
            []
            if np.isnan(row.ci_low)
            else [f"[{number(max(row.ci_low, 0.0))}, {number(row.ci_high)}]"]
        )
        return [mean, *interval]

    def _column(self, k: int) -> float:
        """Return where panel k of a band begins."""
        return MARGIN + _NAMES + _EXAMPLES + _GAP + k * (self.panel + self.numbers + 2 * _GAP)

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        explained = self.explanation
        count_, panels = len(self.panels), self.panels
        # Bands of about the same length: four panels are two and two.
        side_by_side = math.ceil(count_ / math.ceil(count_ / _IN_A_BAND))
        bands = [panels[k : k + side_by_side] for k in range(0, count_, side_by_side)]
        width = max(self._column(len(bands[0])) - 1.5 * _GAP + MARGIN, 6.4)
        verdicts = explained.verdicts()[:1]
        said = [line for v in verdicts for line in wrap(v.sentence, width - 2 * MARGIN, 8)]
        first = MARGIN + 0.65 + len(said) * 8 * LINE / 72
        step = self.head + self.height + _AXIS
        names = *explained.concepts, *explained.layers, explained.class_name
        page = Page(figure, width, first + len(bands) * step, self._notes(), names)
        self._draw_title(page, said)
        for b, band in enumerate(bands):
            top = first + b * step + self.head
            self._draw_concepts(page, top)
            for k, layer in enumerate(band):
                if layer is None:
                    self._draw_effects(page, self._column(k), top)
                else:
                    self._draw_panel(page, self._column(k), top, layer)

    def _draw_title(self, page: Page, said: list[str]) -> None:
        """Draw the class, the first verdict in lines, and what the marks mean."""
        about = f"attribution of each concept to this class, n = {count(self.images, 'image')}"
        about += suffix(self.explanation.provenance.variant)
        if skipped := len(self.explanation.skipped):
            about += f"; {count(skipped, 'image')} skipped"
        page.title(self.explanation.class_name)
        page.text(MARGIN, MARGIN + 0.26, said, 8)
        below = MARGIN + 0.28 + len(said) * 8 * LINE / 72
        page.text(MARGIN, below, about, color=MUTED)
        handles = [Line2D([], [], **_POINT, label="image")]
        if self.otherwise:
            handles[0].set_label("image predicted as this class")
            hollow = {**_POINT, "markerfacecolor": "none"}
            handles.append(Line2D([], [], **hollow, label="image predicted otherwise"))
        handles.append(Line2D([], [], **_MEAN, label="mean"))
        if self.images > 1:
            handles.append(Line2D([], [], **_BAR, label="its 95 % interval: other images"))
        if self.resampled:
            handles.append(Line2D([], [], **_BAND, label="other examples"))
        page.legend(handles, below + 0.17)

    def _draw_concepts(self, page: Page, top: float) -> None:
        """Draw the names and examples at the left of a band."""
        page.text(MARGIN, top - 0.06 - 8 * LINE / 72, "concept", 8, weight="bold")
        side = self.row - 0.08
        for k, concept in enumerate(self.explanation.concepts):
            y = top + k * self.row
            box = MARGIN, y + 0.04, 2 * side + 0.05, side
            page.thumbnails(box, self.explanation.thumbnails[concept], (2,))
            name = wrap(concept, _NAMES - 0.1, 8, most=2)
            page.text(MARGIN + _EXAMPLES + 0.1, y + self.row / 2, name, 8, centred=True)

    def _empty_panel(
        self, page: Page, left: float, top: float, label: str, ends: tuple[float, float]
    ) -> Axes:
        """Draw the heads of the numbers beside a panel, and return its axes between two ends."""
        heads = _HEADS if self.images > 1 else _HEADS[:1]
        right = left + self.panel + _GAP / 2
        page.text(right, top - 0.06 - len(heads) * LINE_HEIGHT, heads, color=MUTED)
        axes = page.axes(left, top, self.panel, self.height, label)
        edge, rows = 0.04 * (ends[1] - ends[0]), len(self.explanation.concepts)
        axes.set(xlim=(ends[0] - edge, ends[1] + edge), ylim=(rows - 0.5, -0.5))
        return axes

    def _draw_effects(self, page: Page, left: float, top: float) -> None:
        """Draw how far the score falls without each concept."""
        assert self.effects is not None
        title = "without the concept"
        page.text(left, top - 0.06 - 8 * LINE / 72, title, 8, weight="bold")
        axes = self._empty_panel(page, left, top, "panel without", self.effects.limits)
        show_axis(axes, list(self.effects.ticks), rows=len(self.explanation.concepts))
        axes.set_xlabel(self.effects.label, labelpad=1, color=MUTED)
        look = {"band": _BAND, "bar": _BAR, "mean": _MEAN}
        for k, concept in enumerate(self.explanation.concepts):
            values = self.effects.points(concept)
            predicted = self._predicted(self.explanation.layers[0], concept)
            self._draw_points(axes, k, values, predicted[: len(values)])
            self.effects.draw(axes, k, concept, look)
            right = left + self.panel + _GAP / 2
            numbers = self.effects.numbers(concept)
            page.text(right, top + (k + 0.5) * self.row, numbers, centred=True)

    def _draw_panel(self, page: Page, left: float, top: float, layer: str) -> None:
        """Draw a layer: its title, points, means, intervals and numbers."""
        title = self.titles[layer]
        page.text(left, top - 0.06 - len(title) * 8 * LINE / 72, title, 8, weight="bold")
        right = left + self.panel + _GAP / 2
        axes = self._empty_panel(page, left, top, f"panel {layer}", (0.0, self.limit))
        concepts = self.explanation.concepts
        edge = 0.04 * self.limit
        show_axis(axes, [0, self.limit / 2, self.limit], rows=len(concepts))
        axes.set_xlabel("attribution", labelpad=1, color=MUTED)
        for k, concept in enumerate(concepts):
            row = self.rows[layer, concept]
            if row.separated:
                values = self.points[layer, concept]["attribution"].to_numpy()
                self._draw_points(axes, k, values, self._predicted(layer, concept))
                self._draw_interval(axes, k, row)
            else:
                box = -edge, k - 0.5, self.limit + 2 * edge, 1
                cross_out(axes, box, "not separated (e+ <= e-)")
            page.text(right, top + (k + 0.5) * self.row, self._numbers(row), centred=True)

    def _predicted(self, layer: str, concept: str) -> NDArray[np.bool_]:
        """Return which images are predicted as the class."""
        predicted = self.points[layer, concept]["predicted_class"]
        return (predicted == self.explanation.class_name).to_numpy(bool)

    def _draw_points(
        self, axes: Axes, k: int, values: NDArray[np.float64], predicted: NDArray[np.bool_]
    ) -> None:
        """Draw the images of row k, those that are predicted otherwise hollow."""
        # the same for every panel: an image keeps its height across layers
        jitter = np.random.default_rng(0).uniform(-_JITTER, _JITTER, self.shown)
        many = len(values) > 50
        for chosen, fill in ((predicted, BLUE), (~predicted, "none")):
            axes.scatter(
                values[chosen],
                k + jitter[: len(values)][chosen],
                s=5 if many else 12,
                facecolors=fill,
                edgecolors=BLUE,
                linewidths=0.5,
                alpha=0.3 if many else 0.6,
                clip_on=False,
                zorder=2,
            )

    def _draw_interval(self, axes: Axes, k: int, row: Any) -> None:
        """Draw mean and intervals; an end that lies off the axis is an arrowhead at its end."""
        if not np.isnan(row.cav_low):
            ends = [row.cav_low, min(row.cav_high, self.limit)]
            axes.plot(ends, [k, k], **_BAND, alpha=0.8, zorder=2.5)
        if not np.isnan(row.ci_low):
            low, high = max(row.ci_low, 0.0), min(row.ci_high, self.limit)
            axes.plot([low, high], [k, k], **_BAR, zorder=3)
            for end, shown, arrow in ((row.ci_low, low, "<"), (row.ci_high, high, ">")):
                marker, size = ("|", 5.0) if end == shown else (arrow, 3.0)
                axes.plot(shown, k, marker, ms=size, color="black", zorder=3, clip_on=False)
        axes.plot(row.mean, k, **_MEAN, zorder=4, clip_on=False)

    def _notes(self) -> list[str]:
        """Return what a reader needs to know, a paragraph each."""
        texts = [
            "Attribution: how much the concept counts for the class at a layer; 1 would be the "
            "whole logit difference (image minus zero feature maps) of the best class. The height "
            "of a point within its row means nothing."
        ]
        if self.shown < self.images:
            texts[0] += f" Points: {self.shown:,} of the {self.images:,} images, drawn at random."
        if self.images > 1:
            texts.append(
                f"Thin bar: 95 % t interval of the mean over n = {count(self.images, 'image')}: "
                "how the mean would vary with other images of this kind, not how certain the "
                "concept is."
            )
            if (self.summary["ci_low"] < 0).any() or (self.summary["ci_high"] > self.limit).any():
                texts[-1] += " Arrowhead: the interval goes on, where no attribution can lie."
        if self.resampled:
            texts.append(
                "Broad bar: 95 % interval of the mean for other examples and negatives of the "
                "concept, over the same images."
            )
        if self.effects:
            texts.insert(0, self.effects.note)
        texts += ns_means(self.summary, self.explanation.provenance.null_cavs)
        if skipped := len(self.explanation.skipped):
            texts.append(f"Skipped, because they cannot be read: {count(skipped, 'image')}.")
        first = read_first(self.explanation.best_layers, self.explanation.layers)
        shown = self.explanation.provenance.picture_notes
        return [*texts, *shown, *filter(None, [first]), *self.marks.legend()]
