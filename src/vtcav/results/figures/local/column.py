"""The figure of one image for the column of a paper: 85 mm wide, a row per concept.

Of each concept it has the map at the layer to read first; what was measured is a bar, and the
attribution a number. Letters have the size of the other figures, so that they can be read in print.
"""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure

from vtcav.results.figures.lettering import (
    LINE_HEIGHT,
    basename,
    text_width,
    wrap,
    wrap_apart,
)
from vtcav.results.figures.local.bars import Track, draw_attribution, draw_change
from vtcav.results.figures.local.content import LocalContent
from vtcav.results.figures.local.rows import draw_predictions, draw_scale
from vtcav.results.figures.page import MARGIN, Page
from vtcav.results.words import picture_name

# Inches.
_WIDTH = 85 / 25.4
_INNER = _WIDTH - 2 * MARGIN
_GAP = 0.06
_NAME, _MAP, _PICTURE = 0.8, 0.4, 1.15
_SMALLEST = 0.265  # the height of a row, where there are many
_END = 8.3  # of the rows, where they can be that short: a column is about 9.4 long
_LINE = 0.12  # of a class
_ROOM = 0.04  # between two rows


class LocalColumn:
    """The drawing: its parts, their sizes and positions in inches.

    Args:
        content: What is drawn.
    """

    def __init__(self, content: LocalContent) -> None:
        self.content, self.explanation = content, content.explanation
        self.overlay = content.overlay(cropped=True)
        wide, high = self.overlay.size(1.0)
        scale = 1 / max(wide, high)
        self.picture = wide * scale * _PICTURE, high * scale * _PICTURE
        self.predicted = (len(content.predictions()) + 1.6) * 0.155
        self.top = MARGIN + 0.3 + self.picture[1] + 0.1 + self.predicted + 3 * LINE_HEIGHT
        least = max(_SMALLEST, len(content.classes) * _LINE + _ROOM)
        room = (_END - self.top) / len(content.concepts)
        self.row = max(least, min(room, _MAP + _ROOM))
        side = min(_MAP, self.row - _ROOM)
        self.map = wide * scale * side, high * scale * side
        lines = max(1, int((self.row - _ROOM) / LINE_HEIGHT))
        names = wrap_apart(content.concepts, _NAME, most=lines)
        self.names = dict(zip(content.concepts, names, strict=True))
        self.several = len({content.best(name) for name in content.concepts}) > 1
        texts = [
            change.size
            for name in (content.concepts if content.erased else ())
            for change in content.measured(name)
        ]
        self.said = max(map(text_width, texts), default=0.0)
        self.bars = _NAME + _MAP + 2 * _GAP
        self.bar = _INNER - self.bars - content.numbers - _GAP
        if content.erased:
            self.bar -= self.said + _GAP

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        content, image = self.content, basename(self.explanation.image)
        names = *content.concepts, *content.layers, *content.classes.values(), image
        end = self.top + len(content.concepts) * self.row + 0.05
        page = Page(figure, _WIDTH, end, [*self._notes(), *content.brief_notes()], names)
        page.title(picture_name(self.explanation.image))
        corner = MARGIN, MARGIN + 0.3
        self.overlay.show_picture(page.axes(*corner, *self.picture, "picture"))
        left = MARGIN + self.picture[0] + 0.2
        draw_scale(page, (left, corner[1]), page.width - MARGIN - left, content.map_name)
        below = corner[1] + self.picture[1] + 0.1
        draw_predictions(page, (MARGIN, below), _INNER, content)
        self._draw_heads(page)
        for k, concept in enumerate(content.concepts):
            top = self.top + k * self.row
            page.rule(top)
            self._draw_row(page, top, concept)

    @property
    def _left(self) -> float:
        return MARGIN + self.bars

    def _draw_heads(self, page: Page) -> None:
        top = self.top - 2 * LINE_HEIGHT - 0.05
        page.text(MARGIN, top + LINE_HEIGHT, "concept", weight="bold")
        page.text(MARGIN + _NAME + _GAP, top + LINE_HEIGHT, "map M", weight="bold")
        right = page.width - MARGIN
        if self.content.erased:
            ends = self.content.measured_text.partition(" (")[2].rstrip(")")
            page.text(self._left, top, ["measured", ends], weight="bold")
            page.text(right, top + LINE_HEIGHT, "attribution", ha="right", weight="bold")
        else:
            text = f"attribution (0 to {self.content.limit:g})"
            page.text(right, top + LINE_HEIGHT, text, ha="right", weight="bold")

    def _draw_row(self, page: Page, top: float, concept: str) -> None:
        """Draw a concept."""
        content, middle = self.content, top + self.row / 2
        page.text(MARGIN, middle, self.names[concept], centred=True)
        layer = content.best(concept)
        bars = content.bars[layer, concept]
        corner = MARGIN + _NAME + _GAP, middle - self.map[1] / 2
        axes = page.axes(*corner, *self.map, f"map {layer} {concept}")
        if all(bar.separated for bar in bars):
            M, slice_, _ = content.strongest(layer, concept)
            overlay = content.overlay(slice_, cropped=True)
            overlay.show_map(axes, M, smooth=content.smooth)
        else:
            self.overlay.show_crossed_out(axes, "")
        first = middle - len(content.classes) * _LINE / 2
        if content.erased:
            self._draw_changes(page, first, concept)
        for k, (bar, fill) in enumerate(zip(bars, content.fills.values(), strict=True)):
            y = first + (k + 0.5) * _LINE
            if not content.erased:
                track = Track(self._left, y, self.bar, 0.6 * _LINE)
                draw_attribution(page, track, bar, content.limit, fill)
            label = f"number {layer} {concept}"
            place = page.width - MARGIN, y
            page.text(*place, content.number(bar), centred=True, ha="right", gid=label)

    def _draw_changes(self, page: Page, first: float, concept: str) -> None:
        """Draw what was measured, a line per class, or why nothing was."""
        content, label = self.content, f"change {concept}"
        if reason := content.not_erased(concept):
            lines = wrap(reason, self.bar + self.said, most=3)
            middle = first + len(content.classes) * _LINE / 2
            page.text(self._left, middle, lines, centred=True, gid=label)
            return
        changes = zip(content.measured(concept), content.fills.values(), strict=True)
        for k, (change, fill) in enumerate(changes):
            y = first + (k + 0.5) * _LINE
            self._draw_change(page, y, concept, change, fill)
            right = self._left + self.bar + _GAP / 2
            page.text(right, y, change.size, centred=True, gid=label)

    def _draw_change(
        self, page: Page, y: float, concept: str, change: Any, fill: dict[str, Any]
    ) -> None:
        if not math.isnan(change.share):
            track = Track(self._left, y, self.bar, 0.6 * _LINE)
            draw_change(page, track, concept, change, fill)

    def _notes(self) -> list[str]:
        """Return what is to be known of the column."""
        layers = {name: self.content.best(name) for name in self.content.concepts}
        one = next(iter(layers.values()))
        where = "the layer to read first for each concept" if self.several else f"layer {one}"
        return [f"Maps and attributions: {where}. The picture is cropped to what the network saw."]
