"""Figures of the controlled experiment.

Colour and marker stand for the cue (tag, texture) or the method, lightness for the agreement q.
Every figure is drawn on the empty figure that it is given, and returns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vtcav.evaluation.experiment.methods import TITLES
from vtcav.results.figures.lettering import LINE_HEIGHT
from vtcav.results.figures.page import MARGIN, Page
from vtcav.results.figures.palette import BLUE, MUTED, PALETTE, VERMILION

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from vtcav.evaluation.experiment.trial import Trial

__all__ = ["plot_layers", "plot_maps", "plot_points", "plot_scenes", "plot_truth"]

_CUES = {"tag": (VERMILION, "o"), "texture": (BLUE, "s")}
_COLOURS = (*PALETTE[::-1], MUTED)
_MARKERS = "opsD^vPX"

# Inches.
_WIDTH = 7.2
_TICKS = 0.35
_TITLE = 2.6 * LINE_HEIGHT
_NAMES = 0.8
_PICTURE = 0.78
_GAP = 0.04


def plot_truth(figure: Figure, points: pd.DataFrame, networks: list[dict[str, Any]]) -> Figure:
    """Draw the use that the networks make of the cues, by agreement, and their accuracies."""
    page = Page(figure, _WIDTH, 2.7)
    width = (page.inner - 2 * _TICKS - 0.3) / 2
    left = _panel(page, MARGIN + _TICKS, width, 1.8, "Use of the cues (each point a class)")
    right = _panel(page, page.width - MARGIN - width, width, 1.8, "Accuracy on test images")
    once = points.drop_duplicates(["seed", "q", "class_index", "cue"])
    for cue, own in once.groupby("cue", sort=False):
        colour, marker = _CUES[str(cue)]
        left.plot(own["q"], own["share"], marker, color=colour, alpha=0.4, markersize=4)
        mean = own.groupby("q")["share"].mean()
        left.plot(mean.index, mean, "-", color=colour, marker=marker, label=cue)
    left.axhline(0, color=MUTED, linewidth=0.6)
    left.set_ylabel("causal effect, share of the logit gap")
    shares = sorted({network["q"] for network in networks})
    for k, name in enumerate(networks[0]["accuracy"]):
        means = [np.mean([n["accuracy"][name] for n in networks if n["q"] == q]) for q in shares]
        right.plot(shares, means, "-", label=name.replace("_", " "), **_look(k))
    right.set_ylim(0, 1.04)
    for axes in (left, right):
        axes.set_xlabel("share q of training images with their class's tag")
        axes.legend(frameon=False)
    return figure


def plot_points(figure: Figure, points: pd.DataFrame, layers: pd.DataFrame, method: str) -> Figure:
    """Draw a method's class means against the causal effects, a panel for each layer."""
    own = points[points["method"] == method]
    names = list(own["layer"].unique())
    step = 1.2 + _TICKS
    page = Page(figure, max(2 * MARGIN + _TICKS + step * len(names), 3.2), 2.25)
    panels: list[Axes] = []
    for j, layer in enumerate(names):
        found = layers[(layers["method"] == method) & (layers["layer"] == layer)]
        rank, line = found["spearman"].mean(), found["pearson"].mean()
        title = f"{layer or 'input'}\n\u03c1 {rank:.2f}, r {line:.2f}"
        axes = _panel(page, MARGIN + 1.5 * _TICKS + j * step, 1.1, 1.25, title)
        for cue, here in own[own["layer"] == layer].groupby("cue", sort=False):
            colour, marker = _CUES[str(cue)]
            axes.scatter(
                here["share"],
                here["value"],
                c=colour,
                s=9,
                marker=marker,
                linewidths=0.5,
                alpha=0.35 + 0.65 * here["q"].to_numpy(),
                label=cue,
            )
        panels.append(axes)
        axes.sharex(panels[0])
    panels[0].set_ylabel("value")
    panels[0].legend(frameon=False, handletextpad=0.1)
    page.text(MARGIN + 1.5 * _TICKS, 2.08, "causal effect, share of the logit gap", color=MUTED)
    return figure


def plot_layers(figure: Figure, layers: pd.DataFrame, coefficient: str) -> Figure:
    """Draw a coefficient by layer, a line for each method, a point for each seed."""
    page = Page(figure, _WIDTH, 2.7)
    title = f"{coefficient.capitalize()} with the causal effect, by layer"
    axes = _panel(page, MARGIN + _TICKS, 4.3, 2.0, title)
    names = [layer for layer in layers["layer"].unique() if layer]
    for k, (method, own) in enumerate(layers.groupby("method", sort=False)):
        look = _look(k) | {"label": TITLES.get(str(method), method)}
        if (own["layer"] == "").all():
            axes.plot([-0.7, len(names) - 0.3], [own[coefficient].mean()] * 2, ":", **look)
            continue
        means = own.groupby("layer")[coefficient].mean().reindex(names)
        axes.plot(np.arange(len(names)), means, "-", **look)
        x = [names.index(layer) + (k - 3) * 0.04 for layer in own["layer"]]
        axes.plot(x, own[coefficient], linewidth=0, alpha=0.35, markersize=3, **_look(k))
    axes.axhline(0, color=MUTED, linewidth=0.6)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(min(-0.1, float(layers[coefficient].min()) - 0.05), 1.03)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_scenes(figure: Figure, rows: Mapping[str, NDArray[np.uint8]]) -> Figure:
    """Draw test images: a row for each version, by its name."""
    step = _PICTURE + _GAP
    columns = len(next(iter(rows.values())))
    page = Page(figure, 2 * MARGIN + _NAMES + columns * step, MARGIN + len(rows) * step)
    for i, (name, pictures) in enumerate(rows.items()):
        page.text(MARGIN, MARGIN + i * step + _PICTURE / 2, name, centred=True)
        for j, picture in enumerate(pictures):
            _picture(page, i, j, MARGIN).imshow(picture, interpolation="nearest")
    return figure


def plot_maps(
    figure: Figure, trial: Trial, maps: Mapping[str, Mapping[str, NDArray[np.float32]]]
) -> Figure:
    """Draw the maps of each image's own cues, a column for each layer.

    Args:
        figure: Empty.
        trial: A few images.
        maps: By layer and cue the maps [N, h, w] in [0, 1]: dark is 0, bright is 1.
    """
    lines = [(n, cue) for n in range(len(trial.labels)) for cue in trial.cues]
    step, top = _PICTURE + _GAP, MARGIN + 1.5 * LINE_HEIGHT
    page = Page(figure, 2 * MARGIN + _NAMES + (1 + len(maps)) * step, top + len(lines) * step)
    high, wide = trial.pictures.shape[1:3]
    for j, layer in enumerate(maps, 1):
        page.text(MARGIN + _NAMES + j * step, MARGIN, layer)
    for i, (n, cue) in enumerate(lines):
        page.text(MARGIN, top + i * step + _PICTURE / 2, cue, centred=True)
        _picture(page, i, 0, top).imshow(trial.pictures[n], interpolation="nearest")
        for j, found in enumerate(maps.values(), 1):
            axes = _picture(page, i, j, top)
            extent = (-0.5, wide - 0.5, high - 0.5, -0.5)
            axes.imshow(found[cue][n], cmap="inferno", vmin=0, vmax=1, extent=extent)
            axes.contour(trial.masks[cue][n], levels=[0.5], colors="white", linewidths=0.7)
    return figure


def _look(k: int) -> dict[str, Any]:
    """Return colour and marker of the k-th line."""
    return {"color": _COLOURS[k % len(_COLOURS)], "marker": _MARKERS[k % len(_MARKERS)]}


def _panel(page: Page, left: float, width: float, height: float, title: str) -> Axes:
    """Return axes with ticks, below their title of one or two lines."""
    page.text(left, MARGIN, title.split("\n"))
    axes = page.axes(left, MARGIN + _TITLE, width, height, title)
    axes.spines[["left", "bottom"]].set_visible(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=4))
    axes.tick_params(length=2.5, width=0.6)
    return axes


def _picture(page: Page, row: int, column: int, top: float) -> Axes:
    """Return axes for one of the pictures that stand in rows."""
    step = _PICTURE + _GAP
    left, upper = MARGIN + _NAMES + column * step, top + row * step
    return page.axes(left, upper, _PICTURE, _PICTURE, f"{row}/{column}")
