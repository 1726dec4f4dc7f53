"""What figures are drawn on: a page measured in inches, its style and its lettering.

Places are inches from the page's upper left corner, y downwards, because a figure of 20 concepts
must grow and not shrink its text: every part has a size, and the page is as large as their sum.
"""

from __future__ import annotations

import math
import re
import string
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

__all__ = [
    "LINE",
    "MUTED",
    "SMALL",
    "Marks",
    "Page",
    "basename",
    "font_notes",
    "labels",
    "new_figure",
    "nice_limit",
    "number",
    "own_style",
    "save_figure",
    "shorten",
    "show_thumbnails",
    "text_width",
    "wrap",
]

SMALL = 7.0  # points
# In sizes of the letters: the height of a line, of its part above the ground line, of a capital.
LINE = 1.35
_ASCENT = 0.9
_CAPITAL = 0.73
DPI = 150
MAX_PIXELS = 30_000  # a side; Agg draws at most 65536
MUTED = "0.35"

# DejaVu Sans comes with matplotlib; the others are asked for the letters that it lacks.
_FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Micro Hei",
    "Arial Unicode MS",
)
_UNKNOWN = "\u25a1"  # a white square
_STEPS = 1, 1.5, 2, 3, 4, 5, 6, 8, 10
# Letters drawn with hinting come out a little wider than their outlines.
_SLACK = 1.06
# rc parameters are global to the process: two threads that each put back what they found could
# leave the style of one of them behind.
_LOCK = threading.RLock()


@contextmanager
def own_style() -> Iterator[None]:
    """Draw with matplotlib's defaults and this package's lettering, whatever the user has set."""
    ours = {
        "font.family": list(_families()),
        "font.size": SMALL,
        "text.parse_math": False,
        "axes.linewidth": 0.6,
        "hatch.linewidth": 0.5,
    }
    with _LOCK, style.context(["default", ours]):
        yield


@cache
def _families() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(name for name in _FALLBACKS if name in installed))


def new_figure() -> Figure:
    """Return a figure that pyplot knows of, so that `plt.show()` and notebooks show it."""
    import matplotlib.pyplot as plt

    return plt.figure()


def save_figure(draw: Callable[[Figure], Figure], path: Path) -> None:
    """Draw a figure and write it as PNG, without pyplot, a display or the user's style.

    Safe in threads; equal figures give equal bytes. Figures that are very long have fewer pixels
    per inch.

    Args:
        draw: Draws on the empty figure that it is given, and returns it.
        path: The file to write.

    Raises:
        OSError: It cannot be written.
    """
    with own_style():
        figure = Figure()
        FigureCanvasAgg(figure)
        draw(figure)
        dpi = min(DPI, MAX_PIXELS / max(figure.get_size_inches()))
        figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})


# -- text -------------------------------------------------------------------------------------


@cache
def _font(size: float, bold: bool) -> FontProperties:
    return FontProperties(family=list(_families()), size=size, weight="bold" if bold else "normal")


@lru_cache(4096)
def text_width(text: str, size: float = SMALL, *, bold: bool = False) -> float:
    """Return the width of one line of text, in inches."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, _font(size, bold), False)
    return float(width) / 72 * _SLACK


@cache
def _glyph(letter: str) -> str:
    """Return a letter, or what stands for it where no font has it."""
    if not letter.isprintable():
        return " "
    fonts = (font_manager.findfont(FontProperties(family=[name])) for name in _families())
    known = any(font_manager.get_font(font).get_char_index(ord(letter)) for font in fonts)
    return letter if known else _UNKNOWN


def _clean(text: str) -> str:
    """Return a name as one line of letters that can be drawn."""
    return " ".join("".join(map(_glyph, text)).split())


def font_notes(names: Iterable[str]) -> list[str]:
    """Return a footnote where names have letters that cannot be drawn."""
    if all(_UNKNOWN not in _clean(name) for name in names):
        return []
    return [f"{_UNKNOWN} stands for a letter that no font known here has (Noto Sans CJK has most)."]


def shorten(text: str, width: float, size: float = SMALL, *, bold: bool = False) -> str:
    """Return a name that fits into a width in inches, its middle left out where it must be.

    The middle, because names of classes and layers often differ in their last letters.

    Example:
        >>> shorten("block 13", 1), shorten("features.13.block.2.expansion", 1)
        ('block 13', 'features.13…nsion')
    """
    text = _clean(text)
    if text_width(text, size, bold=bold) <= width:
        return text
    fewest, most = 1, len(text) - 1
    while fewest < most:
        kept = (fewest + most + 1) // 2
        if text_width(_cut(text, kept), size, bold=bold) <= width:
            fewest = kept
        else:
            most = kept - 1
    return _cut(text, fewest)


def _cut(text: str, kept: int) -> str:
    end = kept // 3
    return f"{text[: kept - end].rstrip()}…{text[len(text) - end :].lstrip()}"


def wrap(
    text: str, width: float, size: float = SMALL, *, most: int = 99, bold: bool = False
) -> list[str]:
    """Return a text as lines that fit into a width in inches, at most so many of them."""
    pieces = re.split(r"(?<=\s)|(?<=[_/.-])(?=[^\W\d])", _clean(text))
    lines: list[str] = []
    line = ""
    for i, piece in enumerate(pieces):
        if line and text_width((line + piece).rstrip(), size, bold=bold) > width:
            if len(lines) == most - 1:
                line += "".join(pieces[i:])
                break
            lines.append(line)
            line = ""
        line += piece
    return [shorten(line, width, size, bold=bold) for line in (*lines, line)]


def labels(
    names: Sequence[str], numbers: Sequence[int], width: float, size: float = SMALL
) -> list[str]:
    """Return names that fit into a width; those that would look alike begin with their number."""
    short = [shorten(name, width, size) for name in names]
    return [
        label if short.count(label) == 1 else shorten(f"[{n}] {name}", width, size)
        for label, name, n in zip(short, names, numbers, strict=True)
    ]


def basename(name: str) -> str:
    """Return the last part of a path, of any system."""
    return re.split(r"[\\/]", name.rstrip("\\/"))[-1] or name


def number(value: float) -> str:
    """Return a value as figures show it: three decimals, and 0 only for exactly 0.

    Example:
        >>> number(0.1237), number(0.0001), number(0)
        ('0.124', '<0.001', '0')
    """
    if value != 0 and abs(value) < 0.0005:
        return "<0.001" if value > 0 else ">-0.001"
    return f"{value:.3f}" if value else "0"


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


SIGNIFICANT = 0.05
NS_MEANS = (
    "ns: not significant. CAVs of random images of the negatives often get as much (q > 0.05, the "
    "false discovery rate over all values of this figure)."
)


class Marks:
    """The letters that stand for the parts of notes, and the footnotes that explain them.

    What is noted everywhere needs no letter.

    Args:
        notes: Of all values, each of any number of parts, joined by "; ".

    Example:
        >>> marks = Marks(["odd; rough", "rough; thin", "rough"])
        >>> marks.suffix("rough; thin"), marks.legend()
        (' [b]', ['All values: rough', '[a] odd', '[b] thin'])
    """

    def __init__(self, notes: Iterable[str]) -> None:
        split = [_parts(note) for note in notes]
        parts = dict.fromkeys(part for note in split for part in note)
        self._everywhere = [part for part in parts if all(part in note for note in split)]
        marked = [part for part in parts if part not in self._everywhere]
        letters = string.ascii_lowercase
        self._letters = {part: letters[k % 26] * (k // 26 + 1) for k, part in enumerate(marked)}

    def suffix(self, note: str) -> str:
        """Return what follows a number that has this note."""
        marks = sorted(self._letters[part] for part in _parts(note) if part in self._letters)
        return f" [{','.join(marks)}]" if marks else ""

    def legend(self) -> list[str]:
        """Return the footnotes."""
        shared = [f"All values: {part}" for part in self._everywhere]
        return shared + [f"[{mark}] {part}" for part, mark in self._letters.items()]


def _parts(note: str) -> list[str]:
    return [part for part in note.split("; ") if part]


# -- the page ---------------------------------------------------------------------------------


class Page:
    """A figure of a given size in inches, to be filled from its upper left corner.

    Text and bars lie on one canvas, for axes are what takes matplotlib's time.

    Args:
        figure: Emptied and set to the size.
        width: In inches.
        height: In inches.
    """

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        figure.clear()
        figure.set_layout_engine("none")
        figure.set_size_inches(width, height)
        figure.set_facecolor("white")
        self.figure = figure
        self.width = width
        self.height = height
        self._canvas = figure.add_axes((0, 0, 1, 1), label="page", zorder=1)
        self._canvas.set(xlim=(0, width), ylim=(height, 0), navigate=False)
        self._canvas.set_axis_off()

    def axes(self, left: float, top: float, width: float, height: float, label: str = "") -> Axes:
        """Add axes without ticks and frame; the label is for those who look for them."""
        place = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        axes = self.figure.add_axes(place, label=label)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def text(
        self,
        left: float,
        top: float,
        text: str,
        size: float = SMALL,
        *,
        centred: bool = False,
        **look: Any,
    ) -> None:
        """Write lines of text from `top` downwards, or centred around it.

        Args:
            left: In inches, as is `top`; what is there depends on the alignment `ha`.
            top: The upper edge of the first line, or the middle of all lines.
            text: Lines.
            size: Of the letters, in points.
            centred: Whether `top` is the middle.
            look: Keywords of matplotlib's `Text`.
        """
        step = size * LINE / 72
        lines = text.split("\n")
        ground = top + _ASCENT * size / 72
        if centred:
            ground = top + _CAPITAL / 2 * size / 72 - (len(lines) - 1) * step / 2
        # Line by line on their ground lines: matplotlib measures what is written, so that lines
        # with and without descenders would stand unevenly.
        for k, line in enumerate(lines):
            self._canvas.text(
                left, ground + k * step, line, fontsize=size, parse_math=False, **look
            )

    def bar(self, left: float, middle: float, width: float, height: float, **look: Any) -> None:
        """Draw a bar around a height; keywords as of matplotlib's `Rectangle`."""
        bar = Rectangle((left, middle - height / 2), width, height, **{"linewidth": 0, **look})
        self._canvas.add_artist(bar)

    def whisker(self, left: float, right: float, middle: float) -> None:
        """Draw a line with ends."""
        ends = Line2D([left, right], [middle] * 2, color="black", linewidth=0.7)
        ends.set(marker="|", markersize=3.5, markeredgewidth=0.7)
        self._canvas.add_artist(ends)

    def rule(self, top: float, left: float, right: float) -> None:
        """Draw a thin line across the page."""
        self._canvas.add_artist(Line2D([left, right], [top] * 2, color="0.8", linewidth=0.6))


def show_thumbnails(
    page: Page,
    place: tuple[float, float, float, float],
    pictures: NDArray[np.uint8],
    columns: Sequence[int],
    gap: float = 0.05,
) -> None:
    """Draw as many example pictures as fit, in the widest of the column counts that shows most.

    Args:
        page: Where to draw.
        place: Left, top, width and height in inches.
        pictures: uint8 [n, 96, 96, 3].
        columns: Numbers of columns to choose from, the preferred first.
        gap: Between pictures.
    """
    left, top, width, height = place

    def side(count: int) -> float:
        return (width - gap * (count - 1)) / count

    def fitting(count: int) -> int:
        return min(count * int((height + gap) / (side(count) + gap)), len(pictures))

    count = max(columns, key=fitting)
    shown = pictures[: fitting(count)]
    if not len(shown):
        return
    # One image of all, because axes are what takes matplotlib's time.
    rows, pixels = -(-len(shown) // count), pictures.shape[1]
    between = round(pixels * gap / side(count))
    step = pixels + between
    sheet = np.full((rows * step - between, count * step - between, 3), 255, np.uint8)
    for i, picture in enumerate(shown):
        y, x = (step * place for place in divmod(i, count))
        sheet[y : y + pixels, x : x + pixels] = picture
    scale = side(count) / pixels
    axes = page.axes(left, top, sheet.shape[1] * scale, sheet.shape[0] * scale, "examples")
    axes.imshow(sheet, aspect="auto")
