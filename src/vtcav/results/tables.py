"""Tables of an explanation: from rows, in other shapes, as a summary (step 10), and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from vtcav.files.manifest import read_table
from vtcav.files.schema import checked_table
from vtcav.method.clusters import mean_estimate
from vtcav.method.significance import (
    ALL_EQUAL,
    q_values,
    significance,
    student_interval,
    unreachable,
)
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.effect_tables import GROUP
from vtcav.results.saved import COLUMNS
from vtcav.results.words import CLASS_NOT_RAISED, counted_notes, distinct_names

NULL, BOOTSTRAP = "null_cav", "bootstrap_cav"  # pandas reads a bare "null" as a missing value
SUBSET = "subset_cav"
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


def class_summary(rows: pd.DataFrame, resampled: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Return one row per layer and concept.

    Args:
        rows: Attributions, one row per image, layer and concept.
        resampled: Means over the same images of null, bootstrap and subset CAVs: layer,
            concept, kind, draw, mean.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        The columns of `GlobalExplanation.summary`.
    """
    draws = dict(iter(resampled.groupby(["layer", "concept", "kind"], sort=False)))
    summary = []
    for (layer, concept), group in rows.groupby(["layer", "concept"], sort=False):
        means = [
            draws.get((layer, concept, kind), resampled[:0])["mean"].to_numpy()
            for kind in (NULL, BOOTSTRAP, SUBSET)
        ]
        row = _row(group, means, confidence)
        summary.append({"layer": layer, "concept": concept, **row})
    most = max((len(null) for (_, _, kind), null in draws.items() if kind == NULL), default=0)
    return with_q_values(pd.DataFrame(summary), most)


def _row(
    rows: pd.DataFrame, resampled: list[NDArray[np.float64]], confidence: float
) -> dict[str, Any]:
    """Return the mean over images of one concept at one layer, with intervals and test."""
    values = rows["attribution"].to_numpy()
    n, mean = len(values), float(values.mean())
    std = float(values.std(ddof=1)) if n > 1 else nan
    sem, (low, high) = std / n**0.5, (nan, nan)
    if GROUP in rows:
        estimate = mean_estimate(values, rows[GROUP].tolist())
        sem, (low, high) = estimate.error, estimate.interval(confidence)
    elif n > 1:
        _, low, high = student_interval(values, confidence)
    testable = bool(rows["p_value"].notna().any())
    judged = significance(mean, *resampled, testable=testable, confidence=confidence)
    no_effect = len(resampled[0]) > 0 and isnan(judged["effect"])
    return {
        "n": n,
        "mean": mean,
        "std": std,
        "sem": sem,
        "ci_low": low,
        "ci_high": high,
        **judged,
        "q_value": nan,
        "separated": bool(rows["separated"].iloc[0]),
        "seen": float(rows["seen"].iloc[0]),
        "raised": float(rows["raised"].mean()),
        "presence": float(rows["presence"].mean()),
        "note": _note(rows["note"], n, no_effect=no_effect),
    }


def group_means(rows: pd.DataFrame, value: str, confidence: float) -> pd.DataFrame:
    """Return one row per group, layer and concept: the mean of a column with its interval.

    Args:
        rows: One row per image, layer and concept, with the image's group.
        value: The column.
        confidence: Of the intervals, between 0 and 1.
    """
    found = []
    for (group, layer, concept), own in rows.groupby([GROUP, "layer", "concept"], sort=False):
        estimate = mean_estimate(own[value].to_numpy(float))
        low, high = estimate.interval(confidence)
        row = {GROUP: group, "layer": layer, "concept": concept, "n": len(own)}
        found.append(row | {"mean": estimate.value, "ci_low": low, "ci_high": high})
    columns = [GROUP, "layer", "concept", "n", "mean", "ci_low", "ci_high"]
    return pd.DataFrame(found, columns=columns)


def group_tests(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return one row per layer and concept: whether a column differs between groups of images.

    It is the rank test of Kruskal and Wallis over the groups of at least two images.

    Args:
        rows: One row per image, layer and concept, with the image's group.
        value: The column.
    """
    from scipy.stats import kruskal

    found = []
    for (layer, concept), own in rows.groupby(["layer", "concept"], sort=False):
        parts = [part.to_numpy(float) for _, part in own.groupby(GROUP)[value] if len(part) > 1]
        row = {"layer": layer, "concept": concept, "groups": len(parts)}
        row |= {"n": sum(map(len, parts)), "p_value": nan, "note": ""}
        if len(parts) < 2:
            row["note"] = FEW_GROUPS
        elif np.isnan(np.concatenate(parts)).any():
            row["note"] = NO_VALUES
        elif np.ptp(np.concatenate(parts)) == 0:
            row["note"] = ALL_EQUAL
        else:
            row["p_value"] = float(kruskal(*parts).pvalue)
        found.append(row)
    table = pd.DataFrame(found, columns=["layer", "concept", "groups", "n", "p_value", "note"])
    table.insert(5, "q_value", q_values(table["p_value"].to_numpy(float)))
    return table


FEW_GROUPS = "fewer than two groups of at least two images"
NO_VALUES = "some images have no value"


def _note(notes: pd.Series[str], n: int, *, no_effect: bool) -> str:
    """Return the notes on the mean, and those of the images with their counts."""
    found = ["one image: no spread, no interval"] if n == 1 else []
    found += [ALL_EQUAL] if no_effect else []
    found += [part for part in counted_notes(notes) if not part.endswith(ALL_EQUAL)]
    return "; ".join(found)
