"""Result of the controlled experiment: tables and summary, from its units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from vtcav.evaluation.experiment.agreement import (
    HALF_ABSENT,
    IMAGE_BY_IMAGE,
    by_image,
    by_layer,
    by_opposition,
    by_presence,
    by_seed,
    plain,
    summarise,
)
from vtcav.evaluation.experiment.methods import CONTROLS, GIVEN_TRUE_MASKS, LOGITS, SHARES
from vtcav.evaluation.experiment.unit import UnitResult
from vtcav.evaluation.metrics import METRICS
from vtcav.evaluation.result import by_group
from vtcav.results.provenance import versions

TRUTH = "share"
"""The truth of the headline: the causal effect as a share of the class's logit gap."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Agreement of attributions with measured causal effects.

    Attributes:
        folder: Where everything is saved.
        summary: The content of `summary.json`.
        points: One row per seed, q, class, cue, method and layer: the mean value and the causal
            effect (share, centred_share, effect, centred_effect, gap).
        layers: Coefficients by seed, method and layer.
        seeds: Their best and median over layers, and their values at the layer that is best on
            the other seeds, by seed and method.
        local: Coefficients over single images, by seed, method and layer.
        presence: Coefficients over images half of which lack the cue, by seed, method and layer.
        opposition: How often the tag of another class counts against the class, by seed and method.
        localisation: Means of the map metrics by seed, q, cue and layer.
    """

    folder: Path
    summary: dict[str, Any] = field(repr=False)
    points: pd.DataFrame = field(repr=False)
    layers: pd.DataFrame = field(repr=False)
    seeds: pd.DataFrame = field(repr=False)
    local: pd.DataFrame = field(repr=False)
    presence: pd.DataFrame = field(repr=False)
    opposition: pd.DataFrame = field(repr=False)
    localisation: pd.DataFrame = field(repr=False)

    @property
    def page(self) -> Path:
        """The HTML page with everything in it."""
        return self.folder / "report.html"


def collect_tables(units: Mapping[tuple[int, float], UnitResult]) -> dict[str, pd.DataFrame]:
    """Return the tables of an `Evaluation` of all units, by name."""
    points, images, absent, against, maps = (
        pd.concat([getattr(unit, name) for unit in units.values()], ignore_index=True)
        for name in ("classes", "images", "absent", "against", "maps")
    )
    layers, local = by_layer(points, TRUTH, SHARES), by_image(images[images["per_image"]])
    presence = by_presence(images, absent)
    seeds = [by_seed(layers), by_seed(local, IMAGE_BY_IMAGE)]
    seeds += [by_seed(presence, HALF_ABSENT)] * bool(len(presence))
    return {
        "points": points,
        "layers": layers,
        "seeds": pd.concat(seeds, ignore_index=True),
        "local": local,
        "presence": presence,
        "opposition": by_opposition(against),
        "localisation": by_group(maps, ["seed", "q", "method", "cue", "layer"], _map_means),
    }


def _map_means(maps: pd.DataFrame) -> dict[str, Any]:
    """Return the means of the metrics of maps.

    The pointing game of an empty map counts as a miss, not as a missing value, because the map does
    not find the concept.
    """
    means = {name: float(maps[name].fillna(0.0).mean()) for name in METRICS}
    empty = int(maps["pointing_game"].isna().sum())
    note = f"{empty} of {len(maps)} maps are empty, counted as missing the mask" if empty else ""
    return {"n": len(maps), **means, "empty": empty, "note": note}


def summary_of(
    tables: Mapping[str, pd.DataFrame],
    units: Mapping[tuple[int, float], UnitResult],
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of `summary.json`."""
    methods = summarise(tables["seeds"])
    for name, entry in methods.items():
        entry["local"] = _local(tables["local"], name)
        entry["given_true_masks"] = name in GIVEN_TRUE_MASKS
        entry["control"] = name in CONTROLS
    units_of = {"effect": LOGITS, "centred_share": SHARES, "centred_effect": LOGITS}
    other = {
        truth: summarise(by_seed(by_layer(tables["points"], truth, sized)))
        for truth, sized in units_of.items()
    }
    return plain(
        {
            "kind": run.get("kind", "experiment"),
            "truth": "causal effect as a share of the class's logit gap",
            "points_per_layer": tables["layers"]["n"].max(),
            "methods": methods,
            "opposition": tables["opposition"].to_dict("records"),
            "localisation": _localisation(tables["localisation"]),
            "other_truths": other,
            "networks": [{"seed": seed, "q": q, **unit.facts} for (seed, q), unit in units.items()],
            "run": dict(run),
            "versions": versions("captum", "scikit-learn", "scipy"),
        }
    )


def _local(local: pd.DataFrame, method: str) -> dict[str, Any]:
    """Return per-image agreement by layer, means over seeds; empty for class-level methods.

    A seed in which no group has a coefficient counts as 0, as such a group does.
    """
    own = local[local["method"] == method]
    return {
        str(layer): {
            "spearman": rows["spearman"].mean(),
            "within_class": rows["within_share"].fillna(0.0).mean(),
            "within_class_effect": rows["within_effect"].fillna(0.0).mean(),
            "undefined_groups": rows["undefined"].sum() / rows["groups"].sum(),
        }
        for layer, rows in own.groupby("layer", sort=False)
    }


def _localisation(table: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of Visual-TCAV's maps, and by method, cue and layer.

    The numbers at the top level are those of the tag's map over networks with q >= 0.5 (those
    that use it), at the layer with the highest pointing game; `median_layer` is the median over
    layers. `variants` holds the same for the named variants.
    """
    found = {method: _tag_maps(rows) for method, rows in table.groupby("method", sort=False)}
    detail = by_group(
        table,
        ["method", "cue", "layer", "q"],
        lambda rows: _means(rows) | {"empty": rows["empty"].sum() / rows["n"].sum()},
    )
    rows = detail.to_dict("records")
    return {**found.pop("visual_tcav"), "variants": found, "by_method_cue_layer_q": rows}


def _tag_maps(table: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of one method's tag maps at the layer where they point best."""
    tags = table[table["cue"] == "tag"]
    used = tags[tags["q"] >= 0.5]
    used = used if len(used) else tags
    means = used.groupby("layer", sort=False)[list(METRICS)].mean()
    best = str(means["pointing_game"].idxmax())
    shares = ", ".join(f"{q:g}" for q in sorted(used["q"].unique()))
    return {
        **means.loc[best],
        "of": f"the tag's map at {best}, networks with q of {shares}",
        "layer": best,
        "median_layer": means.median().to_dict(),
        "by_layer": means.to_dict("index"),
        "per_seed": by_group(used[used["layer"] == best], ["seed"], _means).to_dict("records"),
    }


def _means(rows: pd.DataFrame) -> dict[str, float]:
    return {name: float(rows[name].mean()) for name in METRICS}
