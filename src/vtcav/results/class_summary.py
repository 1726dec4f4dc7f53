"""Summary of a class: mean attributions over its images (step 10), with intervals and tests."""

from __future__ import annotations

from math import isnan, nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vtcav.method.significance import ALL_EQUAL, significance, student_interval
from vtcav.results.tables import BOOTSTRAP, NULL, SUBSET, with_q_values
from vtcav.results.words import counted_notes


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
    _, low, high = student_interval(values, confidence) if n > 1 else (mean, nan, nan)
    testable = bool(rows["p_value"].notna().any())
    judged = significance(mean, *resampled, testable=testable, confidence=confidence)
    no_effect = len(resampled[0]) > 0 and isnan(judged["effect"])
    return {
        "n": n,
        "mean": mean,
        "std": std,
        "sem": std / n**0.5,
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


def _note(notes: pd.Series[str], n: int, *, no_effect: bool) -> str:
    """Return the notes on the mean, and those of the images with their counts."""
    found = ["one image: no spread, no interval"] if n == 1 else []
    found += [ALL_EQUAL] if no_effect else []
    found += [part for part in counted_notes(notes) if not part.endswith(ALL_EQUAL)]
    return "; ".join(found)
