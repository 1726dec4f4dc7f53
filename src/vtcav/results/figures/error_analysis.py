"""The figure of an analysis of errors: the clearest findings, and wrong images with their maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pandas as pd
from matplotlib.figure import Figure

from vtcav.results.figures.lettering import LINE_HEIGHT, basename, row_labels, shorten
from vtcav.results.figures.overlay import Overlay
from vtcav.results.figures.page import MARGIN, Page, own_style, show_axis
from vtcav.results.figures.palette import BLUE, MUTED
from vtcav.results.figures.protocols import HasNotes, RankedPicture
from vtcav.results.words import SIGNIFICANT, equal_or_less, value

# Inches.
_NAMES = 3.6
_BARS = 3.2
_ROW = 0.24
_SIDE = 1.05
_CELL = 1.25 * _SIDE + 0.1
_COLUMNS = 6
_TOP = MARGIN + 0.65
_MOST = 15
_NOTES = (
    "AUC: the share of pairs of a wrong and a right image in which the wrong one shows the "
    "concept more; line: 95 % interval. Filled: q ≤ 0.05 over the whole table. A concept that goes "
    "with the errors need not cause them: erasing it tells. Maps: black M = 0, light yellow M = 1."
)


class _Group(Protocol):
    """Wrong images of a finding, as `vtcav.results.error_analysis.ErrorImages` is."""

    @property
    def true_class(self) -> str: ...

    @property
    def predicted_class(self) -> str: ...

    @property
    def concept(self) -> str: ...

    @property
    def shown(self) -> Sequence[RankedPicture]: ...


class _Errors(Protocol):
    """An analysis of errors, as `vtcav.results.error_analysis.ErrorAnalysis` is."""

    @property
    def described(self) -> str: ...

    @property
    def provenance(self) -> HasNotes: ...

    @property
    def table(self) -> pd.DataFrame: ...

    @property
    def shown(self) -> Sequence[_Group]: ...


@own_style()
def plot_errors(errors: _Errors, figure: Figure) -> Figure:
    """Draw an analysis of errors.

    Args:
        errors: The analysis.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    table = errors.table
    rows = table[table["auc"].notna()].head(_MOST).to_dict("records")
    width = 2 * MARGIN + max(_NAMES + _BARS + 1.6, _COLUMNS * _CELL)
    first = _TOP + (len(rows) + 2.5) * _ROW
    band = 2 * (_SIDE + 0.08) + 3 * LINE_HEIGHT + 0.1
    names = [str(name) for row in rows for name in (row["concept"], row["true_class"])]
    notes = [_NOTES, *errors.provenance.picture_notes]
    page = Page(figure, width, first + len(errors.shown) * band, notes, names)
    page.title("Concepts that go with wrong predictions", errors.described)
    if rows:
        _draw_rows(page, rows)
    else:
        page.text(MARGIN, _TOP, "Nothing could be compared: too few wrong or right images.")
    for k, group in enumerate(errors.shown):
        top = first + k * band
        shown = [one.presence for one in group.shown]
        end = "least" if shown and shown[0] < shown[-1] else "most"
        text = f"{''.join(_named(_names_in(group)))}: wrong images that show it {end}"
        page.text(MARGIN, top, shorten(text, page.inner), color=MUTED)
        for i, one in enumerate(group.shown[:_COLUMNS]):
            _draw_image(page, one, MARGIN + i * _CELL, top + LINE_HEIGHT)
    return figure


def _names_in(group: _Group) -> dict[str, str]:
    """Return the names in a group of images."""
    names = ("concept", "true_class", "predicted_class")
    return {name: getattr(group, name) for name in names}


def _named(row: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the parts of a row's label."""
    taken = str(row["predicted_class"])
    parts = "“", str(row["concept"]), "” in ", str(row["true_class"])
    return *parts, " → " * bool(taken), taken


def _draw_rows(page: Page, rows: Sequence[Mapping[Any, Any]]) -> None:
    """Draw a point with its interval for every row."""
    axes = page.axes(MARGIN + _NAMES, _TOP, _BARS, len(rows) * _ROW, "rows")
    axes.set(xlim=(0, 1), ylim=(len(rows), 0))
    axes.axvline(0.5, color="0.8", linewidth=0.6, zorder=0)
    names = row_labels([_named(row) for row in rows], _NAMES - 0.1, bold=True)
    for i, row in enumerate(rows):
        sure = row["q_value"] <= SIGNIFICANT
        axes.plot([row["low"], row["high"]], [i + 0.5] * 2, color=BLUE, linewidth=1.2)
        face = BLUE if sure else "white"
        axes.plot(
            [row["auc"]],
            [i + 0.5],
            "o",
            color=BLUE,
            markerfacecolor=face,
            markersize=4,
            clip_on=False,
        )
        middle = _TOP + (i + 0.5) * _ROW
        page.text(MARGIN, middle, names[i], centred=True, weight="bold" if sure else "normal")
        text = f"{value(row['auc'])}   q {equal_or_less(row['q_value'])}"
        page.text(MARGIN + _NAMES + _BARS + 0.15, middle, text, centred=True)
    show_axis(axes, [0, 0.5, 1])
    below = _TOP + len(rows) * _ROW + 0.3
    page.text(MARGIN + _NAMES, below, "less in wrong images", color=MUTED)
    page.text(MARGIN + _NAMES + _BARS, below, "more in wrong images", color=MUTED, ha="right")


def _draw_image(page: Page, one: RankedPicture, left: float, top: float) -> None:
    """Draw an image, and its map below."""
    overlay = Overlay(one.picture, one.box)
    size = overlay.fitted(1.25 * _SIDE, _SIDE)
    overlay.show_picture(page.axes(left, top, *size))
    below = top + _SIDE + 0.08
    overlay = Overlay.for_maps(one.picture, one.box)
    size = overlay.fitted(1.25 * _SIDE, _SIDE)
    overlay.show_map(page.axes(left, below, *size), one.concept_map, smooth=False)
    text = [value(one.presence), shorten(basename(one.image), _CELL - 0.1)]
    page.text(left, below + _SIDE + 0.04, text)
