"""The page that every figure is drawn on: measured in inches, with one margin, one style, one foot.

Positions are inches from the page's upper left corner, y downwards. A figure of 20 concepts must
grow rather than shrink its text, so every part has a size and the page is as large as their sum.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from vtcav.results.figures.lettering import (
    LINE,
    LINE_HEIGHT,
    SMALL,
    font_families,
    font_notes,
    shorten,
    wrap,
)
from vtcav.results.figures.palette import GRID, MUTED

MARGIN = 0.25
"""Inches around every page."""

# In sizes of the letters: the height of a line above its baseline, and of a capital.
_ASCENT = 0.9
_CAPITAL = 0.73
DPI = 150
MAX_PIXELS = 30_000  # a side; Agg draws at most 65536
_STEPS = 1, 1.5, 2, 3, 4, 5, 6, 8, 10
# rc parameters are global to the process: two threads that each restore what they found could
# leave the style of one of them behind.
_LOCK = threading.RLock()


@contextmanager
def own_style() -> Iterator[None]:
    """Draw with matplotlib's defaults and this package's lettering, whatever the user has set."""
    ours = {
        "font.family": list(font_families()),
        "font.size": SMALL,
        "text.parse_math": False,
        "axes.linewidth": 0.6,
        "hatch.linewidth": 0.5,
    }
    with _LOCK, style.context(["default", ours]):
        yield


def new_figure() -> Figure:
    """Return a figure that pyplot knows of, so that `plt.show()` and notebooks show it."""
    import matplotlib.pyplot as plt

    return plt.figure()


def save_figure(draw: Callable[[Figure], Figure], file: Path | IO[bytes], dpi: float = DPI) -> None:
    """Draw a figure and write it as PNG, without pyplot, a display or the user's style.

    Safe in threads; equal figures give equal bytes. Very long figures have fewer pixels per inch.

    Args:
        draw: Draws on an empty figure, and returns it.
        file: The file to write, or one that is open.
        dpi: Pixels per inch, at most.

    Raises:
        OSError: It cannot be written.
    """
    with own_style():
        figure = Figure()
        FigureCanvasAgg(figure)
        draw(figure)
        dpi = min(dpi, MAX_PIXELS / max(figure.get_size_inches()))
        faster = {"compress_level": 3}  # Pillow's own level takes twice as long for 4 % less
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs=faster)


def nice_limit(value: float) -> float:
    """Return the end of an axis from 0: a round number at or above the largest value, at most 1.

    Example:
        >>> nice_limit(0.13), nice_limit(0.0041), nice_limit(0.9), nice_limit(0)
        (0.15, 0.005, 1.0, 1.0)
    """
    if not 1e-9 < value < 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(round(step * power, 12) for step in _STEPS if step * power >= value)


class Page:
    """A figure to be filled from its upper left corner: title, body, a rule, notes at the foot.

    Text and bars lie on one canvas, because axes are what takes matplotlib's time.

    Args:
        figure: Emptied and set to the size.
        width: In inches.
        end: Where the body ends and the notes begin.
        notes: Paragraphs at the foot.
        names: All names shown; letters that no font has are noted at the foot.

    Attributes:
        inner: Width between the margins.
    """

    def __init__(
        self,
        figure: Figure,
        width: float,
        end: float,
        notes: Iterable[str] = (),
        names: Iterable[str] = (),
    ) -> None:
        self.figure = figure
        self.width = width
        self.inner = width - 2 * MARGIN
        foot = [line for note in [*notes, *font_notes(names)] for line in wrap(note, self.inner)]
        self.height = end + (len(foot) + 0.5) * LINE_HEIGHT + MARGIN
        figure.clear()
        figure.set_layout_engine("none")
        figure.set_size_inches(width, self.height)
        figure.set_facecolor("white")
        self._canvas = figure.add_axes((0, 0, 1, 1), label="page", zorder=1)
        self._canvas.set(xlim=(0, width), ylim=(self.height, 0), navigate=False)
        self._canvas.set_axis_off()
        if foot:
            self.rule(end)
        self.text(MARGIN, end + LINE_HEIGHT / 2, foot, color=MUTED)

    def title(self, text: str, below: str = "") -> None:
        """Write the title at the head of the page, and one or two lines below it."""
        title = shorten(text, self.inner, 11, bold=True)
        self.text(MARGIN, MARGIN, title, 11, weight="bold")
        lines = wrap(below, self.inner, most=2) if below else []
        self.text(MARGIN, MARGIN + 0.28, lines, color=MUTED)

    def legend(self, handles: Sequence[Line2D | Patch], top: float) -> None:
        """Draw the legend in one line."""
        self.figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(MARGIN / self.width, 1 - top / self.height),
            ncols=len(handles),
            frameon=False,
            borderpad=0,
            borderaxespad=0,
            handlelength=1.2,
            columnspacing=1.5,
        )

    def axes(self, left: float, top: float, width: float, height: float, label: str = "") -> Axes:
        """Add axes without ticks and frame, under a label by which they can be found."""
        box = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        axes = self.figure.add_axes(box, label=label)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def text(
        self,
        left: float,
        top: float,
        text: str | Sequence[str],
        size: float = SMALL,
        *,
        centred: bool = False,
        **look: Any,
    ) -> None:
        """Write lines of text from `top` downwards, or centred around it.

        Args:
            left: Of the text, or another position along it by the alignment `ha`.
            top: The upper edge of the first line, or the middle of all lines.
            text: A line, or several.
            size: Of the letters, in points.
            centred: Whether `top` is the middle.
            look: Keywords of matplotlib's `Text`.
        """
        step = size * LINE / 72
        lines = [text] if isinstance(text, str) else text
        baseline = top + _ASCENT * size / 72
        if centred:
            baseline = top + _CAPITAL / 2 * size / 72 - (len(lines) - 1) * step / 2
        # Line by line on their baselines: matplotlib measures the ink, so that lines with and
        # without descenders would stand unevenly.
        for k, line in enumerate(lines):
            self._canvas.text(left, baseline + k * step, line, fontsize=size, **look)

    def bar(self, left: float, middle: float, width: float, height: float, **look: Any) -> None:
        """Draw a bar around a height; keywords as of matplotlib's `Rectangle`."""
        bar = Rectangle((left, middle - height / 2), width, height, **{"linewidth": 0, **look})
        self._canvas.add_artist(bar)

    def whisker(self, left: float, right: float, middle: float) -> None:
        """Draw a line with end marks."""
        ends = Line2D([left, right], [middle] * 2, color="black", linewidth=0.7)
        ends.set(marker="|", markersize=3.5, markeredgewidth=0.7)
        self._canvas.add_artist(ends)

    def dot(self, left: float, middle: float) -> None:
        """Draw a small dot."""
        dot = Line2D([left], [middle], marker="o", markersize=1.8, color="black", linewidth=0)
        dot.set_markeredgewidth(0)
        self._canvas.add_artist(dot)

    def dashed(self, left: float, top: float, bottom: float, colour: str) -> None:
        """Draw an upright dashed line."""
        line = Line2D([left] * 2, [top, bottom], color=colour, linewidth=0.9)
        line.set_linestyle((0, (2, 1)))
        self._canvas.add_artist(line)

    def upright(self, left: float, bottom: float, lines: Sequence[str], **look: Any) -> None:
        """Write lines of text from the bottom upwards, one to the right of the other."""
        for k, line in enumerate(lines):
            x = left + _ASCENT * SMALL / 72 + k * LINE_HEIGHT
            look = {"rotation": 90, "rotation_mode": "anchor", "fontsize": SMALL, **look}
            self._canvas.text(x, bottom, line, **look)

    def rule(self, top: float) -> None:
        """Draw a thin line from margin to margin."""
        ends = [MARGIN, self.width - MARGIN]
        self._canvas.add_artist(Line2D(ends, [top] * 2, color="0.8", linewidth=0.6))

    def thumbnails(
        self,
        box: tuple[float, float, float, float],
        pictures: NDArray[np.uint8],
        columns: Sequence[int],
    ) -> None:
        """Draw as many example pictures as fit, in the column count that shows most.

        Args:
            box: Left, top, width and height in inches.
            pictures: uint8 [n, 96, 96, 3].
            columns: Column counts to choose from, the preferred first.
        """
        left, top, width, height = box
        gap = 0.05

        def side(count: int) -> float:
            return (width - gap * (count - 1)) / count

        def fitting(count: int) -> int:
            return min(count * int((height + gap) / (side(count) + gap)), len(pictures))

        count = max(columns, key=fitting)
        shown = pictures[: fitting(count)]
        if not len(shown):
            return
        # one image of all, because axes are what takes matplotlib's time
        rows, pixels = -(-len(shown) // count), pictures.shape[1]
        between = round(pixels * gap / side(count))
        step = pixels + between
        sheet = np.full((rows * step - between, count * step - between, 3), 255, np.uint8)
        for i, picture in enumerate(shown):
            y, x = (step * cell for cell in divmod(i, count))
            sheet[y : y + pixels, x : x + pixels] = picture
        scale = side(count) / pixels
        axes = self.axes(left, top, sheet.shape[1] * scale, sheet.shape[0] * scale, "examples")
        axes.imshow(sheet, aspect="auto")


def show_axis(
    axes: Axes, ticks: Sequence[float], labels: Sequence[str] = (), *, rows: int = 0
) -> None:
    """Draw the axis below a panel.

    Args:
        axes: Of the panel.
        ticks: Where the labels stand.
        labels: None for the numbers themselves.
        rows: Draws a grid: upright lines at the ticks, and one above each of so many rows, which
            lie at 0, 1, ...
    """
    axes.set_xticks(ticks, labels or [f"{tick:g}" for tick in ticks])
    axes.tick_params(axis="x", length=2, width=0.6, pad=2)
    axes.spines["bottom"].set_visible(True)
    for tick in ticks if rows else ():
        axes.axvline(tick, color=GRID, linewidth=0.6, zorder=0)
    for k in range(rows):
        axes.axhline(k - 0.5, color=GRID, linewidth=0.6, zorder=0)


def cross_out(
    axes: Axes, box: tuple[float, float, float, float], text: str, colour: str = "0.6"
) -> None:
    """Hatch a part of a panel that has nothing to show, and say why.

    Args:
        axes: Of the panel.
        box: Left, top, width and height in the coordinates of the axes.
        text: The reason.
        colour: Of the hatching.
    """
    left, top, width, height = box
    hatched = Rectangle((left, top), width, height, fill=False)
    hatched.set(hatch="////", linewidth=0, edgecolor=colour)
    axes.add_patch(hatched)
    white = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    middle = left + width / 2, top + height / 2
    axes.text(*middle, text, ha="center", va="center", bbox=white)
