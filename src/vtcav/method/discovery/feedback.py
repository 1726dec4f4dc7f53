"""Directions after feedback: places that a person says are alike, or are not (Rocchio 1971)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHT = 0.75
"""How much all places of one kind count together, beside the direction before."""


def with_feedback(
    v: NDArray[np.float32],
    mean: NDArray[np.float32],
    more: Sequence[NDArray[np.float32]],
    less: Sequence[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return a direction turned towards some places and away from others.

    With unit vectors u: u(v) + 0.75 mean u(f - mean) of the places f to be like, minus as much of
    those not to be like; as long as v was.

    Args:
        v: The direction [C].
        mean: The mean of all places [C].
        more: Feature maps at places that are alike [C] each.
        less: Feature maps at places that are not [C] each.

    Example:
        >>> v, mean = np.array([2, 0], np.float32), np.zeros(2, np.float32)
        >>> with_feedback(v, mean, [np.array([0, 3], np.float32)], [])
        array([1.6, 1.2], dtype=float32)
    """
    if not more and not less:
        return v.copy()  # to the last bit
    turned = _unit(v)
    for places, sign in ((more, 1), (less, -1)):
        if places:
            turned = turned + sign * WEIGHT * np.mean([_unit(f - mean) for f in places], 0)
    return (_unit(turned) * np.linalg.norm(v)).astype(np.float32)


def together(directions: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the direction [C] between several, whatever their lengths.

    Example:
        >>> together([np.array([2, 0], np.float32), np.array([0, 1], np.float32)])
        array([0.5, 0.5], dtype=float32)
    """
    return np.asarray(np.mean([_unit(v) for v in directions], 0), np.float32)


def _unit(v: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    long = v.astype(np.float64)
    return long / max(float(np.linalg.norm(long)), 1e-12)
