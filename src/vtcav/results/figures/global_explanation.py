"""The figure of a class: a panel per layer, a row per concept, a point per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from vtcav.method.variants import suffix
from vtcav.results.effect_tables import of_pictures
from vtcav.results.figures.effects_panel import EffectsPanel
from vtcav.results.figures.footnotes import Marks, ns_means
from vtcav.results.figures.lettering import LINE, LINE_HEIGHT, SMALL, text_width, wrap, wrap_apart
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
from vtcav.results.figures.selection import Shown
from vtcav.results.figures.trust import TrustSigns
from vtcav.results.reading import read_first, reading_order
from vtcav.results.words import SIGNIFICANT, count, number

if TYPE_CHECKING:
    import pandas as pd

# Inches.
_NAMES = 1.35
_GAP = 0.2
_AXIS = 0.5
_LONGEST = 8.5  # all panels with intervals as numbers; longer ones are drawn dense

_IN_A_BAND, _IN_A_DENSE_BAND = 3, 7  # panels side by side, at most
_ALL = Shown()
_NULL = "null_cav"  # as in `GlobalExplanation.resampled`
_EFFECTS = ""  # in place of a layer
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
_HOLLOW: dict[str, Any] = _MEAN | {"markerfacecolor": "white", "markeredgecolor": "0.35"}
_CHANCE: dict[str, Any] = {"facecolor": "0.87", "linewidth": 0}
_CHANCE_RANGE = 5, 95
"""Percentiles of the means of random directions: the upper one is where p = 0.05 lies."""
_BAND: dict[str, Any] = {"color": ORANGE, "linewidth": 6, "solid_capstyle": "butt"}
_BAR: dict[str, Any] = {"color": "black", "linewidth": 1.4, "solid_capstyle": "butt"}


@own_style()
def plot_global(explanation: ExplainedClass, figure: Figure, *, shown: Shown = _ALL) -> Figure:
    """Draw an explanation of a class.

    Args:
        explanation: The explanation.
        figure: Emptied and sized to fit.
        shown: The layers and concepts that are drawn.

    Returns:
        The figure.
    """
    _Global(explanation, shown).draw(figure)
    return figure


class _Global:
    """The drawing: its parts, their sizes and positions in inches."""

    def __init__(self, explanation: ExplainedClass, shown: Shown) -> None:
        self.explanation = explanation
        every = shown.layers or explanation.layers, shown.concepts or explanation.concepts
        inner = [layer for layer in explanation.layers if layer in every[0]]
        layers = reading_order(inner, explanation.best_layers)
        table = self._chosen(explanation.shown_attributions(), every)
        self.points = dict(list(table.groupby(["layer", "concept"], sort=False)))
        self.images = explanation.used
        self.drawn = max(map(len, self.points.values()))
        self.otherwise = bool((table["predicted_class"] != explanation.class_name).any())
        self.whole = explanation.summary()
        self.summary = self._chosen(self.whole, every)
        self.rows = {(row.layer, row.concept): row for row in self.summary.itertuples(index=False)}
        effects = of_pictures(explanation.class_effects())
        self.effects = None if effects.empty else EffectsPanel(explanation)
        best = {c: explanation.best_layers.get(c, "") for c in explanation.concepts}
        self.best = {c: at if at in layers else inner[-1] for c, at in best.items()}
        self.concepts = sorted((c for c in best if c in every[1]), key=self._rank)
        self.chance = self._chance()
        self.panels: list[str | None] = [*([None] if self.effects else []), *layers]
        self.marks = Marks(self.summary["note"])
        self.trust = TrustSigns(shown.judgements)
        self.resampled = bool(self.summary["cav_low"].notna().any())
        # Attributions lie between 0 and 1; an interval that reaches beyond is cut off there.
        ends = [table["attribution"], self.summary["ci_high"], self.summary["cav_high"]]
        self.limit = nice_limit(min(1.0, float(np.nanmax(np.concatenate(ends)))))
        self._set_sizes(layers)

    @staticmethod
    def _chosen(table: pd.DataFrame, every: tuple[Sequence[str], Sequence[str]]) -> pd.DataFrame:
        return table[table["layer"].isin(every[0]) & table["concept"].isin(every[1])]

    def _rank(self, concept: str) -> float:
        """Return what concepts are sorted by: their verdicts, or else the attribution."""
        if self.effects:
            return self.effects.place(concept)
        row: Any = self.rows[self.best[concept], concept]
        return -float(row.mean)

    def _chance(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Return the range of what random directions get, by layer and concept."""
        null = self.explanation.resampled
        null = null[null["kind"] == _NULL]
        return {
            (str(layer), str(concept)): tuple(np.percentile(means, _CHANCE_RANGE))
            for (layer, concept), means in null.groupby(["layer", "concept"])["mean"]
        }

    def _set_sizes(self, layers: Sequence[str]) -> None:
        """Set the sizes of the panels: dense where the page would be too long."""
        count_ = len(self.panels)
        self.row = 0.42 if len(self.concepts) <= 10 else 0.36
        bands = math.ceil(count_ / _IN_A_BAND)
        self.dense = bands * (len(self.concepts) * self.row + _AXIS) > _LONGEST
        self.row = 0.28 if self.dense else self.row
        self.in_a_band = _IN_A_DENSE_BAND if self.dense else _IN_A_BAND
        texts = [text for row in self.rows.values() for text in self._numbers(row)]
        if self.effects:
            texts += [text for c in self.concepts for text in self._effect_numbers(c)]
        heads = _HEADS[:1] if self.dense else _HEADS
        self.numbers = max(map(text_width, [*texts, heads[-1]])) + 0.05
        self.panel = 3.2 if count_ == 1 else 1.1 if self.dense else 2.0
        self.examples = 0.36 if self.dense else 0.72
        self.gap = 0.12 if self.dense else _GAP
        titles = wrap_apart(layers, self.panel, 8, most=3, bold=True)
        self.titles = dict(zip(layers, titles, strict=True))
        self.letters = SMALL if self.dense else 8.0
        names = wrap_apart(self.concepts, _NAMES - 0.1, self.letters, most=2)
        self.names = dict(zip(self.concepts, names, strict=True))
        lines = max(2, *map(len, self.titles.values()))
        if self.effects:
            self.titles[_EFFECTS] = wrap("without the concept", self.panel, 8, bold=True)
            lines = max(lines, len(self.titles[_EFFECTS]))
        self.head = lines * 8 * LINE / 72 + 0.15
        self.height = len(self.concepts) * self.row

    def _effect_numbers(self, concept: str) -> list[str]:
        assert self.effects is not None
        numbers = self.effects.numbers(concept)
        return numbers[:1] if self.dense else numbers

    def _numbers(self, row: Any) -> list[str]:
        """Return the mean and its interval as text; no interval for one image."""
        mean = self.marks.number(row.mean, row.note, row.q_value)
        mean += self.trust.at(row.layer, row.concept)
        interval = (
            []
            if np.isnan(row.ci_low) or self.dense
            else [f"[{number(max(row.ci_low, 0.0))}, {number(row.ci_high)}]"]
        )
        return [mean, *interval]

    def _column(self, k: int) -> float:
        """Return where panel k of a band begins."""
        step = self.panel + self.numbers + 2 * self.gap
        return MARGIN + _NAMES + self.examples + _GAP + k * step

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        explained = self.explanation
        count_, panels = len(self.panels), self.panels
        # Bands of about the same length: four panels are two and two.
        side_by_side = math.ceil(count_ / math.ceil(count_ / self.in_a_band))
        bands = [panels[k : k + side_by_side] for k in range(0, count_, side_by_side)]
        width = max(self._column(len(bands[0])) - 1.5 * self.gap + MARGIN, 6.4)
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
        about = "what erasing each concept takes, and its attribution" if self.effects else ""
        about = about or "attribution of each concept to this class"
        order = "in the order of the verdicts" if self.effects else "largest first"
        about += f", n = {count(self.images, 'image')}, {order}"
        about += suffix(self.explanation.provenance.variant)
        if skipped := len(self.explanation.skipped):
            about += f"; {count(skipped, 'image')} skipped"
        page.title(f"Concepts for the class “{self.explanation.class_name}”")
        page.text(MARGIN, MARGIN + 0.26, said, 8)
        below = MARGIN + 0.28 + len(said) * 8 * LINE / 72
        page.text(MARGIN, below, about, color=MUTED)
        handles: list[Line2D | Patch] = [Line2D([], [], **_POINT, label="image")]
        if self.otherwise:
            handles[0].set_label("image predicted as this class")
            hollow = {**_POINT, "markerfacecolor": "none"}
            handles.append(Line2D([], [], **hollow, label="image predicted otherwise"))
        handles.append(Line2D([], [], **_MEAN, label="mean"))
        if self.images > 1:
            handles.append(Line2D([], [], **_BAR, label="its 95 % interval: other images"))
        if self.resampled:
            handles.append(Line2D([], [], **_BAND, label="other examples"))
        if self.chance:
            handles.append(Patch(**_CHANCE, label="random directions"))
        page.legend(handles, below + 0.17)

    def _draw_concepts(self, page: Page, top: float) -> None:
        """Draw the names and examples at the left of a band."""
        page.text(MARGIN, top - 0.06 - 8 * LINE / 72, "concept", 8, weight="bold")
        side = self.row - 0.08
        many = 1 if self.dense else 2
        for k, concept in enumerate(self.concepts):
            y = top + k * self.row
            box = MARGIN, y + 0.04, many * side + (many - 1) * 0.05, side
            page.thumbnails(box, self.explanation.thumbnails[concept], (many,))
            place = MARGIN + self.examples + 0.1, y + self.row / 2
            page.text(*place, self.names[concept], self.letters, centred=True)

    def _empty_panel(
        self, page: Page, left: float, top: float, label: str, ends: tuple[float, float]
    ) -> Axes:
        """Draw the heads of the numbers beside a panel, and return its axes between two ends."""
        heads = _HEADS if self.images > 1 and not self.dense else _HEADS[:1]
        right = left + self.panel + self.gap / 2
        page.text(right, top - 0.06 - len(heads) * LINE_HEIGHT, heads, color=MUTED)
        axes = page.axes(left, top, self.panel, self.height, label)
        edge, rows = 0.04 * (ends[1] - ends[0]), len(self.concepts)
        axes.set(xlim=(ends[0] - edge, ends[1] + edge), ylim=(rows - 0.5, -0.5))
        return axes

    def _draw_effects(self, page: Page, left: float, top: float) -> None:
        """Draw how far the score falls without each concept."""
        assert self.effects is not None
        title = self.titles[_EFFECTS]
        page.text(left, top - 0.06 - len(title) * 8 * LINE / 72, title, 8, weight="bold")
        axes = self._empty_panel(page, left, top, "panel without", self.effects.limits)
        ticks = list(self.effects.ticks)
        show_axis(axes, ticks, rows=len(self.concepts))
        if self.dense:  # no room for all
            near = (0.0 - ticks[0]) < 0.25 * (ticks[-1] - ticks[0])
            axes.set_xticks([0.0, ticks[-1]] if near else [ticks[0], 0.0, ticks[-1]])
        axes.set_xlabel(self.effects.label, labelpad=1, color=MUTED)
        for k, concept in enumerate(self.concepts):
            values = self.effects.points(concept)
            predicted = self._predicted(self.best[concept], concept)
            mean = _MEAN if self.effects.sure(concept) else _HOLLOW
            look = {"band": _BAND, "bar": _BAR, "mean": mean}
            self._draw_points(axes, k, values, predicted[: len(values)])
            self.effects.draw(axes, k, concept, look)
            right = left + self.panel + self.gap / 2
            numbers = self._effect_numbers(concept)
            page.text(right, top + (k + 0.5) * self.row, numbers, centred=True)

    def _draw_panel(self, page: Page, left: float, top: float, layer: str) -> None:
        """Draw a layer: its title, points, means, intervals and numbers."""
        title = self.titles[layer]
        page.text(left, top - 0.06 - len(title) * 8 * LINE / 72, title, 8, weight="bold")
        right = left + self.panel + self.gap / 2
        axes = self._empty_panel(page, left, top, f"panel {layer}", (0.0, self.limit))
        concepts = self.concepts
        edge = 0.04 * self.limit
        show_axis(axes, [0, self.limit / 2, self.limit], rows=len(concepts))
        axes.set_xlabel("attribution", labelpad=1, color=MUTED)
        for k, concept in enumerate(concepts):
            row = self.rows[layer, concept]
            if row.separated:
                if found := self.chance.get((layer, concept)):
                    low, high = np.clip(found, 0.0, self.limit)
                    axes.add_patch(Rectangle((low, k - 0.42), high - low, 0.84, **_CHANCE))
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
        jitter = np.random.default_rng(0).uniform(-_JITTER, _JITTER, self.drawn)
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
        mean = _HOLLOW if row.q_value > SIGNIFICANT else _MEAN
        axes.plot(row.mean, k, **mean, zorder=4, clip_on=False)

    def _notes(self) -> list[str]:
        """Return what a reader needs to know, a paragraph each."""
        texts = [
            "Attribution: how much the concept counts for the class at a layer; 1 would be the "
            "whole logit difference (image minus zero feature maps) of the best class. The height "
            "of a point within its row means nothing."
        ]
        if self.drawn < self.images:
            texts[0] += f" Points: {self.drawn:,} of the {self.images:,} images, drawn at random."
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
        if self.chance:
            texts.append(
                "Grey: the middle 90 % of what random directions get on average over the images."
            )
        if self.dense:
            texts.append("The intervals as numbers are in the summary.")
        untold = self.effects and not all(map(self.effects.sure, self.concepts))
        if untold or (self.summary["q_value"] > SIGNIFICANT).any():
            texts.append(f"Hollow mean: not significant{' (ns), or not told (?)' * bool(untold)}.")
        texts += ns_means(self.summary, self.explanation.provenance.null_cavs, self.whole)
        if skipped := len(self.explanation.skipped):
            texts.append(f"Skipped, because they cannot be read: {count(skipped, 'image')}.")
        layers = [layer for layer in self.titles if layer != _EFFECTS]
        known = self.explanation.best_layers
        best = {c: known[c] for c in self.concepts if known.get(c) in layers}
        first = read_first(best, layers)
        shown = self.explanation.provenance.picture_notes
        trust = self.trust.legend(layers, self.concepts)
        return [*texts, *shown, *filter(None, [first]), *trust, *self.marks.legend()]
