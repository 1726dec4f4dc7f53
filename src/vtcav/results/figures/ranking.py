"""The figure of a ranking: the curve of presence, and the first and last images with their maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from vtcav.results.figures.lettering import LINE_HEIGHT, basename, shorten
from vtcav.results.figures.overlay import Overlay
from vtcav.results.figures.page import MARGIN, Page, own_style, show_axis
from vtcav.results.figures.palette import BLUE, MUTED
from vtcav.results.figures.protocols import RankedImages, RankedPicture
from vtcav.results.words import value

# Inches.
_SIDE = 1.15
_CELL = 1.25 * _SIDE + 0.1
_CURVE = 1.0
_COLUMNS, _ROWS = 8, 2
_TOP = MARGIN + 0.65
_NOTES = (
    "Presence: the self-weighted mean of the concept map M, sum(M²) / sum(M): 0 for an empty "
    "map, 1 where it responds as the concept's examples do. Maps: black M = 0, light yellow M = 1."
)


class _Band(NamedTuple):
    """A row of images with their maps."""

    images: Sequence[RankedPicture]
    text: str


@own_style()
def plot_ranking(ranking: RankedImages, figure: Figure) -> Figure:
    """Draw a ranking.

    Args:
        ranking: The images in order.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    bands = _bands(ranking)
    width = 2 * MARGIN + _COLUMNS * _CELL
    first = _TOP + _CURVE + 0.55
    band = 2 * (_SIDE + 0.08) + 3 * LINE_HEIGHT + 0.1
    notes = [_NOTES, *filter(None, [ranking.caution]), *ranking.provenance.picture_notes]
    names = [ranking.concept, ranking.place, *(one.image for b in bands for one in b.images)]
    page = Page(figure, width, first + len(bands) * band, notes, names)
    page.title(f"Images by presence of “{ranking.concept}”: {ranking.place}", ranking.described)
    _draw_curve(page, ranking)
    for k, (images, text) in enumerate(bands):
        top = first + k * band
        page.text(MARGIN, top, text, color=MUTED)
        for i, one in enumerate(images):
            _draw_image(page, one, MARGIN + i * _CELL, top + LINE_HEIGHT)
    return figure


def _bands(ranking: RankedImages) -> list[_Band]:
    """Return the first images, and some between with the last ones."""
    shown = list(ranking.shown)
    if len(shown) <= _COLUMNS:
        return [_Band(shown, "in order")] if shown else []
    lead, rest = shown[:_COLUMNS], shown[_COLUMNS:]
    if len(rest) > _COLUMNS:
        few = _COLUMNS // 2
        between = shown[max(len(shown) // 2, _COLUMNS) : -few]
        rest = [between[(i + 1) * len(between) // (few + 1)] for i in range(few)] + shown[-few:]
    return [_Band(lead, "the first"), _Band(rest, "spread over the rest, and the last")]


def _draw_curve(page: Page, ranking: RankedImages) -> None:
    """Draw presence over the position in the order."""
    presence = ranking.table["presence"].dropna().to_numpy()
    axes = page.axes(MARGIN + 0.35, _TOP, page.inner - 0.35, _CURVE, "curve")
    n = len(presence)
    axes.set(xlim=(0.5, max(n, 2) + 0.5), ylim=(0, 1.02), yticks=[0, 0.5, 1])
    axes.tick_params(axis="y", length=2, width=0.6, pad=2)
    axes.spines["left"].set_visible(True)
    axes.axhline(0.5, color="0.85", linewidth=0.6, zorder=0)
    axes.plot(range(1, n + 1), presence, color=BLUE, linewidth=1.2, drawstyle="steps-mid")
    show_axis(axes, sorted({1, max(1, n // 4), max(1, n // 2), max(1, 3 * n // 4), n}))
    page.text(
        page.width - MARGIN, _TOP, "presence by position in the order", color=MUTED, ha="right"
    )


def _draw_image(page: Page, one: RankedPicture, left: float, top: float) -> None:
    """Draw an image, its map below, and its number."""
    overlay = Overlay(one.picture, one.box)
    size = overlay.fitted(1.25 * _SIDE, _SIDE)
    label = f"{one.position}"
    overlay.show_picture(page.axes(left, top, *size, f"picture {label}"))
    below = top + _SIDE + 0.08
    overlay = Overlay.for_maps(one.picture, one.box)
    size = overlay.fitted(1.25 * _SIDE, _SIDE)
    overlay.show_map(page.axes(left, below, *size, f"map {label}"), one.concept_map, smooth=False)
    text = [f"{label}: {value(one.presence)}", shorten(basename(one.image), _CELL - 0.1)]
    page.text(left, below + _SIDE + 0.04, text)
