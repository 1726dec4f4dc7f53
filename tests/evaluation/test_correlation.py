"""Correlations, pairs and intervals: by hand, against scipy, and what is undefined."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtcav import ExplanationError
from vtcav.evaluation.correlation import (
    Correlation,
    bootstrap_interval,
    interval_over_seeds,
    pair_order,
    pearson,
    spearman,
)

points = st.lists(
    st.tuples(st.integers(-5, 5), st.integers(-5, 5)).map(lambda pair: (pair[0] / 4, pair[1])),
    min_size=3,
    max_size=12,
)


def test_by_hand():
    x, y = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 10.0]
    # centred: x -1.5 -.5 .5 1.5, y -3 -1 -2 6; sums 13, 5 and 50
    assert pearson(x, y).value == pytest.approx(13 / math.sqrt(5 * 50))
    # rank differences 0, 1, 1, 0
    assert spearman(x, y).value == pytest.approx(1 - 6 * 2 / (4 * 15))
    order = pair_order(x, y)
    assert (order.value, order.pairs, order.tied) == (pytest.approx(5 / 6), 6, 0)
    assert pearson(x, y).n == 4


def test_pairs_of_equal_truth_are_left_out_and_equal_estimates_count_half():
    order = pair_order([1, 1, 2, 0], [0, 1, 2, 2])
    # (0,1) tied; (0,2) and (1,2) right; (0,3) and (1,3) wrong; (2,3) has no right order
    assert (order.value, order.pairs, order.tied) == (pytest.approx(2.5 / 5), 5, 1)


@settings(max_examples=60, deadline=None)
@given(points)
def test_pair_order_pair_by_pair(pairs):
    x, y = np.array(pairs).T
    points = []
    for i in range(len(x)):
        for j in range(i):
            if y[i] != y[j]:
                points.append(0.5 if x[i] == x[j] else float((x[i] > x[j]) == (y[i] > y[j])))
    found = pair_order(x, y)
    assert found.pairs == len(points)
    assert found.tied == points.count(0.5)
    if points:
        assert found.value == pytest.approx(np.mean(points))


@settings(max_examples=60, deadline=None)
@given(points)
def test_no_number_is_missing_without_a_reason(pairs):
    x, y = np.array(pairs).T
    for found in (pearson(x, y), spearman(x, y), pair_order(x, y)):
        assert math.isnan(found.value) == bool(found.note)


@pytest.mark.parametrize("coefficient", [pearson, spearman])
@pytest.mark.parametrize(
    ("x", "y", "note"),
    [
        ([], [], "0 points, where a correlation needs at least 3"),
        ([1, 2], [1, 2], "2 points, where a correlation needs at least 3"),
        ([1, 1, 1], [1, 2, 3], "all estimates are the same"),
        ([1, 2, 3], [0, 0, 0], "all truths are the same"),
        ([1, 1, 1], [0, 0, 0], "all estimates and all truths are the same"),
        ([1, math.nan, 3], [0, 1, math.inf], "2 of 3 points are not finite"),
    ],
)
def test_degenerate(coefficient, x, y, note):
    found = coefficient(x, y)
    assert math.isnan(found.value)
    assert (found.n, found.note) == (len(x), note)


def test_same_up_to_rounding_is_the_same_to_pearson():
    x = [1.0, 1.0 + 2e-16, 1.0, 1.0]
    assert pearson(x, [1, 2, 3, 4]).note == "all estimates are the same"


def test_degenerate_pairs():
    assert pair_order([1, 2], [3, 3]).note == "no two truths differ"
    assert pair_order([1, math.nan], [3, 4]).note == "1 of 2 points are not finite"
    assert pair_order([], []).note == "no two truths differ"
    assert pair_order([2, 2], [3, 4]).value == 0.5


# -- intervals over seeds ----------------------------------------------------------------------


def test_interval_on_fishers_z():
    z = np.arctanh([0.5, 0.7, 0.9])
    half = 4.302652729749464 * z.std(ddof=1) / math.sqrt(3)
    found = interval_over_seeds([0.5, 0.7, 0.9])
    expected = np.tanh([z.mean(), z.mean() - half, z.mean() + half])
    np.testing.assert_allclose([found.value, found.low, found.high], expected)
    assert (found.n, found.confidence, found.note) == (3, 0.95, "")


def test_interval_of_other_numbers_is_not_cut():
    found = interval_over_seeds([0.9, 1.0, 3.0], confidence=0.9, correlation=False)
    values = np.array([0.9, 1.0, 3.0])
    half = 2.9199855803537256 * values.std(ddof=1) / math.sqrt(3)
    assert found.value == pytest.approx(values.mean())
    assert found.high == pytest.approx(values.mean() + half)
    assert found.low < 0
    assert found.note == ""


def test_interval_with_a_perfect_coefficient():
    found = interval_over_seeds([1.0, 0.9, 0.8])
    assert found.value == pytest.approx(0.9)
    assert found.high == 1.0
    assert found.low == pytest.approx(0.9 - 4.302652729749464 * 0.1 / math.sqrt(3))
    assert "without Fisher's z" in found.note


def test_too_few_seeds():
    one = interval_over_seeds([0.9])
    assert (one.value, one.n, one.note) == (0.9, 1, "one seed: no interval")
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    none = interval_over_seeds([math.nan, math.nan])
    assert math.isnan(none.value)
    assert none.note == "2 of 2 seeds have no value; no seed has a value"
    assert interval_over_seeds([]).note == "no seed has a value"


def test_seeds_without_a_value_are_counted():
    found = interval_over_seeds([0.9, math.nan, 0.8])
    assert (found.n, found.note) == (2, "1 of 3 seeds have no value")
    assert found.low < 0.8 < found.value < 0.9


def test_interval_errors():
    with pytest.raises(ExplanationError, match=r"correlations from -1 to 1, got \[1.5, 0.2\]"):
        interval_over_seeds([1.5, 0.2])
    for confidence in (0, 1, 95, math.nan):
        with pytest.raises(ExplanationError, match="confidence to be a number between 0 and 1"):
            interval_over_seeds([0.1, 0.2], confidence)


# -- bootstrap ---------------------------------------------------------------------------------


def test_bootstrap_covers_the_true_correlation():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(25):
        x = rng.normal(size=40)
        y = 0.8 * x + 0.6 * rng.normal(size=40)
        found = bootstrap_interval(x, y, pearson, resamples=100, seed=seed)
        hits += found.low <= 0.8 <= found.high
    # 95 % of 25 are 24
    assert hits >= 20


def test_bootstrap_of_a_mean_is_as_wide_as_theory_says():
    x = np.random.default_rng(2).normal(size=400)

    def mean(a, b):
        return Correlation(float(np.mean(a)), len(a))

    found = bootstrap_interval(x, x, mean, confidence=0.9, resamples=2000)
    half = 1.6449 * x.std() / 20
    np.testing.assert_allclose(
        [found.low, found.high], [x.mean() - half, x.mean() + half], atol=0.1 * half
    )


def test_bootstrap_is_seeded():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 10))
    first = bootstrap_interval(x, y, resamples=50, seed=3)
    assert first == bootstrap_interval(x, y, resamples=50, seed=3)
    assert first != bootstrap_interval(x, y, resamples=50, seed=4)
    assert first.value == spearman(x, y).value


def test_bootstrap_of_pairs():
    found = bootstrap_interval([1, 2, 3, 4, 5], [1, 2, 4, 3, 5], pair_order, resamples=100)
    assert found.value == 0.9
    assert 0 < found.low < 0.9 < found.high == 1


def test_bootstrap_of_few_points_says_what_was_lost():
    found = bootstrap_interval([1, 2, 3], [1, 2, 3], resamples=200)
    # 3 of the 27 draws repeat one point
    assert "of 200 draws have no coefficient" in found.note
    assert 5 < int(found.note.split()[0]) < 50
    whole = bootstrap_interval([1, 1, 1], [1, 2, 3])
    assert math.isnan(whole.value)
    assert whole.note == "all estimates are the same"


def test_bootstrap_where_no_draw_has_a_coefficient():
    single = bootstrap_interval([1, 2, 3], [1, 2, 3], resamples=1, seed=_seed_of_one_point())
    assert single.value == 1
    assert math.isnan(single.low)
    assert single.note == "1 of 1 draws have no coefficient and are left out"


def _seed_of_one_point():
    """A seed whose first draw repeats one of three points."""
    draws = (np.random.default_rng(seed).integers(0, 3, (1, 3)) for seed in range(1000))
    return next(seed for seed, draw in enumerate(draws) if len(set(draw[0])) == 1)


def test_errors():
    with pytest.raises(ExplanationError, match=r"truths \[n\], got \[2\] and \[3\]"):
        pearson([1, 2], [1, 2, 3])
    with pytest.raises(ExplanationError, match=r"resamples to be a whole number .*, got 0"):
        bootstrap_interval([1, 2, 3], [1, 2, 3], resamples=0)
