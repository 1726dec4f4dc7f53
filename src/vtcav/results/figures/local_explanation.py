"""The figure of one image: a row per concept, a column per layer.

The picture lies in grey under every concept map, and the map covers exactly the part of it that
the network saw. Colours are one scale from 0 to 1, never stretched to a map's own maximum, and no
statement rests on colour alone: numbers, names and positions say the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vtcav.images.volumes import slice_between, slice_name, strongest_slice
from vtcav.method.variants import suffix
from vtcav.results.effect_tables import of_pictures
from vtcav.results.erased import change_text
from vtcav.results.figures.footnotes import Marks, ns_means
from vtcav.results.figures.lettering import (
    LINE,
    LINE_HEIGHT,
    basename,
    labels,
    shorten,
    text_width,
    wrap,
)
from vtcav.results.figures.overlay import Overlay, show_scale
from vtcav.results.figures.page import MARGIN, Page, nice_limit, own_style
from vtcav.results.figures.palette import MUTED, PALETTE
from vtcav.results.figures.protocols import ExplainedImage
from vtcav.results.reading import read_first, reading_order
from vtcav.results.words import listed, notes_by_class, number

# Inches.
_GAP = 0.22
_CONCEPT = 1.5
_NARROWEST = 1.5
_BAR = 0.155
_SWATCH = 0.15
_PROBABILITY = 1.35  # its bar and number
_VISIBLE = 0.01

_TRACK = "0.93"
_HATCHES = "", "//////", "......"  # when the colours are used up
_PREDICTIONS = 3
_CHANGE = 0.98  # the longest change beside a bar: "-100 % (p = 0.048)"
_ERASED = (
    "Without the concept: its region, outlined in the picture, is filled in from around it, and "
    "the network looks again. Bars from 0 to -100 %: the share of the class's logit above that of "
    "the negatives that is gone. p: how often chance does as much, by regions of the same size "
    "elsewhere in this image; not adjusted for the number of concepts. Judge the fill by eye."
)


@own_style()
def plot_local(explanation: ExplainedImage, figure: Figure, *, smooth: bool = False) -> Figure:
    """Draw an explanation of one image.

    Args:
        explanation: The explanation.
        figure: Emptied and sized to fit.
        smooth: Interpolate between the cells of the maps, and say so. Off, every cell shows.

    Returns:
        The figure.
    """
    _Local(explanation, smooth).draw(figure)
    return figure


class _Local:
    """The drawing: its parts, their sizes and positions in inches."""

    def __init__(self, explanation: ExplainedImage, smooth: bool) -> None:
        self.explanation = explanation
        self.layers = reading_order(explanation.layers, explanation.best_layers)
        self.smooth = smooth
        table = explanation.attributions
        self.resampled = bool(table["cav_low"].notna().any())
        self.error = float(table["error"].max())
        # whiskers: other examples and negatives, or else the quadrature's error
        value, error = table["attribution"], table["error"].fillna(0)
        low = table["cav_low"].fillna((value - error).clip(lower=0))
        high = table["cav_high"].fillna(value + error)
        table = table.assign(low=low, high=high)
        self.limit = nice_limit(max(float(value.max()), float(high.max())))
        self.bars = {
            key: list(rows.itertuples(index=False))
            for key, rows in table.groupby(["layer", "concept"], sort=False)
        }
        classes = table.drop_duplicates("class_index")
        self.classes = dict(zip(classes["class_index"], classes["class_name"], strict=True))
        self.fills = {index: _fill(k) for k, index in enumerate(self.classes)}
        self.erased = explanation.shows_erased
        effects = of_pictures(explanation.effects).groupby("concept", sort=False)
        self.changes: dict[object, list[Any]] = {
            concept: list(rows.itertuples(index=False)) for concept, rows in effects
        }
        self.marks = Marks(table["note"].unique())
        texts = {self._number(bar) for bars in self.bars.values() for bar in bars}
        self.numbers = max(map(text_width, texts)) + 0.08

        side = 1.9 if len(explanation.concepts) <= 8 else 1.4
        side = min(side, 1.6) if len(explanation.layers) > 4 else side
        # of a volume, the size that all slices have
        self.slices = len(explanation.picture) if explanation.picture.ndim == 4 else 0
        self.overlay = self._at(self.slices // 2)
        self.view = self.overlay.size(side)
        self.cell = max(self.view[0], _NARROWEST, self.numbers + 0.8)
        self.named = LINE_HEIGHT if self.slices else 0.0  # the line that names the slice
        self.row = self.view[1] + self.named + LINE_HEIGHT * 1.5 + len(self.classes) * _BAR + 0.25

    def _at(self, k: int) -> Overlay:
        """Return the picture; of a volume, a slice of it."""
        picture = self.explanation.picture
        return Overlay(picture[k] if self.slices else picture, self.explanation.box)

    def _strongest(self, M: NDArray[np.float32]) -> tuple[NDArray[np.float32], int, str]:
        """Return the slice of a map to draw, that of the volume under it, and what it is."""
        if not self.slices:
            return M, 0, ""
        z = strongest_slice(M)
        k = slice_between(z, len(M), self.slices)
        return M[z], k, slice_name(k, self.slices)

    def _shown_slice(self, concept: str) -> tuple[int, str]:
        """Return the slice of a volume that is drawn beside a concept, and its name."""
        if not self.slices:
            return 0, ""
        region = self.explanation.region(concept) if self.erased else np.zeros((1, 1, 1), bool)
        if region.any():
            k = strongest_slice(region)
            return k, slice_name(k, self.slices)
        _, k, text = self._strongest(self.explanation.concept_map(self.layers[0], concept))
        return k, text

    def _column(self, k: int) -> float:
        """Return where column k begins: the picture, without the concept, then the layers."""
        return MARGIN + _CONCEPT + _GAP + k * (self.cell + _GAP)

    @property
    def _first_layer(self) -> int:
        """The column of the first layer."""
        return 2 if self.erased else 1

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        explanation = self.explanation
        predictions = self._predictions()
        heads = {layer: wrap(layer, self.cell, 8, most=3, bold=True) for layer in self.layers}
        top = MARGIN + 0.35 + max(0.75, (len(predictions) + 1) * _BAR) + 0.2
        first = top + (max(map(len, heads.values())) + 1) * 8 * LINE / 72 + 0.05
        end = first + len(explanation.concepts) * self.row
        width = self._column(self._first_layer + len(explanation.layers)) - _GAP + MARGIN
        image = basename(explanation.image)
        names = *explanation.concepts, *explanation.layers, *self.classes.values(), image
        page = Page(figure, width, end, self._notes(), names)
        page.title(image)
        self._draw_predictions(page, predictions)
        self._draw_scale(page)
        self._draw_heads(page, first, heads)
        for k, concept in enumerate(explanation.concepts):
            page.rule(first + k * self.row)
            self._draw_row(page, first + k * self.row + 0.1, concept)

    # -- above the rows

    def _predictions(self) -> list[tuple[str, float, dict[str, Any] | None]]:
        """Return names, probabilities and fills of the top classes and of those explained."""
        table = self.explanation.predictions
        chosen = table[
            (np.arange(len(table)) < _PREDICTIONS) | table["class_index"].isin(list(self.classes))
        ]
        indices = chosen["class_index"].tolist()
        width = self._column(1) - _GAP - _PROBABILITY - 0.1 - MARGIN - _SWATCH
        names = labels(chosen["class_name"].tolist(), indices, width)
        shares = chosen["probability"].tolist()
        return [*zip(names, shares, map(self.fills.get, indices), strict=True)]

    def _draw_predictions(
        self, page: Page, predictions: list[tuple[str, float, dict[str, Any] | None]]
    ) -> None:
        """Draw the probabilities, and beside them the fills of the classes explained."""
        top = MARGIN + 0.35
        page.text(MARGIN, top, "what the network predicts (probability)", color=MUTED)
        left, right = MARGIN + _SWATCH, self._column(1) - _GAP
        start, full = right - _PROBABILITY, _PROBABILITY - 0.45
        for k, (name, share, fill) in enumerate(predictions):
            y = top + (k + 1.5) * _BAR
            if fill:
                page.bar(MARGIN, y, 0.09, 0.55 * _BAR, **fill)
            page.text(left, y, name, centred=True, gid="predictions")
            page.bar(start, y, full, 0.6 * _BAR, color=_TRACK)
            page.bar(start, y, full * share, 0.6 * _BAR, **(fill or {"color": "0.6"}))
            page.text(right, y, number(share), centred=True, ha="right", gid="predictions")

    def _draw_scale(self, page: Page) -> None:
        """Draw the one colour bar."""
        left = self._column(self._first_layer)
        width = min(page.width - MARGIN - left, 3.0)
        title = f"concept map M{suffix(self.explanation.provenance.variant)}"
        page.text(left, MARGIN + 0.35, title, 8, weight="bold")
        show_scale(page.axes(left, MARGIN + 0.55, width, 0.13, "scale"))
        page.text(left, MARGIN + 0.72, ["0", "like the", "negatives"])
        page.text(left + width / 2, MARGIN + 0.72, "0.5", ha="center")
        page.text(left + width, MARGIN + 0.72, ["1", "like the", "examples"], ha="right")

    def _draw_heads(self, page: Page, bottom: float, heads: dict[str, list[str]]) -> None:
        """Draw the titles of the columns, on one baseline."""

        def head(left: float, title: list[str], below: str) -> None:
            top = bottom - 0.06 - LINE_HEIGHT - len(title) * 8 * LINE / 72
            page.text(left, top, title, 8, weight="bold")
            page.text(left, bottom - 0.06 - LINE_HEIGHT, below, color=MUTED)

        head(MARGIN, ["concept"], "and examples of it")
        below = "dashed: network's input" if self.overlay.framed else "the network's input"
        head(self._column(0), ["picture"], shorten(below, self.cell))
        if self.erased:
            head(self._column(1), ["without the concept"], "its region filled in")
        for k, (layer, title) in enumerate(heads.items(), self._first_layer):
            shape = self.explanation.concept_map(layer, self.explanation.concepts[0]).shape
            head(self._column(k), title, f"M of {' x '.join(map(str, shape))} cells")

    # -- a row

    def _draw_row(self, page: Page, top: float, concept: str) -> None:
        """Draw a concept: its name and examples, the picture, the map of each layer, the bars."""
        name = wrap(concept, _CONCEPT, 9, most=3, bold=True)
        page.text(MARGIN, top, name, 9, weight="bold")
        used = len(name) * 9 * LINE / 72 + 0.05
        box = MARGIN, top + used, _CONCEPT, self.row - used - 0.2
        page.thumbnails(box, self.explanation.thumbnails[concept], (2, 3))

        region = self.explanation.erased(concept).region if self.erased else None
        slice_, name_of_slice = self._shown_slice(concept)
        axes = page.axes(self._column(0), top, *self.view, "picture")
        self._at(slice_).show_picture(axes, region)
        below = top + self.view[1] + 0.04
        page.text(self._column(0), below, name_of_slice, color=MUTED)
        below += self.named
        self._draw_class_names(page, below)
        if self.erased:
            self._draw_erased(page, top, concept)
        for k, layer in enumerate(self.layers, self._first_layer):
            bars = self.bars[layer, concept]
            axes = page.axes(self._column(k), top, *self.view, f"map {layer} {concept}")
            if all(bar.separated for bar in bars):
                whole = self.explanation.concept_map(layer, concept)
                M, slice_, name_of_slice = self._strongest(whole)
                self._at(slice_).show_map(axes, M, smooth=self.smooth)
                page.text(self._column(k), below - self.named, name_of_slice, color=MUTED)
                largest = f"largest M: {number(float(M.max()))}"
                page.text(self._column(k), below, largest, color=MUTED)
            else:
                self.overlay.show_crossed_out(axes, "not separated\n(e+ <= e-)")
            self._draw_bars(page, self._column(k), below + LINE_HEIGHT * 1.2, bars)

    def _draw_erased(self, page: Page, top: float, concept: str) -> None:
        """Draw the picture without a concept, and how the score of each class changes."""
        rows, left = self.changes[concept], self._column(1)
        axes = page.axes(left, top, *self.view, f"without {concept}")
        seen, found = not np.isnan(rows[0].drop), rows[0].area > 0
        if seen and found:
            slice_, _ = self._shown_slice(concept)
            self._at(slice_).show_erased(axes, self.explanation.erased(concept).after)
        else:
            reason = "nowhere in\nthis image" if seen else f"not seen\n(AUC {rows[0].seen:.2f})"
            self.overlay.show_crossed_out(axes, reason)
        below = top + self.view[1] + 0.04 + self.named
        page.text(left, below, "change of the score", color=MUTED)
        for k, (row, fill) in enumerate(zip(rows, self.fills.values(), strict=True)):
            y = below + LINE_HEIGHT * 1.2 + (k + 0.5) * _BAR
            text = change_text(row.drop, row.share)
            if seen and found and row.placebos:
                text += f" (p = {row.p_value:.2g})"
            start = left
            if not np.isnan(row.share):
                full = self.cell - _CHANGE
                width = full * min(max(row.share, 0.0), 1.0)
                page.bar(left, y, full, 0.6 * _BAR, color=_TRACK)
                page.bar(left, y, width, 0.6 * _BAR, gid=f"fall {concept}", **fill)
                start += full + 0.06
            page.text(start, y, text, centred=True, gid=f"change {concept}")

    def _draw_class_names(self, page: Page, below: float) -> None:
        """Draw the names of the classes under the picture, beside the bars of all layers."""
        right = self._column(0) + self.cell
        title = f"attribution (bars: 0 to {self.limit:g})"
        page.text(right, below, title, ha="right", color=MUTED)
        names = labels(list(self.classes.values()), list(self.classes), self.cell - _SWATCH)
        for k, (name, fill) in enumerate(zip(names, self.fills.values(), strict=True)):
            y = below + LINE_HEIGHT * 1.2 + (k + 0.5) * _BAR
            page.text(right - _SWATCH, y, name, centred=True, ha="right", gid="classes")
            page.bar(right - 0.09, y, 0.09, 0.55 * _BAR, gid="classes", **fill)

    def _draw_bars(self, page: Page, left: float, top: float, bars: list[Any]) -> None:
        """Draw the attributions of a layer and a concept, in the order of the class names."""
        full = self.cell - self.numbers
        scale = full / self.limit
        for k, (bar, fill) in enumerate(zip(bars, self.fills.values(), strict=True)):
            y, label = top + (k + 0.5) * _BAR, f"{bar.layer} {bar.concept}"
            page.bar(left, y, full, 0.6 * _BAR, color=_TRACK, gid=f"track {label}")
            page.bar(left, y, scale * bar.attribution, 0.6 * _BAR, gid=f"bar {label}", **fill)
            if bar.attribution and scale * (bar.high - bar.low) / 2 > _VISIBLE:
                page.whisker(left + scale * bar.low, left + scale * bar.high, y)
            text = self._number(bar)
            page.text(left + full + 0.06, y, text, centred=True, gid=f"number {label}")

    def _number(self, bar: Any) -> str:
        return self.marks.number(bar.attribution, bar.note, bar.q_value)

    # -- below the rows

    def _erased_notes(self) -> list[str]:
        """Return what is to be known of single concepts that were erased."""
        about: dict[str, list[str]] = {}
        effects = of_pictures(self.explanation.effects)
        for concept, rows in effects.groupby("concept", sort=False):
            if rows["area"].iloc[0] > 0 and (note := notes_by_class(rows)):
                about.setdefault(note, []).append(str(concept))
        return [f"Without {listed(names)}: {note}." for note, names in about.items()]

    def _notes(self) -> list[str]:
        """Return what a reader needs to know, a paragraph each."""
        cells = (
            "The maps are smoothed: colours are interpolated between the centres of a layer's "
            "cells (bilinear). The layer itself resolves nothing finer than its cells."
            if self.smooth
            else "Every cell of the maps is shown as it is in the layer, without smoothing."
        )
        texts = [
            "Concept map M: where the layer sees the concept, whatever the class. One scale for "
            f"all maps, not stretched to their maxima; the picture lies under them in grey. {cells}"
        ]
        if self.slices:
            texts.append(
                "Slices are those of the network's input. Beside a concept stands the one with "
                "most of its region. The report and notebooks show all slices."
            )
        if self.overlay.padded:
            texts.append("Plain grey margin: padding, which the network saw too.")
        texts.append(
            "Attribution: how much the concept counts for the class at this layer; 1 would be the "
            "whole logit difference (image minus zero feature maps) of the best class. All bars "
            f"run from 0 to {self.limit:g}."
        )
        if self.resampled:
            texts[-1] += (
                " Whiskers: 95 % interval for other examples and negatives of the concepts, where "
                "it is wide enough to be seen."
            )
        if np.isfinite(self.error):
            shown = "." if self.resampled else "; whiskers show it where it is large enough."
            texts[-1] += f" Estimated quadrature error: at most {number(self.error)}{shown}"
        if self.erased:
            texts[:0] = [_ERASED, *self._erased_notes()]
        texts += ns_means(self.explanation.attributions, self.explanation.provenance.null_cavs)
        first = read_first(self.explanation.best_layers, self.explanation.layers)
        texts += self.explanation.provenance.picture_notes
        return [*texts, *filter(None, [first]), *self.marks.legend()]


def _fill(k: int) -> dict[str, Any]:
    """Return how the bars of the k-th class are filled, as keywords of matplotlib."""
    again, colour = divmod(k, len(PALETTE))
    fill = {"facecolor": PALETTE[colour], "edgecolor": "white"}
    hatch = _HATCHES[again % len(_HATCHES)]
    return fill | {"hatch": hatch} if hatch else fill
