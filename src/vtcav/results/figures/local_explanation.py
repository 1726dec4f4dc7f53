"""Figures of explanations, to be understood without a manual.

The picture lies in grey under every concept map, and the map covers exactly the part of it that
the network saw. Colours are one scale from 0 to 1, never stretched to a map's own maximum, and no
statement rests on colour alone: numbers, names and positions say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from vtcav.method.variants import suffix
from vtcav.results.figures.global_explanation import plot_global
from vtcav.results.figures.overlay import Overlay, show_scale
from vtcav.results.figures.sheet import (
    LINE,
    MUTED,
    NS_MEANS,
    SIGNIFICANT,
    SMALL,
    Marks,
    Page,
    basename,
    font_notes,
    labels,
    new_figure,
    nice_limit,
    number,
    own_style,
    save_figure,
    shorten,
    show_thumbnails,
    text_width,
    wrap,
)

if TYPE_CHECKING:
    from vtcav.results.explanation import LocalExplanation

__all__ = ["new_figure", "plot_global", "plot_local", "save_figure"]

# Inches.
_MARGIN = 0.25
_GAP = 0.22
_CONCEPT = 1.5
_NARROWEST = 1.5
_BAR = 0.155
_SWATCH = 0.15
_PROBABILITY = 1.35  # its bar and number
_LINE = SMALL * LINE / 72
_VISIBLE = 0.01

# Okabe and Ito's colours, which people with any colour vision can tell apart, less the yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_TRACK = "0.93"
_HATCHES = "", "//////", "......"  # when the colours are used up
_PREDICTIONS = 3


def plot_local(explanation: LocalExplanation, figure: Figure, *, smooth: bool = False) -> Figure:
    """Draw an explanation of one image: a row per concept, a column per layer.

    Args:
        explanation: What to draw.
        figure: Emptied and sized to fit.
        smooth: Interpolate between the cells of the maps, and say so. Off, every cell shows.

    Returns:
        The figure.
    """
    with own_style():
        _Local(explanation, smooth).draw(figure)
    return figure


# -- one image --------------------------------------------------------------------------------


class _Class(NamedTuple):
    """A class that is explained, and how it is marked."""

    number: int
    name: str
    colour: str
    hatch: str

    @classmethod
    def of(cls, k: int, number: int, name: str) -> _Class:
        """Return the k-th class."""
        again, colour = divmod(k, len(_COLOURS))
        return cls(number, name, _COLOURS[colour], _HATCHES[again % len(_HATCHES)])

    @property
    def look(self) -> dict[str, Any]:
        """How its bars are filled, as keywords of matplotlib."""
        fill = {"facecolor": self.colour, "edgecolor": "white"}
        return fill | {"hatch": self.hatch} if self.hatch else fill


class _Bar(NamedTuple):
    """The attribution of a layer and concept to a class."""

    value: float
    error: float
    low: float
    high: float
    q: float
    separated: bool
    note: str

    @property
    def interval(self) -> tuple[float, float]:
        """What the whisker spans: other examples and negatives, or else the quadrature's error."""
        if np.isfinite(self.low):
            return self.low, self.high
        error = np.nan_to_num(self.error)
        return max(self.value - error, 0.0), self.value + error


class _Local:
    """The drawing of a local explanation: its parts, their sizes in inches, and their places."""

    def __init__(self, explanation: LocalExplanation, smooth: bool) -> None:
        self.explanation = explanation
        self.smooth = smooth
        table = explanation.attributions
        columns = ["attribution", "error", "cav_low", "cav_high", "q_value", "separated", "note"]
        self.bars = {
            key: [_Bar(*row) for row in rows[columns].to_numpy()]
            for key, rows in table.groupby(["layer", "concept"], sort=False)
        }
        named = table.drop_duplicates("class_index")[["class_index", "class_name"]]
        self.classes = [_Class.of(k, *pair) for k, pair in enumerate(named.to_numpy())]
        self.marks = Marks(table["note"].unique())
        self.error = float(table["error"].max())
        every = [bar for bars in self.bars.values() for bar in bars]
        self.limit = nice_limit(max(max(bar.value, bar.interval[1]) for bar in every))
        self.tested = bool(table["q_value"].notna().any())
        self.resampled = bool(table["cav_low"].notna().any())
        texts = {self._number(bar) for bar in every}
        self.numbers = max(map(text_width, texts)) + 0.08

        side = 1.9 if len(explanation.concepts) <= 8 else 1.4
        side = min(side, 1.6) if len(explanation.layers) > 4 else side
        self.overlay = Overlay(explanation.picture, explanation.box)
        self.view = self.overlay.size(side)
        self.cell = max(self.view[0], _NARROWEST, self.numbers + 0.8)
        self.bars_height = len(self.classes) * _BAR
        self.row = self.view[1] + _LINE * 1.5 + self.bars_height + 0.25

    def _column(self, k: int) -> float:
        """Return where column k begins: 0 the picture, then the layers."""
        return _MARGIN + _CONCEPT + _GAP + k * (self.cell + _GAP)

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        explanation = self.explanation
        width = self._column(len(explanation.layers)) + self.cell + _MARGIN
        footer = [line for text in self._footer() for line in wrap(text, width - 2 * _MARGIN)]
        predictions = self._predictions()
        heads = {
            layer: wrap(layer, self.cell, 8, most=3, bold=True) for layer in explanation.layers
        }
        top = _MARGIN + 0.35 + max(0.75, (len(predictions) + 1) * _BAR) + 0.2
        first = top + (max(map(len, heads.values())) + 1) * 8 * LINE / 72 + 0.05
        end = first + len(explanation.concepts) * self.row
        page = Page(figure, width, end + (len(footer) + 0.5) * _LINE + _MARGIN)
        name = shorten(basename(explanation.image), width - 2 * _MARGIN, 11, bold=True)
        page.text(_MARGIN, _MARGIN, name, 11, weight="bold")
        self._draw_predictions(page, predictions)
        self._draw_scale(page)
        self._draw_heads(page, first, heads)
        for k, concept in enumerate(explanation.concepts):
            page.rule(first + k * self.row, _MARGIN, width - _MARGIN)
            self._draw_row(page, first + k * self.row + 0.1, concept)
        page.rule(end, _MARGIN, width - _MARGIN)
        page.text(_MARGIN, end + _LINE / 2, "\n".join(footer), color=MUTED)

    # -- above the rows

    def _predictions(self) -> list[tuple[str, float, _Class | None]]:
        """Return names and probabilities of the top classes and of those explained."""
        explained = {c.number: c for c in self.classes}
        table = self.explanation.predictions
        chosen = table[
            (np.arange(len(table)) < _PREDICTIONS) | table["class_index"].isin(list(explained))
        ]
        numbers = chosen["class_index"].tolist()
        room = self._column(1) - _GAP - _PROBABILITY - 0.1 - _MARGIN - _SWATCH
        names = labels(chosen["class_name"].tolist(), numbers, room)
        shares = chosen["probability"].tolist()
        return [*zip(names, shares, map(explained.get, numbers), strict=True)]

    def _draw_predictions(
        self, page: Page, predictions: list[tuple[str, float, _Class | None]]
    ) -> None:
        """Draw the probabilities, and beside them how the classes are marked."""
        top = _MARGIN + 0.35
        page.text(_MARGIN, top, "what the network predicts (probability)", color=MUTED)
        left, right = _MARGIN + _SWATCH, self._column(1) - _GAP
        start, full = right - _PROBABILITY, _PROBABILITY - 0.45
        for k, (name, share, c) in enumerate(predictions):
            y = top + (k + 1.5) * _BAR
            if c:
                page.bar(_MARGIN, y, 0.09, 0.55 * _BAR, **c.look)
            page.text(left, y, name, centred=True, gid="predictions")
            page.bar(start, y, full, 0.6 * _BAR, color=_TRACK)
            page.bar(start, y, full * share, 0.6 * _BAR, **(c.look if c else {"color": "0.6"}))
            page.text(right, y, number(share), centred=True, ha="right", gid="predictions")

    def _draw_scale(self, page: Page) -> None:
        """Draw the one colour bar."""
        left = self._column(1)
        width = min(page.width - _MARGIN - left, 3.0)
        title = f"concept map M{suffix(self.explanation.provenance.variant)}"
        page.text(left, _MARGIN + 0.35, title, 8, weight="bold")
        show_scale(page.axes(left, _MARGIN + 0.55, width, 0.13, "scale"))
        for place, align, text in (
            (0.0, "left", "0\nlike the\nnegatives"),
            (0.5, "center", "0.5"),
            (1.0, "right", "1\nlike the\nexamples"),
        ):
            page.text(left + place * width, _MARGIN + 0.72, text, ha=align)

    def _draw_heads(self, page: Page, bottom: float, heads: dict[str, list[str]]) -> None:
        """Draw the titles of the columns, on one ground line."""
        step = 8 * LINE / 72

        def head(left: float, title: list[str], below: str) -> None:
            top = bottom - 0.06 - _LINE - len(title) * step
            page.text(left, top, "\n".join(title), 8, weight="bold")
            page.text(left, bottom - 0.06 - _LINE, below, color=MUTED)

        head(_MARGIN, ["concept"], "and examples of it")
        seen = "dashed: network's input" if self.overlay.framed else "the network's input"
        head(self._column(0), ["picture"], shorten(seen, self.cell))
        for k, (layer, title) in enumerate(heads.items(), 1):
            h, w = self.explanation.concept_map(layer, self.explanation.concepts[0]).shape
            head(self._column(k), title, f"M of {h} x {w} cells")

    # -- a row

    def _draw_row(self, page: Page, top: float, concept: str) -> None:
        """Draw a concept: its name and examples, the picture, the map of each layer, the bars."""
        name = wrap(concept, _CONCEPT, 9, most=3, bold=True)
        page.text(_MARGIN, top, "\n".join(name), 9, weight="bold")
        used = len(name) * 9 * LINE / 72 + 0.05
        place = _MARGIN, top + used, _CONCEPT, self.row - used - 0.2
        show_thumbnails(page, place, self.explanation.thumbnails[concept], (2, 3))

        self.overlay.show_picture(page.axes(self._column(0), top, *self.view, "picture"))
        below = top + self.view[1] + 0.04
        self._draw_class_names(page, below)
        for k, layer in enumerate(self.explanation.layers, 1):
            bars = self.bars[layer, concept]
            axes = page.axes(self._column(k), top, *self.view, f"map {layer} {concept}")
            if all(bar.separated for bar in bars):
                M = self.explanation.concept_map(layer, concept)
                self.overlay.show_map(axes, M, smooth=self.smooth)
                largest = f"largest M: {number(float(M.max()))}"
                page.text(self._column(k), below, largest, color=MUTED)
            else:
                self.overlay.show_not_separated(axes)
            self._draw_bars(page, self._column(k), below + _LINE * 1.2, bars, f"{layer} {concept}")

    def _draw_class_names(self, page: Page, below: float) -> None:
        """Draw, under the picture, what the bars beside it are bars of."""
        right = self._column(0) + self.cell
        title = f"attribution (bars: 0 to {self.limit:g})"
        page.text(right, below, title, ha="right", color=MUTED)
        names = [c.name for c in self.classes]
        names = labels(names, [c.number for c in self.classes], self.cell - _SWATCH)
        for k, (name, c) in enumerate(zip(names, self.classes, strict=True)):
            y = below + _LINE * 1.2 + (k + 0.5) * _BAR
            page.text(right - _SWATCH, y, name, centred=True, ha="right", gid="classes")
            page.bar(right - 0.09, y, 0.09, 0.55 * _BAR, gid="classes", **c.look)

    def _draw_bars(self, page: Page, left: float, top: float, bars: list[_Bar], label: str) -> None:
        """Draw the attributions of a layer and a concept, in the order of the class names."""
        full = self.cell - self.numbers
        scale = full / self.limit
        for k, (bar, c) in enumerate(zip(bars, self.classes, strict=True)):
            y = top + (k + 0.5) * _BAR
            page.bar(left, y, full, 0.6 * _BAR, color=_TRACK, gid=f"track {label}")
            page.bar(left, y, scale * bar.value, 0.6 * _BAR, gid=f"bar {label}", **c.look)
            low, high = bar.interval
            if bar.value and scale * (high - low) / 2 > _VISIBLE:
                page.whisker(left + scale * low, left + scale * high, y)
            text = self._number(bar)
            page.text(left + full + 0.06, y, text, centred=True, gid=f"number {label}")

    def _number(self, bar: _Bar) -> str:
        unclear = " ns" if bar.q > SIGNIFICANT else ""
        return number(bar.value) + unclear + self.marks.suffix(bar.note)

    # -- below the rows

    def _footer(self) -> list[str]:
        """Return what a reader needs to know, a paragraph each."""
        cells = (
            "The maps are smoothed: between the centres of a layer's cells, colours are "
            "interpolated (bilinear). The layer itself tells no finer places than its cells."
            if self.smooth
            else "Every cell of the maps is shown as the layer has it, without smoothing."
        )
        texts = [
            "Concept map M: where the layer sees the concept, whatever the class. One scale for "
            f"all maps, not stretched to their maxima; the picture lies under them in grey. {cells}"
        ]
        if self.overlay.padded:
            texts.append("Plain grey margin: padding, which the network saw too.")
        texts.append(
            "Attribution: how much the concept counts for the class at this layer; 1 would be the "
            f"whole rise of the best class. All bars run from 0 to {self.limit:g}."
        )
        if self.resampled:
            texts[-1] += (
                " Whiskers: 95 % interval for other examples and negatives of the concepts, where "
                "it can be seen."
            )
        if np.isfinite(self.error):
            shown = "." if self.resampled else "; whiskers show it where it can be seen."
            texts[-1] += f" Estimated quadrature error: at most {number(self.error)}{shown}"
        if self.tested:
            texts.append(NS_MEANS)
        explanation = self.explanation
        names = [*explanation.concepts, *explanation.layers, *(c.name for c in self.classes)]
        return texts + self.marks.legend() + font_notes([*names, basename(explanation.image)])
