"""Summary of a class: mean attributions over its images (step 10), with intervals and tests."""

from __future__ import annotations

from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vtcav.method.significance import (
    ALL_EQUAL,
    bootstrap_interval,
    effect_size,
    p_value,
    student_interval,
)
from vtcav.results.tables import BOOTSTRAP, NULL, SUBSET, with_q_values
from vtcav.results.words import counted_notes

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["class_summary"]


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
    import pandas as pd

    draws = dict(iter(resampled.groupby(["layer", "concept", "kind"], sort=False)))
    summary = []
    for (layer, concept), group in rows.groupby(["layer", "concept"], sort=False):
        null, bootstrap, subset = (
            draws.get((layer, concept, kind), resampled[:0])["mean"].to_numpy()
            for kind in (NULL, BOOTSTRAP, SUBSET)
        )
        row = _row(group, null, bootstrap, subset, confidence)
        summary.append({"layer": layer, "concept": concept, **row})
    most = max((len(null) for (_, _, kind), null in draws.items() if kind == NULL), default=0)
    return with_q_values(pd.DataFrame(summary), most)


def _row(
    rows: pd.DataFrame,
    null: NDArray[np.float64],
    bootstrap: NDArray[np.float64],
    subset: NDArray[np.float64],
    confidence: float,
) -> dict[str, Any]:
    """Return the mean over images of one concept at one layer, with intervals and test."""
    values = rows["attribution"].to_numpy()
    testable = len(null) > 0 and bool(rows["p_value"].notna().any())
    n, mean = len(values), float(values.mean())
    std = float(values.std(ddof=1)) if n > 1 else nan
    _, low, high = student_interval(values, confidence) if n > 1 else (mean, nan, nan)
    cav_low, cav_high = bootstrap_interval(mean, bootstrap, confidence)
    compared = float(subset[0]) if len(subset) else mean
    effect = effect_size(compared, null) if len(null) else nan
    return {
        "n": n,
        "mean": mean,
        "std": std,
        "sem": std / n**0.5,
        "ci_low": low,
        "ci_high": high,
        "cav_low": cav_low,
        "cav_high": cav_high,
        "null_mean": float(null.mean()) if len(null) else nan,
        "effect": effect,
        "p_value": (p_value(compared, null) if testable else nan),
        "q_value": nan,
        "separated": bool(rows["separated"].iloc[0]),
        "note": _note(rows["note"], n, no_effect=len(null) > 0 and isnan(effect)),
    }


def _note(notes: pd.Series[str], n: int, *, no_effect: bool) -> str:
    """Return the notes on the mean, and those of the images with their counts."""
    found = ["one image: no spread, no interval"] if n == 1 else []
    found += [ALL_EQUAL] if no_effect else []
    found += [part for part in counted_notes(notes) if not part.endswith(ALL_EQUAL)]
    return "; ".join(found)
