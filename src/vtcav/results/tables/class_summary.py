"""Means over the images of a class, with intervals and tests (step 10), and by group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan, nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vtcav.method.clusters import mean_estimate
from vtcav.method.significance import ALL_EQUAL, q_values, significance, student_interval
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.effect_tables import GROUP
from vtcav.results.tables.image_rows import ImageRows, Pair
from vtcav.results.tables.shapes import with_q_values
from vtcav.results.words import counted_notes

NULL, BOOTSTRAP = "null_cav", "bootstrap_cav"  # pandas reads a bare "null" as a missing value
SUBSET = "subset_cav"
NEEDED = "attribution", "p_value", "separated", "seen", "raised", "presence", "note"
"""The columns of attributions that a summary takes."""


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


def pairs_of(
    rows: ImageRows,
    columns: Sequence[str],
    groups: Mapping[str, str],
    layer: str | None = None,
) -> Iterator[tuple[Pair, pd.DataFrame]]:
    """Yield the rows of each layer and concept, with the images' groups where there are any.

    Args:
        rows: The rows of images.
        columns: The columns that are needed.
        groups: The group of each image by its name; empty where every image is its own.
        layer: The only layer; None for all.
    """
    yield from rows.by_pair(columns, layer, groups)


def class_summary(
    pairs: Iterable[tuple[Pair, pd.DataFrame]], resampled: pd.DataFrame, confidence: float
) -> pd.DataFrame:
    """Return one row per layer and concept.

    Args:
        pairs: Attributions of each layer and concept, one row per image, with `NEEDED` columns.
        resampled: Means over the same images of null, bootstrap and subset CAVs: layer,
            concept, kind, draw, mean.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        The columns of `GlobalExplanation.summary`.
    """
    draws = dict(iter(resampled.groupby(["layer", "concept", "kind"], sort=False)))
    summary = []
    for (layer, concept), group in pairs:
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


def group_means(
    pairs: Iterable[tuple[Pair, pd.DataFrame]], value: str, confidence: float
) -> pd.DataFrame:
    """Return one row per group, layer and concept: the mean of a column with its interval.

    Args:
        pairs: Rows of each layer and concept, one an image, with the image's group.
        value: The column.
        confidence: Of the intervals, between 0 and 1.
    """
    found: dict[Any, list[dict[str, Any]]] = {}  # by group, in the order of the images
    for (layer, concept), rows in pairs:
        for group, own in rows.groupby(GROUP, sort=False):
            estimate = mean_estimate(own[value].to_numpy(float))
            low, high = estimate.interval(confidence)
            row = {GROUP: group, "layer": layer, "concept": concept, "n": len(own)}
            row |= {"mean": estimate.value, "ci_low": low, "ci_high": high}
            found.setdefault(group, []).append(row)
    columns = [GROUP, "layer", "concept", "n", "mean", "ci_low", "ci_high"]
    return pd.DataFrame([row for rows in found.values() for row in rows], columns=columns)


def group_tests(pairs: Iterable[tuple[Pair, pd.DataFrame]], value: str) -> pd.DataFrame:
    """Return one row per layer and concept: whether a column differs between groups of images.

    It is the rank test of Kruskal and Wallis over the groups of at least two images.

    Args:
        pairs: Rows of each layer and concept, one an image, with the image's group.
        value: The column.
    """
    from scipy.stats import kruskal

    found = []
    for (layer, concept), own in pairs:
        parts = [part.to_numpy(float) for _, part in own.groupby(GROUP)[value] if len(part) > 1]
        row = {"layer": layer, "concept": concept, "groups": len(parts)}
        row |= {"n": sum(map(len, parts)), "p_value": nan, "note": ""}
        if len(parts) < 2:
            row["note"] = FEW_GROUPS
        elif np.isnan(np.concatenate(parts)).any():
            row["note"] = NO_VALUES
        elif np.ptp(np.concatenate(parts)) == 0:
            row["note"] = ONE_VALUE
        else:
            row["p_value"] = float(kruskal(*parts).pvalue)
        found.append(row)
    table = pd.DataFrame(found, columns=["layer", "concept", "groups", "n", "p_value", "note"])
    table.insert(5, "q_value", q_values(table["p_value"].to_numpy(float)))
    return table


FEW_GROUPS = "fewer than two groups of at least two images"
NO_VALUES = "some images have no value"
ONE_VALUE = "all images have the same value"


def _note(notes: pd.Series[str], n: int, *, no_effect: bool) -> str:
    """Return the notes on the mean, and those of the images with their counts."""
    found = ["one image: no spread, no interval"] if n == 1 else []
    found += [ALL_EQUAL] if no_effect else []
    found += [part for part in counted_notes(notes) if not part.endswith(ALL_EQUAL)]
    return "; ".join(found)


def named_draws(resampled: pd.DataFrame) -> pd.DataFrame:
    """Return resampled means as they are named now: "null" and "bootstrap" before."""
    kinds = {"null": NULL, "bootstrap": BOOTSTRAP}
    return resampled.assign(kind=resampled["kind"].astype(str).replace(kinds))
