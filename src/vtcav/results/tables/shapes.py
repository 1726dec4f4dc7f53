"""Tables of an explanation: from rows, in other shapes, from files, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from vtcav.files.manifest import read_table
from vtcav.files.schema import checked_table
from vtcav.method.significance import (
    q_values,
    unreachable,
)
from vtcav.results.saved import COLUMNS
from vtcav.results.words import CLASS_NOT_RAISED, distinct_names

EFFECT_NUMBERS = "p_value", "q_value", "share", "drop"
"""The main columns of effects, in the order of `printable`."""


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


def read_attributions(
    folder: str | Path, name: str, columns: Sequence[str], names: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Return the attributions of a saved explanation, with the columns that older ones lack.

    Args:
        folder: The folder.
        name: The table's name.
        columns: Its columns.
        names: Its layers and concepts.

    Raises:
        ValueError: Naming the first column that does not fit.
    """
    rows = read_table(Path(folder) / name)
    if "raised" not in rows:
        raised = ~rows["note"].str.contains(CLASS_NOT_RAISED, regex=False).astype(bool)
        after = list(rows).index("separated") + 1
        rows.insert(after, "seen", np.nan)
        rows.insert(after + 1, "raised", raised)
    if "presence" not in rows:
        rows.insert(list(rows).index("raised") + 1, "presence", np.nan)
    return checked_attributions(rows, name, columns, names)


def checked_attributions(
    rows: pd.DataFrame, name: str, columns: Sequence[str], names: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Return attributions that were read from a file, with their columns in their kinds.

    Args:
        rows: The rows.
        name: The table's name.
        columns: Its columns.
        names: Its layers and concepts.

    Raises:
        ValueError: Naming the first column that does not fit.
    """
    return checked_table(rows, name, {column: COLUMNS[column] for column in columns}, names)


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


def json_text(content: Mapping[str, Any]) -> str:
    """Return plain data as strict JSON, without NaN, in UTF-8 letters."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def by_class(rows: pd.DataFrame) -> pd.DataFrame:
    """Return attributions with a row per layer and concept and a column per class, in their order.

    Args:
        rows: With layer, concept, class_index, class_name and attribution.

    Example:
        >>> rows = [("l", "c", 4, "crane", 0.5), ("l", "c", 7, "crane", 0.25)]
        >>> names = ["layer", "concept", "class_index", "class_name", "attribution"]
        >>> print(by_class(pd.DataFrame(rows, columns=names)).to_string(index=False))
        layer concept  crane  crane [2]
            l       c    0.5       0.25
    """
    keys = ["layer", "concept"]
    classes = rows.drop_duplicates("class_index")
    wide = rows.pivot(index=keys, columns="class_index", values="attribution")
    order = rows[keys].drop_duplicates()
    wide = wide.loc[list(order.itertuples(index=False, name=None)), classes["class_index"]]
    wide.columns = distinct_names([*keys, *map(str, classes["class_name"])])[2:]
    return wide.reset_index()


def by_image(rows: pd.DataFrame, layers: Sequence[str], concepts: Sequence[str]) -> pd.DataFrame:
    """Return attributions with a row per image and a column per layer and concept.

    Args:
        rows: Ordered by image, then by layer, then by concept.
        layers: In their order.
        concepts: In their order.
    """
    columns = pd.MultiIndex.from_product([layers, concepts], names=["layer", "concept"])
    values = rows["attribution"].to_numpy().reshape(-1, len(columns))
    images = pd.Index(rows["image"].iloc[:: len(columns)], name="image")
    return pd.DataFrame(values, index=images, columns=columns)
