"""The contact sheet of a discovery: for every found concept the patches that show it most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vtcav.results.figures.lettering import LINE_HEIGHT, shorten, text_width, wrap_apart
from vtcav.results.figures.page import MARGIN, Page, own_style
from vtcav.results.figures.palette import MUTED, ORANGE
from vtcav.results.words import clear

PATCHES = 8
_SIDE, _GAP, _TEXT = 0.68, 0.1, 2.3
_COLUMN, _BETWEEN = _TEXT + PATCHES * (_SIDE + 0.05), 0.3
_LONG = 12  # concepts of a column
_NOTES = (
    "Each patch is the place of another image that shows the concept most, the strongest first. "
    "stability: cosine with the direction that is found from another random start, or in half of "
    "the images, whichever is lower; below 0.8 it is not found again reliably.",
    "noise: cosine with a direction that the network has for noise too; from 0.8 on the concept "
    "says little of the images. A concept is in an image where its map is above 0.5 somewhere.",
)


class _Found(Protocol):
    """What the sheet needs of a found concept."""

    @property
    def patches(self) -> NDArray[np.uint8]:
        """Patches [n, 96, 96, 3]."""


@own_style()
def plot_discovery(
    rows: Sequence[tuple[Mapping[Any, Any], _Found]],
    title: str,
    figure: Figure,
    notes: Sequence[str] = (),
) -> Figure:
    """Draw the contact sheet.

    Args:
        rows: For each concept its numbers, as in `Discovery.concepts`, and its patches.
        title: The title.
        figure: Emptied and drawn on.
        notes: Further paragraphs at the foot.
    """
    step, top = _SIDE + _GAP, MARGIN + 0.6
    names = [str(row["layer"]) for row, _ in rows]
    # side by side where they would make a page that is too long
    columns = 1 if len(rows) <= _LONG else 2
    down = -(-len(rows) // columns)
    width = 2 * MARGIN + columns * _COLUMN + (columns - 1) * _BETWEEN
    page = Page(figure, width, top + step * down, [*_NOTES, *notes], [title, *names])
    layers = dict.fromkeys(map(clear, names))
    lines = wrap_apart(list(layers), _TEXT - 0.4, most=1)
    short = {layer: line[0] for layer, line in zip(layers, lines, strict=True)}
    page.title(title, "found concepts, by layer; a name is yours to give")
    for i, (row, found) in enumerate(rows):
        column, k = divmod(i, down)
        left, at = MARGIN + column * (_COLUMN + _BETWEEN), top + k * step
        _describe(page, row, (left, at), short[clear(row["layer"])])
        box = left + _TEXT, at, _COLUMN - _TEXT, _SIDE + 0.05
        page.thumbnails(box, found.patches[:PATCHES], [PATCHES])
    return figure


def _describe(page: Page, row: Mapping[Any, Any], corner: tuple[float, float], layer: str) -> None:
    """Write a concept's numbers beside its patches."""
    left, top = corner
    fine = row["level"] == "fine"
    page.text(left, top, f"{row['concept']}", 9, weight="bold")
    page.text(left + 0.35, top + 0.01, layer)
    lines = [
        f"stability {row['stability']:z.2f}, noise {row['noise']:z.2f}",
        f"in {row['prevalence']:.0%} of the images".replace("%", " %"),
    ]
    if row["nearest"]:
        cosine = f" (cosine {row['cosine']:z.2f})"
        room = _TEXT - 0.4 - text_width(f"nearest: {cosine}")
        lines.append(f"nearest: {shorten(clear(row['nearest']), room)}{cosine}")
    page.text(left + 0.35, top + LINE_HEIGHT, lines, color=MUTED)
    if not fine:
        below = top + (len(lines) + 1) * LINE_HEIGHT
        page.text(left + 0.35, below, row["level"], color=ORANGE, weight="bold")
