"""Figures of the controlled experiment.

Colour and marker show the cue (tag, texture) or the method, opacity the agreement q.
Every figure is drawn on the empty figure that it is given, and returns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vtcav.evaluation.experiment.methods import CONTROLS, TITLES
from vtcav.evaluation.panels import frame, panels
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.figures.palette import BLUE, MUTED, PALETTE, VERMILION

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from vtcav.evaluation.experiment.trial import Trial


_CUES = {"tag": (VERMILION, "o"), "texture": (BLUE, "s")}
_COLOURS = (*PALETTE[::-1], MUTED)
_MARKERS = "opsD^vPX"
_WIDTH = 7.2  # inches
_PICTURE = 0.82


def plot_truth(figure: Figure, points: pd.DataFrame, networks: list[dict[str, Any]]) -> Figure:
    """Draw the use that the networks make of the cues, by agreement, and their accuracies."""
    frame(figure, (_WIDTH, 2.7))
    [[left, right]] = panels(figure, 1, 2)
    left.set(title="Use of the cues (each point a class)")
    left.set_ylabel("causal effect, share of the logit gap")
    once = points.drop_duplicates(["seed", "q", "class_index", "cue"])
    for cue, own in once.groupby("cue", sort=False):
        colour, marker = _CUES[str(cue)]
        left.plot(own["q"], own["share"], marker, color=colour, alpha=0.4, markersize=4)
        mean = own.groupby("q")["share"].mean()
        left.plot(mean.index, mean, "-", color=colour, marker=marker, label=cue)
    left.axhline(0, color=MUTED, linewidth=0.6)
    right.set(title="Accuracy on test images", ylim=(0, 1.04))
    shares = sorted({network["q"] for network in networks})
    for k, name in enumerate(networks[0]["accuracy"]):
        means = [np.mean([n["accuracy"][name] for n in networks if n["q"] == q]) for q in shares]
        right.plot(shares, means, "-", label=_version(name), **_look(k))
    for axes in (left, right):
        axes.set_xlabel("share q of training images with their class's tag")
        axes.legend(frameon=False)
    return figure


def plot_points(figure: Figure, points: pd.DataFrame, layers: pd.DataFrame, method: str) -> Figure:
    """Draw a method's class means against the causal effects, a panel for each layer."""
    own = points[points["method"] == method]
    names = list(own["layer"].unique())
    frame(figure, (max(0.6 + 1.5 * len(names), 3.2), 2.4))
    [line] = panels(figure, 1, len(names), sharex=True)
    for layer, axes in zip(names, line, strict=True):
        found = layers[(layers["method"] == method) & (layers["layer"] == layer)]
        rank, linear = found["spearman"].mean(), found["pearson"].mean()
        axes.set_title(f"{layer or 'input'}\n\u03c1 {rank:.2f}, r {linear:.2f}", loc="left")
        for cue, here in own[own["layer"] == layer].groupby("cue", sort=False):
            colour, marker = _CUES[str(cue)]
            pale = 0.35 + 0.65 * here["q"].to_numpy()
            look: dict[str, Any] = {"s": 9, "linewidths": 0.5, "alpha": pale, "label": cue}
            axes.scatter(here["share"], here["value"], c=colour, marker=marker, **look)
    line[0].set_ylabel("value")
    line[0].legend(frameon=False, handletextpad=0.1)
    figure.supxlabel("causal effect, share of the logit gap", color=MUTED, size="medium")
    return figure


def plot_layers(figure: Figure, layers: pd.DataFrame, coefficient: str) -> Figure:
    """Draw a coefficient by layer, a line for each method, a point for each seed.

    Methods without layers, or with all of them together, are dotted lines.
    """
    drawn = layers[~layers["method"].isin(CONTROLS)]
    frame(figure, (_WIDTH, 0.9 + max(1.8, 0.2 * drawn["method"].nunique())))
    [[axes]] = panels(figure, 1, 1)
    names = [layer for layer in drawn["layer"].unique() if layer not in ("", TOGETHER)]
    for k, (method, own) in enumerate(drawn.groupby("method", sort=False)):
        look = _look(k) | {"label": TITLES.get(str(method), method)}
        if own["layer"].isin(["", TOGETHER]).all():
            axes.plot([-0.7, len(names) - 0.3], [own[coefficient].mean()] * 2, ":", **look)
            continue
        means = own.groupby("layer")[coefficient].mean().reindex(names)
        axes.plot(np.arange(len(names)), means, "-", **look)
        x = [names.index(layer) + (k - 3) * 0.04 for layer in own["layer"]]
        axes.plot(x, own[coefficient], linewidth=0, alpha=0.35, markersize=3, **_look(k))
    axes.axhline(0, color=MUTED, linewidth=0.6)
    axes.set_xticks(range(len(names)), names)
    axes.set_title(f"{coefficient.capitalize()} with the causal effect, by layer")
    axes.set_ylim(min(-0.1, float(drawn[coefficient].min()) - 0.05), 1.03)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_scenes(figure: Figure, rows: Mapping[str, NDArray[np.uint8]]) -> Figure:
    """Draw test images: a row for each version, by its name."""
    columns = len(next(iter(rows.values())))
    grid = _pictures(figure, [_version(name) for name in rows], columns)
    for line, images in zip(grid, rows.values(), strict=True):
        for axes, picture in zip(line, images, strict=True):
            axes.imshow(picture, interpolation="nearest")
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
    shown = [(n, cue) for n in range(len(trial.labels)) for cue in trial.cues]
    grid = _pictures(figure, [cue for _, cue in shown], 1 + len(maps))
    high, wide = trial.pictures.shape[1:3]
    for (n, cue), (first, *others) in zip(shown, grid, strict=True):
        first.imshow(trial.pictures[n], interpolation="nearest")
        for axes, found in zip(others, maps.values(), strict=True):
            extent = (-0.5, wide - 0.5, high - 0.5, -0.5)
            axes.imshow(found[cue][n], cmap="inferno", vmin=0, vmax=1, extent=extent)
            axes.contour(trial.masks[cue][n], levels=[0.5], colors="white", linewidths=0.7)
    for axes, layer in zip(grid[0][1:], maps, strict=True):
        axes.set_title(layer)
    return figure


def _version(name: str) -> str:
    """Return the name of a version of the test images in words."""
    return "another tag" if name == "against" else name.replace("_", " ")


def _look(k: int) -> dict[str, Any]:
    """Return colour and marker of the k-th line."""
    # the second round of colours has other markers
    marker = _MARKERS[(k + 3 * (k // len(_COLOURS))) % len(_MARKERS)]
    return {"color": _COLOURS[k % len(_COLOURS)], "marker": marker}


def _pictures(figure: Figure, names: list[str], columns: int) -> list[list[Axes]]:
    """Return rows of axes for pictures, with the name of each row."""
    frame(figure, (0.9 + columns * _PICTURE, 0.4 + len(names) * _PICTURE))
    grid = panels(figure, len(names), columns)
    for line, name in zip(grid, names, strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    return grid
