"""Rows of effects: the numbers of one concept, image and class, and the notes on them."""

from __future__ import annotations

from math import isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtcav.method.erasure.effect import placebo_p_value, share
from vtcav.method.erasure.joined_map import SEEN, below_seen
from vtcav.method.significance import effect_size

NOT_SEEN = "not seen at these layers ({}): no number"
NO_REGION = "the concept is nowhere in this image"
NO_REFERENCE = "the class scores no higher than for the negatives, so there is no share"
NO_NEGATIVES = "no negatives are known, so there is no share"
HARDLY_HIGHER = (
    "the class scores hardly higher than for the negatives (by less than their spread of {:.2g} "
    "logits), so there is no share: read the drop in logits"
)
LARGE = "the region covers half of the picture or more: more than the concept is gone"
_LARGE = 0.5


def gap_note(gap: float, spread: float) -> str:
    """Return why a class has no share; empty where it has one.

    Args:
        gap: How far it scores above the mean of the negatives.
        spread: The standard deviation of their scores.
    """
    if isnan(gap):
        return NO_NEGATIVES
    if gap <= 0:
        return NO_REFERENCE
    return HARDLY_HIGHER.format(spread) if gap <= spread else ""


def effect_numbers(
    scores: NDArray[np.float64], reference: tuple[float, float], fills: int
) -> dict[str, Any]:
    """Return the numbers of a row.

    Args:
        scores: Of the class, for the image, without the region filled in each way, and without
            each placebo.
        reference: Mean and standard deviation of the scores of the negatives.
        fills: In how many ways it was filled.
    """
    before, drops = scores[0], scores[0] - scores[1:]
    own, chance = drops[:fills], drops[fills:]
    tested, several = len(chance) > 0, fills > 1
    return {
        "logit": before,
        "without": scores[1],
        "drop": own[0],
        "drop_low": own.min() if several else nan,
        "drop_high": own.max() if several else nan,
        "reference": reference[0],
        "reference_std": reference[1],
        "share": share(own[0], before, *reference),
        "placebos": len(chance),
        "placebo_mean": chance.mean() if tested else nan,
        "placebo_std": chance.std() if tested else nan,
        "effect": effect_size(own[0], chance) if tested else nan,
        "p_value": placebo_p_value(own[0], chance) if tested else nan,
    }


def effect_note(seen: float, area: float, gap: float, spread: float) -> str:
    """Return what a number of erasing does not say; empty where it says it all."""
    notes = []
    if seen < SEEN:
        notes.append(NOT_SEEN.format(below_seen(seen)))
    elif not area:
        notes.append(NO_REGION)
    notes.append(gap_note(gap, spread))
    if area > _LARGE:
        notes.append(LARGE)
    return "; ".join(filter(None, notes))
