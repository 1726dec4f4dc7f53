"""Classifier CAVs: normals by hand, held-out accuracy, draws, and what is doubtful about them."""

import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.small import pictures, small_explainer
from vtcav.errors import ConceptError, ExplanationError
from vtcav.evaluation.compare import compare
from vtcav.evaluation.peers.linear_cav import draw_cavs, learn_cav

CLASSIFIERS = ["sgd", "logistic", "svm", "difference of means"]
IMAGES = {"cat": pictures(5, seed=5), "fox": pictures(4, seed=6)}


def clouds(shift, count=30, size=6, seed=0):
    """Two clouds of points whose means differ by `shift` along the first axis."""
    random = np.random.default_rng(seed)
    there = random.normal(size=(count, size))
    here = random.normal(size=(count, size))
    here[:, 0] += shift
    return torch.from_numpy(here).float(), torch.from_numpy(there).float()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_normal_points_to_the_concept(classifier):
    cav = learn_cav(*clouds(8.0), classifier=classifier)
    assert float(cav.u.norm()) == pytest.approx(1, abs=1e-6)
    assert float(cav.u[0]) > 0.9
    assert cav.accuracy == 1.0
    assert cav.note == ""
    back = learn_cav(*clouds(8.0)[::-1], classifier=classifier)
    assert float(back.u[0]) < -0.9


def test_difference_of_means_by_hand():
    here = torch.tensor([[3.0, 4.0]]).repeat(3, 1)
    cav = learn_cav(here, torch.zeros(3, 2), classifier="difference of means")
    assert cav.u.tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_images_that_all_look_the_same_have_no_direction(classifier):
    same = torch.ones(6, 4)
    cav = learn_cav(same, same, classifier=classifier)
    assert cav.accuracy == 0.5
    assert (cav.u == 0).all() == (cav.note != "")
    draws = draw_cavs(same, same, runs=3, classifier=classifier)
    assert "no direction" in draws.note or "do not separate" in draws.note


def test_concept_and_negatives_alike_are_noted_as_not_separated():
    here, _ = clouds(0.0, count=40)
    draws = draw_cavs(here, here, runs=10)
    assert "do not separate the concept from its negatives (held-out accuracy 0." in draws.note
    apart = draw_cavs(*clouds(8.0, count=40), runs=10)
    assert apart.note == ""
    few = draw_cavs(*clouds(8.0, count=15), runs=10)
    assert few.note == "each CAV rests on 7 images a side"


def test_draws_are_those_of_the_seed():
    here, there = clouds(2.0)
    first, again = (draw_cavs(here, there, runs=4, seed=3) for _ in range(2))
    other = draw_cavs(here, there, runs=4, seed=4)
    assert torch.equal(first.concept, again.concept)
    assert torch.equal(first.random, again.random)
    assert not torch.equal(first.concept, other.concept)
    more = draw_cavs(here, there, runs=6, seed=3)
    assert torch.equal(more.concept[:4], first.concept)


def test_accuracy_is_of_images_held_out():
    # labels by chance in many dimensions: training images are always separated
    random = np.random.default_rng(0)
    here, there = (torch.from_numpy(random.normal(size=(12, 200))) for _ in range(2))
    found = [learn_cav(here, there, classifier="svm", seed=s).accuracy for s in range(20)]
    assert 0.2 < np.mean(found) < 0.8


@pytest.mark.parametrize(
    ("n1", "n2", "message"), [(1, 9, "2 examples and 4"), (5, 3, "got 5 and 3")]
)
def test_too_few_to_draw_from(n1, n2, message):
    with pytest.raises(ConceptError, match=message):
        draw_cavs(torch.zeros(n1, 2), torch.zeros(n2, 2), runs=2)


def test_too_few_for_one_cav():
    with pytest.raises(ConceptError, match="got 1 examples and 5 negatives"):
        learn_cav(torch.zeros(1, 2), torch.zeros(5, 2))


def test_unknown_settings():
    explainer = small_explainer()
    with pytest.raises(ExplanationError, match=r"classifier to be 'sgd', .* got 'tree'"):
        compare(explainer, IMAGES, methods=["tcav"], classifier="tree")
    with pytest.raises(ExplanationError, match="runs to be a whole number of at least 1, got 0"):
        compare(explainer, IMAGES, methods=["tcav"], runs=0)


def test_scikit_learn_absent(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.linear_model", None)
    explainer = small_explainer()
    with pytest.raises(vtcav.ExtraError, match=r"pip install 'vtcav\[evaluation\]'"):
        compare(explainer, IMAGES, methods=["tcav"])
    plain = compare(explainer, IMAGES, methods=["tcav"], classifier="difference of means")
    assert len(plain.table) == 2 * 2 * 2
