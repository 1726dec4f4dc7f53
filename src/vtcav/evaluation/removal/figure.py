"""Figure of concept deletion: the class logit against the share of a concept that is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from vtcav.evaluation.panels import frame, panels
from vtcav.results.figures.footnotes import Marks
from vtcav.results.figures.lettering import SMALL, labels
from vtcav.results.figures.page import own_style
from vtcav.results.figures.palette import BLUE
from vtcav.results.words import count, value

if TYPE_CHECKING:
    from vtcav.evaluation.result import EvaluationResult


_AREA = (
    "Relative area: under the curve, where the logit at t = 0 is 1 and that at zero feature maps "
    "is 0; 1 says that removing the concept changes nothing."
)
_GREY = (
    "Grey lines: the same amount is removed at the same positions, along the concept's direction "
    "with its channels permuted; p: the share of these with an area as small."
)
_PANEL = 2.1, 1.6  # inches


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
    layers, concepts, controlled = removal.layers, removal.concepts, len(control_curves) > 0
    summary = removal.summary().to_dict("records")
    rows = {(str(row["layer"]), str(row["concept"])): row for row in summary}
    marks = Marks(row["note"] for row in summary)
    title += f"\nmean over {count(curves['image'].nunique(), 'image')}"
    if controlled:
        title += f"; grey: {control_curves['control'].nunique()} random directions"
    size = max(1.2 + _PANEL[0] * len(layers), 4.5), 0.5 + _PANEL[1] * len(concepts)
    notes = [_AREA, *[_GREY] * controlled, *marks.legend()]
    frame(figure, size, title, notes, [title, *layers, *concepts])
    grid = panels(figure, len(concepts), len(layers), sharex=True, sharey=True)
    names = labels(concepts, range(len(concepts)), 1.0)
    columns = labels(layers, range(len(layers)), 1.9)
    for i, concept in enumerate(concepts):
        grid[i][0].set_ylabel(names[i], weight="bold")
        for j, layer in enumerate(layers):
            axes, row = grid[i][j], rows[layer, concept]
            numbers = f"relative area {value(row['relative_area'])}"
            numbers += f", p {value(row['p_value'])}" * controlled + marks.suffix(row["note"])
            title = f"{columns[j]}\n{numbers}" if i == 0 else numbers
            axes.set_title(title, loc="left", size=SMALL)
            axes.set(label=f"{layer}/{concept}", xlim=(0, 1), xticks=[0, 0.5, 1])
            for _, line in _of(control_curves, layer, concept).groupby("control"):
                axes.plot(line["t"], line["deletion_logit"], color="0.6", linewidth=0.5)
            own = _of(curves, layer, concept).groupby("t")["deletion_logit"].mean()
            axes.plot(own.index, own, color=BLUE, linewidth=2.2)
    for axes in grid[-1]:
        axes.set_xlabel("share t of the concept removed")
    return figure


def _of(table: pd.DataFrame, layer: str, concept: str) -> pd.DataFrame:
    return table[(table["layer"] == layer) & (table["concept"] == concept)]
