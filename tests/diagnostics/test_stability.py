import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.banks import cloud, made_bank, made_set
from vtcav.diagnostics.diagnosis import diagnose
from vtcav.diagnostics.stability import (
    Resamples,
    cosine,
    curve_sizes,
    direction_noise,
    is_zero,
    replication,
    spearman_brown,
)
from vtcav.errors import CavError


def resamples(images, count, seed=0):
    return Resamples(images.gap["a"][0], "a", seed, count)


def noise(X, Y):
    """The trace of the direction's covariance."""
    return direction_noise(X) + direction_noise(Y)


def test_the_noise_by_hand():
    X = torch.tensor([[1.0, 0.0], [3.0, 0.0]])  # variance 2 along the first axis
    Y = torch.tensor([[0.0, 0.0], [0.0, 3.0], [0.0, 6.0]])  # 9 along the second
    assert direction_noise(X) == 1.0
    assert direction_noise(Y) == 3.0


def test_the_noise_is_the_trace_of_the_covariance():
    X, Y = torch.tensor(cloud(7, 5)), torch.tensor(cloud(9, 5, seed=1))
    trace = torch.cov(X.T).trace() / 7 + torch.cov(Y.T).trace() / 9
    assert noise(X, Y) == pytest.approx(float(trace))


def test_the_noise_is_that_of_the_bootstrap():
    X = made_set("x", cloud(40, 3) * [1, 2, 3])
    Y = made_set("y", cloud(60, 3, seed=1))
    drawn = resamples(X, 6000)
    directions = drawn.bootstrap(X) - drawn.bootstrap(Y)
    # a bootstrap draws from n images, whose variance is (n - 1) / n of the estimate
    X, Y = X.gap["a"].double(), Y.gap["a"].double()
    expected = torch.cov(X.T) / 40 * 39 / 40 + torch.cov(Y.T) / 60 * 59 / 60
    assert torch.allclose(torch.cov(directions.T), expected, atol=0.06 * float(expected.max()))
    assert noise(X, Y) == pytest.approx(float(expected.trace()), rel=0.03)


def test_the_noise_is_that_of_new_studies():
    rng = np.random.default_rng(0)
    studies = [(rng.normal(0, 2, (6, 2)), rng.normal(size=(9, 2))) for _ in range(4000)]
    directions = torch.tensor(np.array([x.mean(0) - y.mean(0) for x, y in studies]))
    estimates = [noise(torch.tensor(x), torch.tensor(y)) for x, y in studies[:1000]]
    truth = 2 * (4 / 6 + 1 / 9)
    assert float(torch.cov(directions.T).trace()) == pytest.approx(truth, abs=0.1)
    assert np.mean(estimates) == pytest.approx(truth, abs=0.1)


@pytest.mark.parametrize("size", [(1, 5), (5, 1), (0, 2)])
def test_one_image_shows_no_spread(size):
    X, Y = torch.ones(size[0], 3), torch.ones(size[1], 3)
    with pytest.raises(CavError, match=f"at least 2 examples .* got {size[0]} and {size[1]}"):
        replication(X, Y)


def test_replication_is_the_cosine_between_independent_studies():
    rng = np.random.default_rng(0)
    d = np.zeros(200)
    d[0] = 2.5

    def study():
        return torch.tensor(d + rng.normal(size=(40, 200))), torch.tensor(
            rng.normal(size=(80, 200))
        )

    studies = [study() for _ in range(60)]
    v = torch.stack([x.mean(0) - y.mean(0) for x, y in studies])
    between = float(cosine(v[:30], v[30:]).mean())
    closed = np.mean([replication(*each)[0] for each in studies])
    truth = 2.5**2 / (2.5**2 + 200 / 40 + 200 / 80)
    assert between == pytest.approx(truth, abs=0.02)
    assert closed == pytest.approx(truth, abs=0.02)


def test_replication_refuses_a_direction_of_nothing():
    with pytest.raises(CavError, match="the direction is 0"):
        replication(torch.ones(3, 2), torch.ones(4, 2))


@given(st.floats(-1, 1), st.floats(1, 10), st.floats(1, 10))
def test_spearman_brown(r, a, b):
    extended = spearman_brown(r, a)
    assert max(0, r) - 1e-12 <= extended <= 1 + 1e-12
    assert spearman_brown(r, 1) == pytest.approx(max(0, r))
    assert spearman_brown(extended, b) == pytest.approx(spearman_brown(r, a * b))


def test_halves_are_disjoint_and_of_their_size():
    images = made_set("x", np.eye(9) * 1.0)
    drawn = Resamples(torch.zeros(9), "a", 0, 50)
    first, second = drawn.halves(images, 4)
    assert ((first > 0).sum(1) == 4).all()
    assert ((second > 0).sum(1) == 4).all()
    assert not ((first > 0) & (second > 0)).any()
    torch.testing.assert_close(first.sum(1), torch.ones(50, dtype=torch.float64))
    assert len({tuple(row.tolist()) for row in first > 0}) > 20


def test_draws_depend_on_the_images_and_the_seed_alone():
    x, y = made_set("x", cloud(8)), made_set("y", cloud(9))
    alone = Resamples(torch.zeros(20), "a", 3, 10)
    after = Resamples(torch.zeros(20), "a", 3, 10)
    after.bootstrap(y)
    after.halves(y, 4)
    torch.testing.assert_close(alone.bootstrap(x), after.bootstrap(x), rtol=0, atol=0)
    other = Resamples(torch.zeros(20), "a", 4, 10)
    assert not torch.equal(alone.bootstrap(x), other.bootstrap(x))


def test_zero_is_measured_by_the_activations():
    images = torch.full((4, 3), 1000.0)
    assert is_zero(torch.tensor([1e-4, 0, 0]), images)
    assert not is_zero(torch.tensor([0.1, 0, 0]), images)
    assert is_zero(torch.zeros(3), torch.zeros(4, 3))


def test_curve_sizes():
    assert curve_sizes(2) == [1]
    assert curve_sizes(4) == [2]
    assert curve_sizes(200)[-1] == 100
    assert all(2 * size <= 33 for size in curve_sizes(33))


def test_the_curve_extends_to_what_all_images_have():
    d = np.zeros(50)
    d[0] = 2.0
    negatives = made_set("n", cloud(120, 50, seed=1))
    examples = made_set("e", cloud(40, 50, shift=d, seed=2))
    found = diagnose(made_bank({"c": (examples, negatives)}), resamples=200)
    curve = found.curve.set_index("n")
    assert list(curve.index) == [2, 3, 5, 8, 13, 20, 40, 80]
    assert list(curve["measured"]) == [True] * 6 + [False] * 2
    assert curve["stability"].is_monotonic_increasing
    closed, _ = replication(examples.gap["a"], negatives.gap["a"])
    assert curve.loc[40, "stability"] == pytest.approx(closed, abs=0.06)
    X, Y = examples.gap["a"], negatives.gap["a"]
    chance = noise(X, Y)
    true = float((X.mean(0) - Y.mean(0)).square().sum()) - chance
    for n in (2, 5):  # with the same share of the negatives: n / 40 of all
        assert curve.loc[n, "stability"] == pytest.approx(true / (true + 40 / n * chance), abs=0.02)
    twice = spearman_brown(curve.loc[20, "stability"], 4)
    assert curve.loc[80, "stability"] == pytest.approx(twice)
    assert (curve["low"] < curve["stability"]).all()
    assert (curve["stability"] < curve["high"]).all()
