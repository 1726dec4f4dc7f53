"""The figure of a correction: accuracies and effects, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vtcav.explainer.correction.attributions import WITH
from vtcav.results.figures.lettering import shorten
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
    "the picture, the same region before and after. A network may have other ways to the same "
    "information: what is left of the effect tells."
)
_SHARES = (
    "Attribution: of the concept to the true class, with the same CAVs, in images that show what "
    "is taken out and whose class both networks raise above zero feature maps."
)
_MOST = 24  # attributions, beyond which a figure is not read


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


@own_style()
def plot_correction(report: _Report, figure: Figure) -> Figure:
    """Draw a report on a correction.

    Args:
        report: The report.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    accuracy, effects = _measured(report.accuracy), _measured(report.effects)
    shares, notes = _attributed(report.attributions)
    # of a class both parts, or the one that it has
    accuracy = [row for row in accuracy if not row["class_name"] or row["shown"] != "all"]
    bands = [
        ("accuracy", [_of_class(row) for row in accuracy], accuracy),
        ("effect (logits)", [_of_concept(row) for row in effects], effects),
        ("attribution", [_at_layer(row) for row in shares], shares),
    ]
    bands = [band for band in bands if band[2]]
    width = 2 * MARGIN + _NAMES + _BARS + _NUMBERS
    height = _TOP + sum(len(rows) * _ROW + _BAND for _, _, rows in bands) + 0.2
    names = [name for _, texts, _ in bands for name in texts]
    page = Page(figure, width, height, [_NOTES, *notes] if bands else [], names)
    page.title("The network before and after its correction", report.described)
    top = _TOP + 0.25
    if bands:
        page.legend([_mark("white", "before"), _mark(BLUE, "after")], MARGIN + 0.45)
    else:
        page.text(MARGIN, top, "Nothing was measured: no labelled images were given.")
    for what, texts, rows in bands:
        _draw(page, what, texts, rows, top)
        top += len(rows) * _ROW + _BAND
    return figure


def _measured(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table[table["n"] > 0].to_dict("records")


def _attributed(table: pd.DataFrame) -> tuple[list[dict[Any, Any]], list[str]]:
    """Return the attributions to be drawn, and how to read them."""
    own = table[(table["shown"] == WITH) & ((table["before"] > 0) | (table["after"] > 0))]
    most = own["change"].abs().sort_values(ascending=False, kind="stable").index[:_MOST]
    few = f" The {_MOST} of {len(own)} that change most; the table has all." * (len(own) > _MOST)
    rows = own.loc[sorted(most)].to_dict("records")
    return rows, [_SHARES + few] if rows else []


def _at_layer(row: dict[Any, Any]) -> str:
    return f"“{row['concept']}” at {row['layer']} (n = {row['n']})"


def _of_class(row: dict[Any, Any]) -> str:
    return f"{row['class_name'] or 'all classes'}, {row['shown']} (n = {row['n']})"


def _of_concept(row: dict[Any, Any]) -> str:
    taken = "taken out" if row["corrected"] else "not taken out"
    return f"“{row['concept']}”, {taken} (n = {row['n']})"


def _mark(face: str, label: str) -> Line2D:
    look: dict[str, Any] = {"color": BLUE, "markerfacecolor": face, "markersize": 4}
    return Line2D([], [], linestyle="none", marker="o", label=label, **look)


def _draw(
    page: Page, what: str, texts: Sequence[str], rows: Sequence[dict[Any, Any]], top: float
) -> None:
    """Draw a band: for every row the values before and after, joined by a line."""
    values = [row[when] for row in rows for when in ("before", "after")]
    ends = min(0.0, *values), max(*values, 1.0 if what == "accuracy" else 1e-9)
    ticks = [tick for tick in MaxNLocator(4).tick_values(*ends) if ends[0] <= tick <= ends[1]]
    axes = page.axes(MARGIN + _NAMES, top, _BARS, len(rows) * _ROW, what)
    axes.set(xlim=ends, ylim=(len(rows), 0))
    for i, (text, row) in enumerate(zip(texts, rows, strict=True)):
        middle, pair = i + 0.5, (row["before"], row["after"])
        axes.plot(pair, [middle] * 2, color=BLUE, linewidth=1.2)
        for face, x in zip(("white", BLUE), pair, strict=True):
            look: dict[str, Any] = {"markerfacecolor": face, "markersize": 4, "clip_on": False}
            axes.plot([x], [middle], "o", color=BLUE, **look)
        place = top + middle * _ROW
        page.text(MARGIN, place, shorten(text, _NAMES - 0.1), centred=True)
        text = f"{value(row['before'])} → {value(row['after'])}"
        page.text(MARGIN + _NAMES + _BARS + 0.15, place, text, centred=True)
    show_axis(axes, ticks)
    page.text(MARGIN + _NAMES, top + len(rows) * _ROW + 0.3, what, color=MUTED)
