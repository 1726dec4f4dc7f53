"""Erasure from end to end: a network that counts red pixels, whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from vtcav.results.effect_tables import TOGETHER


class Counts(torch.nn.Module):
    """Scores the red and the green in a picture, each with the number of its pixels."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1, bias=False)
        self.conv.weight.data = torch.tensor([[1.0, -1, -1], [-1, 1, -1]])[..., None, None]
        self.relu = torch.nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv(x)).mean((2, 3)) * 10


def pictures(n, colour, seed):
    """Return grey noise with a square of a colour at a random place."""
    rng = np.random.default_rng(seed)
    x = rng.integers(60, 90, (n, 24, 24, 3)).astype(np.uint8)
    for picture in x:
        i, j = rng.integers(0, 18, 2)
        if colour is not None:
            picture[i : i + 6, j : j + 6] = np.eye(3)[colour] * 255
    return x


@pytest.fixture(scope="module")
def explainer():
    model = vtcav.Classifier(Counts(), ["red", "green"], vtcav.Preprocess(24, mean=0.0, std=1.0))
    explainer = vtcav.VisualTCAV(model, layers=["relu"], steps=2, progress=False)
    concepts = {"red": pictures(12, 0, 1), "blue": pictures(12, 2, 2)}
    return explainer.fit(concepts, negatives=pictures(24, None, 3), null_cavs=20, bootstraps=0)


@pytest.fixture(scope="module")
def glob(explainer):
    return explainer.explain_class("red", pictures(30, 0, 4))


def test_the_whole_score_goes_with_what_makes_it(glob):
    effects = glob.effects[glob.effects["concept"] == "red"]
    np.testing.assert_allclose(effects["logit"], 36 / 576 * 10, rtol=1e-5)
    np.testing.assert_allclose(effects["without"], 0, atol=1e-6)
    np.testing.assert_allclose(effects["share"], 1, rtol=1e-5)
    np.testing.assert_allclose(effects["placebo_mean"].dropna(), 0, atol=0.1)


def test_a_colour_that_the_maps_do_not_show_has_no_number(glob):
    blue = glob.effects[glob.effects["concept"] == "blue"]
    assert (blue["seen"] < 0.8).all()
    assert blue["drop"].isna().all()
    assert blue["note"].str.startswith("not seen at these layers").all()
    assert [verdict.kind for verdict in glob.verdicts()] == ["used", "not seen"]


def test_placebos_and_ways_to_fill_are_shared_out_among_the_images(glob):
    effects = glob.effects[glob.effects["concept"] == "red"]
    assert effects["placebos"].sum() == 20
    assert effects["drop_low"].notna().sum() == 10
    row = glob.class_effects().set_index("concept").loc["red"]
    assert row["p_value"] < 1e-4
    assert row["effect"] > 4
    assert row["fill_low"] <= row["drop"] <= row["fill_high"]


def test_one_image_has_all_placebos_and_all_ways_to_fill(explainer):
    local = explainer.explain(pictures(1, 0, 5)[0], classes=["red", "green"])
    row = local.effects.set_index(["concept", "class_name"]).loc["red"]
    assert row["placebos"].tolist() == [20, 20]
    assert row["drop_low"].notna().all()
    assert row["p_value"]["red"] == pytest.approx(1 / 21)


def test_the_summary_has_the_effects_at_every_layer(glob):
    summary, effects = glob.summary(0.9), glob.class_effects(0.9).set_index("concept")
    assert effects["layer"].unique().tolist() == [TOGETHER]
    for name in ("drop", "drop_low", "drop_high", "share", "share_low", "share_high"):
        np.testing.assert_array_equal(summary[name], effects.loc[summary["concept"], name])


def test_no_number_depends_on_the_batches(explainer, glob):
    again = vtcav.VisualTCAV(
        explainer.model, cavs=explainer.cavs, steps=2, batch_size=7, progress=False
    ).explain_class("red", pictures(30, 0, 4))
    a, b = glob.effects, again.effects
    np.testing.assert_allclose(a.select_dtypes("number"), b.select_dtypes("number"), atol=1e-5)


def parts(seed, count=40, *, pore=0.0, letter=0.0):
    """Grey surfaces: a pore is brighter than they are, a letter in the corner far brighter."""
    rng = np.random.default_rng(seed)
    shown = rng.normal(100, 8, (count, 48, 48)).clip(0, 255)
    for picture in shown:
        y, x = rng.integers(16, 40, 2)
        if rng.random() < pore:
            picture[y : y + 6, x : x + 6] += 40
        if rng.random() < letter:
            picture[4:10, 4:10] = 240
    return shown.astype(np.uint8)[..., None].repeat(3, 3)


def test_what_a_weak_concepts_filter_answers_more_is_not_taken_for_the_weak_concept():
    """A network of brightness alone: the filter of the pores answers letters twice as much."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 7, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    )
    with torch.no_grad():
        network[0].weight[0], network[0].bias[0] = 1 / 49, -0.4
        network[4].weight[:], network[4].bias[:] = torch.tensor([[100.0, 0, 0, 0]]), -1
    preprocess = vtcav.Preprocess(48, channels=1)
    model = vtcav.Classifier(network, ["good", "defect"], preprocess, binary=True)
    explainer = vtcav.VisualTCAV(model, ["1"])
    concepts = {"letter": parts(1, letter=1), "pore": parts(2, pore=1)}
    explainer.fit(concepts, parts(3, 60), null_cavs=100, bootstraps=0)
    found = explainer.explain_class("defect", parts(4, 30, pore=0.5, letter=1)).verdicts()
    assert [(verdict.concept, verdict.kind) for verdict in found] == [
        ("letter", "used"),
        ("pore", "used"),
    ]
    assert found[0].size > 0.7 > 0.3 > found[1].size
