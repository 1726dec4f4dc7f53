"""Tables and summary of an experiment, from its units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vtcav.evaluation.compare.methods import MAPS
from vtcav.evaluation.experiment.agreement import by_layer, by_seed, local_agreement, summarise
from vtcav.evaluation.experiment.unit import UnitResult
from vtcav.evaluation.metrics import METRICS
from vtcav.results.provenance import versions

__all__ = ["collect_tables", "summary_of"]

TRUTH = "share"
"""The truth of the headline: the causal effect as a share of the class's logit gap."""


def collect_tables(units: Mapping[tuple[int, float], UnitResult]) -> dict[str, pd.DataFrame]:
    """Return the tables points, layers, local and localisation of all units."""
    points = pd.concat([unit.classes for unit in units.values()], ignore_index=True)
    images = pd.concat([unit.images for unit in units.values()], ignore_index=True)
    maps = pd.concat([unit.maps for unit in units.values()], ignore_index=True)
    return {
        "points": points,
        "layers": by_layer(points, TRUTH),
        "local": local_agreement(images[images["per_image"]]),
        "localisation": _localisation(maps),
    }


def _localisation(maps: pd.DataFrame) -> pd.DataFrame:
    """Return means by seed, q, cue and layer.

    The pointing game of a map that is not separated is a miss, not a missing value: whoever looks
    for the concept does not find it.
    """
    rows = []
    keys = ["seed", "q", "method", "cue", "layer"]
    for key, group in maps.groupby(keys, sort=False):
        means = {name: float(group[name].fillna(0.0).mean()) for name in METRICS}
        empty = int(group["pointing_game"].isna().sum())
        note = f"{empty} of {len(group)} maps are empty, counted as missing the mask"
        rows.append(
            dict(zip(keys, key, strict=True))
            | {"n": len(group), **means, "empty": empty, "note": note if empty else ""}
        )
    return pd.DataFrame(rows)


def summary_of(
    tables: Mapping[str, pd.DataFrame],
    units: Mapping[tuple[int, float], UnitResult],
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of `summary.json`."""
    methods = summarise(by_seed(tables["layers"]))
    for name, entry in methods.items():
        entry["local"] = _local(tables["local"], name)
        entry["given_true_masks"] = name in MAPS
    other = {
        truth: summarise(by_seed(by_layer(tables["points"], truth)))
        for truth in ("effect", "centred_share", "centred_effect")
    }
    found: dict[str, Any] = _plain(
        {
            "kind": run.get("kind", "experiment"),
            "truth": "causal effect as a share of the class's logit gap",
            "points_per_layer": int(tables["layers"]["n"].max()),
            "methods": methods,
            "localisation": _localisation_summary(tables["localisation"]),
            "other_truths": other,
            "networks": [{"seed": seed, "q": q, **unit.facts} for (seed, q), unit in units.items()],
            "run": dict(run),
            "versions": versions("captum", "scikit-learn", "scipy"),
        }
    )
    return found


def _local(local: pd.DataFrame, method: str) -> dict[str, Any]:
    """Return per-image agreement by layer, means over seeds; empty for class-level methods."""
    own = local[local["method"] == method]
    return {
        str(layer): {
            "spearman": float(rows["spearman"].mean()),
            "within_class": float(rows["within"].mean()),
        }
        for layer, rows in own.groupby("layer", sort=False)
    }


def _localisation_summary(table: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of Visual-TCAV's maps, and by method, cue and layer.

    The numbers at the top level are those of the tag's map over networks with q >= 0.5 (those
    that use it), at the layer with the highest pointing game; `median_layer` is the median over
    layers. `variants` holds the same for the named variants.
    """
    found = {method: _tag_maps(rows) for method, rows in table.groupby("method", sort=False)}
    keys = ["method", "cue", "layer", "q"]
    detail = [
        {
            **dict(zip(keys, key, strict=True)),
            **{name: float(rows[name].mean()) for name in METRICS},
            "empty": float(rows["empty"].sum() / rows["n"].sum()),
        }
        for key, rows in table.groupby(keys, sort=False)
    ]
    return {**found.pop("visual_tcav"), "variants": found, "by_method_cue_layer_q": detail}


def _tag_maps(table: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of one method's tag maps at the layer where they point best."""
    tags = table[table["cue"] == "tag"]
    used = tags[tags["q"] >= 0.5]
    used = used if len(used) else tags
    layers = list(dict.fromkeys(used["layer"]))
    means = used.groupby("layer")[list(METRICS)].mean().reindex(layers)
    best = str(means["pointing_game"].idxmax())
    shares = ", ".join(f"{q:g}" for q in sorted(used["q"].unique()))
    return {
        **{name: float(means[name][best]) for name in METRICS},
        "of": f"the tag's map at {best}, networks with q of {shares}",
        "layer": best,
        "median_layer": {name: float(means[name].median()) for name in METRICS},
        "by_layer": {
            layer: {name: float(means[name][layer]) for name in METRICS} for layer in layers
        },
        "per_seed": [
            {"seed": seed, **{name: float(rows[name].mean()) for name in METRICS}}
            for seed, rows in used[used["layer"] == best].groupby("seed")
        ],
    }


def _plain(data: Any) -> Any:
    """Return data for strict JSON: NaN becomes null (its reason is in the tables' notes)."""
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, np.integer):
        return int(data)
    if isinstance(data, float | np.floating):
        return None if math.isnan(data) else float(data)
    return data
