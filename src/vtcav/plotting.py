"""Figures of explanations, to be understood without a manual.

The picture lies in grey under every concept map, and the map covers exactly the part of it that
the network saw. Colours are one scale from 0 to 1, never stretched to a map's own maximum, and no
statement rests on colour alone: numbers, names and positions say the same.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from vtcav.plotting_global import plot_global
from vtcav.plotting_page import (
    LINE,
    MUTED,
    SMALL,
    Page,
    basename,
    labels,
    nice_limit,
    number,
    own_style,
    shorten,
    show_thumbnails,
    text_width,
    wrap,
)

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.explanation import LocalExplanation

__all__ = ["new_figure", "plot_global", "plot_local", "save_figure"]

DPI = 150
MAX_PIXELS = 30_000  # a side; Agg draws at most 65536

# Inches.
_MARGIN = 0.25
_GAP = 0.22
_CONCEPT = 1.5
_NARROWEST = 1.5
_BAR = 0.155
_LINE = SMALL * LINE / 72

_PICTURE_PIXELS = 512
_GREY = 0.2, 0.75
_OPACITY = 0.6
# Okabe and Ito's colours, which people with any colour vision can tell apart, less the yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_PREDICTIONS = 3


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


def plot_local(
    explanation: LocalExplanation, figure: Figure, *, smooth: bool = False
) -> Figure:
    """Draw an explanation of one image: a row per concept, a column per layer.

    Args:
        explanation: What to draw.
        figure: Emptied and sized to fit.
        smooth: Interpolate between the cells of the maps, and say so. Off, every cell shows.

    Returns:
        The figure.
    """
    with own_style():
        _Local(explanation, figure, smooth).draw()
    return figure


# -- the concept map's colours ----------------------------------------------------------------


def _map_colours() -> ListedColormap:
    """Return the colours of M.

    The same opacity everywhere, so that over any one grey the lightness grows with M; inferno
    begins black, so that M = 0 looks like the picture in the shade, not like a finding.
    """
    colours = matplotlib.colormaps["inferno"](np.linspace(0, 1, 256))
    colours[:, 3] = _OPACITY
    return ListedColormap(colours, name="concept map")


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture in greys of low contrast, which leave the colours over it readable."""
    low, high = _GREY
    luma = picture @ np.array([0.299, 0.587, 0.114]) / 255
    grey = np.rint((low + (high - low) * luma) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    image.thumbnail((_PICTURE_PIXELS, _PICTURE_PIXELS))
    return np.asarray(image)


# -- one image --------------------------------------------------------------------------------


class _Window(NamedTuple):
    """A rectangle in shares of the picture's sides, which the axes of pictures count in."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top: as matplotlib's `imshow` takes it."""
        return self.left, self.right, self.bottom, self.top


class _Class(NamedTuple):
    """A class that is explained, and how it is marked."""

    index: int
    name: str
    colour: str


class _Local:
    """The drawing of a local explanation: its parts, their sizes in inches, and their places."""

    def __init__(self, explanation: LocalExplanation, smooth: bool) -> None:
        self.explanation = explanation
        self.smooth = smooth
        table = explanation.attributions
        self.cells = dict(list(table.groupby(["layer", "concept"], sort=False)))
        self.classes = [
            _Class(int(index), str(name), _COLOURS[i % len(_COLOURS)])
            for i, (index, name) in enumerate(
                table.drop_duplicates("class_index")[["class_index", "class_name"]].to_numpy()
            )
        ]
        self.marks = _marks(table["note"])
        self.has_errors = bool(np.isfinite(table["error"]).any())
        self.limit = nice_limit(float((table["attribution"] + table["error"].fillna(0)).max()))
        texts = {self._number(row) for row in table.itertuples()}
        self.numbers = max(map(text_width, texts)) + 0.08

        self.box = _Window(*explanation.box)
        self.picture = _small(explanation.picture)
        self.grey = _grey(self.picture)
        # Cells on padding count in the attributions, so they are shown beside the picture.
        self.window = _Window(
            *np.minimum(self.box[:2], 0).tolist(), *np.maximum(self.box[2:], 1).tolist()
        )
        self.framed = not np.allclose(self.box, (0, 0, 1, 1), atol=1e-6)
        self.padded = not np.allclose(self.window, (0, 0, 1, 1), atol=1e-6)
        self.view = self._view()
        self.cell = max(self.view[0], _NARROWEST, self.numbers + 0.8)
        self.bars = len(self.classes) * _BAR
        self.row = self.view[1] + _LINE * 1.5 + self.bars + 0.25

    def _view(self) -> tuple[float, float]:
        """Return the width and height of a picture: smaller where there are many."""
        high, wide = self.explanation.picture.shape[:2]
        wide = (self.window.right - self.window.left) * wide
        high = (self.window.bottom - self.window.top) * high
        side = 1.9 if len(self.explanation.concepts) <= 8 else 1.4
        side = min(side, 1.6) if len(self.explanation.layers) > 4 else side
        scale = min(1.25 * side / wide, side / high)
        return wide * scale, high * scale

    def _column(self, k: int) -> float:
        """Return where column k begins: 0 the picture, then the layers."""
        return _MARGIN + _CONCEPT + _GAP + k * (self.cell + _GAP)

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        explanation = self.explanation
        width = self._column(len(explanation.layers)) + self.cell + _MARGIN
        footer = [line for text in self._footer() for line in wrap(text, width - 2 * _MARGIN)]
        predictions = self._predictions()
        heads = {
            layer: wrap(layer, self.cell, 8, most=2, bold=True) for layer in explanation.layers
        }
        top = _MARGIN + 0.35 + max(0.75, (len(predictions) + 1) * _BAR) + 0.2
        first = top + 3 * _LINE * 8 / 7 + 0.05
        end = first + len(explanation.concepts) * self.row
        page = Page(figure, width, end + (len(footer) + 0.5) * _LINE + _MARGIN)
        name = shorten(basename(explanation.image), width - 2 * _MARGIN, 11, bold=True)
        page.text(_MARGIN, _MARGIN, name, 11, weight="bold")
        self._draw_predictions(page, predictions)
        self._draw_scale(page)
        self._draw_heads(page, first, heads)
        for k, concept in enumerate(explanation.concepts):
            page.rule(first + k * self.row, _MARGIN, width - _MARGIN)
            self._draw_row(page, first + k * self.row + 0.1, concept)
        page.rule(end, _MARGIN, width - _MARGIN)
        page.text(_MARGIN, end + _LINE / 2, "\n".join(footer), color=MUTED)

    # -- above the rows

    def _predictions(self) -> list[tuple[str, float, str]]:
        """Return name, probability and colour of the top classes and those explained."""
        colours = {c.index: c.colour for c in self.classes}
        table = self.explanation.predictions
        chosen = table[(np.arange(len(table)) < _PREDICTIONS) | table["class_index"].isin(colours)]
        names = labels(chosen["class_name"], chosen["class_index"], self._column(0))
        return [
            (name, float(probability), colours.get(index, ""))
            for name, index, probability in zip(
                names, chosen["class_index"], chosen["probability"], strict=True
            )
        ]

    def _draw_predictions(self, page: Page, predictions: list[tuple[str, float, str]]) -> None:
        """Draw the probabilities, and beside them the colours of the classes."""
        top = _MARGIN + 0.35
        page.text(_MARGIN, top, "what the network predicts (probability)", color=MUTED)
        left = _MARGIN + 0.15
        width = self._column(1) - _GAP - left
        axes = page.axes(left, top + _BAR, width, len(predictions) * _BAR, "predictions")
        axes.set(xlim=(0, width), ylim=(len(predictions) - 0.5, -0.5))
        start = _CONCEPT + _GAP
        for k, (name, probability, colour) in enumerate(predictions):
            if colour:
                axes.barh(k, 0.09, 0.55, left=-0.15, color=colour, clip_on=False)
            axes.text(0, k, name, va="center_baseline")
            full = width - start - 0.45
            axes.barh(k, full, 0.6, left=start, color="0.93")
            axes.barh(k, full * probability, 0.6, left=start, color=colour or "0.6")
            axes.text(width, k, number(probability), va="center_baseline", ha="right")

    def _draw_scale(self, page: Page) -> None:
        """Draw the one colour bar."""
        left = self._column(1)
        width = min(page.width - _MARGIN - left, 3.0)
        page.text(left, _MARGIN + 0.35, "concept map M", 8, weight="bold")
        axes = page.axes(left, _MARGIN + 0.55, width, 0.13, "scale")
        _show_grey(axes, np.full((1, 1, 3), round(sum(_GREY) / 2 * 255), np.uint8))
        _show_map(axes, np.linspace(0, 1, 256)[None], (0, 1, 1, 0), smooth=False)
        axes.set(xlim=(0, 1), ylim=(1, 0))
        for place, text in ((0, "0\nlike the\nnegatives"), (1, "1\nlike the\nexamples")):
            axes.text(place, 1.3, text, va="top", ha=("left", "right")[place])
        axes.text(0.5, 1.3, "0.5", va="top", ha="center")
