"""Layout of figures: rows of panels below a title and above footnotes, arranged by matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator

from vtcav.results.figures.lettering import SMALL, font_notes, wrap
from vtcav.results.figures.palette import MUTED

_SIDE = 0.1  # inches around the texts


def frame(
    figure: Figure,
    size: tuple[float, float],
    title: str = "",
    notes: Iterable[str] = (),
    names: Iterable[str] = (),
) -> None:
    """Empty a figure, and give it a size, a title above its panels and notes below.

    Args:
        figure: The figure.
        size: Width and height in inches, without title and notes.
        title: One or two lines.
        notes: Paragraphs at the foot.
        names: All names shown; letters that no font has are noted at the foot.
    """
    width, height = size
    foot = [line for note in [*notes, *font_notes(names)] for line in wrap(note, width - 4 * _SIDE)]
    figure.clear()
    figure.set_layout_engine("constrained")
    figure.set_facecolor("white")
    figure.set_size_inches(width, height + 0.15 * (len(foot) + 2 * bool(title)))
    look = {"x": _SIDE / width, "ha": "left", "size": SMALL}
    if title:
        figure.suptitle(title, **look, weight="bold")
    if foot:
        figure.supxlabel("\n".join(foot), **look, color=MUTED)


def panels(figure: FigureBase, rows: int, columns: int, **options: Any) -> list[list[Axes]]:
    """Return rows of axes with a thin frame on the left and below.

    Args:
        figure: A figure, or a part of one.
        rows: Rows of axes.
        columns: Columns of axes.
        options: Of matplotlib's `subplots`.
    """
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    lines: list[list[Axes]] = grid.tolist()
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=2.5, width=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    return lines
