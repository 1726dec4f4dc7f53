"""How well a number separates two groups of images: the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtcav.method.clusters import Estimate, group_sums

_END = 1e-9
Array = NDArray[np.floating]


class Separation(NamedTuple):
    """How one group of values lies to another.

    Attributes:
        auc: The share of pairs in which the first group's value is the larger, ties counting half:
            0.5 where the groups do not differ.
        low: The lower end of its interval.
        high: The upper end.
        p_value: Of the two-sided Mann-Whitney test.
    """

    auc: float
    low: float
    high: float
    p_value: float


def separation(
    first: Array,
    second: Array,
    confidence: float = 0.95,
    groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
) -> Separation:
    """Return how two groups of values lie to each other.

    The interval holds the areas that are at most z standard errors from the one found, with the
    error of an area of that size (method 5 of Newcombe, Statistics in Medicine 2006): it also holds
    where the groups do not overlap.

    Args:
        first: Values [n], n at least 1.
        second: Values [m], m at least 1.
        confidence: Of the interval, between 0 and 1.
        groups: The group of each of the first and of the second, which images of one patient or
            scanner share; None where every value is its own. Errors are then those of Obuchowski
            (Biometrics 1997), with a t test and an interval on the scale of logits.

    Example:
        >>> found = separation(np.array([0.9, 0.8, 0.7, 0.2]), np.array([0.1, 0.3, 0.0, 0.2]))
        >>> round(found.auc, 3), round(found.low, 2), round(found.p_value, 3)
        (0.906, 0.48, 0.081)
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri
    from scipy.stats import mannwhitneyu

    if groups is not None:
        return _clustered(first, second, confidence, groups)
    area = float(_shares_below(first, second).mean())
    z = float(ndtri((1 + confidence) / 2))

    def outside(other: float) -> float:
        return (area - other) ** 2 - z**2 * _variance(other, len(first), len(second))

    # 0 and 1 have no error, and are roots themselves where the area found is one of them
    inside = min(max(area, _END), 1 - _END)
    low = float(brentq(outside, 0.0, inside)) if area > 0 else 0.0
    high = float(brentq(outside, inside, 1.0)) if area < 1 else 1.0
    alike = np.ptp(np.concatenate([first, second])) == 0
    p = 1.0 if alike else float(mannwhitneyu(first, second, alternative="two-sided").pvalue)
    return Separation(area, low, high, p)


def _clustered(
    first: Array,
    second: Array,
    confidence: float,
    groups: tuple[Sequence[Hashable], Sequence[Hashable]],
) -> Separation:
    """Return how two groups of values lie to each other where values come in clusters."""
    shares = _shares_below(first, second), 1 - _shares_below(second, first)
    area, both = float(shares[0].mean()), [*groups[0], *groups[1]]
    # a value's part of the area; of the side with fewer clusters comes most of the error
    parts = np.concatenate([(own - area) / len(own) for own in shares])
    fewer = min(len(set(names)) for names in groups)
    if fewer < 2:
        return Separation(area, nan, nan, nan)
    squares = float(np.square(group_sums(parts, both)).sum())
    estimate = Estimate(area, (fewer / (fewer - 1) * squares) ** 0.5, fewer - 1)
    if estimate.error == 0:  # apart, or all alike: the means of clusters are what is drawn
        found = separation(_means(first, groups[0]), _means(second, groups[1]), confidence)
        return found._replace(auc=area)
    p = estimate._replace(value=area - 0.5).p_beyond()
    scale = area * (1 - area)
    logit = Estimate(float(np.log(area / (1 - area))), estimate.error / scale, estimate.freedom)
    low, high = (float(1 / (1 + np.exp(-end))) for end in logit.interval(confidence))
    return Separation(area, low, high, p)


def _means(values: Array, groups: Sequence[Hashable]) -> Array:
    means: Array = group_sums(values, groups) / group_sums(np.ones(len(values)), groups)
    return means


def _shares_below(values: Array, others: Array) -> Array:
    """Return for each value the share of others below it, ties counting half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    share: Array = below / (2 * len(others))
    return share


def _variance(area: float, n: int, m: int) -> float:
    """Return the variance of an area of n and m values.

    It is that of Hanley and McNeil (Radiology 1982), with both groups counting alike.
    """
    others = (n + m) / 2 - 1
    pairs = 1 + others * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * pairs / (n * m)
