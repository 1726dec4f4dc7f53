"""The figure of a correction: accuracies and effects, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vtcav.explainer.correction.attributions import ALL, WITH, uncancelled
from vtcav.explainer.correction.groups import ACCURACY
from vtcav.results.figures.lettering import row_labels
from vtcav.results.figures.page import MARGIN, Page, own_style, show_axis
from vtcav.results.figures.palette import BLUE, MUTED
from vtcav.results.words import value

# Inches.
_NAMES, _BARS, _NUMBERS = 3.6, 3.2, 1.9
_ROW = 0.24
_TOP = MARGIN + 0.65
_BAND = 0.75
_NOTES = (
    "Effect: how far the logit of the true class falls when the concept's region is erased from "
    "the picture, the same region before and after, or its own part where the rest is mostly "
    "another concept's. A network may have other ways to the same information: what is left of the "
    "effect tells."
)
_SHARES = (
    "Attribution: of the concept to the true class, with the same CAVs, in images that show what "
    "is taken out and whose class both networks raise above zero feature maps."
)
_MOST = 24  # rows of a band, beyond which it is not read
_FEW = "Of {0} rows of {2} the {1} that change most; the table has all."


_Parts: TypeAlias = tuple[str, ...]  # of a row's label


class _Report(Protocol):
    """A report, as `vtcav.explainer.correction.report.CorrectionReport` is."""

    @property
    def described(self) -> str: ...

    @property
    def accuracy(self) -> pd.DataFrame: ...

    @property
    def effects(self) -> pd.DataFrame: ...

    @property
    def attributions(self) -> pd.DataFrame: ...

    def by_group(self) -> pd.DataFrame: ...


@own_style()
def plot_correction(report: _Report, figure: Figure) -> Figure:
    """Draw a report on a correction.

    Args:
        report: The report.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    bands: list[tuple[str, list[_Parts], list[dict[Any, Any]]]] = []
    notes: list[str] = []
    for what, read, row_name, table in (
        ("accuracy", _NOTES, _of_class, _accuracies(report.accuracy)),
        ("accuracy", "", _of_group, _by_group(report.by_group())),
        ("effect (logits)", "", _of_concept, uncancelled(report.effects)),
        ("attribution", _SHARES, _at_layer, _shares(report.attributions)),
    ):
        rows, few = _most(table, what)
        if rows:
            bands.append((what, [row_name(row) for row in rows], rows))
            notes += filter(None, [read, few])
    width = 2 * MARGIN + _NAMES + _BARS + _NUMBERS
    height = _TOP + sum(len(rows) * _ROW + _BAND for _, _, rows in bands) + 0.2
    names = [part for _, texts, _ in bands for parts in texts for part in parts]
    page = Page(figure, width, height, notes, names)
    page.title("The network before and after its correction", report.described)
    top = _TOP + 0.25
    if bands:
        page.legend([_mark("white", "before"), _mark(BLUE, "after")], MARGIN + 0.6)
    else:
        page.text(MARGIN, top, "Nothing was measured: no labelled images were given.")
    for what, texts, rows in bands:
        _draw(page, what, texts, rows, top)
        top += len(rows) * _ROW + _BAND
    return figure


def _accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies to be drawn: of a class both parts, or the one that it has."""
    return table[(table["class_name"] == "") | (table["shown"] != ALL)]


def _by_group(table: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of each group, to be drawn as that of a class is."""
    return table[table["quantity"] == ACCURACY].assign(class_name=table["group"])


def _shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return attributions to be drawn: over all classes, where there is one before or after."""
    own = table[(table["class_name"] == "") & (table["shown"] == WITH)]
    return own[(own["before"] > 0) | (own["after"] > 0)]


def _most(table: pd.DataFrame, what: str) -> tuple[list[dict[Any, Any]], str]:
    """Return the rows that change most, in order, and how many more there are in words."""
    own = table[table["n"] > 0]
    # rows over all classes come first among equals, and before all others where there are classes
    pooled = own["class_name"] == ""
    order = own["change"].abs().where(~pooled, float("inf"))
    if pooled.all():
        order = own["change"].abs()
    most = order.sort_values(ascending=False, kind="stable").index[:_MOST]
    few = _FEW.format(len(own), _MOST, what) if len(own) > _MOST else ""
    return own.loc[sorted(most)].to_dict("records"), few


def _at_layer(row: dict[Any, Any]) -> _Parts:
    return "“", str(row["concept"]), "” at layer ", str(row["layer"]), f" (n = {row['n']})"


def _of_class(row: dict[Any, Any]) -> _Parts:
    name = str(row["class_name"] or "all classes")
    return name, ", ", str(row["shown"]), f" (n = {row['n']})"


def _of_group(row: dict[Any, Any]) -> _Parts:
    return "group ", str(row["group"]), f" (n = {row['n']})"


def _of_concept(row: dict[Any, Any]) -> _Parts:
    taken = "taken out" if row["corrected"] else "not taken out"
    name = str(row["class_name"])
    said = "” in " if name else "”"
    return "“", str(row["concept"]), said, name, f", {taken}", f" (n = {row['n']})"


def _mark(face: str, label: str) -> Line2D:
    look: dict[str, Any] = {"color": BLUE, "markerfacecolor": face, "markersize": 4}
    return Line2D([], [], linestyle="none", marker="o", label=label, **look)


def _draw(
    page: Page, what: str, texts: Sequence[_Parts], rows: Sequence[dict[Any, Any]], top: float
) -> None:
    """Draw a band: for every row the values before and after, joined by a line."""
    values = [row[when] for row in rows for when in ("before", "after")]
    ends = min(0.0, *values), max(*values, 1.0 if what == "accuracy" else 1e-9)
    ticks = [tick for tick in MaxNLocator(4).tick_values(*ends) if ends[0] <= tick <= ends[1]]
    axes = page.axes(MARGIN + _NAMES, top, _BARS, len(rows) * _ROW, what)
    axes.set(xlim=ends, ylim=(len(rows), 0))
    names = row_labels(texts, _NAMES - 0.1)
    for i, (text, row) in enumerate(zip(names, rows, strict=True)):
        middle, pair = i + 0.5, (row["before"], row["after"])
        axes.plot(pair, [middle] * 2, color=BLUE, linewidth=1.2)
        for face, x in zip(("white", BLUE), pair, strict=True):
            look: dict[str, Any] = {"markerfacecolor": face, "markersize": 4, "clip_on": False}
            axes.plot([x], [middle], "o", color=BLUE, **look)
        place = top + middle * _ROW
        page.text(MARGIN, place, text, centred=True)
        numbers = f"{value(row['before'])} → {value(row['after'])}"
        page.text(MARGIN + _NAMES + _BARS + 0.15, place, numbers, centred=True)
    show_axis(axes, ticks)
    page.text(MARGIN + _NAMES, top + len(rows) * _ROW + 0.3, what, color=MUTED)
