"""Figure of a localisation: metrics by layer, and a few images with their masks and maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from vtcav.evaluation.panels import frame, panels
from vtcav.results.figures.footnotes import Marks
from vtcav.results.figures.lettering import SMALL, basename, labels, shorten
from vtcav.results.figures.overlay import Overlay, show_scale
from vtcav.results.figures.page import own_style
from vtcav.results.figures.palette import BLUE, MUTED, VERMILION
from vtcav.results.words import count, value

if TYPE_CHECKING:
    from vtcav.evaluation.localisation.masked_image import MaskedImage
    from vtcav.evaluation.result import EvaluationResult


_ROW, _IMAGE = 0.2, 1.5  # inches
_COLUMNS = 6
_NOTHING = (
    "Orange: the value of an uninformative map (for pointing game and energy the share of the map "
    "that the mask covers)."
)
_IMAGES = (
    "Images: the outline of the mask, and the map of each layer cell by cell. They are spread "
    "evenly over all images, not selected."
)

_DOT: dict[str, Any] = {
    "marker": "o",
    "markersize": 4.5,
    "color": BLUE,
    "markeredgecolor": "white",
}
# By metric: title, and the value of an uninformative map (None: the mask's area).
_PANELS: dict[str, tuple[str, float | None]] = {
    "pointing_game": ("pointing game", None),
    "energy_inside": ("energy inside", None),
    "soft_iou": ("Soft-IoU", float("nan")),
    "balanced_mse": ("balanced MSE (0 is best)", float("nan")),
    "cell_auc": ("AUC over cells", 0.5),
}


@own_style()
def plot_localisation(
    localisation: EvaluationResult, examples: Sequence[MaskedImage], figure: Figure
) -> Figure:
    """Draw the metrics of every concept, and its example images.

    Args:
        localisation: The numbers.
        examples: The images.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    layers, concepts = localisation.layers, localisation.concepts
    summary = localisation.summary()
    marks = Marks(summary.loc[summary["metric"] != "area", "note"])
    shown = {name: [e for e in examples if e.concept == name] for name in concepts}
    band, images = 0.8 + _ROW * len(layers), [len(own) * _IMAGE for own in shown.values()]
    width = max(_COLUMNS, 1 + len(layers)) * _IMAGE
    title = "Concept maps against masks\n"
    title += f"{count(localisation.table['image'].nunique(), 'image')}; mean and 95 % interval"
    notes = [_NOTHING, *_notes(examples), *marks.legend()]
    frame(figure, (width, len(concepts) * band + sum(images)), title, notes, [*layers, *concepts])
    heights = [band + height for height in images]
    parts = figure.subfigures(len(concepts), 1, squeeze=False, height_ratios=heights)[:, 0]
    names = labels(concepts, range(len(concepts)), 2.0)
    for part, name, (concept, own) in zip(parts, names, shown.items(), strict=True):
        ratios = [band, *[_IMAGE] * len(own)]
        top, *rows = part.subfigures(1 + len(own), 1, squeeze=False, height_ratios=ratios)[:, 0]
        top.suptitle(name, x=0.01, ha="left", weight="bold", size=SMALL)
        _draw_metrics(top, concept, summary[summary["concept"] == concept], marks)
        for row, example in zip(rows, own, strict=True):
            _draw_example(row, example)
    if examples:
        _draw_scale(figure)
    return figure


def _draw_metrics(part: SubFigure, concept: str, summary: pd.DataFrame, marks: Marks) -> None:
    """Draw the metrics of a concept: a panel for each, in it a row for each layer."""
    layers = list(summary["layer"].unique())
    rows = {(row["layer"], row["metric"]): row for row in summary.to_dict("records")}
    [line] = panels(part, 1, len(_PANELS), sharey=True)
    line[0].set_yticks(range(len(layers)), labels(layers, range(len(layers)), 1.2))
    line[0].set_ylim(len(layers) - 0.5, -0.5)
    for axes, (metric, (title, chance)) in zip(line, _PANELS.items(), strict=True):
        axes.set(label=f"{concept}/{metric}", xlim=(0, 1), xticks=[0, 0.5, 1])
        axes.set_title(title, loc="left", size=SMALL)
        for i, layer in enumerate(layers):
            row = rows[layer, metric]
            level = rows[layer, "area"]["mean"] if chance is None else chance
            axes.plot([level] * 2, [i - 0.35, i + 0.35], color=VERMILION, linewidth=1.2)
            ends = np.clip([row["ci_low"], row["ci_high"]], 0, 1)
            axes.plot(ends, [i, i], color="black", linewidth=1.1)
            axes.plot(row["mean"], i, clip_on=False, **_DOT)
            text = value(row["mean"]) + marks.suffix(row["note"])
            axes.text(1.05, i, text, va="center", transform=axes.get_yaxis_transform())


def _draw_example(part: SubFigure, example: MaskedImage) -> None:
    """Draw an image with its mask, and its map at each layer."""
    overlay, layers = Overlay(example.picture, example.box), list(example.maps)
    titles = [basename(example.image), *labels(layers, range(len(layers)), _IMAGE)]
    grid = part.add_gridspec(1, max(len(titles), _COLUMNS))
    width, height = overlay.size(1)
    for j, title in enumerate(titles):
        axes = part.add_subplot(grid[j], box_aspect=height / width, anchor="NW")
        axes.set(xticks=[], yticks=[], label=f"{example.concept}/{example.image}/{j}")
        axes.set_title(shorten(title, _IMAGE), loc="left", size=SMALL)
        axes.spines[:].set_visible(False)
        if j == 0:
            overlay.show_picture(axes)
        else:
            overlay.show_map(axes, example.maps[layers[j - 1]], smooth=False)
        _outline(axes, example)


def _draw_scale(figure: Figure) -> None:
    """Show the colours of the maps in the upper right corner."""
    width, height = figure.get_size_inches()
    box = 1 - 1.5 / width, 1 - 0.2 / height, 1.4 / width, 0.1 / height
    axes = figure.add_axes(box, label="scale", xticks=[], yticks=[])
    show_scale(axes)
    for x, text, side in ((0, "M = 0", "left"), (1, "1", "right")):
        axes.text(x, -0.5, text, color=MUTED, va="top", ha=side, transform=axes.transAxes)


def _notes(examples: Sequence[MaskedImage]) -> list[str]:
    """Return the footnotes on the images, if any are shown."""
    notes = [_IMAGES] * bool(examples)
    framed = any(Overlay(example.picture, example.box).framed for example in examples)
    return notes + ["Dashes: the part of the picture that the network sees."] * framed


def _outline(axes: Axes, example: MaskedImage) -> None:
    """Draw the mask's outline over a picture, white on black to be visible on any picture."""
    if example.mask.min() >= 0.5 or example.mask.max() < 0.5:
        return
    left, top, right, bottom = example.mask_box
    high, wide = example.mask.shape
    x = left + (np.arange(-1, wide + 1) + 0.5) / wide * (right - left)
    y = top + (np.arange(-1, high + 1) + 0.5) / high * (bottom - top)
    # a border of zeros closes the outline of a mask that reaches the edge
    framed = np.pad(example.mask, 1)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.contour(x, y, framed, levels=[0.5], colors="black", linewidths=1.8)
    axes.contour(x, y, framed, levels=[0.5], colors="white", linewidths=0.9)
    axes.set(xlim=limits[0], ylim=limits[1])
