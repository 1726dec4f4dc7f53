"""How far class-mean values of a method follow class-mean causal effects: the numbers reported.

```
points (seed, q, class, cue, layer, method: value, share) -> per layer -> best, median -> over seeds
```
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vtcav.evaluation.correlation import interval_over_seeds, pair_order, pearson, spearman

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COEFFICIENTS", "by_layer", "by_seed", "local_agreement", "summarise"]

COEFFICIENTS = ("spearman", "pearson", "pair_order")


def by_layer(points: pd.DataFrame, truth: str = "share") -> pd.DataFrame:
    """Return the coefficients of every seed, method and layer.

    Args:
        points: Columns seed, method, layer, value and the truth, one row for every class, cue and
            agreement q.
        truth: The column that values are held against.

    Returns:
        Columns seed, method, layer, n, lost (points without a value), spearman, pearson,
        pair_order, note (why a coefficient is missing, or that points were left out).
    """
    import pandas as pd

    rows = []
    for (seed, method, layer), group in points.groupby(["seed", "method", "layer"], sort=False):
        known = group.dropna(subset=["value", truth])
        x, y = known["value"].to_numpy(), known[truth].to_numpy()
        rank, line, order = spearman(x, y), pearson(x, y), pair_order(x, y)
        lost = len(group) - len(known)
        notes = [f"{lost} of {len(group)} points have no value"] * (lost > 0)
        notes += dict.fromkeys(filter(None, [rank.note, line.note, order.note]))
        rows.append(
            {
                "seed": seed,
                "method": method,
                "layer": layer,
                "n": len(known),
                "lost": lost,
                "spearman": rank.value,
                "pearson": line.value,
                "pair_order": order.value,
                "note": "; ".join(notes),
            }
        )
    return pd.DataFrame(rows)


def by_seed(layers: pd.DataFrame) -> pd.DataFrame:
    """Return the best and the median layer of every seed and method, for each coefficient.

    Args:
        layers: What `by_layer` returns. A layer whose coefficient is missing counts as 0 (it says
            nothing about the order) for the median, so that a method gains nothing by failing.

    Returns:
        Columns seed, method, coefficient, best_layer, median_layer (values), best_layer_name,
        note.
    """
    import pandas as pd

    rows = []
    for (seed, method), group in layers.groupby(["seed", "method"], sort=False):
        for name in COEFFICIENTS:
            chance = 0.5 if name == "pair_order" else 0.0
            values = group[name].fillna(chance)
            missing = int(group[name].isna().sum())
            best = int(values.to_numpy().argmax())
            note = f"{missing} of {len(group)} layers have no coefficient, counted as {chance:g}"
            rows.append(
                {
                    "seed": seed,
                    "method": method,
                    "coefficient": name,
                    "best_layer": float(values.max()),
                    "median_layer": float(values.median()),
                    "best_layer_name": str(group["layer"].iloc[best]),
                    "note": note if missing else "",
                }
            )
    return pd.DataFrame(rows)


def local_agreement(images: pd.DataFrame) -> pd.DataFrame:
    """Return, per seed, method and layer, how far per-image values follow per-image effects.

    Args:
        images: Columns seed, q, class_index, cue, method, layer, value, share; one row per image.

    Returns:
        Columns seed, method, layer, n, spearman (over all images, cues and networks), within (mean
        of Spearman's coefficient inside every (q, class, cue), which the differences between
        classes and networks do not help), groups (of the latter that are defined), note.
    """
    import pandas as pd

    rows = []
    for (seed, method, layer), group in images.groupby(["seed", "method", "layer"], sort=False):
        known = group.dropna(subset=["value", "share"])
        whole = spearman(known["value"].to_numpy(), known["share"].to_numpy())
        inside = [
            spearman(one["value"].to_numpy(), one["share"].to_numpy()).value
            for _, one in known.groupby(["q", "class_index", "cue"])
        ]
        defined = [value for value in inside if not math.isnan(value)]
        lost = len(group) - len(known)
        notes = [f"{lost} of {len(group)} images have no value"] * (lost > 0) + [whole.note]
        notes += ["within: no group has a coefficient"] * (not defined)
        rows.append(
            {
                "seed": seed,
                "method": method,
                "layer": layer,
                "n": len(known),
                "spearman": whole.value,
                "within": float(np.mean(defined)) if defined else math.nan,
                "groups": len(defined),
                "note": "; ".join(filter(None, notes)),
            }
        )
    return pd.DataFrame(rows)


def summarise(seeds: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return, by method and coefficient, means over seeds with intervals, and each seed's values.

    Args:
        seeds: What `by_seed` returns.
    """
    found: dict[str, dict[str, Any]] = {}
    for (method, name), group in seeds.groupby(["method", "coefficient"], sort=False):
        entry: dict[str, Any] = {}
        for which in ("best_layer", "median_layer"):
            interval = interval_over_seeds(group[which], correlation=name != "pair_order")
            entry[which] = interval.value
            entry[f"{which}_interval"] = {
                "low": _known(interval.low),
                "high": _known(interval.high),
                "confidence": interval.confidence,
                "note": interval.note,
            }
        columns = ["seed", "best_layer", "median_layer", "best_layer_name", "note"]
        entry["per_seed"] = [
            {
                "seed": int(seed),
                "best_layer": best,
                "median_layer": median,
                "best": layer,
                "note": n,
            }
            for seed, best, median, layer, n in group[columns].itertuples(index=False, name=None)
        ]
        found.setdefault(str(method), {})[str(name)] = entry
    return found


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
