"""Correlation of estimates with the truth over many points, and its intervals.

Letters: x [n] are the estimates (attributions), y [n] the truth (causal effects). An undefined
coefficient is NaN, and its `note` gives the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vtcav.errors import ExplanationError, brief
from vtcav.method.significance import student_interval
from vtcav.parameters import Between, Flag, Whole, as_list, check

FEWEST = 3
"""The fewest points of a correlation; two always lie on a line."""

NAN = float("nan")
_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """A correlation coefficient.

    Attributes:
        value: -1 to 1; NaN where it is not defined.
        n: Points.
        note: Why it is NaN; empty otherwise.
    """

    value: float
    n: int
    note: str = ""


@dataclass(frozen=True)
class PairOrder:
    """Share of pairs of points in the correct order.

    Attributes:
        value: The share of pairs, 0 to 1 (0.5 is chance); NaN where it is not defined.
        pairs: The number of pairs whose truths differ; the others do not count.
        tied: The number of these with equal estimates, which count half.
        note: Why it is NaN; empty otherwise.
    """

    value: float
    pairs: int
    tied: int
    note: str = ""


@dataclass(frozen=True)
class Interval:
    """A value and the interval around it.

    Attributes:
        value: The estimate.
        low: Lower end; NaN without an interval.
        high: Upper end; NaN without an interval.
        n: The number of seeds, or of points.
        confidence: Of the interval, between 0 and 1.
        note: Why there is no interval, or what was left out; empty otherwise.
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float
    note: str = ""


def pearson(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Return Pearson's correlation: how close are the points to a straight line?

    Args:
        x: Estimates [n].
        y: Truth [n].

    Returns:
        The coefficient; NaN with a note for fewer than 3 points, for values that are all the
        same (up to rounding) or not finite.

    Raises:
        ExplanationError: For lists of different length or other shapes.

    Example:
        >>> round(pearson([0.0, 1.0, 2.0], [0.0, 1.0, 5.0]).value, 4)
        0.9449
        >>> pearson([1.0, 1.0, 1.0], [0.0, 1.0, 5.0])
        Correlation(value=nan, n=3, note='all estimates are the same')
    """
    from scipy.stats import pearsonr

    a, b = _points(x, y)
    reason = _degenerate(a, b, _same_up_to_rounding)
    return Correlation(NAN if reason else float(pearsonr(a, b).statistic), len(a), reason)


def spearman(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Return Spearman's rank correlation: do estimates and truth have the same order?

    Equal values share the mean of their ranks.

    Args:
        x: Estimates [n].
        y: Truth [n].

    Returns:
        The coefficient; NaN with a note for fewer than 3 points, for values that are all the
        same or not finite.

    Raises:
        ExplanationError: For lists of different length or other shapes.

    Example:
        >>> round(spearman([0.0, 1.0, 2.0, 2.0], [0.0, 1.0, 5.0, 3.0]).value, 4)
        0.9487
    """
    from scipy.stats import spearmanr

    a, b = _points(x, y)
    reason = _degenerate(a, b, _same)
    return Correlation(NAN if reason else float(spearmanr(a, b).statistic), len(a), reason)


def pair_order(x: ArrayLike, y: ArrayLike) -> PairOrder:
    """Return the share of pairs of points that the estimates order correctly.

    The concordance index (Harrell et al., JAMA 247, 1982): of all pairs whose truths differ, the
    share with the larger estimate where the truth is larger. Equal estimates count half; pairs of
    equal truth have no order and are left out.

    Args:
        x: Estimates [n].
        y: Truth [n].

    Returns:
        The share, 0 to 1; 0.5 when all estimates are the same. NaN with a note when no two truths
        differ, or values are not finite.

    Raises:
        ExplanationError: For lists of different length or other shapes.

    Example:
        >>> pair_order([0.1, 0.3, 0.3], [1.0, 2.0, 3.0])
        PairOrder(value=0.8333333333333333, pairs=3, tied=1, note='')
    """
    a, b = _points(x, y)
    if reason := _not_finite(a, b):
        return PairOrder(NAN, 0, 0, reason)
    first, second = np.triu_indices(len(a), k=1)
    truth = np.sign(b[first] - b[second])
    counts = truth != 0
    agreement = (np.sign(a[first] - a[second]) * truth)[counts]
    pairs, tied = int(counts.sum()), int((agreement == 0).sum())
    if not pairs:
        return PairOrder(NAN, 0, 0, "no two truths differ")
    return PairOrder(float((1 + agreement.mean()) / 2), pairs, tied)


def interval_over_seeds(
    values: Iterable[float], confidence: float = 0.95, *, correlation: bool = True
) -> Interval:
    """Return the mean over seeds and its Student t interval.

    For correlations both are computed on Fisher's z = atanh(r), whose spread does not shrink
    towards the ends, and brought back by tanh. Where one coefficient is exactly -1 or 1, z is
    infinite; then the coefficients themselves are used, the interval is cut at -1 and 1, and the
    note says so.

    Args:
        values: One number per seed; NaN for a seed without a value.
        confidence: Of the interval, between 0 and 1.
        correlation: Whether the values are correlations. Otherwise the mean and the interval are
            those of the values themselves, and not cut.

    Returns:
        The interval. For one seed its value, with an interval of NaN and a note; without any
        value everything is NaN, with a note. Seeds without a value are left out, and counted in
        the note.

    Raises:
        ExplanationError: For a confidence out of range, or correlations beyond -1..1.

    Example:
        >>> found = interval_over_seeds([0.90, 0.94, 0.92])
        >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
        (0.922, 0.853, 0.959)
        >>> interval_over_seeds([0.9]).note
        'one seed: no interval'
    """
    check("confidence", confidence, Between(0, 1))
    check("correlation", correlation, Flag())
    given = as_numbers("values", as_list("values", values))
    if given.ndim != 1:
        raise ExplanationError(f"expected a number of each seed, got {brief(given)}")
    r = given[~np.isnan(given)]
    n = len(r)
    notes = [f"{len(given) - n} of {len(given)} seeds have no value"] * (n < len(given))
    if correlation and (abs(r) > 1 + 1e-9).any():
        raise ExplanationError(
            f"expected correlations from -1 to 1, got {brief(r.tolist())}; pass correlation=False "
            "for numbers of another kind"
        )
    if n < 2:
        notes.append("one seed: no interval" if n else "no seed has a value")
        return Interval(float(r[0]) if n else NAN, NAN, NAN, n, confidence, "; ".join(notes))
    value, low, high = student_interval(r, confidence)
    if correlation and (abs(r) > 1 - 1e-12).any():
        notes.append("a coefficient is -1 or 1: interval without Fisher's z, cut at -1 and 1")
        value, low, high = np.clip([value, low, high], -1.0, 1.0).tolist()
    elif correlation:
        value, low, high = np.tanh(student_interval(np.arctanh(r), confidence)).tolist()
    return Interval(value, low, high, n, confidence, "; ".join(notes))


def bootstrap_interval(
    x: ArrayLike,
    y: ArrayLike,
    statistic: Callable[[ArrayLike, ArrayLike], Correlation | PairOrder] = spearman,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a coefficient over points.

    For a single seed of an experiment: points are drawn with replacement (Efron and Tibshirani,
    "An Introduction to the Bootstrap", 1993). It estimates how the coefficient would vary with
    other points of this network, not with another network. Points that belong together (classes of
    one network) are treated as independent, which makes the interval too narrow.

    Args:
        x: Estimates [n].
        y: Truth [n].
        statistic: `spearman`, `pearson` or `pair_order`.
        confidence: Of the interval, between 0 and 1.
        resamples: How often points are drawn.
        seed: Seeds the draws.

    Returns:
        The coefficient of all points and its interval. NaN with a note where the coefficient is
        not defined; draws for which it is not (all the same point) are left out, and counted in
        the note.

    Raises:
        ExplanationError: For lists of different length, or settings out of range.

    Example:
        >>> found = bootstrap_interval([1, 2, 3, 4, 5, 6], [1, 3, 2, 4, 6, 5], seed=0)
        >>> round(found.value, 3), found.low < found.value < found.high
        (0.886, True)
    """
    check("confidence", confidence, Between(0, 1))
    resamples = check("resamples", resamples, Whole(1))
    a, b = _points(x, y)
    whole = statistic(a, b)
    if np.isnan(whole.value):
        return Interval(NAN, NAN, NAN, len(a), confidence, whole.note)
    draws = np.random.default_rng(seed).integers(0, len(a), (resamples, len(a)))
    found = np.array([statistic(a[draw], b[draw]).value for draw in draws])
    defined = found[~np.isnan(found)]
    lost = len(found) - len(defined)
    note = f"{lost} of {len(found)} draws have no coefficient and are left out" if lost else ""
    if not len(defined):
        return Interval(whole.value, NAN, NAN, len(a), confidence, note)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(whole.value, float(low), float(high), len(a), confidence, note)


def as_numbers(name: str, given: ArrayLike) -> _Floats:
    """Return numbers as an array.

    Raises:
        ExplanationError: For what is none.
    """
    try:
        return np.asarray(given, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ExplanationError(f"expected {name} to be numbers, got {brief(given)}") from error


def _points(x: ArrayLike, y: ArrayLike) -> tuple[_Floats, _Floats]:
    """Return two lists of numbers of the same length."""
    a, b = as_numbers("estimates", x), as_numbers("truths", y)
    if a.ndim != 1 or a.shape != b.shape:
        raise ExplanationError(
            f"expected estimates [n] and truths [n], got {list(a.shape)} and {list(b.shape)}"
        )
    return a, b


def _degenerate(a: _Floats, b: _Floats, same: Callable[[_Floats], bool]) -> str:
    """Return why a correlation is not defined, or an empty text."""
    if len(a) < FEWEST:
        return f"{len(a)} points, where a correlation needs at least {FEWEST}"
    if reason := _not_finite(a, b):
        return reason
    if same(a):
        return (
            "all estimates and all truths are the same" if same(b) else "all estimates are the same"
        )
    return "all truths are the same" if same(b) else ""


def _not_finite(a: _Floats, b: _Floats) -> str:
    bad = int((~(np.isfinite(a) & np.isfinite(b))).sum())
    return f"{bad} of {len(a)} points are not finite" if bad else ""


def _same(values: _Floats) -> bool:
    return bool((values == values[0]).all())


def _same_up_to_rounding(values: _Floats) -> bool:
    # below this scipy warns that rounding makes up the result
    spread = float(np.linalg.norm(values - values.mean()))
    return spread <= 1e-13 * abs(float(values.mean()))
