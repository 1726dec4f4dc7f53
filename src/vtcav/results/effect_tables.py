"""Tables of effects: how far a class's score falls when a concept is erased from images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vtcav.files.manifest import read_table
from vtcav.files.schema import checked_table
from vtcav.method.clusters import mean_estimate
from vtcav.method.erasure.effect import mean_test
from vtcav.method.significance import q_values, student_interval
from vtcav.results.rows import EffectRow, names_of
from vtcav.results.saved import COLUMNS
from vtcav.results.words import counted_notes, listed

TOGETHER = "layers together"
"""The layer of an effect whose region comes from the maps of several layers."""
_COLUMNS = EffectRow._fields
_ABOUT = "image", "layer", "concept", "class_index", "class_name", "share", "q_value"
NEEDED = tuple(name for name in _COLUMNS if name not in _ABOUT)
"""The columns of effects that those of a class take."""
_OF_NUMBERS = {"drop": ["logit", "without"], "share": ["drop", "logit", "reference"]}
"""The columns that have a number wherever another one has."""
LEAST_SHARED = 0.25
"""The share of an effect below which overlapping regions are left out."""
GROUP = "group"
"""The column that images of a group have in common."""
_SUMMARY = ["drop", "drop_low", "drop_high", "share", "share_low", "share_high"]


def effect_table(rows: Sequence[EffectRow] = ()) -> pd.DataFrame:
    """Return rows as a table, with q-values over all of them."""
    table = pd.DataFrame(rows, columns=list(EffectRow._fields))
    return table.assign(q_value=q_values(table["p_value"].to_numpy(float)))


def of_pictures(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of effects that come from filled-in pictures.

    The others, of single layers, come from feature maps: they find too little, and nothing but
    tables may speak of them.
    """
    return effects[effects["layer"] == TOGETHER]


def read_effects(
    folder: str | Path, name: str, names: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """Return the effects of a saved explanation; older ones have none.

    Args:
        folder: The folder.
        name: The table's name.
        names: Its layers and concepts; None for any.

    Raises:
        ValueError: Naming the first column that does not fit.
    """
    stem = Path(folder) / name
    if not stem.with_suffix(".parquet").exists():
        return effect_table()
    table = read_table(stem)
    if "same_region" not in table:  # older files
        table = table.assign(reference_std=math.nan, same_region="")
    if "confused_with" not in table:
        table = table.assign(confused_with="")
    if "drop_apart" not in table:
        table = table.assign(told=math.nan, drop_apart=math.nan, area_apart=math.nan)
    effects = checked_effects(table, name, names)
    if found := set(of_pictures(effects)["concept"]):
        for concept in (names or {}).get("concept", ()):
            if concept not in found:
                wanted = f"a row for each concept, found none of {concept!r}"
                raise ValueError(f"{name}: expected {wanted}")
    return effects


def checked_effects(
    table: pd.DataFrame, name: str, names: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """Return effects that were read from a file, with their columns in their kinds.

    Args:
        table: The rows.
        name: The table's name.
        names: Its layers and concepts; None for any.

    Raises:
        ValueError: Naming the first column that does not fit.
    """
    known = dict(names or {})
    if "layer" in known:
        known["layer"] = (*known["layer"], TOGETHER)
    table = checked_table(table, name, {column: COLUMNS[column] for column in _COLUMNS}, known)
    # a change is that of a score, and a share is that of its distance from the negatives'
    for column, needed in _OF_NUMBERS.items():
        if table.loc[table[column].notna(), needed].isna().to_numpy().any():
            raise ValueError(
                f"{name}: expected numbers in {listed(needed)} wherever {column} has one"
            )
    return table


def class_effects(
    pairs: Iterable[tuple[tuple[str, str], pd.DataFrame]], confidence: float = 0.95
) -> pd.DataFrame:
    """Return one row per layer and concept: the effect over the images of a class.

    Args:
        pairs: Effects of each layer and concept, one row per image, with `NEEDED` columns.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        The columns of `GlobalExplanation.class_effects`.
    """
    summary = [
        {"layer": layer, "concept": concept, **_row(rows, confidence)}
        for (layer, concept), rows in pairs
    ]
    columns = ["layer", "concept", *_row(effect_table(), confidence)]
    table = pd.DataFrame(summary, columns=columns)
    return table.assign(
        q_value=q_values(table["p_value"].to_numpy(float)),
        q_apart=q_values(table["p_apart"].to_numpy(float)),
    )


def group_effects(
    pairs: Iterable[tuple[tuple[str, str], pd.DataFrame]], confidence: float = 0.95
) -> pd.DataFrame:
    """Return one row per group, layer and concept: the effect over the images of the group.

    Args:
        pairs: As for `class_effects`, with the images' groups.
        confidence: Of the intervals, between 0 and 1.
    """
    rows = [
        {GROUP: group, "layer": layer, "concept": concept}
        # the images of a group are all of it
        | _row(own.drop(columns=GROUP), confidence, images)
        for (layer, concept), images in pairs
        for group, own in images.groupby(GROUP, sort=False)
    ]
    return pd.DataFrame(
        rows, columns=[GROUP, "layer", "concept", *_row(effect_table(), confidence)]
    )


def with_effects(summary: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """Return a summary with the effect of erasing each concept, which is the same at every layer.

    Args:
        summary: One row per layer and concept.
        effects: The table of `class_effects`.
    """
    together = effects[effects["layer"] == TOGETHER].set_index("concept")[_SUMMARY]
    return summary.join(together, on="concept")


def _row(
    rows: pd.DataFrame, confidence: float, others: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Return the mean effect over images of one concept.

    Args:
        rows: The rows of the images.
        confidence: Of the intervals, between 0 and 1.
        others: More rows, which tell what the fill changes where none of the images do.
    """
    drop, low, high = _mean(rows, "drop", confidence)
    present = float((rows["area"] > 0).mean())
    # the share of means: an image whose own gap is below 0 counts with what it has
    gap = float((rows["logit"] - rows["reference"]).mean())
    spread = float(rows["reference_std"].mean())
    total = math.nan if gap <= 0 or gap <= spread else gap
    tested = rows[rows["placebos"] > 0]
    filled = next((each for each in map(_filled, (rows, others)) if len(each)), rows[:0])
    effect, p_value = _test(tested)
    return {
        "n": len(rows),
        "groups": rows[GROUP].nunique() if GROUP in rows else 0,
        "drop": drop,
        "drop_low": low,
        "drop_high": high,
        "fill_low": drop + _fill_offset(filled, "drop_low", present),
        "fill_high": drop + _fill_offset(filled, "drop_high", present),
        "gap": gap,
        "share": drop / total,
        "share_low": low / total,
        "share_high": high / total,
        "probability": float(rows["probability"].mean()),
        "probability_without": float(rows["probability_without"].mean()),
        "present": present,
        "area": float(rows["area"].mean()),
        "same_region": _same_region(rows),
        "confused_with": next(filter(None, rows["confused_with"]), ""),
        **_apart(rows, tested, confidence),
        "seen": float(rows["seen"].mean()),
        # as if the others, where nothing is erased, had placebos as well
        "placebo_mean": float(tested["placebo_mean"].mean()) * present,
        "effect": effect,
        "p_value": p_value,
        "q_value": math.nan,
        "note": "; ".join(counted_notes(rows["note"])),
    }


def _mean(rows: pd.DataFrame, column: str, confidence: float) -> tuple[float, float, float]:
    """Return the mean of a column over images, and the ends of its interval."""
    values = rows[column].to_numpy(float)
    mean = float(values.mean()) if len(values) else math.nan
    if GROUP in rows and len(values):
        return mean, *mean_estimate(values, rows[GROUP].tolist()).interval(confidence)
    return mean, *_interval(values, confidence)


def _apart(rows: pd.DataFrame, tested: pd.DataFrame, confidence: float) -> dict[str, float]:
    """Return the mean effect of the parts of regions that are told to be the concept's.

    Args:
        rows: The rows of the images.
        tested: Those that have placebos. These are as large as the whole region, and change the
            score no less than smaller ones would.
        confidence: Of the intervals.
    """
    drop, low, high = _mean(rows, "drop_apart", confidence)
    told = rows["told"].to_numpy(float)
    contested = told[~np.isnan(told)]
    return {
        "told": float(contested.mean()) if len(contested) else math.nan,
        "drop_apart": drop,
        "drop_apart_low": low,
        "drop_apart_high": high,
        "present_apart": float((rows["area_apart"] > 0).mean()),
        "p_apart": math.nan if tested.empty else _mean_test(tested, "drop_apart")[1],
        "q_apart": math.nan,
    }


def beyond_elsewhere(row: Mapping[Any, Any]) -> bool:
    """Tell whether the interval of an effect leaves out what regions of the same size do.

    Args:
        row: Has drop_low, drop_high and placebo_mean.

    Example:
        >>> beyond_elsewhere({"drop_low": 1.0, "drop_high": 2.0, "placebo_mean": 0.4})
        True
    """
    low, high = (row[end] - row["placebo_mean"] for end in ("drop_low", "drop_high"))
    return bool(low * high > 0)


def _filled(rows: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rows of images whose regions are filled in all ways."""
    if rows is None:
        return pd.DataFrame()
    return rows[(rows["area"] > 0) & rows["drop_low"].notna() & rows["drop_high"].notna()]


def _fill_offset(filled: pd.DataFrame, end: str, present: float) -> float:
    """Return how far the mean drop moves in the worst way to fill.

    Args:
        filled: Rows of images whose regions are filled in all ways.
        end: "drop_low" or "drop_high".
        present: The share of images that show the concept; the others stay as they are.
    """
    if filled.empty:
        return math.nan if present else 0.0
    return float((filled[end] - filled["drop"]).mean()) * present


def _same_region(rows: pd.DataFrame) -> str:
    """Return the concepts that are erased as well where much of the effect comes from, as JSON.

    Each has the share of the effect that comes from images in which the regions overlap; where
    nothing changes at all, the share of the images.
    """
    found = rows[rows["area"] > 0]
    weights = found["drop"].abs().to_numpy(float)
    if not weights.sum() > 0:  # of NaN, too
        weights = np.ones(len(found))
    shares: dict[str, float] = {}
    for names, weight in zip(map(names_of, found["same_region"]), weights, strict=True):
        for name in names:
            shares[name] = shares.get(name, 0.0) + weight / weights.sum()
    most = {name: round(float(share), 3) for name, share in shares.items() if share > LEAST_SHARED}
    return json.dumps(most, ensure_ascii=False) if most else ""


def _interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the ends of Student's interval of a mean; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    _, low, high = student_interval(values, confidence)
    return low, high


def _test(rows: pd.DataFrame) -> tuple[float, float]:
    """Return effect and p-value of the mean drop of images whose regions have placebos."""
    if rows.empty:
        return math.nan, math.nan
    if len(rows) == 1:
        return float(rows["effect"].iloc[0]), float(rows["p_value"].iloc[0])
    return _mean_test(rows, "drop")


def _mean_test(rows: pd.DataFrame, drop: str) -> tuple[float, float]:
    drops, means, deviations, placebos = (
        rows[name].to_numpy(float) for name in (drop, "placebo_mean", "placebo_std", "placebos")
    )
    return mean_test(drops, means, deviations, placebos)
