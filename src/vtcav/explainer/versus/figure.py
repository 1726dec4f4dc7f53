"""The figure of two networks: differences with intervals, and images with the maps of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vtcav.images.input_box import Shares
from vtcav.results.figures.lettering import LINE_HEIGHT, basename, row_labels, shorten
from vtcav.results.figures.overlay import Overlay
from vtcav.results.figures.page import MARGIN, Page, nice_limit, own_style, show_axis
from vtcav.results.figures.palette import BLUE, MUTED
from vtcav.results.words import SIGNIFICANT, equal_or_less, value

# Inches.
_NAMES, _BARS, _NUMBERS = 4.4, 3.0, 1.7
_ROW = 0.24
_SIDE, _GAP = 0.95, 0.03
_CELL = 3 * _SIDE + 2 * _GAP + 0.12
_TOP = MARGIN + 0.65
_MOST = 20
_NOTE = (
    "Difference: b - a, over the same images; line: 95 % interval; grey: what counts as none. "
    "Filled: q ≤ 0.05 over the whole table. Grey point: says nothing of the concept, as the column "
    "doubt tells. Attribution: share of the class's score; share: what "
    "erasing the concept takes of the logit, own share: its own part of regions. "
    "Maps: black M = 0, light yellow M = 1."
)


class _Shown(Protocol):
    """An image with two maps, as `vtcav.explainer.versus.result.SideBySide` is."""

    @property
    def class_name(self) -> str: ...
    @property
    def concept(self) -> str: ...
    @property
    def image(self) -> str: ...
    @property
    def layer_a(self) -> str: ...
    @property
    def layer_b(self) -> str: ...
    @property
    def picture(self) -> NDArray[np.uint8]: ...
    @property
    def box(self) -> Shares: ...
    @property
    def map_a(self) -> NDArray[np.float32]: ...
    @property
    def map_b(self) -> NDArray[np.float32]: ...


class _Versus(Protocol):
    """A comparison, as `vtcav.explainer.versus.result.Versus` is."""

    @property
    def described(self) -> str: ...
    @property
    def margin(self) -> float: ...
    @property
    def differences(self) -> pd.DataFrame: ...
    @property
    def shown(self) -> Sequence[_Shown]: ...


@own_style()
def plot_versus(versus: _Versus, figure: Figure) -> Figure:
    """Draw a comparison of two networks.

    Args:
        versus: The comparison.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    table = versus.differences
    rows = table[table["q_value"].notna()].head(_MOST).to_dict("records")
    groups = [list(group) for _, group in groupby(versus.shown, _group)]
    width = 2 * MARGIN + _NAMES + _BARS + _NUMBERS
    first = _TOP + (len(rows) + 3) * _ROW
    band = _SIDE + 3 * LINE_HEIGHT + 0.15
    names = [str(name) for row in rows for name in (row["concept"], row["class_name"])]
    page = Page(figure, width, first + len(groups) * band, [_NOTE], names)
    page.title("Two networks", versus.described)
    if rows:
        _draw_rows(page, rows, versus.margin)
    else:
        page.text(MARGIN, _TOP, "Nothing could be compared.")
    for k, group in enumerate(groups):
        _draw_group(page, group, first + k * band)
    return figure


def _group(one: _Shown) -> tuple[str, ...]:
    return one.class_name, one.concept, one.layer_a, one.layer_b


def _named(row: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the parts of a row's label."""
    layers = dict.fromkeys((str(row["layer_a"]), str(row["layer_b"])))
    parts = "“", str(row["concept"]), "” in ", str(row["class_name"])
    return *parts, f", {row['quantity']}, ", ", ".join(layers)


def _draw_rows(page: Page, rows: Sequence[Mapping[Any, Any]], margin: float) -> None:
    """Draw a point with its interval for every row."""
    ends = [abs(row[name]) for row in rows for name in ("low", "high")]
    most = max(margin, *ends)
    most = nice_limit(most) if most < 1 else math.ceil(10 * most) / 10
    axes = page.axes(MARGIN + _NAMES, _TOP, _BARS, len(rows) * _ROW, "differences")
    axes.set(xlim=(-most, most), ylim=(len(rows), 0))
    axes.axvspan(-margin, margin, color="0.93", zorder=0)
    axes.axvline(0, color="0.8", linewidth=0.6, zorder=0)
    names = row_labels([_named(row) for row in rows], _NAMES - 0.1, bold=True)
    for i, row in enumerate(rows):
        colour = MUTED if row["doubt"] else BLUE
        sure = row["q_value"] <= SIGNIFICANT and not row["doubt"]
        axes.plot([row["low"], row["high"]], [i + 0.5] * 2, color=colour, linewidth=1.2)
        look: dict[str, Any] = {"markersize": 4, "clip_on": False}
        look |= {"markerfacecolor": BLUE if sure else "white"}
        axes.plot([row["difference"]], [i + 0.5], "o", color=colour, **look)
        middle = _TOP + (i + 0.5) * _ROW
        page.text(MARGIN, middle, names[i], centred=True, weight="bold" if sure else "normal")
        text = f"{value(row['difference'])}   q {equal_or_less(row['q_value'])}"
        text = f"{value(row['difference'])}   cannot be told" if row["doubt"] else text
        page.text(MARGIN + _NAMES + _BARS + 0.15, middle, text, centred=True)
    show_axis(axes, [-most, 0, most])
    below = _TOP + len(rows) * _ROW + 0.3
    page.text(MARGIN + _NAMES, below, "less in b", color=MUTED)
    page.text(MARGIN + _NAMES + _BARS, below, "more in b", color=MUTED, ha="right")


def _draw_group(page: Page, group: Sequence[_Shown], top: float) -> None:
    """Draw the images of a difference: the picture, the map of a, the map of b."""
    one = group[0]
    text = f"“{one.concept}” in {one.class_name}: picture, {one.layer_a} of a, {one.layer_b} of b"
    page.text(MARGIN, top, shorten(text, page.inner), color=MUTED)
    for i, each in enumerate(group):
        left = MARGIN + i * _CELL
        overlay = Overlay(each.picture, each.box)
        head, step = top + LINE_HEIGHT, _SIDE + _GAP
        overlay.show_picture(page.axes(left, head, *overlay.fitted(_SIDE, _SIDE)))
        overlay = Overlay.for_maps(each.picture, each.box)
        size = overlay.fitted(_SIDE, _SIDE)
        for j, M in enumerate((each.map_a, each.map_b), 1):
            overlay.show_map(page.axes(left + j * step, head, *size), M, smooth=False)
        name = shorten(basename(each.image), _CELL - 0.1)
        page.text(left, head + _SIDE + 0.04, name)
