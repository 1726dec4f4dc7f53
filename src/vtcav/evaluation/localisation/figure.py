"""Figure of a localisation: metrics by layer, and a few images with their masks and maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vtcav.results.figures.footnotes import Marks
from vtcav.results.figures.lettering import LINE_HEIGHT, basename, labels, shorten
from vtcav.results.figures.overlay import Overlay, show_scale
from vtcav.results.figures.page import MARGIN, Page, own_style, show_axis
from vtcav.results.figures.palette import BLUE, MUTED, VERMILION
from vtcav.results.words import count, number

if TYPE_CHECKING:
    from vtcav.evaluation.localisation.masked_image import MaskedImage
    from vtcav.evaluation.result import EvaluationResult

__all__ = ["plot_localisation"]

# Inches.
_NAMES = 1.3
_GAP = 0.2
_PANEL = 0.85
_NUMBER = 0.55
_ROW = 0.2
_AXIS = 0.32
_IMAGE = 1.35

_DOT: dict[str, Any] = {
    "marker": "o",
    "markersize": 4.5,
    "color": BLUE,
    "markeredgecolor": "white",
}
# By metric: title, and the value of a map that knows nothing (None: the mask's area).
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
    _Drawing(localisation, examples).draw(figure)
    return figure


class _Drawing:
    """The parts of the figure, their sizes and positions in inches."""

    def __init__(self, found: EvaluationResult, examples: Sequence[MaskedImage]) -> None:
        self.found, self.examples = found, examples
        self.rows = {
            (str(row["concept"]), str(row["layer"]), str(row["metric"])): row
            for row in found.summary().to_dict("records")
        }
        self.marks = Marks(row["note"] for key, row in self.rows.items() if key[2] != "area")
        self.band = len(found.layers) * _ROW
        columns = max(
            len(_PANELS) * (_PANEL + _NUMBER + _GAP),
            (1 + len(found.layers)) * (_IMAGE + _GAP) - _NAMES,
        )
        self.width = 2 * MARGIN + _NAMES + columns

    def draw(self, figure: Figure) -> None:
        tops, height = self._tops()
        names = [*self.found.layers, *self.found.concepts]
        page = Page(figure, self.width, height, self._footer(), names)
        images = self.found.table["image"].nunique()
        below = f"{count(images, 'image')}; mean and 95 % interval of the mean"
        page.title("Concept maps against masks", below)
        self._scale(page)
        for top, concept in zip(tops, self.found.concepts, strict=True):
            self._concept(page, concept, top)

    def _scale(self, page: Page) -> None:
        """Show the colours of the maps, if any are shown."""
        if self.examples:
            left = page.width - MARGIN - _IMAGE
            show_scale(page.axes(left, MARGIN, _IMAGE, 0.1, "scale"))
            page.text(left, MARGIN + 0.13, "M = 0", color=MUTED)
            page.text(left + _IMAGE, MARGIN + 0.13, "1", color=MUTED, ha="right")

    def _tops(self) -> tuple[list[float], float]:
        """Return where each concept begins, and where the last one ends."""
        tops, top = [], MARGIN + 4.6 * LINE_HEIGHT
        for concept in self.found.concepts:
            tops.append(top)
            examples = sum(map(self._height, self._examples(concept)))
            top += 3 * LINE_HEIGHT + self.band + _AXIS + examples + _GAP
        return tops, top

    def _examples(self, concept: str) -> list[MaskedImage]:
        return [example for example in self.examples if example.concept == concept]

    def _height(self, example: MaskedImage) -> float:
        """Return the height of an example with its titles."""
        return _size(example)[1] + 2.6 * LINE_HEIGHT

    def _concept(self, page: Page, concept: str, top: float) -> None:
        """Draw the metrics of a concept and its examples below."""
        page.rule(top - 0.5 * LINE_HEIGHT)
        concepts = self.found.concepts
        titles = labels(concepts, range(len(concepts)), 0.9 * (_NAMES - 0.1))
        page.text(MARGIN, top, titles[concepts.index(concept)], weight="bold")
        layers = self.found.layers
        names = labels(layers, range(len(layers)), _NAMES - 0.1)
        upper = top + 1.6 * LINE_HEIGHT
        for i, name in enumerate(names):
            page.text(MARGIN, upper + (i + 0.5) * _ROW, name, centred=True)
        for j, (metric, (title, chance)) in enumerate(_PANELS.items()):
            left = MARGIN + _NAMES + j * (_PANEL + _NUMBER + _GAP)
            page.text(left, top, title)
            axes = page.axes(left, upper, _PANEL, self.band, f"{concept}/{metric}")
            self._metric(axes, concept, metric, chance)
            for i, layer in enumerate(layers):
                row = self.rows[concept, layer, metric]
                mean = "none" if np.isnan(row["mean"]) else number(row["mean"])
                text = mean + self.marks.suffix(row["note"])
                page.text(left + _PANEL + 0.08, upper + (i + 0.5) * _ROW, text, centred=True)
        top = upper + self.band + _AXIS
        for example in self._examples(concept):
            self._example(page, example, top)
            top += self._height(example)

    def _metric(self, axes: Axes, concept: str, metric: str, chance: float | None) -> None:
        """Draw one metric: a row per layer."""
        axes.set(xlim=(0, 1), ylim=(len(self.found.layers), 0))
        show_axis(axes, [0, 0.5, 1])
        for i, layer in enumerate(self.found.layers):
            row = self.rows[concept, layer, metric]
            level = self.rows[concept, layer, "area"]["mean"] if chance is None else chance
            axes.plot([level] * 2, [i + 0.15, i + 0.85], color=VERMILION, linewidth=1.2)
            ends = np.clip([row["ci_low"], row["ci_high"]], 0, 1)
            axes.plot(ends, [i + 0.5] * 2, color="black", linewidth=1.1)
            axes.plot(row["mean"], i + 0.5, clip_on=False, **_DOT)

    def _example(self, page: Page, example: MaskedImage, top: float) -> None:
        """Draw an image with its mask, and its map at each layer."""
        overlay = Overlay(example.picture, example.box)
        width, height = _size(example)
        layers = self.found.layers
        titles = labels(layers, range(len(layers)), _IMAGE)
        for j, title in enumerate([basename(example.image), *titles]):
            left = MARGIN + j * (_IMAGE + _GAP)
            page.text(left, top, shorten(title, _IMAGE))
            label = f"{example.concept}/{example.image}/{j}"
            axes = page.axes(left, top + 1.3 * LINE_HEIGHT, width, height, label)
            if j == 0:
                overlay.show_picture(axes)
            else:
                overlay.show_map(axes, example.maps[layers[j - 1]], smooth=False)
            _outline(axes, example)

    def _footer(self) -> list[str]:
        notes = [
            "Orange: the value of a map that knows nothing (for pointing game and energy the share "
            "of the map that the mask covers).",
            "Images: the outline of the mask, and the map of each layer cell by cell. They are "
            "spread evenly over all images, not selected.",
        ]
        if any(Overlay(example.picture, example.box).framed for example in self.examples):
            notes.append("Dashes: the part of the picture that the network sees.")
        return [*notes, *self.marks.legend()]


def _size(example: MaskedImage) -> tuple[float, float]:
    """Return the width and height that an example is drawn in."""
    width, height = Overlay(example.picture, example.box).size(_IMAGE)
    scale = min(1.0, _IMAGE / max(width, height))
    return width * scale, height * scale


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
