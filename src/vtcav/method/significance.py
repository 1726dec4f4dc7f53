"""How far an attribution stands out: null CAVs, p-values, effects, false discoveries, intervals.

The unit of the test is the CAV, not the image. The hypothesis is that the concept's examples are
images like the negatives: then its CAV is one more draw of the kind that null CAVs are, and its
attribution is one more draw from theirs. The test asks whether the attribution is *greater*:
attributions are at least 0, and one that is smaller than those of random images says nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

__all__ = [
    "ALL_EQUAL",
    "bootstrap_interval",
    "effect_size",
    "p_value",
    "q_values",
    "student_interval",
]

ALL_EQUAL = "the attributions of all null CAVs are equal, so there is no effect size"

Array = NDArray[np.floating]


def p_value(observed: float, null: Array) -> float:
    """Return the permutation p-value with the +1 correction, one-sided (greater).

    (1 + #{null >= observed}) / (1 + #null) (Phipson and Smyth 2010): never 0, at least
    1 / (1 + #null).

    Args:
        observed: The concept's attribution.
        null: Attributions of null CAVs [J].

    Returns:
        In (0, 1].

    Example:
        >>> p_value(0.3, np.array([0.1, 0.2, 0.3, 0.4]))
        0.6
    """
    return float((1 + np.count_nonzero(null >= observed)) / (1 + len(null)))


def effect_size(observed: float, null: Array) -> float:
    """Return how many standard deviations of the null the attribution lies above its mean.

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
    """Return Benjamini-Hochberg adjusted p-values of everything tested together.

    Args:
        p: p-values [n]; NaN where there was no test, which counts for nothing.

    Returns:
        q [n]: calling those with q <= 0.05 discoveries keeps the expected share of false ones
        among them at 5 % at most (for tests that are independent or depend positively).

    Example:
        >>> q_values(np.array([0.01, 0.04, float("nan"), 0.03])).round(3).tolist()
        [0.03, 0.04, nan, 0.04]
    """
    q = np.full(len(p), np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    return q


def bootstrap_interval(
    observed: float, draws: Array, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of an attribution over the choice of examples and negatives.

    The normal interval around the value observed, with the standard deviation over bootstrap
    CAVs, cut off below 0 and above 1. (Percentiles of the draws themselves need not hold the value:
    every bootstrap CAV is noisier than the CAV.)

    Args:
        observed: The concept's attribution, in [0, 1].
        draws: Attributions of bootstrap CAVs [J].
        confidence: Between 0 and 1.

    Returns:
        Low and high; NaN for fewer than two draws.

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
