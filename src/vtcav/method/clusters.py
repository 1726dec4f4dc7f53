"""Means over images that come in groups: of one patient, one scanner, one photographer.

Images of a group are alike, so that n images say less than n. Groups are what is drawn at random:
the error of a mean is taken from the sums of each group's deviations (the cluster-robust error of
Liang and Zeger, 1986, with the small-sample factor G / (G - 1)), and its Student interval has G - 1
degrees of freedom. Where every image is its own group, it is the usual interval.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import hypot, inf, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Estimate(NamedTuple):
    """A mean and how sure it is.

    Attributes:
        value: The mean.
        error: Its standard error; NaN for a single group.
        freedom: The degrees of freedom of the error.
    """

    value: float
    error: float
    freedom: int

    def wider(self, error: float) -> Estimate:
        """Return the estimate with another, independent source of error."""
        return self._replace(error=hypot(self.error, error))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the ends of the Student interval; NaN for a single group."""
        from scipy.special import stdtrit

        if self.freedom < 1:
            return nan, nan
        half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * self.error
        return self.value - half, self.value + half

    def p_beyond(self, margin: float = 0.0) -> float:
        """Return the p-value of a mean in -margin to margin, two-sided; NaN for a single group."""
        from scipy.special import stdtr

        if self.freedom < 1:
            return nan
        gaps = [abs(self.value) - margin, abs(self.value) + margin]
        if self.error == 0:
            return 0.0 if gaps[0] > 0 else 1.0
        return min(1.0, float(sum(stdtr(self.freedom, -gap / self.error) for gap in gaps)))


def mean_estimate(values: Array, groups: Sequence[Hashable] | None = None) -> Estimate:
    """Return the mean of values with its error.

    Args:
        values: One for each image [n], n at least 1.
        groups: The group of each; None where every image is its own.

    Example:
        >>> values = np.array([1.0, 1.0, 3.0, 3.0])
        >>> [round(x, 3) for x in mean_estimate(values)]
        [2.0, 0.577, 3]
        >>> [round(x, 3) for x in mean_estimate(values, ["a", "a", "b", "b"])]
        [2.0, 1.0, 1]
    """
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    sums = group_sums(values - mean, groups)
    count = len(sums)
    if count < 2:
        return Estimate(mean, nan, 0)
    error = float(np.sqrt(count / (count - 1) * np.square(sums).sum())) / len(values)
    return Estimate(mean, error, count - 1)


def group_sums(values: Array, groups: Sequence[Hashable] | None) -> Array:
    """Return the sum of each group's values, the groups in the order in which they come."""
    if groups is None:
        return values
    positions = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    index = np.array([positions[name] for name in groups])
    sums: Array = np.zeros(len(positions))
    np.add.at(sums, index, values)
    return sums


def ratio_values(part: Array, whole: Array) -> Array:
    """Return values whose mean is mean(part) / mean(whole), and whose error is that of the ratio.

    Args:
        part: One for each image [n].
        whole: The same [n], of a mean other than 0.

    Example:
        >>> ratio_values(np.array([1.0, 2.0]), np.array([4.0, 2.0]))
        array([0.16666667, 0.83333333])
    """
    size = float(whole.mean())
    share = float(part.mean()) / size if size else inf
    found: Array = share + (part - share * whole) / size
    return found
