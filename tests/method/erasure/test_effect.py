"""Effects of erasure, and their significance against placebos."""

import json

import numpy as np
import pytest
import torch

from vtcav.method.erasure.effect import class_scores, mean_test, placebo_p_value, share
from vtcav.results.effect_tables import class_effects, effect_table
from vtcav.results.rows import EffectRow


def test_the_negative_class_of_a_single_logit_has_its_negative():
    z = torch.tensor([[3.0], [-1.0]])
    assert class_scores(z, [0, 1], binary=True).tolist() == [[-3.0, 3.0], [1.0, -1.0]]
    assert class_scores(torch.tensor([[1.0, 5.0]]), [1], binary=False).tolist() == [[5.0]]


def test_there_is_no_share_without_a_gap():
    assert share(1.0, 4.0, 2.0) == 0.5
    assert share(-2.0, 4.0, 3.0) == -2.0
    assert np.isnan(share(1.0, 2.0, 2.0))
    assert np.isnan(share(2.0, 3.0, 2.0, spread=1.0))  # an ordinary score for a negative
    assert share(2.0, 3.0, 2.0, spread=0.9) == share(2.0, 3.0, 2.0, spread=np.nan) == 2.0


def test_p_values_count_both_sides():
    placebos = np.linspace(-1, 1, 19)
    assert placebo_p_value(5.0, placebos) == placebo_p_value(-5.0, placebos) == 1 / 20
    assert placebo_p_value(0.0, placebos) == 1.0


@pytest.mark.parametrize(("images", "J"), [(1, 20), (3, 7), (10, 2), (20, 1)])
@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_false_positives_stay_at_their_rate(images, J, tails):
    """20 placebos in all, as a class has them."""
    rng = np.random.default_rng(images)
    count = 0
    for _ in range(1000):
        regions = rng.normal(size=(images, 1 + J))
        if tails == "heavy":
            regions = rng.standard_t(2, (images, 1 + J)) * rng.exponential(size=(images, 1))
        drops, placebos = regions[:, 0], regions[:, 1:]
        if images == 1:
            p = placebo_p_value(drops[0], placebos[0])
        else:
            _, p = mean_test(drops, placebos.mean(1), placebos.std(1), np.full(images, J))
        count += p <= 0.05
    assert 0.02 <= count / 1000 <= 0.075


def test_planted_effects_are_found():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        regions = rng.normal(size=(20, 21))
        regions[:, 0] += 2
        placebo = regions[:, 1]
        found += mean_test(regions[:, 0], placebo, np.zeros(20), np.ones(20))[1] <= 0.05
    assert found / 200 >= 0.95


def test_two_images_cannot_show_more_than_their_placebos_allow():
    J = np.array([3, 1])
    assert mean_test(np.array([9.0, 9.0]), np.zeros(2), np.ones(2), J)[1] == 1 / 8


def test_regions_that_all_have_one_drop_show_nothing():
    effect, p = mean_test(np.ones(4), np.ones(4), np.zeros(4), np.full(4, 20))
    assert np.isnan(effect)
    assert p == 1.0


def effects(**columns):
    row = dict.fromkeys(EffectRow._fields, 0.0) | {
        "concept": "c",
        "layer": "l",
        "note": "",
        "same_region": "",
        "confused_with": "",
    }
    count = len(next(iter(columns.values())))
    rows = [row | {name: x[i] for name, x in columns.items()} for i in range(count)]
    table = effect_table([EffectRow(**row) for row in rows])
    return class_effects([(("layers together", "letter"), table)]).iloc[0]


def test_of_a_class_that_scores_as_the_negatives_do_there_is_no_share():
    columns = {"logit": [1.0, 1.4], "drop": [0.5, 0.7], "reference_std": [1.0, 1.0]}
    assert effects(**columns)["share"] == pytest.approx(0.5)
    found = effects(**columns | {"reference_std": [1.3, 1.3]})
    assert np.isnan(found["share"])
    assert found["drop"] == pytest.approx(0.6)


def test_regions_overlap_in_a_share_of_the_effect():
    area, drop = [0.1, 0.1, 0.1, 0.0], [3.0, -1.0, 1.0, 0.0]
    same = ['["b", "c"]', "b", "d", ""]
    found = effects(area=area, same_region=same, drop=drop)["same_region"]
    assert json.loads(found) == {"b": 0.8, "c": 0.6}
    nothing = effects(area=area, same_region=same, drop=[0.0] * 4)["same_region"]
    assert json.loads(nothing) == {"b": 0.667, "c": 0.333, "d": 0.333}
    assert effects(area=area, same_region=[""] * 4, drop=drop)["same_region"] == ""
