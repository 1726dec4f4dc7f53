"""Tables of an explanation, made from rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from vtcav.method.significance import q_values, unreachable
from vtcav.results.bank import CavBank

__all__ = [
    "BOOTSTRAP",
    "NULL",
    "SUBSET",
    "predictions",
    "printable",
    "resampled_means",
    "table",
    "with_q_values",
]

NULL, BOOTSTRAP = "null_cav", "bootstrap_cav"  # pandas reads a bare "null" as a missing value
SUBSET = "subset_cav"


def table(
    rows: Sequence[tuple[Any, ...]], columns: list[str], null_cavs: int | None = None
) -> pd.DataFrame:
    """Return rows as a table, with q-values over all of them.

    Args:
        rows: The rows.
        columns: The names of their values.
        null_cavs: How many null CAVs there are, to note what they cannot show.
    """
    return with_q_values(pd.DataFrame(rows, columns=columns), null_cavs)


def with_q_values(made: pd.DataFrame, null_cavs: int | None) -> pd.DataFrame:
    """Return a table with its q-values, and a note where none can be significant."""
    made["q_value"] = q_values(made["p_value"].to_numpy())
    tested = made["p_value"].notna()
    if null_cavs and (note := unreachable(int(tested.sum()), null_cavs)):
        parts = made.loc[tested, "note"]
        made.loc[tested, "note"] = [f"{part}; {note}" if part else note for part in parts]
    return made


def printable(
    table: pd.DataFrame, *last: str, middle: Sequence[str] = ("class_index", "note")
) -> pd.DataFrame:
    """Return a table in an order that prints well: what tells rows apart first, its numbers last.

    Of a table wider than the terminal pandas hides the columns in the middle.

    Args:
        table: The table. The first three of the other columns stay in front.
        last: Its main columns, the most important at the end.
        middle: Long texts, and what another column says too.

    Example:
        >>> rows = pd.DataFrame(columns=["layer", "mean", "n", "note"])
        >>> list(printable(rows, "mean"))
        ['layer', 'n', 'note', 'mean']
    """
    others = [name for name in table if name not in (*last, *middle)]
    hidden = [name for name in middle if name in table]
    return table[[*others[:3], *hidden, *others[3:], *last]]


def resampled_means(
    cavs: CavBank, sums: Mapping[str, NDArray[np.float64]], images: int
) -> pd.DataFrame:
    """Return the mean attribution over images of every null, bootstrap and subset CAV."""
    rows = [
        (layer, concept, kind, draw, sums[layer][column] / images)
        for layer in cavs.layers
        for k, concept in enumerate(cavs.names)
        for kind, draws in (
            (NULL, cavs.resampling.null[k]),
            (BOOTSTRAP, cavs.resampling.bootstrap[k]),
            (SUBSET, cavs.resampling.subset[k]),
        )
        for draw, column in enumerate(draws)
    ]
    return pd.DataFrame(rows, columns=["layer", "concept", "kind", "draw", "mean"])


def predictions(probabilities: Tensor, names: Sequence[str]) -> pd.DataFrame:
    """Return the classes [T_all] with their probabilities, the most probable first."""
    order = probabilities.argsort(descending=True, stable=True).tolist()
    return pd.DataFrame(
        {
            "class_index": order,
            "class_name": [names[i] for i in order],
            "probability": probabilities[order].double().numpy(),
        }
    )
