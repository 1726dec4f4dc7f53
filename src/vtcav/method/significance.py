"""Significance of an attribution: p-values against null CAVs, effect sizes, q-values, intervals.

The unit of the test is the CAV, not the image. Under the null hypothesis the concept's examples are
images like the negatives: its CAV is then one more null CAV, and its attribution one more draw from
their distribution. The test is one-sided: an attribution is at least 0, and one that is smaller
than those of random images carries no information.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ALL_EQUAL",
    "PValueCounts",
    "bootstrap_interval",
    "effect_size",
    "enough_null_cavs",
    "finite",
    "p_value",
    "q_values",
    "significance",
    "student_interval",
    "unreachable",
]

ALL_EQUAL = "the attributions of all null CAVs are equal, so there is no effect size"

Array = NDArray[np.floating]
_WAITING = 100_000  # different p-values that wait to be merged


def significance(
    observed: float,
    null: Array,
    bootstrap: Array,
    subset: Array,
    *,
    testable: bool = True,
    confidence: float = 0.95,
) -> dict[str, float]:
    """Return the interval and the test of an attribution, NaN where there is none.

    Args:
        observed: The concept's attribution.
        null: Attributions of null CAVs [J]; none where nothing is tested.
        bootstrap: Attributions of bootstrap CAVs.
        subset: The attribution of the subset CAV, which is tested in place of the concept's own
            [1]; none where its own is tested.
        testable: Whether the attribution may differ from 0 at all.
        confidence: Of the interval, between 0 and 1.

    Returns:
        cav_low, cav_high, null_mean, effect and p_value.

    Example:
        >>> none = np.array([])
        >>> significance(4.0, np.array([1.0, 2.0, 3.0]), none, none)["effect"]
        2.0
    """
    low, high = bootstrap_interval(observed, bootstrap, confidence)
    compared = float(subset[0]) if len(subset) else observed
    tested = len(null) > 0
    return {
        "cav_low": low,
        "cav_high": high,
        "null_mean": float(null.mean()) if tested else math.nan,
        "effect": effect_size(compared, null) if tested else math.nan,
        "p_value": p_value(compared, null) if tested and testable else math.nan,
    }


def p_value(observed: float, null: Array) -> float:
    """Return the permutation p-value with the +1 correction, one-sided (greater).

    (1 + #{null >= observed}) / (1 + #null) (Phipson and Smyth 2010): never 0, at least
    1 / (1 + #null).

    Args:
        observed: The concept's attribution.
        null: Attributions of null CAVs [J].

    Returns:
        In (0, 1]; NaN where any of the numbers is NaN or infinite: it would count as smaller.

    Example:
        >>> p_value(0.3, np.array([0.1, 0.2, 0.3, 0.4]))
        0.6
    """
    if not finite(observed, null):
        return math.nan
    return float((1 + np.count_nonzero(null >= observed)) / (1 + len(null)))


def finite(observed: float, chance: Array) -> bool:
    """Whether all numbers of a test are finite.

    Example:
        >>> finite(1.0, np.array([0.5, np.nan]))
        False
    """
    return math.isfinite(observed) and bool(np.isfinite(chance).all())


def effect_size(observed: float, null: Array) -> float:
    """Return the distance of an attribution from the mean of the null, in standard deviations.

    Args:
        observed: The concept's attribution.
        null: Attributions of null CAVs [J], J at least 2.

    Returns:
        (observed - mean) / standard deviation (n - 1); NaN where all null values are equal.

    Example:
        >>> effect_size(4.0, np.array([1.0, 2.0, 3.0]))
        2.0
    """
    spread = float(null.std(ddof=1)) if len(null) > 1 else 0.0
    return (observed - float(null.mean())) / spread if spread > 0 else math.nan


def q_values(p: Array) -> Array:
    """Return Benjamini-Hochberg adjusted p-values of all tests of a table.

    Args:
        p: p-values [n]; NaN where nothing was tested. These are left out.

    Returns:
        q [n]: of the tests with q <= 0.05, at most 5 % are false discoveries on average (if the
        tests are independent or positively dependent).

    Example:
        >>> q_values(np.array([0.01, 0.04, float("nan"), 0.03])).round(3).tolist()
        [0.03, 0.04, nan, 0.04]
    """
    counts = PValueCounts()
    counts.add(p)
    return counts.q_values(p)


class PValueCounts:
    """How often each p-value occurs, which is all that q-values depend on.

    Tests with one p-value have one q-value: that of the last of them in the order of p. So the
    p-values of a table need not be in memory together. Permutation p-values are (1 + count) /
    (1 + draws) and take few values, however many tests there are.

    Example:
        >>> counts = PValueCounts()
        >>> counts.add(np.array([0.01, 0.04]))
        >>> counts.add(np.array([0.03]))
        >>> counts.q_values(np.array([0.03, 0.01])).round(3).tolist()
        [0.04, 0.03]
    """

    def __init__(self) -> None:
        self._p: Array = np.empty(0)
        self._times: NDArray[np.int64] = np.empty(0, np.int64)
        self._waiting: list[tuple[Array, NDArray[np.int64]]] = []
        self._size = 0

    def add(self, p: Array) -> None:
        """Count p-values [n]; NaN is left out."""
        values, times = np.unique(p[~np.isnan(p)], return_counts=True)
        self._waiting.append((values, times.astype(np.int64)))
        self._size += len(values)
        if self._size > max(_WAITING, len(self._p)):
            self._merge()

    def q_values(self, p: Array) -> Array:
        """Return the q-values of p-values that were counted [n]; NaN where p is NaN."""
        self._merge()
        # in falling order of p: the last of m tests has rank m. scipy.stats has the same function,
        # and takes most of a second to import
        ranks = self._times.cumsum()[::-1]
        scaled = self._p[::-1] * (int(self._times.sum()) / ranks)
        q = np.minimum.accumulate(np.minimum(scaled, 1.0))[::-1]
        found = np.full(len(p), np.nan)
        tested = ~np.isnan(p)
        found[tested] = q[np.searchsorted(self._p, p[tested])]
        return found

    def _merge(self) -> None:
        if not self._waiting:
            return
        known = [(self._p, self._times), *self._waiting]
        p, times = (np.concatenate(parts) for parts in zip(*known, strict=True))
        self._p, places = np.unique(p, return_inverse=True)
        self._times = np.zeros(len(self._p), np.int64)
        np.add.at(self._times, places, times)
        self._waiting, self._size = [], 0


def enough_null_cavs(tests: int) -> int:
    """Return how many null CAVs it takes for a true effect to show among many tests.

    The smallest p-value is 1 / (1 + J), and the q-value of a single discovery is at least that
    times the number of tests: with J = 40 tests it can reach 0.025.

    Args:
        tests: How many values are tested together.

    Example:
        >>> enough_null_cavs(6), enough_null_cavs(54)
        (500, 2200)
    """
    return max(500, math.ceil(40 * tests / 100) * 100)


def unreachable(tests: int, null_cavs: int) -> str:
    """Say so where no q-value can fall to 0.05; otherwise return an empty text.

    Args:
        tests: How many values are tested together.
        null_cavs: How many null CAVs there are.

    Example:
        >>> unreachable(54, 2200), unreachable(54, 500)[:35]
        ('', 'q cannot fall below 0.11: 54 values')
    """
    smallest = min(1.0, tests / (1 + null_cavs))
    if smallest <= 0.05:
        return ""
    return (
        f"q cannot fall below {smallest:.2g}: {tests} values are tested against {null_cavs} null "
        f"CAVs (fit with null_cavs={enough_null_cavs(tests)})"
    )


def bootstrap_interval(
    observed: float, draws: Array, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of an attribution over the choice of examples and negatives.

    It is the normal interval around the observed value, with the standard deviation over bootstrap
    CAVs, cut off at 0 and 1. (Percentiles of the draws need not contain the observed value, because
    every bootstrap CAV is noisier than the CAV.)

    Args:
        observed: The concept's attribution, in [0, 1].
        draws: Attributions of bootstrap CAVs [J].
        confidence: Between 0 and 1.

    Returns:
        The lower and the upper end; NaN for fewer than two draws.

    Example:
        >>> low, high = bootstrap_interval(0.2, np.array([0.1, 0.2, 0.3]))
        >>> round(low, 3), round(high, 3)
        (0.004, 0.396)
    """
    from scipy.special import ndtri

    if len(draws) < 2:
        return math.nan, math.nan
    half = float(ndtri((1 + confidence) / 2)) * float(draws.std(ddof=1))
    return max(observed - half, 0.0), min(observed + half, 1.0)


def student_interval(values: Array, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of some values and the ends of its Student t interval.

    Args:
        values: At least two [n].
        confidence: Between 0 and 1.

    Returns:
        Mean, low, high.

    Example:
        >>> [round(end, 2) for end in student_interval(np.array([1.0, 2.0, 3.0]))]
        [2.0, -0.48, 4.48]
    """
    from scipy.special import stdtrit

    n, mean = len(values), float(values.mean())
    sem = float(values.std(ddof=1)) / n**0.5
    # scipy.stats.t.interval differs from this in the last bit of one end in ten
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * sem
    return mean, mean - half, mean + half
