"""The figure of one image with few concepts: a row per concept, a column per layer."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure

from vtcav.results.figures.lettering import (
    LINE,
    LINE_HEIGHT,
    basename,
    labels,
    shorten,
    wrap,
    wrap_apart,
)
from vtcav.results.figures.local.bars import BAR, Track, draw_attribution, draw_change
from vtcav.results.figures.local.content import LocalContent
from vtcav.results.figures.overlay import show_scale
from vtcav.results.figures.page import MARGIN, Page
from vtcav.results.figures.palette import MUTED
from vtcav.results.words import number, picture_name

# Inches.
_GAP = 0.22
_CONCEPT = 1.5
_NARROWEST = 1.75
_SWATCH = 0.15
_PROBABILITY = 1.35  # its bar and number
_CHANGE = 0.98  # the longest change beside a bar: "-100 % (p = 0.048)"
_TRACK = "0.93"


class LocalRows:
    """The drawing: its parts, their sizes and positions in inches.

    Args:
        content: What is drawn.

    Attributes:
        width: Of the page, in inches.
        end: Where the rows end.
    """

    def __init__(self, content: LocalContent) -> None:
        self.content, self.explanation = content, content.explanation
        side = 1.6 if len(content.layers) > 4 else 1.9
        self.picture = content.overlay()
        self.cropped = self.picture.shows_little
        self.overlay = content.overlay(cropped=self.cropped)
        self.whole, self.view = self.picture.size(side), self.overlay.size(side)
        self.numbers = content.numbers
        self.cell = max(self.view[0], _NARROWEST, self.numbers + 0.8)
        self.first = max(self.whole[0], _NARROWEST)
        self.high = max(self.whole[1], self.view[1])
        self.named = LINE_HEIGHT if content.slices else 0.0  # the line that names the slice
        self.row = self.high + self.named + LINE_HEIGHT * 2.7 + len(content.classes) * BAR + 0.25
        self.predictions = content.predictions()
        layers = content.layers
        heads = wrap_apart(layers, self.cell, 8, most=3, bold=True)
        self.heads = dict(zip(layers, heads, strict=True))
        names = wrap_apart(content.concepts, _CONCEPT, 9, most=3, bold=True)
        self.names = dict(zip(content.concepts, names, strict=True))
        head = (max(map(len, self.heads.values())) + 1) * 8 * LINE / 72
        self.top = MARGIN + 0.35 + max(0.8, (len(self.predictions) + 1) * BAR) + 0.12 + head
        self.end = self.top + len(content.concepts) * self.row
        self.width = self._column(self._first_layer + len(layers)) - _GAP + MARGIN

    def _column(self, k: int) -> float:
        """Return where column k begins: the picture, without the concept, then the layers."""
        first = MARGIN + _CONCEPT + _GAP
        return first + (self.first + _GAP + (k - 1) * (self.cell + _GAP) if k else 0.0)

    @property
    def _first_layer(self) -> int:
        """The column of the first layer."""
        return 2 if self.content.erased else 1

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        content = self.content
        image = basename(self.explanation.image)
        names = *content.concepts, *content.layers, *content.classes.values(), image
        notes = ["Maps are cropped to what the network saw."] if self.cropped else []
        page = Page(figure, self.width, self.end, [*notes, *content.notes()], names)
        page.title(f"Concepts in {picture_name(self.explanation.image)}")
        self._draw_predictions(page)
        left = self._column(self._first_layer)
        room = min(page.width - MARGIN - left, 3.0)
        draw_scale(page, (left, MARGIN + 0.35), room, content.map_name)
        self._draw_heads(page)
        for k, concept in enumerate(content.concepts):
            page.rule(self.top + k * self.row)
            self._draw_row(page, self.top + k * self.row + 0.1, concept)

    def _draw_predictions(self, page: Page) -> None:
        width = self._column(1) - _GAP - MARGIN
        draw_predictions(page, (MARGIN, MARGIN + 0.35), width, self.content)

    def _draw_heads(self, page: Page) -> None:
        """Draw the titles of the columns, on one baseline."""
        bottom = self.top

        def head(left: float, title: list[str], below: str) -> None:
            top = bottom - 0.06 - LINE_HEIGHT - len(title) * 8 * LINE / 72
            page.text(left, top, title, 8, weight="bold")
            page.text(left, bottom - 0.06 - LINE_HEIGHT, below, color=MUTED)

        head(MARGIN, ["concept"], shorten(self.content.order, _CONCEPT))
        below = "dashed: network's input" if self.picture.framed else "the network's input"
        head(self._column(0), ["picture"], shorten(below, self.first))
        if self.content.erased:
            head(self._column(1), ["without the concept"], "its region filled in")
        for k, (layer, title) in enumerate(self.heads.items(), self._first_layer):
            shape = self.explanation.concept_map(layer, self.explanation.concepts[0]).shape
            head(self._column(k), title, f"M of {' x '.join(map(str, shape))} cells")

    def _draw_row(self, page: Page, top: float, concept: str) -> None:
        """Draw a concept: its name and examples, the picture, the map of each layer, the bars."""
        name = self.names[concept]
        page.text(MARGIN, top, name, 9, weight="bold")
        used = len(name) * 9 * LINE / 72 + 0.05
        box = MARGIN, top + used, _CONCEPT, self.high - used
        page.thumbnails(box, self.explanation.thumbnails[concept], (2, 3))

        region = self.explanation.erased(concept).region if self.content.erased else None
        slice_, name_of_slice = self.content.shown_slice(concept)
        axes = page.axes(self._column(0), top, *self.whole, "picture")
        self.content.overlay(slice_).show_picture(axes, region)
        below = top + self.high + 0.04
        page.text(self._column(0), below, name_of_slice, color=MUTED)
        below += self.named
        self._draw_class_names(page, below + LINE_HEIGHT * 2.4)
        if self.content.erased:
            self._draw_erased(page, top, below, concept)
        for k, layer in enumerate(self.content.layers, self._first_layer):
            self._draw_layer(page, (self._column(k), top), below, layer, concept)

    def _draw_layer(
        self, page: Page, corner: tuple[float, float], below: float, layer: str, concept: str
    ) -> None:
        """Draw a concept at a layer: its map, and the bars of the classes."""
        left, bars = corner[0], self.content.bars[layer, concept]
        axes = page.axes(*corner, *self.view, f"map {layer} {concept}")
        if all(bar.separated for bar in bars):
            M, slice_, name_of_slice = self.content.strongest(layer, concept)
            overlay = self.content.overlay(slice_, cropped=self.cropped)
            overlay.show_map(axes, M, smooth=self.content.smooth)
            page.text(left, below - self.named, name_of_slice, color=MUTED)
            page.text(left, below, f"largest M: {number(float(M.max()))}", color=MUTED)
        else:
            self.overlay.show_crossed_out(axes, "not separated\n(e+ <= e-)")
        page.text(left, below + LINE_HEIGHT * 1.1, self.content.estimated_text, color=MUTED)
        self._draw_bars(page, left, below + LINE_HEIGHT * 2.4, bars)

    def _draw_erased(self, page: Page, top: float, below: float, concept: str) -> None:
        """Draw the picture without a concept, and how the score of each class changes."""
        left = self._column(1)
        axes = page.axes(left, top, *self.view, f"without {concept}")
        reason = self.content.not_erased(concept)
        if reason:
            broken = reason.replace(" (", "\n(").replace(" in ", " in\n")
            self.overlay.show_crossed_out(axes, broken)
        else:
            slice_, _ = self.content.shown_slice(concept)
            after = self.explanation.erased(concept).after
            self.content.overlay(slice_, cropped=self.cropped).show_erased(axes, after)
        said = wrap(self.content.measured_text, self.cell, most=2)
        page.text(left, below + LINE_HEIGHT * (2.1 - len(said)), said, color=MUTED)
        fills = self.content.fills.values()
        full = self.cell - _CHANGE
        for k, (change, fill) in enumerate(zip(self.content.measured(concept), fills, strict=True)):
            y, start = below + LINE_HEIGHT * 2.4 + (k + 0.5) * BAR, left
            if not math.isnan(change.share):
                draw_change(page, Track(left, y, full), concept, change, fill)
                start += full + 0.06
            page.text(start, y, change.text, centred=True, gid=f"change {concept}")

    def _draw_class_names(self, page: Page, top: float) -> None:
        """Draw the names of the classes under the picture, beside the bars."""
        right = self._column(0) + self.first
        page.text(right, top - LINE_HEIGHT * 1.3, "class", ha="right", color=MUTED)
        classes = self.content.classes
        names = labels(list(classes.values()), list(classes), self.first - _SWATCH)
        for k, (name, fill) in enumerate(zip(names, self.content.fills.values(), strict=True)):
            y = top + (k + 0.5) * BAR
            page.text(right - _SWATCH, y, name, centred=True, ha="right", gid="classes")
            page.bar(right - 0.09, y, 0.09, 0.55 * BAR, gid="classes", **fill)

    def _draw_bars(self, page: Page, left: float, top: float, bars: list[Any]) -> None:
        """Draw the attributions of a layer and a concept, in the order of the class names."""
        full = self.cell - self.numbers
        for k, (bar, fill) in enumerate(zip(bars, self.content.fills.values(), strict=True)):
            y = top + (k + 0.5) * BAR
            draw_attribution(page, Track(left, y, full), bar, self.content.limit, fill)
            label = f"number {bar.layer} {bar.concept}"
            page.text(left + full + 0.06, y, self.content.number(bar), centred=True, gid=label)


def draw_predictions(
    page: Page, corner: tuple[float, float], width: float, content: LocalContent
) -> None:
    """Draw the probabilities, and beside them the fills of the classes explained.

    Args:
        page: Where to draw.
        corner: Left and top in inches.
        width: In inches.
        content: What is drawn.
    """
    left, top = corner
    page.text(left, top, "what the network predicts (probability)", color=MUTED)
    right, predictions = left + width, content.predictions()
    start, full = right - _PROBABILITY, _PROBABILITY - 0.45
    room = width - _PROBABILITY - 0.1 - _SWATCH
    names = labels([each[0] for each in predictions], [each[1] for each in predictions], room)
    for k, (name, (_, _, share, fill)) in enumerate(zip(names, predictions, strict=True)):
        y = top + (k + 1.5) * BAR
        if fill:
            page.bar(left, y, 0.09, 0.55 * BAR, **fill)
        page.text(left + _SWATCH, y, name, centred=True, gid="predictions")
        page.bar(start, y, full, 0.6 * BAR, color=_TRACK)
        page.bar(start, y, full * share, 0.6 * BAR, **(fill or {"color": "0.6"}))
        page.text(right, y, number(share), centred=True, ha="right", gid="predictions")


def draw_scale(page: Page, corner: tuple[float, float], width: float, name: str) -> None:
    """Draw the one colour bar.

    Args:
        page: Where to draw.
        corner: Left and top in inches.
        width: In inches.
        name: The name of the maps.
    """
    left, top = corner
    page.text(left, top, name, 8, weight="bold")
    show_scale(page.axes(left, top + 0.2, width, 0.13, "scale"))
    page.text(left, top + 0.37, ["0", "like the", "negatives"])
    page.text(left + width / 2, top + 0.37, "0.5", ha="center")
    page.text(left + width, top + 0.37, ["1", "like the", "examples"], ha="right")
