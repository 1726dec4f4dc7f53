"""The figure of one image with many concepts or layers: a table of small maps on one page.

A row has all of a concept: an example, what was erased, its map at every layer, and side by side
what was measured and the attributions. What does not fit on a page is left out, and the page says
so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from vtcav.results.figures.lettering import (
    LINE_HEIGHT,
    basename,
    text_width,
    wrap,
    wrap_apart,
)
from vtcav.results.figures.local.bars import BAR, Track, draw_attribution, draw_change
from vtcav.results.figures.local.content import LocalContent
from vtcav.results.figures.local.rows import draw_predictions, draw_scale
from vtcav.results.figures.page import MARGIN, Page
from vtcav.results.figures.palette import MUTED
from vtcav.results.words import count, listed, picture_name

# Inches.
_NAME, _GAP, _BETWEEN, _SWATCH = 1.3, 0.18, 0.05, 0.14
_LINE = 0.11  # of a class
_BARS = 0.8  # of each kind, at least
_SMALLEST, _LARGEST = 0.36, 1.0  # the height of a row
_ROOM = 0.04  # between two rows
_PICTURE, _WIDEST_PICTURE = 1.2, 2.2
_NARROWEST, _WIDEST = 8.5, 11.5
_END = 9.6  # of the rows, where they can be that short
_HIGHEST_HEAD = 0.9
_LAYERS, _CONCEPTS, _CLASSES = 6, 20, 3
"""So many fit on a page in any case; more concepts and classes where there is room."""


class LocalTable:
    """The drawing: its parts, their sizes and positions in inches.

    Args:
        content: What is drawn.
    """

    def __init__(self, content: LocalContent) -> None:
        self.content, self.explanation = content, content.explanation
        self.layers = [x for x in content.explanation.layers if x in content.layers[:_LAYERS]]
        self.picture = content.overlay()
        self.overlay = content.overlay(cropped=True)
        wide, high = self.picture.size(_PICTURE)
        scale = min(1.0, _WIDEST_PICTURE / wide, _PICTURE / high)
        self.whole = wide * scale, high * scale
        self.block = max(self.whole[1], (len(content.predictions()) + 2) * 0.155, 0.85)
        self.head_top = MARGIN + 0.42 + self.block
        # of a page of so many rows, as much as they need of it
        rough = self.head_top + 0.7
        many = min(len(content.concepts), _CONCEPTS)
        room = (_END - rough) / many - _ROOM
        self.classes = list(content.classes)[: max(_CLASSES, int(room / _LINE))]
        least = max(len(self.classes) * _LINE + _ROOM, _SMALLEST)
        self.concepts = content.concepts[: max(_CONCEPTS, int((_END - rough) / least))]
        self.row = max(least, min((_END - rough) / len(self.concepts), _LARGEST))
        self.line = min((self.row - _ROOM) / len(self.classes), BAR)
        self.pictures = content.erased and not all(map(content.not_erased, self.concepts))
        self._set_columns()
        lines = max(1, int((self.row - _ROOM) / LINE_HEIGHT) - bool(content.slices))
        names = wrap_apart(self.concepts, _NAME, most=lines)
        self.names = dict(zip(self.concepts, names, strict=True))
        self.heads = self._heads()
        self.top = self.head_top + self.head_height

    def _set_columns(self) -> None:
        """Set the sizes of the cells and the places of the columns."""
        content = self.content
        changes = (
            [c.text for name in self.concepts for c in content.measured(name)]
            if (content.erased)
            else []
        )
        reasons = [content.not_erased(name) for name in self.concepts] if content.erased else []
        self.said = max(map(text_width, changes), default=0.0) + 0.08
        self.said = max(self.said, *(text_width(r) - _BARS + 0.1 for r in reasons), 0.0)
        self.numbers = content.numbers
        fixed = 2 * MARGIN + _NAME + 2 * _GAP + _SWATCH + _BARS + self.numbers
        fixed += (_BARS + self.said + _GAP) * content.erased
        cells = 1 + self.pictures + len(self.layers)
        wide, high = self.overlay.size(1.0)
        aspect = min(wide / high, 1.25)
        side = self.row - _ROOM
        most = (_WIDEST - fixed) / cells - _BETWEEN
        self.cell = min(side * aspect, most), min(side, most / aspect)
        if wide / high > aspect:
            self.cell = self.cell[0], self.cell[0] * high / wide
        self.example = min(side, most)
        needed = fixed + self.example + (cells - 1) * self.cell[0] + cells * _BETWEEN
        self.width = max(needed, _NARROWEST)
        self.bars = _BARS + (self.width - needed) / (1 + content.erased)

    def _cell_at(self, k: int) -> float:
        """Return where cell k begins: without the concept, if there is one, then the layers."""
        first = MARGIN + _NAME + _GAP / 2 + self.example + _BETWEEN
        return first + k * (self.cell[0] + _BETWEEN)

    @property
    def _swatches(self) -> float:
        """Where the marks of the classes begin."""
        return self._cell_at(self.pictures + len(self.layers)) + _GAP / 2

    @property
    def _measured(self) -> float:
        return self._swatches + _SWATCH

    @property
    def _estimated(self) -> float:
        return self._measured + (self.bars + self.said + _GAP) * self.content.erased

    def _heads(self) -> list[list[str]]:
        """Return the heads of the cells in lines, upright where they are too narrow for them."""
        first = ["examples", *["without it"] * self.pictures]
        names = [*first, *self.layers]
        self.upright = any(text_width(name, bold=True) > self.cell[0] for name in names)
        if not self.upright:
            self.head_height = 3 * LINE_HEIGHT + 0.12
            return [[name] for name in names]
        most = max(1, int(min(self.cell[0], self.example) / LINE_HEIGHT))
        heads = [wrap(name, _HIGHEST_HEAD, most=most, bold=True) for name in first]
        heads += wrap_apart(self.layers, _HIGHEST_HEAD, most=most, bold=True)
        longest = max(text_width(line, bold=True) for head in heads for line in head)
        self.head_height = max(longest, 3 * LINE_HEIGHT) + 0.12
        return heads

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        content = self.content
        image = basename(self.explanation.image)
        names = *content.concepts, *content.layers, *content.classes.values(), image
        end = self.top + len(self.concepts) * self.row + 0.05
        page = Page(figure, self.width, end, [*self._notes(), *content.notes(best=True)], names)
        page.title(f"Concepts in {picture_name(self.explanation.image)}")
        page.text(MARGIN, MARGIN + 0.24, self._left_out(), weight="bold")
        self._draw_block(page)
        self._draw_heads(page)
        for k, concept in enumerate(self.concepts):
            page.rule(self.top + k * self.row)
            self._draw_row(page, self.top + k * self.row, concept)

    def _left_out(self) -> str:
        """Return what is not on the page; empty where nothing is left out."""
        parts = [
            f"{shown} of {count(whole, noun, many)}"
            for shown, whole, noun, many in (
                (len(self.concepts), len(self.content.concepts), "concept", None),
                (len(self.layers), len(self.content.layers), "layer", None),
                (len(self.classes), len(self.content.classes), "class", "classes"),
            )
            if shown < whole
        ]
        if not parts:
            return ""
        return f"Shown: {listed(parts)}. The tables have all; plot(concepts=...) draws others."

    def _draw_block(self, page: Page) -> None:
        """Draw the picture, the predictions and the colours."""
        top = MARGIN + 0.38
        self.picture.show_picture(page.axes(MARGIN, top, *self.whole, "picture"))
        left = MARGIN + self.whole[0] + 0.25
        room = page.width - MARGIN - left
        scale = min(2.2, 0.36 * room)
        draw_predictions(page, (left, top), min(room - scale - 0.4, 3.4), self.content)
        corner = page.width - MARGIN - scale, top
        draw_scale(page, corner, scale, self.content.map_name)

    def _draw_heads(self, page: Page) -> None:
        """Draw the heads of the columns, on one baseline."""
        bottom = self.top - 0.06

        def head(left: float, title: str, below: Sequence[str]) -> None:
            top = bottom - (1 + len(below)) * LINE_HEIGHT
            page.text(left, top, title, weight="bold")
            page.text(left, top + LINE_HEIGHT, below, color=MUTED)

        head(MARGIN, "concept", wrap(self.content.order, _NAME))
        example = MARGIN + _NAME + _GAP / 2
        places = [example, *(self._cell_at(k) for k in range(len(self.heads) - 1))]
        for left, lines in zip(places, self.heads, strict=True):
            if self.upright:
                page.upright(left, bottom, lines, weight="bold")
            else:
                page.text(left, bottom - LINE_HEIGHT, lines, weight="bold")
        if self.content.erased:
            ends = self.content.measured_text.partition(" (")[2]
            said = wrap(f"change of the score ({ends}", self.bars + self.said, most=2)
            head(self._measured, "measured", said)
        title, _, ends = self.content.estimated_text.partition(" ")
        said = [ends.strip("()"), *["framed layer; dots: others"] * (len(self.content.layers) > 1)]
        room = self.bars + self.numbers
        head(self._estimated, title, [line for s in said for line in wrap(s, room, most=2)])

    def _draw_row(self, page: Page, top: float, concept: str) -> None:
        """Draw a concept."""
        middle, high = top + self.row / 2, self.row - _ROOM
        slice_, name_of_slice = self.content.shown_slice(concept)
        lines = [*self.names[concept], *filter(None, [name_of_slice])]
        page.text(MARGIN, middle, lines, centred=True)
        box = MARGIN + _NAME + _GAP / 2, middle - self.example / 2, self.example, self.example
        page.thumbnails(box, self.explanation.thumbnails[concept], (1 if high < 0.6 else 2,))
        upper = middle - self.cell[1] / 2
        if self.pictures:
            self._draw_without(page, (self._cell_at(0), upper), slice_, concept)
        for k, layer in enumerate(self.layers, self.pictures):
            self._draw_map(page, (self._cell_at(k), upper), layer, concept)
        first = middle - len(self.classes) * self.line / 2
        for k, index in enumerate(self.classes):
            y = first + (k + 0.5) * self.line
            page.bar(self._swatches, y, 0.08, 0.08, **self.content.fills[index])
        if self.content.erased:
            self._draw_changes(page, first, concept)
        self._draw_attributions(page, first, concept)

    def _draw_without(
        self, page: Page, corner: tuple[float, float], slice_: int, concept: str
    ) -> None:
        """Draw the input without a concept, and the outline of what was erased."""
        if self.content.not_erased(concept):
            return  # said beside it
        axes = page.axes(*corner, *self.cell, f"without {concept}")
        picture = self.explanation.erased(concept)
        overlay = self.content.overlay(slice_, cropped=True)
        overlay.show_erased(axes, picture.after, picture.region)

    def _draw_map(self, page: Page, corner: tuple[float, float], layer: str, concept: str) -> None:
        """Draw a concept's map at a layer."""
        axes = page.axes(*corner, *self.cell, f"map {layer} {concept}")
        if all(bar.separated for bar in self.content.bars[layer, concept]):
            M, slice_, _ = self.content.strongest(layer, concept)
            overlay = self.content.overlay(slice_, cropped=True)
            overlay.show_map(axes, M, smooth=self.content.smooth)
        else:
            self.overlay.show_crossed_out(axes, "")
        if layer == self.content.best(concept) and len(self.content.layers) > 1:
            axes.spines[:].set(visible=True, linewidth=1.2)

    def _draw_changes(self, page: Page, first: float, concept: str) -> None:
        """Draw what was measured, a line per class, or why nothing was."""
        if reason := self.content.not_erased(concept):
            middle = first + len(self.classes) * self.line / 2
            page.text(self._measured, middle, reason, centred=True, gid=f"change {concept}")
            return
        for k, change in enumerate(self.content.measured(concept)[: len(self.classes)]):
            y, start = first + (k + 0.5) * self.line, self._measured
            if not math.isnan(change.share):
                track = Track(start, y, self.bars, 0.6 * self.line)
                draw_change(page, track, concept, change, self._fill(k))
                start += self.bars + 0.06
            page.text(start, y, change.text, centred=True, gid=f"change {concept}")

    def _draw_attributions(self, page: Page, first: float, concept: str) -> None:
        """Draw the attributions at the layer to read first, and dots for the other layers."""
        content = self.content
        best = content.best(concept)
        others = [content.bars[layer, concept] for layer in content.layers if layer != best]
        for k, bar in enumerate(content.bars[best, concept][: len(self.classes)]):
            y = first + (k + 0.5) * self.line
            track = Track(self._estimated, y, self.bars, 0.6 * self.line)
            dots = [rows[k].attribution for rows in others]
            draw_attribution(page, track, bar, content.limit, self._fill(k), dots)
            label = f"number {best} {concept}"
            place = self._estimated + self.bars + 0.06
            page.text(place, y, content.number(bar), centred=True, gid=label)

    def _fill(self, k: int) -> dict[str, Any]:
        return self.content.fills[self.classes[k]]

    def _notes(self) -> list[str]:
        """Return what is to be known of the table."""
        content = self.content
        note = "Pictures are cropped to what the network saw." * self.picture.framed
        if len(content.layers) > 1:
            note += (
                " Framed: the layer to read first, whose attributions are shown; dots: those at "
                "the other layers."
            )
        if not all(bar.separated for bars in content.bars.values() for bar in bars):
            note += " Hatched maps: the layer does not separate the concept (e+ <= e-)."
        return [note.strip()] if note else []
