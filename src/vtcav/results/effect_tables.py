"""Tables of effects: how far a class's score falls when a concept is erased from images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vtcav.files.manifest import read_table
from vtcav.method.erasure.effect import mean_p_value
from vtcav.method.significance import q_values, student_interval
from vtcav.results.rows import EffectRow
from vtcav.results.words import counted_notes

__all__ = ["class_effects", "effect_table", "read_effects"]


def effect_table(rows: Sequence[EffectRow] = ()) -> pd.DataFrame:
    """Return rows as a table, with q-values over all of them."""
    table = pd.DataFrame(rows, columns=list(EffectRow._fields))
    return table.assign(q_value=q_values(table["p_value"].to_numpy(float)))


def read_effects(folder: str | Path, name: str) -> pd.DataFrame:
    """Return the effects of a saved explanation; older ones have none."""
    stem = Path(folder) / name
    return read_table(stem) if stem.with_suffix(".parquet").exists() else effect_table()


def class_effects(effects: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return one row per layer and concept: the effect over the images of a class.

    Args:
        effects: `GlobalExplanation.effects`.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        The columns of `GlobalExplanation.class_effects`.
    """
    summary = [
        {"layer": layer, "concept": concept, **_row(rows, confidence)}
        for (layer, concept), rows in effects.groupby(["layer", "concept"], sort=False)
    ]
    columns = ["layer", "concept", *_row(effects[:0], confidence)]
    table = pd.DataFrame(summary, columns=columns)
    return table.assign(q_value=q_values(table["p_value"].to_numpy(float)))


def _row(rows: pd.DataFrame, confidence: float) -> dict[str, Any]:
    """Return the mean effect over images of one concept."""
    drops = rows["drop"].to_numpy(float)
    low, high = _interval(drops, confidence)
    # the share of means: an image whose own gap is below 0 counts with what it has
    gap = float((rows["logit"] - rows["reference"]).mean())
    total = gap if gap > 0 else math.nan
    tested = rows["placebo_mean"].notna()
    return {
        "n": len(rows),
        "drop": float(drops.mean()) if len(drops) else math.nan,
        "drop_low": low,
        "drop_high": high,
        "fill_low": float(rows["drop_low"].mean()),
        "fill_high": float(rows["drop_high"].mean()),
        "gap": gap,
        "share": float(drops.mean()) / total if len(drops) else math.nan,
        "share_low": low / total,
        "share_high": high / total,
        "probability": float(rows["probability"].mean()),
        "probability_without": float(rows["probability_without"].mean()),
        "present": float((rows["area"] > 0).mean()),
        "area": float(rows["area"].mean()),
        "seen": float(rows["seen"].mean()),
        "placebo_mean": float(rows.loc[tested, "placebo_mean"].mean()),
        "p_value": _p_value(rows[tested]),
        "q_value": math.nan,
        "note": "; ".join(counted_notes(rows["note"])),
    }


def _interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return the ends of Student's interval of a mean; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    _, low, high = student_interval(values, confidence)
    return low, high


def _p_value(rows: pd.DataFrame) -> float:
    """Return the p-value of the mean drop of images whose regions have placebos."""
    if rows.empty:
        return math.nan
    if len(rows) == 1:
        return float(rows["p_value"].iloc[0])
    drops, means, deviations = (
        rows[name].to_numpy(float) for name in ("drop", "placebo_mean", "placebo_std")
    )
    return mean_p_value(drops, means, deviations, int(rows["placebos"].min()))
