"""The figure of groups: what concepts count for in each group of a class's images."""

from __future__ import annotations

import math
from typing import Any, Protocol

import pandas as pd
from matplotlib.figure import Figure

from vtcav.results.effect_tables import TOGETHER
from vtcav.results.figures.lettering import LINE_HEIGHT, row_labels, shorten
from vtcav.results.figures.page import MARGIN, Page, own_style, show_axis
from vtcav.results.figures.palette import BLUE, MUTED
from vtcav.results.words import SIGNIFICANT, count, equal_or_less, value

# Inches.
_NAMES, _BARS, _NUMBERS = 3.2, 3.4, 1.5
_ROW = 0.22
_TOP = MARGIN + 0.65
_PANELS, _MOST = 6, 20
_NOTE = (
    "Point: the mean over a group's images; line: 95 % interval of it; upright line: the mean over "
    "all groups. Filled: the groups differ (rank test of Kruskal and Wallis, q ≤ 0.05). "
    "Attribution: share of the class's score; layers together: fall of the logit when the concept "
    "is erased."
)


class _Grouped(Protocol):
    """A class with groups, as `vtcav.results.explanation.GlobalExplanation` is."""

    @property
    def class_name(self) -> str: ...
    def by_group(self) -> pd.DataFrame: ...
    def group_tests(self) -> pd.DataFrame: ...


@own_style()
def plot_groups(explained: _Grouped, figure: Figure) -> Figure:
    """Draw the means of groups, for the concepts that differ most between them.

    Args:
        explained: A class whose images come in groups.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    means, tests = explained.by_group(), explained.group_tests()
    tests = tests.sort_values("p_value", kind="stable").head(_PANELS)
    shown = [_of_test(means, row) for row in tests.to_dict("records")]
    heights = [(len(rows) + 3) * _ROW + LINE_HEIGHT for _, rows in shown]
    names = [str(name) for column in ("group", "concept", "layer") for name in means[column]]
    width = 2 * MARGIN + _NAMES + _BARS + _NUMBERS
    page = Page(figure, width, _TOP + sum(heights), [_NOTE], [*names, explained.class_name])
    groups = means["group"].nunique()
    shown_of = (
        f", of which {_MOST} are shown: the largest and the smallest" if groups > _MOST else ""
    )
    page.title(f"Groups of “{explained.class_name}”", f"{count(groups, 'group')}{shown_of}")
    top = _TOP
    for (test, rows), height in zip(shown, heights, strict=True):
        _draw(page, test, rows, top)
        top += height
    return figure


def _of_test(means: pd.DataFrame, test: dict[Any, Any]) -> tuple[dict[Any, Any], pd.DataFrame]:
    """Return a test with the mean over all groups, and the largest and smallest of their means."""
    own = (means["layer"] == test["layer"]) & (means["concept"] == test["concept"])
    rows = means[own].sort_values("mean", ascending=False, kind="stable")
    if len(rows) > _MOST:
        rows = pd.concat([rows.head(_MOST // 2), rows.tail(_MOST // 2)])
    return test | {"mean": means.loc[own, "mean"].mean()}, rows


def _draw(page: Page, test: dict[Any, Any], rows: pd.DataFrame, top: float) -> None:
    """Draw a concept at a layer: a row for each group."""
    sure = test["q_value"] <= SIGNIFICANT
    layer = test["layer"] if test["layer"] == TOGETHER else f"attribution at layer {test['layer']}"
    said = f"q {equal_or_less(test['q_value'])}" if test["q_value"] == test["q_value"] else "–"
    head = shorten(f"“{test['concept']}”, {layer}", _NAMES + _BARS, bold=bool(sure))
    page.text(MARGIN, top, head, weight="bold" if sure else "normal")
    page.text(MARGIN + _NAMES + _BARS + 0.15, top, said, color=MUTED)
    top += LINE_HEIGHT * 1.3
    ends = [x for name in ("mean", "ci_low", "ci_high") for x in rows[name] if math.isfinite(x)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = (high - low or 1.0) * 0.04
    axes = page.axes(MARGIN + _NAMES, top, _BARS, len(rows) * _ROW, f"{test['concept']} {layer}")
    axes.set(xlim=(low - room, high + room), ylim=(len(rows) - 0.5, -0.5))
    axes.axvline(0, color="0.8", linewidth=0.6, zorder=0)
    axes.axvline(test["mean"], color=MUTED, linewidth=0.6, zorder=0)
    records = rows.to_dict("records")
    parts = [(str(row["group"]), f" (n = {row['n']})") for row in records]
    names = row_labels(parts, _NAMES - 0.1)
    for i, row in enumerate(records):
        if math.isfinite(row["ci_low"]):
            axes.plot([row["ci_low"], row["ci_high"]], [i, i], color=BLUE, linewidth=1.2)
        look: dict[str, Any] = {
            "markersize": 4,
            "markerfacecolor": BLUE if sure else "white",
            "clip_on": False,
        }
        axes.plot([row["mean"]], [i], "o", color=BLUE, **look)
        middle = top + (i + 0.5) * _ROW
        page.text(MARGIN, middle, names[i], centred=True)
        page.text(MARGIN + _NAMES + _BARS + 0.15, middle, value(row["mean"]), centred=True)
    # an end that lies close to 0 has no room for its number
    shown = [end for end in (low, high) if abs(end) > 0.1 * (high - low)]
    show_axis(axes, sorted({0.0, *(float(f"{end:.2g}") for end in shown)}))
