"""The figure of one image: concept maps over the picture, what was measured, attributions.

The picture lies in grey under every concept map, and the map covers exactly the part of it that
the network saw. Colours are one scale from 0 to 1, never stretched to a map's own maximum, and no
statement rests on colour alone: numbers, names and positions say the same. Few concepts get a row
with large maps each; more of them, or many layers, share one page as a table.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from vtcav.results.figures.local_content import LocalContent
from vtcav.results.figures.local_rows import LocalRows
from vtcav.results.figures.local_table import LocalTable
from vtcav.results.figures.page import own_style
from vtcav.results.figures.protocols import ExplainedImage
from vtcav.results.figures.selection import Shown

_WIDEST, _LONGEST = 15.5, 9.5
"""Inches: rows of a page that is wider or longer are drawn as a table."""

_ALL = Shown()


@own_style()
def plot_local(
    explanation: ExplainedImage, figure: Figure, *, smooth: bool = False, shown: Shown = _ALL
) -> Figure:
    """Draw an explanation of one image.

    Args:
        explanation: The explanation.
        figure: Emptied and sized to fit.
        smooth: Interpolate between the cells of the maps, and say so. Off, every cell shows.
        shown: What is drawn of the explanation.

    Returns:
        The figure.
    """
    content = LocalContent(explanation, shown, smooth=smooth)
    rows = LocalRows(content)
    # a single concept at a single layer has nothing to share a page with
    one = len(content.concepts) == len(content.layers) == 1
    if one or (rows.width <= _WIDEST and rows.end <= _LONGEST):
        rows.draw(figure)
    else:
        LocalTable(content).draw(figure)
    return figure
