"""The figure of one image: concept maps over the picture, what was measured, attributions.

The picture lies in grey under every concept map, and the map covers exactly the part of it that
the network saw. Colours are one scale from 0 to 1, never stretched to a map's own maximum, and no
statement rests on colour alone: numbers, names and positions say the same. Few concepts get a row
with large maps each; more of them, or many layers, share one page as a table. For the column of a
paper there is a narrow layout.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from vtcav.errors import ExplanationError
from vtcav.results.figures.local.column import LocalColumn
from vtcav.results.figures.local.content import LocalContent
from vtcav.results.figures.local.rows import LocalRows
from vtcav.results.figures.local.table import LocalTable
from vtcav.results.figures.page import new_figure, own_style
from vtcav.results.figures.protocols import ExplainedImage
from vtcav.results.figures.selection import Shown
from vtcav.results.words import clear

_WIDEST, _LONGEST = 15.5, 9.5
"""Inches: rows of a page that is wider or longer are drawn as a table."""

_ALL = Shown()


def plotted(
    explanation: ExplainedImage, shown: Shown, axes: Axes | None, *, smooth: bool, column: bool
) -> Figure:
    """Draw an explanation in a figure of its own, or one concept map in somebody's axes."""
    if axes is None:
        return plot_local(explanation, new_figure(), smooth=smooth, shown=shown, column=column)
    if column:
        raise ExplanationError("ax= takes one concept map; column=True draws a figure of its own")
    return plot_map(explanation, axes, shown, smooth=smooth)


def plot_map(
    explanation: ExplainedImage, axes: Axes, shown: Shown, *, smooth: bool = False
) -> Figure:
    """Draw one concept map over the picture in axes of a figure that is somebody else's.

    Args:
        explanation: The explanation.
        axes: Whose title becomes the concept and the layer.
        shown: One layer and one concept.
        smooth: As for `plot_local`.

    Returns:
        The figure that the axes are in.

    Raises:
        ExplanationError: When more than one map is asked for.
    """
    layer, concept = shown.one_map
    content = LocalContent(explanation, shown, smooth=smooth)
    M, k, name_of_slice = content.strongest(layer, concept)
    cropped = content.overlay(k).shows_little
    overlay = content.overlay(k, cropped=cropped)
    if all(bar.separated for bar in content.bars[layer, concept]):
        overlay.show_map(axes, M, smooth=smooth)
    else:
        overlay.show_crossed_out(axes, "not separated\n(e+ <= e-)")
    wide, high = overlay.size(1.0)
    axes.set(xticks=[], yticks=[], box_aspect=high / wide)
    title = ", ".join(filter(None, (clear(concept), clear(layer), name_of_slice)))
    axes.set_title(title, parse_math=False)
    figure = axes.figure
    while isinstance(figure, SubFigure):
        figure = figure.figure
    return figure


@own_style()
def plot_local(
    explanation: ExplainedImage,
    figure: Figure,
    *,
    smooth: bool = False,
    shown: Shown = _ALL,
    column: bool = False,
) -> Figure:
    """Draw an explanation of one image.

    Args:
        explanation: The explanation.
        figure: Emptied and sized to fit.
        smooth: Interpolate between the cells of the maps, and say so. Off, every cell shows.
        shown: What is drawn of the explanation.
        column: Whether it is drawn for the column of a paper.

    Returns:
        The figure.
    """
    content = LocalContent(explanation, shown, smooth=smooth)
    if column:
        LocalColumn(content).draw(figure)
        return figure
    rows = LocalRows(content)
    # a single concept at a single layer has nothing to share a page with
    one = len(content.concepts) == len(content.layers) == 1
    if one or (rows.width <= _WIDEST and rows.end <= _LONGEST):
        rows.draw(figure)
    else:
        LocalTable(content).draw(figure)
    return figure
