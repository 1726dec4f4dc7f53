"""Place classifiers: linear discriminant analysis of locations, and which of them are chosen."""

import math

import numpy as np
import pytest
import torch

from vtcav.method.erasure.place_classifier import (
    PlaceClassifier,
    candidates,
    discriminant,
    grid,
    labels,
    learned,
    locations,
)
from vtcav.method.erasure.place_filter import SHRINKAGE


def drawn(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def literal(groups, l=SHRINKAGE):  # noqa: E741
    """W and b by their definition, number by number."""
    C = groups[0].shape[1]
    means, S = [], np.zeros((C, C))
    for group in groups:
        X = group.double().numpy()
        m = sum(X) / len(X)
        means.append(m)
        for x in X:
            for i in range(C):
                for j in range(C):
                    S[i, j] += (x[i] - m[i]) * (x[j] - m[j]) / len(X) / len(groups)
    ridge = l * sum(S[i, i] for i in range(C)) / C
    inverse = np.linalg.inv(S + ridge * np.eye(C))
    W = [inverse @ m for m in means]
    return np.stack(W), np.array([-w @ m / 2 for w, m in zip(W, means, strict=True)])


def test_the_discriminant_is_that_of_its_definition():
    groups = [drawn(9, 4), drawn(7, 4, seed=1) + 1, drawn(5, 4, seed=2) - 2]
    W, b = discriminant(groups)
    expected = literal(groups)
    np.testing.assert_allclose(W.numpy(), expected[0], rtol=1e-4)
    np.testing.assert_allclose(b.numpy(), expected[1], rtol=1e-4)


def test_groups_without_any_spread_tell_nothing():
    W, b = discriminant([torch.zeros(3, 2), torch.ones(4, 2)])
    assert not W.any()
    assert not b.any()


def test_log_p_is_a_distribution_at_every_location():
    known = PlaceClassifier(drawn(3, 4), drawn(3, seed=1), torch.eye(2))
    p = known.log_p(drawn(2, 4, 5, 6)).exp()
    assert p.shape == (2, 3, 5, 6)
    torch.testing.assert_close(p.sum(1), torch.ones(2, 5, 6))
    volumes = known.log_p(drawn(2, 4, 2, 5, 6))
    assert volumes.shape == (2, 3, 2, 5, 6)


def test_some_concepts_keep_their_weights():
    told = torch.arange(9.0).reshape(3, 3)
    known = PlaceClassifier(drawn(4, 5), drawn(4, seed=1), told)
    some = known.of_concepts([2, 0])
    assert torch.equal(some.W, known.W[[0, 3, 1]])
    assert torch.equal(some.b, known.b[[0, 3, 1]])
    assert some.told.tolist() == [[8.0, 6.0], [2.0, 0.0]]


def test_labels_add_what_layers_of_other_sizes_say():
    sure = torch.tensor([[[[0.98]], [[0.01]], [[0.01]]]])  # background, by a single location
    other = torch.tensor([[[[0.1, 0.4]], [[0.1, 0.2]], [[0.8, 0.4]]]])
    assert labels([other.log()], (1, 2)).tolist() == [[[2, 0]]]
    assert labels([other.log(), sure.log()], (1, 2)).tolist() == [[[0, 0]]]


def test_candidates_are_where_the_filters_of_all_layers_respond_most():
    X = {"a": torch.zeros(1, 8, 2), "b": torch.zeros(1, 8, 1)}
    X["a"][0, 3, 0], X["a"][0, 5, 0], X["b"][0, 5, 0] = 2.0, 1.5, 1.0
    found = candidates(X, {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([1.0])})
    assert found["a"][0, :, 0].tolist() == [1.5, 2.0]  # a quarter, the highest sum first
    assert found["b"][0, :, 0].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("shapes", "size"),
    [([(20, 30)], (16, 16)), ([(3, 5), (2, 2)], (3, 5)), ([(4, 9, 9)], (4, 9, 9))],
)
def test_the_grid_is_that_of_the_finest_layer_up_to_a_limit(shapes, size):
    assert grid(shapes) == size
    found = locations(torch.ones(2, 3, *shapes[0]), size)
    assert found.shape == (2, math.prod(size), 3)


def examples(channel, beside, n=12, seed=0):
    """Candidates that respond to any object: two locations show the concept, two show another."""
    X = drawn(n, 16, 6, seed=seed) * 0.3
    X[:, :4, 0] += 3  # what all objects have in common
    for i, own in enumerate(X):
        order = torch.randperm(4, generator=torch.Generator().manual_seed(i + seed))
        own[order[:2], channel] += 3
        own[order[2:], beside] += 3  # answered no less
    return {"layer": X}


def test_concepts_are_told_apart_by_what_the_others_do_not_show():
    concepts = [examples(k + 1, 0, n=40, seed=100 * k) for k in range(3)]
    background = {"layer": drawn(20, 8, 6, seed=3) * 0.3}
    found = learned(concepts, background)["layer"]
    F = torch.zeros(1, 6, 1, 4)
    F[0, 0, 0, 1:] = 3
    for k in range(3):
        F[0, k + 1, 0, k + 1] = 3
    assert labels([found.log_p(F)], (1, 4)).tolist() == [[[0, 1, 2, 3]]]
    assert found.told.diagonal().tolist() == [1.0, 1.0, 1.0]
    assert float(found.told.min()) > 0.8


def test_concepts_that_show_the_same_are_not_told_apart():
    one, other = examples(1, 4, n=40), examples(1, 4, n=40, seed=1)
    told = learned([one, other], {"layer": drawn(20, 8, 6, seed=3) * 0.3})["layer"].told
    assert 0.2 < float(told[0, 1]) < 0.8


def test_learning_is_the_same_to_the_last_bit_when_repeated():
    concepts, background = [examples(1, 4), examples(2, 4)], {"layer": drawn(20, 8, 6, seed=3)}
    one, other = (learned(concepts, background)["layer"] for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )
