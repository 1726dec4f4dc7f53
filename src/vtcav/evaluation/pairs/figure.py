"""Figure of pairs: measured effects against attributions, a row per concept, a column per layer."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from vtcav.evaluation.panels import frame, panels
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.figures.lettering import SMALL, labels
from vtcav.results.figures.page import own_style
from vtcav.results.figures.palette import BLUE
from vtcav.results.words import count, interval, value

if TYPE_CHECKING:
    from vtcav.evaluation.result import EvaluationResult

_PANEL = 2.1, 1.7  # inches
_NOTE = (
    "Measured: how far the class's logit falls without the thing. Grey: the same when as much of "
    "the picture is filled in elsewhere. Layers together: the fall when the concept's region is "
    "erased. rho: rank correlation with its 95 % interval over photographs."
)


@own_style()
def plot_pairs(pairs: EvaluationResult, figure: Figure) -> Figure:
    """Draw measured effects against attributions.

    Args:
        pairs: The numbers.
        figure: Emptied and sized to fit.

    Returns:
        The figure.
    """
    table = pairs.table
    found = {(row["layer"], row["concept"]): row for row in pairs.summary().to_dict("records")}
    layers = [*pairs.layers, *[TOGETHER] * (TOGETHER in set(table["layer"]))]
    images = table["image"].nunique()
    title = f"Measured effect of the thing in {count(images, 'pair')}, and attributions"
    size = max(1.2 + _PANEL[0] * len(layers), 4.5), 0.5 + _PANEL[1] * len(pairs.concepts)
    frame(figure, size, title, [_NOTE], [*layers, *pairs.concepts])
    grid = panels(figure, len(pairs.concepts), len(layers), sharey=True)
    names = labels(pairs.concepts, range(len(pairs.concepts)), 1.2)
    columns = labels(layers, range(len(layers)), 1.9)
    for i, concept in enumerate(pairs.concepts):
        grid[i][0].set_ylabel(f"{names[i]}\nmeasured")
        for j, layer in enumerate(layers):
            axes, row = grid[i][j], found[layer, concept]
            own = table[(table["layer"] == layer) & (table["concept"] == concept)]
            axes.axhline(0, color="0.85", linewidth=0.6, zorder=0)
            x = own["attribution"].to_numpy(float)
            axes.plot(x, own["placebo"], "o", color="0.75", markersize=2.5)
            axes.plot(x, own["measured"], "o", color=BLUE, markersize=3)
            ends = interval(row["spearman_low"], row["spearman_high"])
            text = f"rho {value(row['spearman'])}" + f" ({ends})" * bool(ends)
            text = "no correlation" if isnan(row["spearman"]) else text
            head = f"{columns[j]}\n{text}" if i == 0 else text
            axes.set_title(head, loc="left", size=SMALL)
    for axes in grid[-1]:
        axes.set_xlabel("attribution")
    return figure
