"""Separation of two groups: the area by counting pairs, the test by scipy, intervals that cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from vtcav.method.separation import separation

VALUES = st.lists(st.integers(0, 6), min_size=2, max_size=12)


@given(VALUES, VALUES)
def test_the_area_counts_pairs(first, second):
    found = separation(np.array(first, float), np.array(second, float))
    pairs = [(a > b) + (a == b) / 2 for a in first for b in second]
    assert found.auc == pytest.approx(np.mean(pairs))
    assert 0 <= found.low <= found.auc <= found.high <= 1
    assert found.low < found.high
    other = separation(np.array(second, float), np.array(first, float))
    assert other.auc == pytest.approx(1 - found.auc)
    assert (other.low, other.high) == pytest.approx((1 - found.high, 1 - found.low))
    assert other.p_value == pytest.approx(found.p_value)


def test_the_test_is_mann_and_whitneys():
    random = np.random.default_rng(0)
    first, second = random.normal(0.4, 1, 30), random.normal(size=50)
    expected = mannwhitneyu(first, second).pvalue
    assert separation(first, second).p_value == pytest.approx(expected)
    assert separation(np.zeros(5), np.zeros(7)).p_value == 1


@pytest.mark.parametrize(("n", "m", "shift"), [(10, 40, 0.0), (20, 20, 1.0), (40, 200, 2.0)])
def test_intervals_cover_the_true_area(n, m, shift):
    true = norm.cdf(shift / np.sqrt(2))
    random, inside = np.random.default_rng(1), []
    for _ in range(400):
        found = separation(random.normal(shift, 1, n), random.normal(size=m))
        inside.append(found.low <= true <= found.high)
    assert 0.92 <= np.mean(inside) <= 0.985


def test_of_separated_groups_the_interval_grows_with_fewer_images():
    lows = [separation(np.ones(n), np.zeros(3 * n)).low for n in (5, 20, 100)]
    assert 0.5 < lows[0] < lows[1] < lows[2] < 1
