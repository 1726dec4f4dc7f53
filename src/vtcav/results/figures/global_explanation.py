"""The figure of a class: concepts by layers, every image a point."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from vtcav.method.variants import suffix
from vtcav.results.figures.sheet import (
    LINE,
    MUTED,
    NS_MEANS,
    SIGNIFICANT,
    SMALL,
    Marks,
    Page,
    font_notes,
    nice_limit,
    number,
    own_style,
    shorten,
    show_thumbnails,
    text_width,
    wrap,
)

if TYPE_CHECKING:
    from vtcav.results.explanation import GlobalExplanation

__all__ = ["plot_global"]

# Inches.
_MARGIN = 0.25
_NAMES = 1.35
_EXAMPLES = 0.72
_GAP = 0.2
_AXIS = 0.5
_LINE = SMALL * LINE / 72

_IN_A_BAND = 3  # panels side by side, at most
_HEADS = "mean", "[95 % interval]"
_JITTER = 0.3  # of a row's height, up and down
_COLOUR = "#0072B2"
_POINT: dict[str, Any] = {
    "marker": "o",
    "markersize": 3.5,
    "color": _COLOUR,
    "linewidth": 0,
    "markeredgewidth": 0.5,
}
_MEAN: dict[str, Any] = {
    "marker": "D",
    "markersize": 4.5,
    "color": "black",
    "markeredgecolor": "white",
    "markeredgewidth": 0.7,
    "linewidth": 0,
}
_BAND: dict[str, Any] = {"color": "#E69F00", "linewidth": 6, "solid_capstyle": "butt"}
_BAR: dict[str, Any] = {"color": "black", "linewidth": 1.4, "solid_capstyle": "butt"}


def plot_global(explanation: GlobalExplanation, figure: Figure) -> Figure:
    """Draw an explanation of a class: a panel per layer, a row per concept, images as points.

    Args:
        explanation: What to draw.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    with own_style():
        _Global(explanation).draw(figure)
    return figure


class _Row(NamedTuple):
    """A concept at a layer: its points, whether each is predicted as the class, the summary."""

    values: NDArray[np.float64]
    predicted: NDArray[np.bool_]
    mean: float
    low: float
    high: float
    cav_low: float
    cav_high: float
    q: float
    separated: bool
    note: str

    @property
    def interval(self) -> str:
        """The interval as text; none for one image."""
        return "" if np.isnan(self.low) else f"[{number(self.low)}, {number(self.high)}]"


class _Global:
    """The drawing of a global explanation: its parts, their sizes in inches, and their places."""

    def __init__(self, explanation: GlobalExplanation) -> None:
        self.explanation = explanation
        self.rows = _rows(explanation)
        self.images = max(len(row.values) for row in self.rows.values())
        self.marks = Marks(row.note for row in self.rows.values())
        # Attributions lie between 0 and 1; an interval that reaches beyond is cut off there.
        ends = [
            end for row in self.rows.values() for end in (row.values.max(), row.high, row.cav_high)
        ]
        self.resampled = any(not np.isnan(row.cav_low) for row in self.rows.values())
        self.limit = nice_limit(min(1.0, float(np.nanmax(ends))))
        texts = [text for row in self.rows.values() for text in (self._mean(row), row.interval)]
        self.numbers = max(map(text_width, [*texts, _HEADS[1]])) + 0.05
        self.panel = 3.2 if len(explanation.layers) == 1 else 2.0
        self.titles = {
            layer: wrap(layer, self.panel, 8, most=3, bold=True) for layer in explanation.layers
        }
        self.head = max(2, *map(len, self.titles.values())) * 8 * LINE / 72 + 0.15
        self.row = 0.42 if len(explanation.concepts) <= 10 else 0.36
        self.height = len(explanation.concepts) * self.row

    def _mean(self, row: _Row) -> str:
        unclear = " ns" if row.q > SIGNIFICANT else ""
        return number(row.mean) + unclear + self.marks.suffix(row.note)

    def _column(self, k: int) -> float:
        """Return where panel k of a band begins."""
        return _MARGIN + _NAMES + _EXAMPLES + _GAP + k * (self.panel + self.numbers + 2 * _GAP)

    def draw(self, figure: Figure) -> None:
        """Draw everything."""
        layers = self.explanation.layers
        # Bands of about the same length: four panels are two and two.
        side_by_side = math.ceil(len(layers) / math.ceil(len(layers) / _IN_A_BAND))
        bands = [layers[k : k + side_by_side] for k in range(0, len(layers), side_by_side)]
        width = max(self._column(len(bands[0])) - 1.5 * _GAP + _MARGIN, 6.4)
        footer = [line for text in self._footer() for line in wrap(text, width - 2 * _MARGIN)]
        first = _MARGIN + 0.65
        step = self.head + self.height + _AXIS
        end = first + len(bands) * step
        page = Page(figure, width, end + (len(footer) + 0.5) * _LINE + _MARGIN)
        self._draw_title(page)
        for b, band in enumerate(bands):
            top = first + b * step + self.head
            self._draw_concepts(page, top)
            for k, layer in enumerate(band):
                self._draw_panel(page, self._column(k), top, layer)
        page.rule(end, _MARGIN, width - _MARGIN)
        page.text(_MARGIN, end + _LINE / 2, "\n".join(footer), color=MUTED)

    def _draw_title(self, page: Page) -> None:
        name = shorten(self.explanation.class_name, page.width - 2 * _MARGIN, 11, bold=True)
        page.text(_MARGIN, _MARGIN, name, 11, weight="bold")
        about = f"attribution of each concept to this class, n = {_images(self.images)}"
        about += suffix(self.explanation.provenance.variant)
        if self.explanation.skipped:
            about += f"; {_images(len(self.explanation.skipped))} skipped"
        page.text(_MARGIN, _MARGIN + 0.28, about, color=MUTED)
        handles = [Line2D([], [], **_POINT, label="image")]
        if not all(row.predicted.all() for row in self.rows.values()):
            handles[0].set_label("image predicted as this class")
            hollow = {**_POINT, "markerfacecolor": "none"}
            handles.append(Line2D([], [], **hollow, label="image predicted otherwise"))
        handles.append(Line2D([], [], **_MEAN, label="mean"))
        if self.images > 1:
            handles.append(Line2D([], [], **_BAR, label="its 95 % interval: other images"))
        if self.resampled:
            handles.append(Line2D([], [], **_BAND, label="other examples"))
        page.figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(_MARGIN / page.width, 1 - (_MARGIN + 0.45) / page.height),
            ncols=len(handles),
            frameon=False,
            borderpad=0,
            borderaxespad=0,
            handlelength=1.2,
            columnspacing=1.5,
        )

    def _draw_concepts(self, page: Page, top: float) -> None:
        """Draw the names and examples at the left of a band."""
        page.text(_MARGIN, top - 0.06 - 8 * LINE / 72, "concept", 8, weight="bold")
        side = self.row - 0.08
        for k, concept in enumerate(self.explanation.concepts):
            y = top + k * self.row
            place = _MARGIN, y + 0.04, 2 * side + 0.05, side
            show_thumbnails(page, place, self.explanation.thumbnails[concept], (2,))
            left = _MARGIN + _EXAMPLES + 0.1
            name = wrap(concept, _NAMES - 0.1, 8, most=2)
            page.text(left, y + self.row / 2, "\n".join(name), 8, centred=True)

    def _draw_panel(self, page: Page, left: float, top: float, layer: str) -> None:
        """Draw a layer: its title, points, means, intervals and numbers."""
        title = self.titles[layer]
        above = top - 0.06 - len(title) * 8 * LINE / 72
        page.text(left, above, "\n".join(title), 8, weight="bold")
        heads = _HEADS if self.images > 1 else _HEADS[:1]
        right = left + self.panel + _GAP / 2
        page.text(right, top - 0.06 - len(heads) * _LINE, "\n".join(heads), color=MUTED)
        axes = page.axes(left, top, self.panel, self.height, f"panel {layer}")
        concepts = self.explanation.concepts
        edge = 0.04 * self.limit
        axes.set(xlim=(-edge, self.limit + edge), ylim=(len(concepts) - 0.5, -0.5))
        self._draw_grid(axes)
        # The same for every panel: an image keeps its height across layers.
        jitter = np.random.default_rng(0).uniform(-_JITTER, _JITTER, self.images)
        for k, concept in enumerate(concepts):
            row = self.rows[layer, concept]
            if row.separated:
                self._draw_points(axes, k, row, jitter)
                self._draw_interval(axes, k, row)
            else:
                _draw_not_separated(axes, k)
            lines = [text for text in (self._mean(row), row.interval) if text]
            y = top + (k + 0.5) * self.row
            page.text(right, y, "\n".join(lines), centred=True)

    def _draw_grid(self, axes: Axes) -> None:
        ticks = [0, self.limit / 2, self.limit]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.tick_params(axis="x", length=2, width=0.6, pad=2)
        axes.spines["bottom"].set_visible(True)
        axes.set_xlabel("attribution", labelpad=1, color=MUTED)
        for tick in ticks:
            axes.axvline(tick, color="0.88", linewidth=0.6, zorder=0)
        for k in range(len(self.explanation.concepts)):
            axes.axhline(k - 0.5, color="0.88", linewidth=0.6, zorder=0)

    def _draw_points(self, axes: Axes, k: int, row: _Row, jitter: NDArray[np.float64]) -> None:
        many = len(row.values) > 50
        for chosen, fill in ((row.predicted, _COLOUR), (~row.predicted, "none")):
            axes.scatter(
                row.values[chosen],
                k + jitter[: len(row.values)][chosen],
                s=5 if many else 12,
                facecolors=fill,
                edgecolors=_COLOUR,
                linewidths=0.5,
                alpha=0.3 if many else 0.6,
                clip_on=False,
                zorder=2,
            )

    def _draw_interval(self, axes: Axes, k: int, row: _Row) -> None:
        """Draw mean and intervals; an end that lies off the axis is an arrowhead at its end."""
        if not np.isnan(row.cav_low):
            ends = [row.cav_low, min(row.cav_high, self.limit)]
            axes.plot(ends, [k, k], **_BAND, alpha=0.8, zorder=2.5)
        if not np.isnan(row.low):
            low, high = max(row.low, 0.0), min(row.high, self.limit)
            axes.plot([low, high], [k, k], **_BAR, zorder=3)
            for end, place, arrow in ((row.low, low, "<"), (row.high, high, ">")):
                marker, size = ("|", 5.0) if end == place else (arrow, 3.0)
                axes.plot(place, k, marker, ms=size, color="black", zorder=3, clip_on=False)
        axes.plot(row.mean, k, **_MEAN, zorder=4, clip_on=False)

    def _footer(self) -> list[str]:
        """Return what a reader needs to know, a paragraph each."""
        texts = [
            "Attribution: how much the concept counts for the class at a layer; 1 would be the "
            "whole rise of the best class. A point's height within its row means nothing."
        ]
        if self.images > 1:
            texts.append(
                f"Thin bar: 95 % t interval of the mean over n = {self.images} images: how the "
                "mean would vary with other images of this kind, not how certain the concept is."
            )
            if any(row.low < 0 or row.high > self.limit for row in self.rows.values()):
                texts[-1] += " Arrowhead: the interval goes on, where no attribution can lie."
        if self.resampled:
            texts.append(
                "Broad bar: 95 % interval of the mean for other examples and negatives of the "
                "concept, over the same images."
            )
        if any(not np.isnan(row.q) for row in self.rows.values()):
            texts.append(NS_MEANS)
        if skipped := len(self.explanation.skipped):
            texts.append(f"Skipped, because they cannot be read: {_images(skipped)}.")
        names = *self.explanation.concepts, *self.explanation.layers, self.explanation.class_name
        return texts + self.marks.legend() + font_notes(names)


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _rows(explanation: GlobalExplanation) -> dict[tuple[str, str], _Row]:
    groups = dict(list(explanation.attributions.groupby(["layer", "concept"], sort=False)))
    return {
        (row["layer"], row["concept"]): _Row(
            values=(points := groups[row["layer"], row["concept"]])["attribution"].to_numpy(),
            predicted=(points["predicted_class"] == explanation.class_name).to_numpy(),
            mean=row["mean"],
            low=row["ci_low"],
            high=row["ci_high"],
            cav_low=row["cav_low"],
            cav_high=row["cav_high"],
            q=row["q_value"],
            separated=row["separated"],
            note=row["note"],
        )
        for row in explanation.summary().to_dict("records")
    }


def _draw_not_separated(axes: Axes, k: int) -> None:
    left, right = axes.get_xlim()
    band = Rectangle((left, k - 0.5), right - left, 1, fill=False)
    band.set(hatch="////", linewidth=0, edgecolor="0.6")
    axes.add_patch(band)
    axes.text(
        (left + right) / 2,
        k,
        "not separated (e+ <= e-)",
        ha="center",
        va="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )
