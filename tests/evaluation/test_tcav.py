"""TCAV: sensitivities by hand, Captum on the same CAVs, planted concepts, degenerate input."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

import vtcav
from tests.helpers.small import concepts, negatives, pictures, small_model, small_net
from vtcav.evaluation.compare import compare
from vtcav.evaluation.peers.linear_cav import draw_cavs
from vtcav.evaluation.peers.tcav import (
    class_gradients,
    class_scores,
    score_test,
    scores,
    sensitivities,
    stacked,
)

CLASSIFIERS = ["sgd", "logistic", "svm", "difference of means"]
IMAGES = {"cat": pictures(5, seed=5), "fox": pictures(4, seed=6)}


# -- what they say of a class -----------------------------------------------------------------


def test_gradients_against_autograd():
    net = small_net()
    model = small_model(net)
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    F = model.activations(x, ["1"])["1"]
    targets = torch.tensor([0, 2, 1])
    G = class_gradients(model.head("1"), F, targets)
    at = net[:2](x).detach().requires_grad_()
    z = net[2:](at)
    expected = torch.autograd.grad(z[torch.arange(3), targets].sum(), at)[0]
    assert torch.allclose(G, expected, atol=1e-6)
    assert float(G.abs().max()) > 0


def test_a_single_logit_counts_against_the_negative_class():
    model = small_model(small_net(1), ["no", "yes"], binary=True)
    F = model.activations(torch.randn(2, 3, 16, 16), ["1"])["1"]
    no, yes = (
        class_gradients(model.head("1"), F, torch.tensor([t, t]), binary=True) for t in (0, 1)
    )
    assert torch.equal(no, -yes)
    assert float(yes.abs().max()) > 0


def test_sensitivities_by_hand():
    G = torch.tensor([[[[1.0, 2.0]], [[0.0, -1.0]]], [[[0.0, 0.0]], [[4.0, 0.0]]]])
    U = torch.tensor([[0.6, 0.8]])
    assert sensitivities(G, U).flatten().tolist() == pytest.approx([1.0, 3.2])


def test_a_sensitivity_is_a_derivative():
    model = small_model()
    F = model.activations(torch.randn(1, 3, 16, 16), ["3"])["3"]
    head = model.head("3")
    u = torch.nn.functional.normalize(torch.randn(6), dim=0)
    S = sensitivities(class_gradients(head, F, torch.tensor([1])), u[None])
    step = 1e-3 * u[None, :, None, None]
    with torch.no_grad():
        slope = (head(F + step) - head(F - step))[0, 1] / 2e-3
    assert float(S) == pytest.approx(float(slope), rel=0.02)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (5, 3), elements=st.floats(-10, 10, width=16)))
def test_scores_are_shares_and_turn_with_the_sign(S):
    there, back = scores(torch.from_numpy(S)), scores(torch.from_numpy(-S))
    for found in there.sign_count, there.magnitude[~np.isnan(there.magnitude)]:
        assert ((found >= 0) & (found <= 1)).all()
    assert np.isnan(there.magnitude).tolist() == (S == 0).all(0).tolist()
    assert np.allclose(there.magnitude + back.magnitude, 1, equal_nan=True) or (S == 0).all(0).any()


def test_the_test_agrees_with_scipy_and_says_when_there_is_none():
    from scipy.stats import ttest_ind

    random = np.random.default_rng(0)
    a, b = random.normal(0, 1, 8), random.normal(1, 2, 8)
    assert score_test(a, b).p_value == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue)
    constant = np.full(8, 0.5)
    assert 0 < score_test(constant, b).p_value < 1
    p, note = score_test(constant, constant + 0.5)
    assert math.isnan(p)
    assert note == (
        "no test: no spread, every CAV of the concept scores 0.5 and every random CAV 1"
    )
    assert "fewer than two" in score_test(a[:1], b).note


# -- from images to tables --------------------------------------------------------------------


def explainer_of(model, examples, random, layers):
    """An explainer fitted to some concepts."""
    explainer = vtcav.VisualTCAV(model, layers, progress=False)
    return explainer.fit(examples, random, null_cavs=0, bootstraps=0)


def tcav(model, images, examples, random, layers, **options):
    """The rows of both scores, with the magnitude beside the sign count."""
    explainer = explainer_of(model, examples, random, layers)
    table = compare(explainer, images, methods=["tcav", "tcav_magnitude"], **options).table
    keys = ["layer", "concept", "class_name"]
    count, magnitude = (
        table[table["method"] == method].set_index(keys) for method in ("tcav", "tcav_magnitude")
    )
    both = count[["value", "p_value", "note"]].rename(columns={"value": "sign_count"})
    added = magnitude[["value", "p_value"]]
    return both.join(added.set_axis(["magnitude", "p_value_magnitude"], axis=1)).reset_index()


def test_the_table_has_the_means_over_the_cavs():
    model = small_model()
    explainer = explainer_of(model, concepts(), negatives(), ["1", "3"])
    table = tcav(model, IMAGES, concepts(), negatives(), ["1", "3"], runs=5, seed=2)
    assert list(table["layer"].unique()) == ["1", "3"]
    assert len(table) == 2 * 2 * 2
    assert set(table["class_name"]) == {"cat", "fox"}
    assert (table["note"].str.contains("each CAV rests on 4 images a side")).all()
    x = torch.stack([model.preprocess(ref.load()) for ref in vtcav.images.collect(IMAGES["cat"])])
    F = model.activations(x, ["3"])["3"]
    G = class_gradients(model.head("3"), F, torch.zeros(len(F), dtype=int))
    own, others = explainer.cavs.evidence("cold")
    draws = draw_cavs(own.gap["3"], others.gap["3"], runs=5, seed=2)
    expected = scores(sensitivities(G, draws.concept))
    row = table.query("layer == '3' and concept == 'cold' and class_name == 'cat'").iloc[0]
    assert row["sign_count"] == pytest.approx(expected.sign_count.mean())
    assert row["magnitude"] == pytest.approx(expected.magnitude.mean(), rel=1e-5)
    derivative = compare(explainer, IMAGES, methods=["tcav_derivative"], runs=5, seed=2).table
    row_of = "layer == '3' and concept == 'cold' and class_name == 'cat'"
    mean = float(sensitivities(G, draws.concept).mean())
    assert derivative.query(row_of)["value"].item() == pytest.approx(mean, rel=1e-4)
    random = scores(sensitivities(G, draws.random)).sign_count
    p = score_test(expected.sign_count, random).p_value
    assert row["p_value"] == pytest.approx(p, nan_ok=True)


def test_the_same_numbers_again_and_the_network_as_it_was():
    net = small_net()
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    model = small_model(net)
    first, again = (
        tcav(model, IMAGES, concepts(), negatives(), ["3"], runs=3, seed=1, batch_size=size)
        for size in (16, 2)
    )
    numbers = ["sign_count", "magnitude"]
    assert np.allclose(first[numbers], again[numbers], atol=1e-6)
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


class Bright(nn.Module):
    """Class 1 rises with brightness (through channel 0), class 0 falls, class 2 is deaf to it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.relu = nn.ReLU()
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 1, 1], [1, 0, -1]])[:, :, None, None])
            self.conv.bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, x):
        F = self.relu(self.conv(x)).mean((2, 3))
        return torch.stack([-F[:, 0], F[:, 0], F[:, 1]], 1)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_planted_concept(classifier):
    model = small_model(Bright(), ["dark", "light", "red"])
    examples = {"bright": pictures(30, seed=1, low=180)}
    found = tcav(
        model, {"light": IMAGES["cat"], "dark": IMAGES["cat"]}, examples,
        pictures(60, seed=3, high=120), ["relu"], classifier=classifier, runs=10,
    ).set_index("class_name")  # fmt: skip
    assert found.loc["light", "sign_count"] == 1
    assert found.loc["dark", "sign_count"] == 0
    assert found.loc["light", "magnitude"] == 1
    assert found.loc["light", "p_value"] < 0.05
    assert "do not separate" not in found.loc["light", "note"]


def test_the_published_test_is_too_sure():
    # concepts drawn like their negatives: the draws of a concept share its examples, so they
    # agree with each other more than random CAVs do, and docs/peers.md says how often that misleads
    misled = []
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        mixing = torch.randn(20, 20, generator=generator)
        here, there = (torch.randn(n, 20, generator=generator) @ mixing for n in (30, 60))
        gradients = torch.randn(1, 20, generator=generator)
        gradients = gradients + 0.7 * torch.randn(20, 20, generator=generator)
        draws = draw_cavs(here, there, runs=20, seed=seed, classifier="difference of means")
        own, random = (scores(gradients @ U.T).sign_count for U in (draws.concept, draws.random))
        misled.append(score_test(own, random).p_value < 0.05)
    assert 0.3 < np.mean(misled) < 0.7


def test_degenerate_one_image_and_a_class_deaf_to_the_layer():
    net = Bright()
    with torch.no_grad():
        net.conv.bias.copy_(torch.tensor([0.0, -9.0]))  # channel 1 is dead, and class "red" with it
    model = small_model(net, ["dark", "light", "red"])
    table = tcav(
        model, {"red": IMAGES["cat"][:1]}, {"bright": pictures(8, low=150)}, negatives(), ["relu"]
    )
    row = table.iloc[0]
    assert row["sign_count"] == 0
    assert math.isnan(row["magnitude"])
    assert math.isnan(row["p_value"])
    for part in ("one image", "every sensitivity is 0", "no test: no spread"):
        assert part in row["note"]


def test_a_nan_always_has_a_note():
    model = small_model()
    same = pictures(8, seed=1)
    table = tcav(model, IMAGES, {"same": same}, same, ["1", "3"], runs=4)
    numbers = ["sign_count", "magnitude", "p_value", "p_value_magnitude"]
    assert (table["note"][table[numbers].isna().any(axis=1)] != "").all()
    assert table["note"].str.contains("do not separate|no direction").all()


# -- Captum -----------------------------------------------------------------------------------


def test_captum_on_the_same_cavs(tmp_path):
    concept = pytest.importorskip("captum.concept")
    from captum.attr import LayerGradientXActivation
    from captum.concept._utils.classifier import Classifier

    net, layer = small_net().eval(), "3"
    model = small_model(net)
    explainer = explainer_of(model, {"bright": concepts()["bright"]}, negatives(), [layer])
    own, others = explainer.cavs.evidence("bright")
    draws = {"bright": draw_cavs(own.gap[layer], others.gap[layer], runs=3)}
    shape = model.check_layers([layer])[0].shape
    x = torch.stack([model.preprocess(ref.load()) for ref in vtcav.images.collect(IMAGES["cat"])])
    F = model.activations(x, [layer])[layer]
    G = class_gradients(model.head(layer), F, torch.ones(len(F), dtype=int))
    S = sensitivities(G, stacked(draws))
    ours = scores(S[:, :3])
    [both] = class_scores(S, draws)
    assert both.sign_count == pytest.approx(ours.sign_count.mean())
    assert both.magnitude == pytest.approx(ours.magnitude.mean())
    for run, u in enumerate(draws["bright"].concept):
        # one value per channel is a step at every position alike
        given = u.repeat_interleave(shape[1] * shape[2])

        class Given(Classifier):
            def __init__(self):
                pass

            def train_and_eval(self, dataloader, **settings):
                return {}

            def weights(self, w=given):
                return torch.stack([w, -w])

            def classes(self):
                return [0, 1]

        loaders = [[x[:1]], [x[1:2]]]
        sets = [concept.Concept(i, str(i), loader) for i, loader in enumerate(loaders)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = concept.TCAV(net, [layer], classifier=Given(), save_path=f"{tmp_path}/{run}")
            found = theirs.interpret(x, [sets], target=1)["0-1"][layer]
        assert float(found["sign_count"][0]) == pytest.approx(ours.sign_count[run], abs=1e-6)
        # Captum 0.9 documents the share and returns the mean under the name of magnitude
        assert float(found["magnitude"][0]) == pytest.approx(ours.derivative[run], abs=1e-6)
        slope = LayerGradientXActivation(net, net[3], multiply_by_inputs=False)
        steps = slope.attribute(x, target=1).flatten(1) @ given
        documented = (steps * (steps > 0)).abs().sum() / steps.abs().sum()
        assert float(documented) == pytest.approx(ours.magnitude[run], abs=1e-6)
    assert np.ptp(S[:, :3].mean(0).numpy()) > 1e-4
