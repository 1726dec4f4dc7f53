"""Factorisation of feature maps, and how far its parts are found again."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vtcav.method.discovery.factorisation import directions, factorise, method_of, non_negative
from vtcav.method.discovery.stability import Stability, choose_k, cosines, matched_cosines


def mixed(n=300, channels=12, parts=3, seed=0, *, below=0.0):
    """Places that are each made of one of a few non-negative parts, with a little noise."""
    rng = np.random.default_rng(seed)
    W = rng.uniform(0, 1, (parts, channels)) * (rng.random((parts, channels)) < 0.5)
    U = rng.uniform(0.5, 1, (n, parts)) * np.eye(parts)[rng.integers(0, parts, n)]
    X = U @ W + rng.uniform(0, 0.02, (n, channels)) - below
    return X.astype(np.float32), U


@pytest.mark.parametrize("below", [0.0, 0.3])
def test_parts_of_places_are_found_whatever_the_sign_of_the_maps(below):
    X, U = mixed(below=below)
    found = factorise(X, 3, seed=1)
    expected = directions(X, U)
    assert method_of(X) == ("NMF" if below == 0 else "split NMF")
    assert matched_cosines(found.v, expected).min() > 0.97


def test_the_error_is_within_one_percent_of_a_full_factorisation():
    from sklearn.decomposition import NMF

    X, _ = mixed(parts=6, channels=20, seed=3)
    full = NMF(4, init="nndsvda", max_iter=2000, tol=1e-6).fit(X)
    best = min(factorise(X, 4, seed).error for seed in range(3))
    assert best <= 1.01 * full.reconstruction_err_ / np.linalg.norm(X)


def test_directions_are_step_1_with_places_weighted_by_their_amounts():
    X, U = mixed(n=40)
    for j, v in enumerate(directions(X, U)):
        weighted = sum(u * x for u, x in zip(U[:, j], X, strict=True)) / U[:, j].sum()
        np.testing.assert_allclose(v, weighted - X.mean(0), atol=1e-5)


def test_split_maps_give_back_what_is_around_the_mean():
    X = mixed(n=50, below=0.4)[0]
    both = non_negative(X)
    assert both.min() >= 0
    np.testing.assert_allclose(both[:, :12] - both[:, 12:], X - X.mean(0), atol=1e-6)


def test_maps_that_are_zero_everywhere_have_no_direction():
    found = factorise(np.zeros((20, 5), np.float32), 2, seed=0)
    assert not found.v.any()
    assert found.error == 0


def test_matching_is_the_best_of_all_permutations():
    rng = np.random.default_rng(4)
    v, others = rng.normal(size=(2, 4, 7))
    table = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in others] for a in v])
    rows, columns = linear_sum_assignment(-table)
    np.testing.assert_allclose(cosines(v, others), table, atol=1e-12)
    np.testing.assert_allclose(matched_cosines(v, others), table[rows, columns], atol=1e-12)


def test_stability_is_the_mean_over_starts_and_the_lower_of_the_halves():
    one, turned, other = np.eye(2), np.array([[0.6, 0.8], [-0.8, 0.6]]), np.eye(2)[::-1]
    found = Stability.of(one, [one, turned], [other, turned])
    np.testing.assert_allclose(found.seeds, [0.8, 0.8])
    np.testing.assert_allclose(found.halves, [0.6, 0.6])
    np.testing.assert_allclose(found.lower, [0.6, 0.6])


def test_k_is_the_largest_of_which_most_are_stable():
    assert choose_k({4: [0.9] * 4, 6: [0.85] * 3 + [0.3] * 3, 8: [0.9] * 5 + [0.1] * 3}) == 8
    assert choose_k({4: [0.9] * 3 + [0.1], 6: [0.9] * 2 + [0.1] * 4}) == 4
