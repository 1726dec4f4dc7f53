"""Concept maps over their picture: position, colours, and the part that the network did not see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from vtcav.results.figures.page import cross_out
from vtcav.results.figures.palette import ORANGE

_GREY = 0.25, 0.65
_MIDDLE_GREY = str(sum(_GREY) / 2)
_OPACITY = 0.58, 0.78
_PICTURE_PIXELS = 512
_OUTLINE = ORANGE
_LITTLE = 0.5
"""The share of a picture below which maps are cropped to what the network saw of it."""

# Inches.
_SMALLEST_INPUT = 0.8
_LONGEST = 3.6


class _Window(NamedTuple):
    """A rectangle in shares of the picture's sides, the coordinates of all axes with pictures."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top: as matplotlib's `imshow` takes it."""
        return self.left, self.right, self.bottom, self.top

    @property
    def area(self) -> float:
        """Its share of the picture."""
        return (self.right - self.left) * (self.bottom - self.top)

    def sides(self, picture: NDArray[np.uint8]) -> tuple[float, float]:
        """Return its width and height in pixels."""
        high, wide = picture.shape[:2]
        return (self.right - self.left) * wide, (self.bottom - self.top) * high


_WHOLE = _Window(0.0, 0.0, 1.0, 1.0)


class Overlay:
    """A picture, and the rectangle that a network's input, and so every map, covers on it.

    Args:
        picture: uint8 [H, W, 3].
        box: Left, top, right and bottom of the network's input as shares of the picture's sides.
        cropped: Whether only the network's input is shown.

    Attributes:
        framed: Whether the network's input is not exactly what is shown.
        shows_little: Whether the network saw so little of the picture that maps are cropped to it.
        padded: Whether it has a margin around the picture.
    """

    def __init__(
        self, picture: NDArray[np.uint8], box: Sequence[float], *, cropped: bool = False
    ) -> None:
        self._box = _Window(*box)
        left, top, right, bottom = self._box
        # Cells on padding count in the attributions, so that they are shown, beside the picture.
        self._window = _Window(min(left, 0.0), min(top, 0.0), max(right, 1.0), max(bottom, 1.0))
        self.padded = not np.allclose(self._window, _WHOLE, atol=1e-6)
        self.shows_little = self._box.area / self._window.area < _LITTLE
        self.framed = not cropped and not np.allclose(self._box, _WHOLE, atol=1e-6)
        self._sides = self._window.sides(picture)
        self._inner = self._box.sides(picture)
        self._covered = _WHOLE
        if cropped:
            self._window, self._sides = self._box, self._inner
            picture, self._covered = _cut(picture, self._box)
        self._picture = _small(picture)
        self._grey = _grey(self._picture)

    @classmethod
    def for_maps(cls, picture: NDArray[np.uint8], box: Sequence[float]) -> Overlay:
        """Return the picture for maps: cropped where the network saw little of it."""
        whole = cls(picture, box)
        return cls(picture, box, cropped=True) if whole.shows_little else whole

    def size(self, side: float) -> tuple[float, float]:
        """Return the width and height in inches that the picture is drawn in.

        Args:
            side: The height to aim at; the width may be a quarter more.
        """
        wide, high = self._sides
        scale = min(1.25 * side / wide, side / high)
        # A crop of a long picture is a small part of it, and its cells must still be visible.
        smallest = _SMALLEST_INPUT / min(self._inner)
        scale = max(scale, min(smallest, _LONGEST / max(wide, high)))
        return wide * scale, high * scale

    def fitted(self, width: float, height: float) -> tuple[float, float]:
        """Return the width and height that the picture has in so much room, in inches."""
        wide, high = self._sides
        scale = min(width / wide, height / high)
        return wide * scale, high * scale

    def show_picture(self, axes: Axes, region: NDArray[np.bool_] | None = None) -> None:
        """Draw the picture in its colours, and the outline of a region of the input [H, W]."""
        axes.set_facecolor("0.9")
        axes.imshow(self._picture, extent=self._covered.extent, aspect="auto")
        self._show_outline(axes, region)
        self._finish(axes)

    def _show_outline(
        self, axes: Axes, region: NDArray[np.bool_] | None, widths: tuple[float, float] = (2.4, 1.2)
    ) -> None:
        if region is None or not region.any():
            return
        left, top, right, bottom = self._box
        # a pixel more on every side, so that the line closes at the edge of the input
        down, across = ((np.arange(n + 2) - 0.5) / n for n in region.shape)
        x, y = left + across * (right - left), top + down * (bottom - top)
        closed = np.pad(region.astype(float), 1)
        for colour, width in zip(("white", _OUTLINE), widths, strict=True):
            axes.contour(x, y, closed, [0.5], colors=[colour], linewidths=width)

    def show_erased(
        self, axes: Axes, after: NDArray[np.uint8], region: NDArray[np.bool_] | None = None
    ) -> None:
        """Draw the picture with another input of the network in the place of its own.

        Args:
            axes: Where to draw.
            after: The input, uint8 [H, W, 3].
            region: The region [H, W] to outline, in thin lines; None for none.
        """
        axes.set_facecolor("0.9")
        axes.imshow(self._picture, extent=self._covered.extent, aspect="auto")
        axes.imshow(after, extent=self._box.extent, aspect="auto")
        self._show_outline(axes, region, (1.4, 0.7))
        self._finish(axes)

    def show_map(self, axes: Axes, M: NDArray[np.float32], *, smooth: bool) -> None:
        """Draw a concept map [h, w] over the picture in grey."""
        self._show_grey(axes)
        _show_map(axes, M, self._box, smooth=smooth)
        self._finish(axes)

    def show_crossed_out(self, axes: Axes, reason: str) -> None:
        """Cross the picture out where there is nothing to show, and say why."""
        self._show_grey(axes)
        left, top, right, bottom = self._window
        box = left, top, right - left, bottom - top
        cross_out(axes, box, reason, "0.95")
        self._finish(axes)

    def _show_grey(self, axes: Axes) -> None:
        # Padding in the grey under the colour bar, so that colours there compare with it.
        axes.set_facecolor(_MIDDLE_GREY)
        axes.imshow(self._grey, extent=self._covered.extent, aspect="auto")

    def _finish(self, axes: Axes) -> None:
        """Set the limits of the axes, and draw the edge of the network's input."""
        left, right, bottom, top = self._window.extent
        axes.set(xlim=(left, right), ylim=(bottom, top))
        if not self.framed:
            return
        left, right, bottom, top = self._box.extent
        # Black dashes on white: one of the two is visible on any picture.
        for colour, line in (("white", "-"), ("black", (0, (4, 3)))):
            frame = Rectangle((left, top), right - left, bottom - top, fill=False, clip_on=False)
            frame.set(edgecolor=colour, linestyle=line, linewidth=0.9)
            axes.add_patch(frame)


def flat_overlay(
    picture: NDArray[np.uint8], box: Sequence[float], M: NDArray[np.float32], side: int
) -> NDArray[np.uint8]:
    """Return a map over its picture as pixels, in the colours of the figures, without padding.

    Args:
        picture: uint8 [H, W, 3].
        box: Left, top, right and bottom of the network's input as shares of the picture's sides.
        M: The map [h, w] in [0, 1].
        side: Most pixels along the longer edge.
    """
    small = Image.fromarray(picture)
    small.thumbnail((side, side))
    ground = _grey(np.asarray(small)).astype(np.float64) / 255
    high, wide = ground.shape[:2]
    left, top, right, bottom = box
    # the cell of the map under each pixel's centre
    across = ((np.arange(wide) + 0.5) / wide - left) / (right - left) * M.shape[1]
    down = ((np.arange(high) + 0.5) / high - top) / (bottom - top) * M.shape[0]
    columns, rows = np.floor(across).astype(int), np.floor(down).astype(int)
    inside_x = (columns >= 0) & (columns < M.shape[1])
    inside_y = (rows >= 0) & (rows < M.shape[0])
    values = M[np.ix_(rows[inside_y], columns[inside_x])]
    colours = _colours()(np.clip(values, 0, 1))
    opacity = colours[..., 3:]
    covered = np.ix_(inside_y, inside_x)
    ground[covered] = opacity * colours[..., :3] + (1 - opacity) * ground[covered]
    return np.rint(ground * 255).astype(np.uint8)


def outlined(picture: NDArray[np.uint8], region: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a picture [H, W, 3] with the outline of a region [H, W] of it drawn in.

    Example:
        >>> picture, region = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), bool)
        >>> region[3:6, 3:6] = True
        >>> outlined(picture, region)[4, :, 0]
        array([  0,   0, 255, 230,   0, 230, 255,   0,   0], dtype=uint8)
    """
    line = outline(region)
    return np.where(line[..., 3:] > 0, line[..., :3], picture)


def outline(region: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the outline of a region [H, W] on nothing, uint8 [H, W, 4]."""
    width = max(1, round(max(region.shape) / 110))
    inside = region & ~ndimage.binary_erosion(region, iterations=width)
    around = ndimage.binary_dilation(region, iterations=width) & ~region
    line = np.zeros((*region.shape, 4), np.uint8)
    line[around] = 255
    line[inside] = [*(int(_OUTLINE[k : k + 2], 16) for k in (1, 3, 5)), 255]
    return line


def show_scale(axes: Axes) -> None:
    """Draw the colours of M from 0 to 1 over a middle grey of the picture."""
    axes.set_facecolor(_MIDDLE_GREY)
    _show_map(axes, np.linspace(0, 1, 256, dtype=np.float32)[None], _WHOLE, smooth=False)
    axes.set(xlim=(0, 1), ylim=(1, 0))


def _show_map(axes: Axes, M: NDArray[np.float32], box: _Window, *, smooth: bool) -> None:
    axes.imshow(
        M,
        cmap=_colours(),
        vmin=0,
        vmax=1,
        extent=box.extent,
        aspect="auto",
        interpolation="bilinear" if smooth else "nearest",
        interpolation_stage="data",
    )


@cache
def _colours() -> ListedColormap:
    """Return the colours of M.

    Inferno begins black, so that M = 0 looks like the picture in shade and not like a finding.
    The opacity grows so little that over every grey of the picture the lightness grows with M.
    """
    colours = matplotlib.colormaps["inferno"](np.linspace(0, 1, 256))
    colours[:, 3] = np.linspace(*_OPACITY, 256)
    return ListedColormap(colours.tolist(), name="concept map")


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture in greys of low contrast, on which colours can be read."""
    low, high = _GREY
    luma = picture @ np.array([0.299, 0.587, 0.114]) / 255
    grey = np.rint((low + (high - low) * luma) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _cut(picture: NDArray[np.uint8], box: _Window) -> tuple[NDArray[np.uint8], _Window]:
    """Return the pixels of a picture that a box touches, and the rectangle that they cover."""
    high, wide = picture.shape[:2]
    left, right = max(int(box.left * wide), 0), min(math.ceil(box.right * wide - 1e-6), wide)
    top, bottom = max(int(box.top * high), 0), min(math.ceil(box.bottom * high - 1e-6), high)
    covered = _Window(left / wide, top / high, right / wide, bottom / high)
    return picture[top:bottom, left:right], covered


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture with about as many pixels as are drawn."""
    image = Image.fromarray(picture)
    image.thumbnail((_PICTURE_PIXELS, _PICTURE_PIXELS))
    return np.asarray(image)


_HEX_COLOURS = 64


@cache
def hex_colours() -> str:
    """Return the colours of M from 0 to 1, those of the figures: 6 hexadecimal digits each."""
    rgba = matplotlib.colormaps["inferno"](np.linspace(0, 1, _HEX_COLOURS))
    return bytes(np.rint(rgba[:, :3] * 255).astype(np.uint8).ravel()).hex()
