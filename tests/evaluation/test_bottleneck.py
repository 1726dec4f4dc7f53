"""The concept bottleneck: planted rules, values by hand, degenerate predictions stated."""

import sys

import numpy as np
import pytest
import torch

from vtcav.errors import ExplanationError, ExtraError
from vtcav.evaluation.peers.bottleneck import OTHER, fit_bottleneck, project


def planted(count=60, seed=0, classes=3):
    """Class k has a high score of concept k; concept 3 says nothing."""
    random = np.random.default_rng(seed)
    predicted = np.arange(count) % classes
    P = random.normal(0, 0.3, (count, 4))
    P[np.arange(count), predicted] += 2
    return P, predicted


def test_projection_by_hand():
    X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert project(X, torch.tensor([[0.6, 0.8]])).tolist() == [
        [pytest.approx(2.2)],
        [pytest.approx(5.0)],
    ]


def test_a_planted_rule_is_found_and_the_useless_concept_left_out():
    P, predicted = planted()
    found = fit_bottleneck(P, predicted)
    assert found.classes == (0, 1, 2)
    assert found.fidelity == 1
    assert found.majority == pytest.approx(1 / 3)
    assert (found.weights[:, :3].argmax(1) == [0, 1, 2]).all()
    assert np.abs(found.weights[:, 3]).max() < 0.1 * np.abs(found.weights).max()
    values, note = found.values(P, 1)
    assert values[predicted == 1].mean(0).argmax() == 1
    assert note == "fidelity 1.00 held out (always the most frequent class: 0.33)"


def test_values_are_weight_times_centred_score():
    P, predicted = planted()
    found = fit_bottleneck(P, predicted)
    values, _ = found.values(P, 2)
    by_hand = found.weights[2] * (P - P.mean(0)) / P.std(0)
    assert np.allclose(values, by_hand)
    assert np.allclose(values.mean(0), 0, atol=1e-9)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_units_of_the_scores_do_not_matter(factor):
    P, predicted = planted()
    one, other = fit_bottleneck(P, predicted), fit_bottleneck(P * factor, predicted)
    assert np.allclose(one.values(P, 0)[0], other.values(P * factor, 0)[0], atol=1e-6)


def test_two_classes_share_one_direction():
    P, predicted = planted(classes=2)
    found = fit_bottleneck(P, predicted)
    assert np.allclose(found.weights[0], -found.weights[1])
    assert found.weights[0, 0] > 0 > found.weights[0, 1]


def test_a_class_never_predicted_and_one_class_only():
    P, predicted = planted()
    values, note = fit_bottleneck(P, predicted).values(P, 7)
    assert np.isnan(values).all()
    assert note == "the network predicts this class for none of the images"
    alone = fit_bottleneck(P, np.full(len(P), 4))
    values, note = alone.values(P, 4)
    assert np.isnan(values).all()
    assert "one class for all images" in note


def test_a_class_with_one_image_has_no_fidelity():
    P, predicted = planted(9)
    predicted[0] = OTHER
    found = fit_bottleneck(P, predicted)
    assert np.isnan(found.fidelity)
    assert "fidelity not measured, as a class has a single image" in found.values(P, 1)[1]
    assert not np.isnan(found.values(P, 1)[0]).any()


def test_scores_that_say_nothing_get_no_weight():
    random = np.random.default_rng(0)
    P, predicted = np.ones((20, 2)), random.integers(0, 2, 20)
    values, note = fit_bottleneck(P, predicted).values(P, 1)
    assert (values == 0).all()
    assert "all its weights are 0" in note


def test_fidelity_is_held_out():
    random = np.random.default_rng(1)
    P, predicted = random.normal(size=(40, 30)), np.arange(40) % 2
    found = fit_bottleneck(P, predicted, strength=100.0)
    assert found.fidelity < 0.8


def test_the_same_again():
    P, predicted = planted()
    one, again = fit_bottleneck(P, predicted, seed=3), fit_bottleneck(P, predicted, seed=3)
    assert np.array_equal(one.weights, again.weights)


def test_refusals(monkeypatch):
    with pytest.raises(ExplanationError, match=r"expected finite concept scores .* got \[3, 2\]"):
        fit_bottleneck(np.full((3, 2), np.nan), np.array([0, 1, 0]))
    with pytest.raises(ExplanationError, match=r"n predictions, got \[3, 2\] and 2"):
        fit_bottleneck(np.zeros((3, 2)), np.array([0, 1]))
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ExtraError, match=r"pip install 'vtcav\[evaluation\]'"):
        fit_bottleneck(*planted())
