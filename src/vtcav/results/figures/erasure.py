"""The figure of a region erased by hand: the picture with it and without it, and what changes."""

from __future__ import annotations

from matplotlib.figure import Figure

from vtcav.results.figures.lettering import LINE, LINE_HEIGHT, basename, shorten, wrap
from vtcav.results.figures.overlay import Overlay
from vtcav.results.figures.page import MARGIN, Page, own_style
from vtcav.results.figures.palette import MUTED
from vtcav.results.figures.protocols import ErasedRegion
from vtcav.results.words import notes_by_class, picture_name

# Inches.
_SIDE = 2.8
_GAP = 0.25
_NARROWEST = 5.0


@own_style()
def plot_erasure(erasure: ErasedRegion, figure: Figure) -> Figure:
    """Draw a region erased by hand.

    Args:
        erasure: The region and its effects.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    overlay = Overlay(erasure.picture, erasure.box)
    wide, high = overlay.size(_SIDE)
    width = max(2 * MARGIN + 2 * wide + _GAP, _NARROWEST)
    said = [wrap(sentence, width - 2 * MARGIN, 8) for sentence in erasure.sentences()]
    step = 8 * LINE / 72
    first = MARGIN + 0.35 + sum(map(len, said)) * step + 0.05 * len(said) + 0.1
    top = first + LINE_HEIGHT + 0.05
    notes = list(filter(None, notes_by_class(erasure.effects).split("; ")))
    notes.append(
        "The region is filled in from around it, and the network looks again. Judge the fill by "
        "eye: what it leaves, or adds, counts as well."
    )
    notes += erasure.provenance.picture_notes
    image = basename(erasure.image)
    page = Page(figure, width, top + high + 0.15, notes, [image, erasure.region])
    page.title(f"A region of {picture_name(erasure.image)}")
    y = MARGIN + 0.35
    for lines in said:
        page.text(MARGIN, y, lines, 8)
        y += len(lines) * step + 0.05
    second = MARGIN + wide + _GAP
    page.text(MARGIN, first, shorten(f"with it: {basename(erasure.region)}", wide), color=MUTED)
    without = shorten(f"without it: {erasure.erased.change}", page.width - MARGIN - second)
    page.text(second, first, without, color=MUTED)
    overlay.show_picture(page.axes(MARGIN, top, wide, high, "with"), erasure.erased.region)
    overlay.show_erased(page.axes(second, top, wide, high, "without"), erasure.erased.after)
    return figure
