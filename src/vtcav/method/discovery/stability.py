"""Stability of parts that a factorisation finds, and the choice of how many there are.

A part is found again by another factorisation where both have a direction in common: the cosine
between the directions v, which are centred, so that parts with nothing in common have about 0.
Parts are matched one to one so that the sum of cosines is largest (Hungarian method).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STABLE = 0.8
"""Parts with a matched cosine from here on count as stable, as CAVs do (`LIMITS.replication`)."""

Array = NDArray[np.float32]
Values = NDArray[np.float64]


def cosines(v: Array, others: Array) -> Values:
    """Return the cosines between directions [k, C] and others [m, C]: [k, m]; 0 for one of zeros.

    Example:
        >>> cosines(np.eye(2), np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]])).round(2).tolist()
        [[1.0, 0.71, 0.0], [0.0, 0.71, 0.0]]
    """
    unit = [a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12) for a in (v, others)]
    product: Values = unit[0].astype(np.float64) @ unit[1].T.astype(np.float64)
    return product


def matched_cosines(v: Array, others: Array) -> Values:
    """Return the cosine of each direction [k, C] with the other that it is matched with [k].

    Args:
        v: Directions.
        others: As many others.

    Example:
        >>> matched_cosines(np.eye(2), np.array([[0.0, 3.0], [4.0, 3.0]])).tolist()
        [0.8, 1.0]
    """
    from scipy.optimize import linear_sum_assignment

    table = cosines(v, others)
    rows, columns = linear_sum_assignment(table, maximize=True)
    found = np.zeros(len(v))
    found[rows] = table[rows, columns]
    return found


@dataclass(frozen=True, eq=False)
class Stability:
    """How far k parts are found again.

    Attributes:
        seeds: The mean matched cosine with factorisations of the same places from other starts [k].
        halves: The lower of the matched cosines with those of two halves of the images [k].
    """

    seeds: Values
    halves: Values

    @classmethod
    def of(cls, v: Array, seeds: Iterable[Array], halves: Iterable[Array]) -> Stability:
        """Return the stability of directions [k, C].

        Args:
            v: The directions.
            seeds: Those from other starts.
            halves: Those of each half of the images.
        """
        again, apart = ([matched_cosines(v, each) for each in found] for found in (seeds, halves))
        return cls(np.mean(again, 0), np.min(apart, 0))

    @property
    def lower(self) -> Values:
        """The lower of both [k]: a part is as stable as its weaker test says."""
        return np.minimum(self.seeds, self.halves)


def choose_k(lower: Mapping[int, Sequence[float] | Values]) -> int:
    """Return the largest k whose parts are stable: the median of their stability is at least 0.8.

    Where no k has that, it is the one with the most stable parts, the smallest of these.

    Args:
        lower: By k, the stability of its parts.

    Example:
        >>> choose_k({2: [0.9, 0.9], 3: [0.95, 0.85, 0.1], 4: [0.9, 0.9, 0.2, 0.1]})
        3
        >>> choose_k({2: [0.9, 0.2], 3: [0.9, 0.2, 0.2]})
        2
    """
    stable = [k for k, values in lower.items() if np.median(values) >= STABLE]
    if stable:
        return max(stable)
    return max(lower, key=lambda k: (sum(x >= STABLE for x in lower[k]), -k))
