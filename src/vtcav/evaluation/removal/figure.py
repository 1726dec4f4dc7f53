"""Figure of concept deletion: the class logit against the share of a concept that is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vtcav.results.figures.footnotes import Marks
from vtcav.results.figures.lettering import LINE_HEIGHT, SMALL, labels
from vtcav.results.figures.page import MARGIN, Page, own_style
from vtcav.results.figures.palette import BLUE, MUTED
from vtcav.results.words import count, number

if TYPE_CHECKING:
    from vtcav.evaluation.result import EvaluationResult

__all__ = ["plot_deletion"]

# Inches.
_NAMES = 1.0
_TICKS = 0.4
_PANEL = 1.9, 1.25
_GAP = 0.2
_HEAD = 0.3

_CONTROL = "0.6"


@own_style()
def plot_deletion(
    removal: EvaluationResult,
    title: str,
    curves: pd.DataFrame,
    control_curves: pd.DataFrame,
    figure: Figure,
) -> Figure:
    """Draw deletion curves: a row per concept, a column per layer.

    Args:
        removal: The numbers.
        title: The title of the figure.
        curves: As `InsertionDeletion.curves`.
        control_curves: As `InsertionDeletion.control_curves`.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    _Drawing(removal, curves, control_curves).draw(figure, title)
    return figure


class _Drawing:
    """The parts of the figure, their sizes and positions in inches."""

    def __init__(
        self, found: EvaluationResult, curves: pd.DataFrame, control_curves: pd.DataFrame
    ) -> None:
        self.found, self.controls = found, control_curves
        rows = found.summary().to_dict("records")
        self.summary = {(row["layer"], row["concept"]): row for row in rows}
        means = curves.groupby(["layer", "concept", "t"], sort=False)["deletion_logit"].mean()
        self.means = means.reset_index()
        self.marks = Marks(row["note"] for row in rows)
        logits = pd.concat([self.means["deletion_logit"], self.controls["deletion_logit"]])
        low, high = float(logits.min()), float(logits.max())
        room = 0.08 * max(high - low, 1e-3)
        self.limits = low - room, high + room

    def draw(self, figure: Figure, title: str) -> None:
        layers, concepts = self.found.layers, self.found.concepts
        columns, rows = len(layers), len(concepts)
        width = 2 * MARGIN + _NAMES + _TICKS + columns * _PANEL[0] + (columns - 1) * _GAP
        width = max(width, 4.5)
        top = MARGIN + 4.5 * LINE_HEIGHT
        pitch = _HEAD + _PANEL[1] + _GAP
        bottom = top + LINE_HEIGHT * 1.5 + rows * pitch + 2.6 * LINE_HEIGHT
        names = [title, *layers, *concepts]
        page = Page(figure, width, bottom, self._footer(), names)
        below = f"mean over {count(self.found.table['image'].nunique(), 'image')}"
        if len(self.controls):
            below += f"; grey: {self.controls['control'].nunique()} random directions"
        page.title(title, below)
        left = MARGIN + _NAMES + _TICKS
        for j, name in enumerate(labels(layers, range(columns), _PANEL[0])):
            page.text(left + j * (_PANEL[0] + _GAP), top, name, weight="bold")
        for i, name in enumerate(labels(concepts, range(rows), 0.9 * _NAMES)):
            upper = top + 1.5 * LINE_HEIGHT + i * pitch
            page.text(MARGIN, upper + _HEAD + _PANEL[1] / 2, name, centred=True, weight="bold")
            for j, layer in enumerate(layers):
                x = left + j * (_PANEL[0] + _GAP)
                self._panel(page, layer, concepts[i], x, upper, ticks=j == 0)
        page.text(left, bottom - 1.5 * LINE_HEIGHT, "share t of the concept removed", color=MUTED)

    def _panel(
        self, page: Page, layer: str, concept: str, left: float, top: float, *, ticks: bool
    ) -> None:
        """Draw one concept at one layer, with its numbers above."""
        row = self.summary[layer, concept]
        numbers = ["relative area " + _number(row["relative_area"])]
        if len(self.controls):
            numbers.append("p " + _number(row["p_value"]))
        page.text(left, top, ", ".join(numbers) + self.marks.suffix(row["note"]))
        axes = page.axes(left, top + _HEAD - LINE_HEIGHT * 0.6, *_PANEL, f"{layer}/{concept}")
        for _, line in _of(self.controls, layer, concept).groupby("control"):
            axes.plot(line["t"], line["deletion_logit"], color=_CONTROL, linewidth=0.5)
        own = _of(self.means, layer, concept)
        axes.plot(own["t"], own["deletion_logit"], color=BLUE, linewidth=2.2)
        self._frame(axes, ticks=ticks)

    def _frame(self, axes: Axes, *, ticks: bool) -> None:
        axes.spines[["left", "bottom"]].set_visible(True)
        axes.set(xlim=(0, 1), ylim=self.limits, xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
        axes.tick_params(labelsize=SMALL, length=2.5, width=0.6)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        if not ticks:
            axes.tick_params(labelleft=False)

    def _footer(self) -> list[str]:
        notes = [
            "Relative area: under the curve, where the logit at t = 0 is 1 and that at zero "
            "feature maps is 0; 1 says that removing the concept changes nothing."
        ]
        if len(self.controls):
            notes.append(
                "Grey lines: as much is removed at the same positions, along the concept's "
                "direction with its channels permuted; p: how often these leave as small an area."
            )
        return [*notes, *self.marks.legend()]


def _number(value: float) -> str:
    return "none" if value != value else number(value)


def _of(table: pd.DataFrame, layer: str, concept: str) -> pd.DataFrame:
    return table[(table["layer"] == layer) & (table["concept"] == concept)]
