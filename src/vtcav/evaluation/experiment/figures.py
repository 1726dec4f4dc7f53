"""The figures of the controlled experiment.

Colours stand for the cue (tag, texture), lightness for the agreement q; both are told apart by
shape too. Every figure is drawn on the figure it is given, and returns it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vtcav.results.figures.palette import MUTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from vtcav.evaluation.experiment.trial import Trial

__all__ = ["TITLES", "plot_layers", "plot_maps", "plot_points", "plot_scenes", "plot_truth"]

TITLES = {
    "visual_tcav": "Visual-TCAV",
    "visual_tcav_filter": "Visual-TCAV, filter map",
    "tcav": "TCAV (sign count)",
    "tcav_magnitude": "TCAV (magnitude)",
    "saliency": "gradient saliency, true masks",
    "integrated_gradients": "integrated gradients, true masks",
    "grad_cam": "Grad-CAM, true masks",
    "bottleneck": "concept bottleneck",
}
_CUES = {"tag": ("#D55E00", "o"), "texture": ("#0072B2", "s")}
_CYCLE = ("#000000", "#999999", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00")
_MARKERS = "opsD^vPX"


def plot_truth(figure: Figure, points: pd.DataFrame, networks: list[dict[str, Any]]) -> Figure:
    """Draw what the networks use, by agreement: shares of the gap, and accuracies."""
    figure.set_size_inches(7.2, 2.9)
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.3})
    figure.subplots_adjust(left=0.08, right=0.98, top=0.9, bottom=0.17)
    once = points.drop_duplicates(["seed", "q", "class_index", "cue"])
    for cue in dict.fromkeys(once["cue"]):
        colour, marker = _CUES[cue]
        own = once[once["cue"] == cue]
        left.plot(own["q"], own["share"], marker, color=colour, alpha=0.4, markersize=4)
        mean = own.groupby("q")["share"].mean()
        left.plot(mean.index, mean, "-", color=colour, marker=marker, label=cue)
    left.axhline(0, color=MUTED, linewidth=0.6)
    left.set_title("What the networks use (each point a class)", loc="left")
    left.set_ylabel("causal effect, share of the logit gap")
    names = tuple(networks[0]["accuracy"])
    for name, colour, marker in zip(names, _CYCLE, _MARKERS, strict=False):
        by_q: dict[float, list[float]] = {}
        for network in networks:
            by_q.setdefault(network["q"], []).append(network["accuracy"][name])
        shares = sorted(by_q)
        means = [float(np.mean(by_q[q])) for q in shares]
        right.plot(shares, means, "-", color=colour, marker=marker, label=name.replace("_", " "))
    right.set_title("Accuracy on test images", loc="left")
    right.set_ylim(0, 1.04)
    for axes in (left, right):
        axes.set_xlabel("share q of training images whose tag agrees")
        axes.legend(frameon=False)
        _plain(axes)
    return figure


def plot_points(figure: Figure, points: pd.DataFrame, layers: pd.DataFrame, method: str) -> Figure:
    """Draw a method's class means against the causal effects, a panel for each layer."""
    own = points[points["method"] == method]
    names = list(own["layer"].unique())
    figure.set_size_inches(max(1.75 * len(names), 3.2), 2.35)
    panels = np.atleast_1d(figure.subplots(1, len(names), sharex=True))
    side = 0.5 / figure.get_size_inches()[0]
    figure.subplots_adjust(left=side, right=1 - side / 4, top=0.76, bottom=0.21, wspace=0.32)
    for axes, layer in zip(panels, names, strict=True):
        for cue in dict.fromkeys(own["cue"]):
            colour, marker = _CUES[cue]
            here = own[(own["layer"] == layer) & (own["cue"] == cue)]
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
        found = layers[(layers["method"] == method) & (layers["layer"] == layer)]
        rank = found["spearman"].mean()
        line = found["pearson"].mean()
        axes.set_title(f"{layer or 'input'}\n\u03c1 {rank:.2f}, r {line:.2f}", loc="left")
        _plain(axes)
    panels[0].set_ylabel("value")
    panels[0].legend(frameon=False, loc="best", handletextpad=0.1)
    figure.supxlabel("causal effect, share of the logit gap", fontsize=7)
    return figure


def plot_layers(figure: Figure, layers: pd.DataFrame, coefficient: str) -> Figure:
    """Draw a coefficient by layer, a line for each method, a point for each seed."""
    figure.set_size_inches(7.2, 3.0)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.08, right=0.7, top=0.92, bottom=0.12)
    names = [layer for layer in layers["layer"].unique() if layer]
    for k, method in enumerate(dict.fromkeys(layers["method"])):
        own = layers[layers["method"] == method]
        look: dict[str, Any] = {
            "color": _CYCLE[k % len(_CYCLE)],
            "marker": _MARKERS[k % len(_MARKERS)],
        }
        if (own["layer"] == "").all():
            places, mean = [-0.7, len(names) - 0.3], [own[coefficient].mean()] * 2
            axes.plot(places, mean, ":", label=TITLES.get(method, method), **look)
            continue
        shift = (k - 3) * 0.04
        means = own.groupby("layer")[coefficient].mean().reindex(names)
        axes.plot(np.arange(len(names)), means, "-", label=TITLES.get(method, method), **look)
        x = [names.index(layer) + shift for layer in own["layer"]]
        axes.plot(x, own[coefficient], linewidth=0, alpha=0.35, markersize=3, **look)
    axes.axhline(0, color=MUTED, linewidth=0.6)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(min(-0.1, float(layers[coefficient].min()) - 0.05), 1.03)
    axes.set_title(f"{coefficient.capitalize()} with the causal effect, by layer", loc="left")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _plain(axes)
    return figure


def plot_scenes(figure: Figure, rows: Mapping[str, NDArray[np.uint8]]) -> Figure:
    """Draw test images: a row for each version, by its name."""
    chosen = next(iter(rows.values()))
    figure.set_size_inches(7.2, 0.875 * len(rows))
    panels = figure.subplots(len(rows), len(chosen), squeeze=False)
    figure.subplots_adjust(
        left=0.13, right=0.995, top=0.995, bottom=0.005, wspace=0.04, hspace=0.04
    )
    for line, (name, pictures) in zip(panels, rows.items(), strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
        line[0].text(-0.1, 0.5, name, transform=line[0].transAxes, ha="right", va="center")
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
    figure.set_size_inches(7.2, 0.78 * len(lines) + 0.25)
    panels = figure.subplots(len(lines), len(maps) + 1, squeeze=False)
    figure.subplots_adjust(
        left=0.1,
        right=0.995,
        top=1 - 0.22 / figure.get_size_inches()[1],
        bottom=0.01,
        wspace=0.05,
        hspace=0.05,
    )
    pictures = trial.pictures
    for axes, layer in zip(panels[0, 1:], maps, strict=True):
        axes.set_title(layer)
    for row, (n, cue) in zip(panels, lines, strict=True):
        row[0].imshow(pictures[n], interpolation="nearest")
        row[0].text(-0.1, 0.5, cue, transform=row[0].transAxes, ha="right", va="center")
        for axes, found in zip(row[1:], maps.values(), strict=True):
            extent = (-0.5, pictures.shape[2] - 0.5, pictures.shape[1] - 0.5, -0.5)
            axes.imshow(found[cue][n], cmap="inferno", vmin=0, vmax=1, extent=extent)
            axes.contour(trial.masks[cue][n], levels=[0.5], colors="white", linewidths=0.7)
        for axes in row:
            axes.set_axis_off()
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_fontsize(7.5)
