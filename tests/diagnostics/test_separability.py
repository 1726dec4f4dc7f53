import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tests.helpers.banks import cloud, made_set
from vtcav.diagnostics.entanglement import entanglement
from vtcav.diagnostics.separability import (
    auc_interval,
    held_out_margins,
    held_out_scores,
    margins_from,
)
from vtcav.diagnostics.stability import Resamples
from vtcav.errors import CavError
from vtcav.method.auc import auc


def without(X, i):
    return np.delete(X, i, axis=0).mean(0)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(2, 6), st.integers(1, 4), st.integers(0, 99))
def test_margins_are_those_of_every_pair_left_out(n, m, C, seed):
    rng = np.random.default_rng(seed)
    X, Y, B = rng.normal(size=(n, C)), rng.normal(size=(m, C)), rng.normal(size=(3, C))
    slow = [
        [(x - y) @ (without(X, i) - without(Y, j)) for j, y in enumerate(Y)]
        for i, x in enumerate(X)
    ]
    np.testing.assert_allclose(held_out_margins(*map(torch.tensor, (X, Y))), slow, atol=1e-12)
    slow = [[(x - b) @ (without(X, i) - Y.mean(0)) for b in B] for i, x in enumerate(X)]
    np.testing.assert_allclose(margins_from(*map(torch.tensor, (X, Y, B))), slow, atol=1e-12)


def test_margins_keep_their_digits_far_from_zero():
    X, Y = torch.tensor(cloud(6, 4)), torch.tensor(cloud(7, 4, seed=1))
    far = [images + 1e8 for images in (X, Y)]
    torch.testing.assert_close(held_out_margins(*far), held_out_margins(X, Y), rtol=0, atol=1e-5)


def test_nothing_to_learn_gives_half_on_average():
    rng = np.random.default_rng(0)
    values = [
        auc(held_out_margins(*(torch.tensor(rng.normal(size=(n, 50))) for n in (8, 16))))
        for _ in range(400)
    ]
    assert np.mean(values) == pytest.approx(0.5, abs=0.02)


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    pos, neg = rng.integers(0, 9, 30) + 2.0, rng.integers(0, 9, 40) * 1.0  # with ties
    D = torch.tensor(pos[:, None] - neg)
    truth = np.r_[np.ones(30), np.zeros(40)]
    assert auc(D) == pytest.approx(roc_auc_score(truth, np.r_[pos, neg]))
    scores = held_out_scores(D).numpy().round(9)
    assert roc_auc_score(truth, scores) == pytest.approx(auc(D))
    assert scores[30:].mean() == pytest.approx(0)


@given(st.floats(0, 1), st.integers(2, 300), st.integers(2, 300))
def test_the_interval_is_newcombes(value, n, m):
    low, high = auc_interval(value, n, m)
    assert 0 <= low <= value <= high <= 1
    assert high - low > 1e-4
    mirrored = auc_interval(1 - value, m, n)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-6)
    N = (n + m) / 2 - 1
    for t in {low, high} - {0.0, 1.0}:
        spread = t * (1 - t) / (n * m) * (1 + N * (1 - t) / (2 - t) + N * t / (1 + t))
        assert abs(value - t) == pytest.approx(1.959964 * spread**0.5, abs=1e-5)


def test_the_interval_holds_the_truth_of_directions_learned_from_so_many():
    # two classes 2.5 apart along one of 3 axes: what a direction from one image fewer tells
    rng = np.random.default_rng(0)
    shift = np.array([2.5, 0, 0])

    def study():
        return torch.tensor(shift + rng.normal(size=(10, 3))), torch.tensor(
            rng.normal(size=(20, 3))
        )

    v = torch.stack([x[1:].mean(0) - y[1:].mean(0) for x, y in (study() for _ in range(2000))])
    distance = v[:, 0] * 2.5 / v.norm(dim=1)
    truth = float(torch.special.ndtr(distance / 2**0.5).mean())
    held = [auc_interval(auc(held_out_margins(*study())), 10, 20) for _ in range(400)]
    covered = np.mean([low <= truth <= high for low, high in held])
    assert covered > 0.93


def test_leaving_out_needs_two():
    with pytest.raises(CavError, match="leave a pair out, got 1 and 5"):
        held_out_margins(torch.ones(1, 2), torch.ones(5, 2))
    with pytest.raises(CavError, match="leave one out, got 1"):
        margins_from(torch.ones(1, 2), torch.ones(5, 2), torch.ones(1, 2))


# -- directions beside each other -------------------------------------------------------------


def found(pairs, count=100):
    return entanglement(pairs, Resamples(pairs[0][1].gap["a"][0], "a", 0, count))


def test_shared_negatives_alone_make_cosines_positive_and_the_share_is_known():
    raw, chance = [], []
    for seed in range(60):
        negatives = made_set("n", cloud(30, 60, seed=(seed, 0)))
        pairs = [(made_set(f"e{k}", cloud(20, 60, seed=(seed, k))), negatives) for k in (1, 2)]
        result = found(pairs, 20)
        raw.append(result.raw[0, 1])
        chance.append(result.chance[0, 1])
    # by the class's docstring n / (n + m)
    assert np.mean(raw) == pytest.approx(20 / 50, abs=0.04)
    assert np.mean(chance) == pytest.approx(20 / 50, abs=0.04)


def test_the_correction_finds_the_true_cosine():
    axis = np.eye(40)
    towards = [2 * axis[0], 2 * axis[1], np.sqrt(2) * (axis[0] + axis[1])]
    corrected, inside = [], []
    for seed in range(40):
        negatives = made_set("n", cloud(25, 40, seed=(seed, 0)))
        pairs = [
            (made_set(f"e{k}", cloud(25, 40, shift=shift, seed=(seed, k + 1))), negatives)
            for k, shift in enumerate(towards)
        ]
        result = found(pairs)
        corrected.append(result.corrected)
        inside.append((result.low[0, 2] <= 0.5**0.5) & (result.high[0, 2] >= 0.5**0.5))
    mean = np.mean(corrected, axis=0)
    np.testing.assert_allclose(np.diag(mean), 1, atol=1e-9)
    assert mean[0, 1] == pytest.approx(0, abs=0.06)
    assert mean[0, 2] == pytest.approx(0.5**0.5, abs=0.06)
    assert np.mean(inside) > 0.8


def test_negatives_of_their_own_share_nothing():
    pairs = [
        (made_set(f"e{k}", cloud(9, shift=3, seed=k)), made_set(f"n{k}", cloud(9, seed=9 + k)))
        for k in range(2)
    ]
    result = found(pairs)
    assert result.chance[0, 1] == 0
    expected = torch.cosine_similarity(
        *(e.gap["a"].double().mean(0) - n.gap["a"].double().mean(0) for e, n in pairs), dim=0
    )
    assert result.raw[0, 1] == pytest.approx(float(expected))


def test_a_direction_of_nothing_has_no_cosine():
    same = made_set("n", cloud(9))
    other = made_set("e", cloud(9, shift=3, seed=1))
    result = found([(same, same), (other, same)])
    assert np.isnan(result.raw[0]).all()
    assert np.isnan(result.corrected[0]).all()
    assert result.raw[1, 1] == pytest.approx(1)
