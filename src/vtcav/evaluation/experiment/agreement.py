"""Agreement of class-mean values with class-mean causal effects: the numbers reported.

```
points (seed, q, class, cue, layer, method: value, share) -> per layer -> best, median -> over seeds
```

To add a coefficient, add an entry to `COEFFICIENTS`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vtcav.evaluation.correlation import (
    Correlation,
    PairOrder,
    interval_over_seeds,
    pair_order,
    pearson,
    spearman,
)
from vtcav.evaluation.result import by_group

if TYPE_CHECKING:
    import pandas as pd


class _Coefficient(NamedTuple):
    """A measure of agreement.

    Attributes:
        title: Its name in tables.
        of: Computes it from estimates and truth.
        chance: Its value for uninformative estimates.
    """

    title: str
    of: Callable[[ArrayLike, ArrayLike], Correlation | PairOrder]
    chance: float


COEFFICIENTS = {
    "spearman": _Coefficient("Spearman", spearman, 0.0),
    "pearson": _Coefficient("Pearson", pearson, 0.0),
    "pair_order": _Coefficient("pairs ordered correctly", pair_order, 0.5),
}


def by_layer(points: pd.DataFrame, truth: str = "share") -> pd.DataFrame:
    """Return the coefficients of every seed, method and layer.

    Args:
        points: Columns seed, method, layer, value and the truth, one row for every class, cue and
            agreement q.
        truth: The column that values are compared with.

    Returns:
        Columns seed, method, layer, n, lost (points without a value), spearman, pearson,
        pair_order, note (why a coefficient is missing, or that points were left out).
    """

    def coefficients(group: pd.DataFrame) -> dict[str, Any]:
        known = group.dropna(subset=["value", truth])
        x, y = known["value"].to_numpy(), known[truth].to_numpy()
        found = {name: coefficient.of(x, y) for name, coefficient in COEFFICIENTS.items()}
        lost = len(group) - len(known)
        notes = [f"{lost} of {len(group)} points have no value"] * (lost > 0)
        notes += dict.fromkeys(filter(None, [each.note for each in found.values()]))
        values = {name: each.value for name, each in found.items()}
        return {"n": len(known), "lost": lost, **values, "note": "; ".join(notes)}

    return by_group(points, ["seed", "method", "layer"], coefficients)


def by_seed(layers: pd.DataFrame) -> pd.DataFrame:
    """Return the best and the median layer of every seed and method, for each coefficient.

    Args:
        layers: What `by_layer` returns. A layer whose coefficient is missing counts as chance,
            so that a method gains nothing by failing.

    Returns:
        Columns seed, method, coefficient, best_layer, median_layer (values), best_layer_name,
        note.
    """

    def best_and_median(group: pd.DataFrame) -> dict[str, Any]:
        chance = COEFFICIENTS[group["coefficient"].iloc[0]].chance
        values, missing = group["value"].fillna(chance), int(group["value"].isna().sum())
        note = f"{missing} of {len(group)} layers have no coefficient, counted as {chance:g}"
        return {
            "best_layer": float(values.max()),
            "median_layer": float(values.median()),
            "best_layer_name": str(group["layer"].iloc[int(values.to_numpy().argmax())]),
            "note": note if missing else "",
        }

    keys = ["seed", "method", "layer"]
    each = layers.melt(keys, list(COEFFICIENTS), "coefficient", ignore_index=False)
    each = each.sort_index(kind="stable")  # the coefficients of a layer side by side
    return by_group(each, ["seed", "method", "coefficient"], best_and_median)


def by_image(images: pd.DataFrame) -> pd.DataFrame:
    """Return, per seed, method and layer, how well per-image values follow per-image effects.

    Args:
        images: Columns seed, q, class_index, cue, method, layer, value, share; one row per image.

    Returns:
        Columns seed, method, layer, n, spearman (over all images, cues and networks), within (mean
        of Spearman's coefficient inside every (q, class, cue), which the differences between
        classes and networks do not help), groups (of the latter that are defined), note.
    """

    def agreement(group: pd.DataFrame) -> dict[str, Any]:
        known = group.dropna(subset=["value", "share"])
        whole = spearman(known["value"], known["share"])
        groups = known.groupby(["q", "class_index", "cue"])
        inside = [spearman(own["value"], own["share"]).value for _, own in groups]
        defined = [value for value in inside if not math.isnan(value)]
        lost = len(group) - len(known)
        notes = [f"{lost} of {len(group)} images have no value"] * (lost > 0) + [whole.note]
        notes += ["within: no group has a coefficient"] * (not defined)
        return {
            "n": len(known),
            "spearman": whole.value,
            "within": float(np.mean(defined)) if defined else math.nan,
            "groups": len(defined),
            "note": "; ".join(filter(None, notes)),
        }

    return by_group(images, ["seed", "method", "layer"], agreement)


def summarise(seeds: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return, by method and coefficient, means over seeds with intervals, and each seed's values.

    Args:
        seeds: What `by_seed` returns.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, group in seeds.groupby(["method", "coefficient"], sort=False):
        method, name = map(str, key)
        entry: dict[str, Any] = {}
        for which in ("best_layer", "median_layer"):
            correlation = not COEFFICIENTS[name].chance
            interval = asdict(interval_over_seeds(group[which], correlation=correlation))
            entry[which] = interval["value"]
            ends = ("low", "high", "confidence", "note")
            entry[f"{which}_interval"] = {key: interval[key] for key in ends}
        columns = ["seed", "best_layer", "median_layer", "best_layer_name", "note"]
        rows = group[columns].rename(columns={"best_layer_name": "best"})
        entry["per_seed"] = rows.to_dict("records")
        found.setdefault(method, {})[name] = entry
    return plain(found)


def plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return data for strict JSON: NaN becomes null (its reason is in a note)."""
    text = json.dumps(data, default=lambda number: number.item())
    found: dict[str, Any] = json.loads(text, parse_constant=lambda constant: None)
    return found
