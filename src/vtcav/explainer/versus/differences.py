"""Paired differences between two networks: attributions and measured shares, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from vtcav.explainer.versus.layer_pairs import LayerPairs
from vtcav.method.clusters import Estimate, mean_estimate, ratio_values
from vtcav.method.significance import q_values
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.tables.class_summary import BOOTSTRAP

ATTRIBUTION, SHARE = "attribution", "share"
NOT_SEPARATED, NOT_SEEN = "not separated", "not seen"
NO_SHARE = "the class scores no higher than the negatives by more than their spread"
COLUMNS = (
    *("class_name", "quantity", "layer_a", "layer_b", "concept", "n", "a", "b", "difference"),
    *("low", "high", "p_value", "q_value", "note_a", "note_b"),
)


def differences(
    pairs: Sequence[tuple[GlobalExplanation, GlobalExplanation]],
    layers: LayerPairs,
    margin: float,
) -> pd.DataFrame:
    """Return the table of differences, with q-values over all of it.

    Args:
        pairs: Each class explained with the same images by both networks.
        layers: The layers that are compared.
        margin: A difference from -margin to margin counts as none.

    Returns:
        The columns of `Versus.differences`.
    """
    rows = [row for pair in pairs for row in _of_class(*pair, layers, margin)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["q_value"] = q_values(table["p_value"].to_numpy(float))
    return table


def paired(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the images that both tables have, one row for each.

    Args:
        a: Rows of one concept at one layer, image by image.
        b: The same of the other network.
    """
    # images of one name are paired in order
    keyed = [table.assign(nth=table.groupby("image").cumcount()) for table in (a, b)]
    return keyed[0].merge(keyed[1], on=["image", "nth"], suffixes=("_a", "_b"))


def _of_class(
    a: GlobalExplanation,
    b: GlobalExplanation,
    layers: LayerPairs,
    margin: float,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a class."""
    concepts = [name for name in a.concepts if name in b.concepts]
    tables = [dict(iter(each.attributions.groupby(["layer", "concept"]))) for each in (a, b)]
    for layer_a, layer_b in layers.pairs:
        for concept in concepts:
            both = paired(tables[0][layer_a, concept], tables[1][layer_b, concept])
            notes = [_fault(both, side) for side in "ab"]
            values = [both[f"attribution_{side}"].to_numpy(float) for side in "ab"]
            draws = _draws(a, layer_a, concept), _draws(b, layer_b, concept)
            key = {"quantity": ATTRIBUTION, "layer_a": layer_a, "layer_b": layer_b}
            estimate = None if any(notes) else _estimate(both, values, a.groups)
            if estimate is not None:
                estimate = estimate.wider(_draw_error(*draws))
            yield _row(a, key | {"concept": concept}, values, notes, estimate, margin)
    effects = [
        dict(iter(each.effects[each.effects["layer"] == TOGETHER].groupby("concept")))
        for each in (a, b)
    ]
    for concept in concepts:
        if not all(concept in each for each in effects):
            continue
        both = paired(*(each[concept] for each in effects))
        found = [_shares(both, side) for side in "ab"]
        notes = [note for _, note in found]
        values = [each for each, _ in found]
        key = {"quantity": SHARE, "layer_a": TOGETHER, "layer_b": TOGETHER, "concept": concept}
        estimate = None if any(notes) else _estimate(both, values, a.groups)
        yield _row(a, key, values, notes, estimate, margin)


def _row(
    explained: GlobalExplanation,
    key: Mapping[str, Any],
    values: Sequence[np.ndarray[Any, np.dtype[np.float64]]],
    notes: Sequence[str],
    estimate: Estimate | None,
    margin: float,
) -> dict[str, Any]:
    means = [
        nan if note or not len(own) else float(own.mean())
        for own, note in zip(values, notes, strict=True)
    ]
    low, high = (nan, nan) if estimate is None else estimate.interval()
    return {
        "class_name": explained.class_name,
        **key,
        "n": len(values[0]),
        "a": means[0],
        "b": means[1],
        "difference": means[1] - means[0],
        "low": low,
        "high": high,
        "p_value": nan if estimate is None else estimate.p_beyond(margin),
        "note_a": notes[0],
        "note_b": notes[1],
    }


def _estimate(
    both: pd.DataFrame,
    values: Sequence[np.ndarray[Any, np.dtype[np.float64]]],
    groups: Mapping[str, str],
) -> Estimate | None:
    """Return the mean difference of values of the same images; None without images."""
    if both.empty:
        return None
    own = None if not groups else [groups[name] for name in both["image"]]
    return mean_estimate(values[1] - values[0], own)


def _fault(both: pd.DataFrame, side: str) -> str:
    """Return why one side has no attribution; empty where it has one."""
    if both.empty or not bool(both[f"separated_{side}"].iloc[0]):
        return NOT_SEPARATED
    return ""


def _shares(both: pd.DataFrame, side: str) -> tuple[np.ndarray[Any, np.dtype[np.float64]], str]:
    """Return values whose mean is the share of a side, and why there is none."""
    drop = both[f"drop_{side}"].to_numpy(float)
    if np.isnan(drop).any() or not len(drop):
        return drop, NOT_SEEN
    gap = (both[f"logit_{side}"] - both[f"reference_{side}"]).to_numpy(float)
    if not gap.mean() > max(0.0, float(both[f"reference_std_{side}"].mean())):
        return drop, NO_SHARE
    return np.asarray(ratio_values(drop, gap), np.float64), ""


def _draws(explained: GlobalExplanation, layer: str, concept: str) -> pd.Series[float]:
    """Return the means of the bootstrap CAVs, by draw."""
    table = explained.resampled
    own = (table["layer"] == layer) & (table["concept"] == concept) & (table["kind"] == BOOTSTRAP)
    return table[own].set_index("draw")["mean"]


def _draw_error(a: pd.Series[float], b: pd.Series[float]) -> float:
    """Return the error of a difference that comes from the choice of the examples.

    Draws of one number took the same examples where both were learned from as many with one seed.
    """
    if min(len(a), len(b)) < 2:
        return 0.0
    if len(a) == len(b):
        return float((b.to_numpy() - a.to_numpy()).std(ddof=1))
    return float(np.hypot(a.std(ddof=1), b.std(ddof=1)))
