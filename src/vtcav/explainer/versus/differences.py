"""Paired differences between two networks: attributions and measured shares, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vtcav.explainer.versus.doubts import against_erasing, doubts
from vtcav.explainer.versus.layer_pairs import LayerPairs
from vtcav.method.clusters import Estimate, mean_estimate, ratio_values
from vtcav.method.significance import q_values
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.tables.class_summary import BOOTSTRAP
from vtcav.results.words import SIGNIFICANT

Array: TypeAlias = NDArray[np.float64]
Trainings: TypeAlias = Sequence[GlobalExplanation]
"""A class as explained by a network, or by several trainings of one."""

ATTRIBUTION, SHARE, OWN_SHARE = "attribution", "share", "own share"
NOT_SEPARATED, NOT_SEEN = "not separated", "not seen"
NO_SHARE = "the class scores no higher than the negatives by more than their spread"
COLUMNS = (
    *("class_name", "quantity", "layer_a", "layer_b", "concept", "n", "groups", "a", "b"),
    *("difference", "low", "high", "detectable", "p_value", "q_value", "note_a", "note_b", "doubt"),
)


def differences(
    pairs: Sequence[tuple[Trainings, Trainings]], layers: LayerPairs, margin: float
) -> pd.DataFrame:
    """Return the table of differences, with q-values over all of it.

    Args:
        pairs: Each class explained with the same images by both networks, or by all trainings of
            each.
        layers: The layers that are compared.
        margin: A difference from -margin to margin counts as none.

    Returns:
        The columns of `Versus.differences`.
    """
    rows = [row for pair in pairs for row in _confirmed([*_of_class(pair, layers, margin)])]
    estimates = [row.pop("estimate") for row in rows]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["q_value"] = q_values(table["p_value"].to_numpy(float))
    tests = int(table["p_value"].notna().sum())
    table["detectable"] = [_detectable(each, margin, tests) for each in estimates]
    return table


def _detectable(estimate: Estimate | None, margin: float, tests: int) -> float:
    """Return the smallest difference that would be significant as the only one of the table."""
    if estimate is None or not estimate.freedom:
        return nan
    sides = 2 if margin else 1  # at a margin, p is of one side
    low, high = estimate._replace(value=0.0).interval(1 - sides * SIGNIFICANT / tests)
    return margin + (high - low) / 2


def aligned(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Return the rows of the images that all tables have, in the order of the first.

    Args:
        tables: Rows of one concept at one layer, image by image, of one network each.
    """
    # images of one name are paired in order
    keyed = [
        table.assign(nth=table.groupby("image").cumcount()).set_index(["image", "nth"])
        for table in tables
    ]
    common = keyed[0].index
    for table in keyed[1:]:
        common = common[common.isin(table.index)]
    return [table.loc[common].reset_index() for table in keyed]


def _of_class(
    pair: tuple[Trainings, Trainings], layers: LayerPairs, margin: float
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a class."""
    first = pair[0][0]
    every = [one for side in pair for one in side]
    concepts = [name for name in first.concepts if all(name in one.concepts for one in every)]
    tables = [dict(iter(one.attributions.groupby(["layer", "concept"]))) for one in every]
    count = len(pair[0])
    reasons = {name: doubts(pair, name) for name in concepts}
    for layer_a, layer_b in layers.pairs:
        own = [layer_a] * count + [layer_b] * len(pair[1])
        for concept in concepts:
            found = aligned([each[at, concept] for each, at in zip(tables, own, strict=True)])
            values = [(each["attribution"].to_numpy(float), _fault(each)) for each in found]
            draws = [_draws(one, at, concept) for one, at in zip(every, own, strict=True)]
            error = _draw_error(_mean_draws(draws[:count]), _mean_draws(draws[count:]))
            key = {"quantity": ATTRIBUTION, "layer_a": layer_a, "layer_b": layer_b}
            key |= {"concept": concept, "doubt": reasons[concept].attribution}
            yield _row(first, key, _Values.of(found[0], values, count), error, margin)
    effects = [
        dict(iter(one.effects[one.effects["layer"] == TOGETHER].groupby("concept")))
        for one in every
    ]
    for concept in concepts:
        if all(concept in each for each in effects):
            found = aligned([each[concept] for each in effects])
            own_part = reasons[concept].own_part
            key = {"quantity": OWN_SHARE if own_part else SHARE}
            key |= {"layer_a": TOGETHER, "layer_b": TOGETHER}
            key |= {"concept": concept, "doubt": reasons[concept].share}
            values = [_shares(each, "drop_apart" if own_part else "drop") for each in found]
            yield _row(first, key, _Values.of(found[0], values, count), 0.0, margin)


def _confirmed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a class with a doubt of attributions where erasing says the opposite."""
    shares = {row["concept"]: row for row in rows if row["quantity"] != ATTRIBUTION}
    for row in rows:
        share = shares.get(row["concept"])
        if row["quantity"] == ATTRIBUTION and share and not row["doubt"]:
            row["doubt"] = against_erasing(row, share)
    return rows


class _Values(NamedTuple):
    """Values of the same images in the trainings of both networks, and why some have none."""

    images: pd.Series[str]
    sides: tuple[Array, Array]
    notes: tuple[str, str]

    @classmethod
    def of(cls, rows: pd.DataFrame, values: Sequence[tuple[Array, str]], count: int) -> _Values:
        """Return the values of all trainings, of which the first so many are of the first."""
        sides, notes = [], []
        for own in (values[:count], values[count:]):
            faults = [note for _, note in own if note]
            many = f"{faults[0]}, in {len(faults)} of {len(own)} trainings" if faults else ""
            notes.append(many if len(own) > 1 else "".join(faults))
            sides.append(np.stack([each for each, _ in own]))
        return cls(rows["image"], (sides[0], sides[1]), (notes[0], notes[1]))


def _row(
    explained: GlobalExplanation,
    key: Mapping[str, Any],
    values: _Values,
    draw_error: float,
    margin: float,
) -> dict[str, Any]:
    n = values.sides[0].shape[1]
    means = [
        nan if note or not n else float(own.mean())
        for own, note in zip(values.sides, values.notes, strict=True)
    ]
    estimate = None
    own = [explained.groups[name] for name in values.images] if explained.groups else None
    if n and not any(values.notes):
        estimate = _estimate(*values.sides, own).wider(draw_error)
    low, high = (nan, nan) if estimate is None else estimate.interval()
    return {
        "class_name": explained.class_name,
        **key,
        "n": n,
        "groups": len(set(own or ())),
        "a": means[0],
        "b": means[1],
        "difference": means[1] - means[0],
        "low": low,
        "high": high,
        "estimate": estimate,
        "p_value": nan if estimate is None else estimate.p_beyond(margin),
        "note_a": values.notes[0],
        "note_b": values.notes[1],
    }


def _estimate(a: Array, b: Array, groups: Sequence[str] | None) -> Estimate:
    """Return the mean difference of values [trainings, images] of the same images.

    With several trainings its error is that of other images and that of other trainings together,
    of which the second is the pooled two-sample error of the trainings' means.
    """
    over_images = mean_estimate(b.mean(0) - a.mean(0), groups)
    freedom = len(a) + len(b) - 2
    if not freedom:
        return over_images
    inside = [((own.mean(1) - own.mean()) ** 2).sum() for own in (a, b)]
    variance = sum(inside) / freedom * (1 / len(a) + 1 / len(b))
    parts = [(variance, freedom)]
    if over_images.freedom:
        parts.append((over_images.error**2, over_images.freedom))
    total = sum(part for part, _ in parts)
    # Satterthwaite's degrees of freedom
    small = sum(part**2 / of for part, of in parts)
    return Estimate(
        over_images.value, float(total) ** 0.5, int(total**2 / small) if small else freedom
    )


def _fault(rows: pd.DataFrame) -> str:
    """Return why a network has no attribution; empty where it has one."""
    return "" if len(rows) and bool(rows["separated"].iloc[0]) else NOT_SEPARATED


def _shares(rows: pd.DataFrame, column: str) -> tuple[Array, str]:
    """Return values whose mean is the share of a network, and why there is none."""
    drop = rows[column].to_numpy(float)
    if np.isnan(drop).any() or not len(drop):
        return drop, NOT_SEEN
    gap = (rows["logit"] - rows["reference"]).to_numpy(float)
    if not gap.mean() > max(0.0, float(rows["reference_std"].mean())):
        return drop, NO_SHARE
    return np.asarray(ratio_values(drop, gap), np.float64), ""


def _draws(explained: GlobalExplanation, layer: str, concept: str) -> pd.Series[float]:
    """Return the means of the bootstrap CAVs, by draw."""
    table = explained.resampled
    own = (table["layer"] == layer) & (table["concept"] == concept) & (table["kind"] == BOOTSTRAP)
    return table[own].set_index("draw")["mean"]


def _mean_draws(trainings: Sequence[pd.Series[float]]) -> pd.Series[float]:
    """Return the mean over trainings of each draw that all have."""
    return pd.concat(trainings, axis=1, join="inner").mean(axis=1)


def _draw_error(a: pd.Series[float], b: pd.Series[float]) -> float:
    """Return the error of a difference that comes from the choice of the examples.

    Draws of one number took the same examples where both were learned from as many with one seed.
    """
    if min(len(a), len(b)) < 2:
        return 0.0
    if len(a) == len(b):
        return float((b.to_numpy() - a.to_numpy()).std(ddof=1))
    return float(np.hypot(a.std(ddof=1), b.std(ddof=1)))
