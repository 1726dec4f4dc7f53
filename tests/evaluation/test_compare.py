"""Methods side by side: values are each method's own, degenerate input is stated."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vtcav
from tests.helpers.small import (
    concepts,
    negatives,
    pictures,
    small_explainer,
    small_model,
    small_net,
)
from vtcav.errors import CavError, ExplanationError, ModelError
from vtcav.evaluation.compare.compute import NOTHING_ERASED, compare
from vtcav.evaluation.compare.methods import ERASURE, METHODS, TCAV
from vtcav.evaluation.compare.result import CONCEPT_MAP, SAME_MAP, TRUE_MASK
from vtcav.evaluation.peers.bottleneck import OTHER, fit_bottleneck, project
from vtcav.evaluation.peers.linear_cav import learn_cav
from vtcav.evaluation.peers.saliency import (
    grad_cam,
    gradient_saliency,
    integrated_gradients,
    mass_inside,
)
from vtcav.evaluation.peers.tcav import class_gradients
from vtcav.images.listing import collect
from vtcav.results.effect_tables import TOGETHER

IMAGES = {"cat": pictures(3, seed=5), "dog": pictures(3, seed=6), "fox": pictures(3, seed=7)}
OPTIONS = {"runs": 4, "steps": 6, "progress": False}


class Mixed(nn.Module):
    """Tells bright, red and blue pictures apart, so that it predicts more than one class."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        weights = torch.tensor([[1.0, 1, 1], [-1, -1, -1], [2, 0, -2], [-2, 0, 2], [0, 1, 0],
                                [1, -1, 0]])  # fmt: skip
        with torch.no_grad():
            self.conv.weight.copy_(weights[:, :, None, None].expand(6, 3, 3, 3) / 9)
            self.conv.bias.copy_(torch.tensor([-1.5, 1.5, 0, 0, -0.4, 0]))

    def forward(self, x):
        F = self.relu(self.conv(x)).mean((2, 3))
        return torch.stack([3 * F[:, 0] - F[:, 1], F[:, 2] - F[:, 0], F[:, 3] + F[:, 1]], 1)


@pytest.fixture(scope="module")
def explainer():
    return small_explainer(small_model(Mixed()), layers=["conv", "relu"])


@pytest.fixture(scope="module")
def found(explainer):
    return compare(explainer, IMAGES, **OPTIONS)


def inputs(model, name):
    return torch.stack([model.preprocess(ref.load()) for ref in collect(IMAGES[name])])


def values(found, method, layer, class_name):
    """The values [N, K] of a class, in the order of images and concepts."""
    rows = found.table.query("method == @method and layer == @layer and class_name == @class_name")
    return rows.pivot_table(
        index="image", columns="concept", values="value", sort=False, dropna=False
    ).to_numpy()


# -- each value is its method's own -----------------------------------------------------------


def test_the_table_holds_every_method_layer_concept_class_and_image(found):
    table = found.table
    assert tuple(table["method"].unique()) == METHODS == found.methods
    per_image = dict.fromkeys(METHODS, 2 * 2 * 3 * 3)
    per_image |= dict.fromkeys(TCAV, 2 * 2 * 3) | dict.fromkeys(ERASURE, 2 * 3 * 3)
    assert table.groupby("method", sort=False).size().to_dict() == per_image
    keys = ["method", "layer", "concept", "class_index", "image"]
    assert not table.duplicated(keys).any()
    first = table[table["method"] == "grad_cam"].iloc[:3]
    assert first["image"].tolist() == ["array[0]", "array[1]", "array[2]"]


def test_visual_tcav_is_that_of_explain_class(found, explainer):
    for name, images in IMAGES.items():
        own = explainer.explain_class(name, images).attributions.query("layer == 'relu'")
        expected = own.pivot_table(index="image", columns="concept", values="attribution")
        assert np.allclose(values(found, "visual_tcav", "relu", name), expected)
    assert found.table.query("method == 'visual_tcav'")["value"].max() > 0.05


def test_erasure_is_that_of_explain_class(found, explainer):
    for name, images in IMAGES.items():
        glob = explainer.explain_class(name, images)
        columns = {"erasure": "share", "erasure_drop": "drop", "erasure_own": "drop_apart"}
        for method, column in columns.items():
            own = glob.effects.pivot_table(
                index="image", columns="concept", values=column, sort=False, dropna=False
            )
            got = values(found, method, TOGETHER, name)
            assert np.allclose(got, own, equal_nan=True)
        effects = glob.class_effects().set_index("concept")
        known = glob.effects.groupby("concept")["share"].count() == len(images)
        rows = found.summary().query("class_name == @name").groupby("method")
        drops, shares, parts = (
            rows.get_group(m).set_index("concept")
            for m in ("erasure_drop", "erasure", "erasure_own")
        )
        for concept in effects.index:
            row = drops.loc[concept]
            assert row["mean"] == pytest.approx(effects.loc[concept, "drop"], nan_ok=True)
            assert row["p_value"] == pytest.approx(effects.loc[concept, "p_value"], nan_ok=True)
            p_apart = effects.loc[concept, "p_apart"]
            assert parts.loc[concept, "p_value"] == pytest.approx(p_apart, nan_ok=True)
            if known[concept]:  # the mean of shares, each with its gap, is the share of the means
                share = shares.loc[concept, "mean"]
                assert share == pytest.approx(effects.loc[concept, "share"])
    drops = found.table.query("method == 'erasure_drop'")["value"]
    assert drops.abs().max() > 0.1


def test_where_nothing_is_erased_the_table_says_so(tmp_path):
    explainer = small_explainer(layers=["3"], fill=None)
    found = compare(explainer, {"cat": IMAGES["cat"]}, methods=["erasure", "erasure_drop"])
    assert found.table["value"].isna().all()
    assert (found.table["note"] == NOTHING_ERASED).all()
    found.save(tmp_path)


def test_shares_are_those_of_the_maps_in_the_concept_maps(found, explainer):
    model, t = explainer.model, torch.full((3,), 2)
    x = inputs(model, "fox")
    F = model.activations(x, ["relu"])["relu"]
    maps = {
        "saliency": gradient_saliency(model, x, t),
        "integrated_gradients": integrated_gradients(model, x, t, steps=6),
        "grad_cam": grad_cam(F, class_gradients(model.head("relu"), F, t), (16, 16)),
    }
    locals_ = [explainer.explain(picture, ["fox"]) for picture in IMAGES["fox"]]
    M = np.stack([[e.concept_map("relu", c) for c in ("bright", "cold")] for e in locals_])
    regions = nn.functional.interpolate(torch.from_numpy(M), (16, 16), mode="bilinear")
    for method, own in maps.items():
        got = values(found, method, "relu", "fox")
        assert np.allclose(got, mass_inside(own, regions), atol=1e-5, equal_nan=True), method
    rows = found.table.query("method == 'grad_cam' and layer == 'relu' and class_name == 'fox'")
    area = rows.pivot_table(index="image", columns="concept", values="area", sort=False)
    assert np.allclose(area, regions.mean((2, 3)), atol=1e-5)
    assert set(rows["region"]) == {CONCEPT_MAP}


def test_the_bottleneck_is_fitted_to_the_predictions(found, explainer):
    model, bank = explainer.model, explainer.cavs
    x = torch.cat([inputs(model, name) for name in IMAGES])
    X = model.activations(x, ["relu"])["relu"].mean((2, 3))
    cavs = [
        learn_cav(own.gap["relu"], others.gap["relu"])
        for own, others in map(bank.evidence, bank.names)
    ]
    P = project(X, torch.stack([cav.u for cav in cavs]))
    predicted = model.logits(x).argmax(1).numpy()
    assert len(set(predicted)) > 1
    expected, note = fit_bottleneck(P, predicted).values(P[6:], 2)
    assert np.allclose(values(found, "bottleneck", "relu", "fox"), expected)
    assert (
        note in found.table.query("method == 'bottleneck' and class_name == 'fox'")["note"].iloc[0]
    )


def test_predictions_outside_the_classes_compared_are_one_more_class(explainer):
    model, bank = explainer.model, explainer.cavs
    many = pictures(30, seed=5)
    found = compare(explainer, {"fox": many}, methods=["bottleneck"])
    x = torch.stack([model.preprocess(ref.load()) for ref in collect(many)])
    predicted = model.logits(x).argmax(1).numpy()
    assert len(set(predicted)) == 3
    X = model.activations(x, ["relu"])["relu"].mean((2, 3))
    U = [learn_cav(*(s.gap["relu"] for s in bank.evidence(name))).u for name in bank.names]
    P = project(X, torch.stack(U))
    expected, _ = fit_bottleneck(P, np.where(predicted == 2, 2, OTHER)).values(P, 2)
    assert np.allclose(values(found, "bottleneck", "relu", "fox"), expected)


def test_the_same_again_whatever_the_batch(found, explainer):
    again = compare(explainer, IMAGES, batch_size=2, **OPTIONS)
    # rounding decides on which side of a ReLU's kink a few places lie
    a, b = again.table["value"], found.table["value"]
    assert np.allclose(a, b, rtol=1e-2, atol=1e-3, equal_nan=True)


def test_a_limit_draws_the_images(explainer):
    some = compare(explainer, IMAGES, methods=["grad_cam"], limit=2, seed=3)
    drawn = [ref.name for ref in collect(IMAGES["cat"], limit=2, seed=3)]
    assert some.table.query("class_name == 'cat'")["image"].unique().tolist() == drawn
    with pytest.raises(ExplanationError, match="limit to be a whole number of at least 1"):
        compare(explainer, IMAGES, limit=0)


def test_the_network_is_left_as_it_was():
    net = small_net()
    net.train()
    explainer = small_explainer(small_model(net))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    compare(explainer, {"cat": IMAGES["cat"]}, **OPTIONS)
    assert all(module.training for module in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


# -- masks ------------------------------------------------------------------------------------


def test_true_masks_take_the_place_of_concept_maps(explainer):
    left = np.zeros((16, 16), bool)
    left[:, :4] = True
    masks = {"bright": {"fox": [left, ~left, np.zeros((16, 16))]}}
    found = compare(
        explainer, {"fox": IMAGES["fox"]}, masks=masks, methods=["saliency", "grad_cam"]
    )
    table = found.table
    own = table.query("concept == 'bright'")
    assert set(own["region"]) == {TRUE_MASK}
    assert set(own.query("method == 'saliency'")["layer"]) == {""}
    assert set(own.query("method == 'grad_cam'")["layer"]) == {"conv", "relu"}
    assert own.query("method == 'saliency'")["area"].tolist() == [0.25, 0.75, 0.0]
    x = inputs(explainer.model, "fox")
    maps = gradient_saliency(explainer.model, x, torch.full((3,), 2))
    shares = mass_inside(maps, torch.from_numpy(np.stack([left, ~left, left & ~left]))[:, None])
    assert np.allclose(own.query("method == 'saliency'")["value"], shares[:, 0])
    assert own["note"].iloc[2] == "the true mask is empty, so nothing lies inside"
    assert set(table.query("concept == 'cold'")["region"]) == {CONCEPT_MAP}


def test_masks_follow_the_images_that_are_drawn(explainer):
    sides = [np.full((16, 16), share) for share in (0.1, 0.2, 0.3)]
    found = compare(
        explainer, {"fox": IMAGES["fox"]}, masks={"bright": {2: sides}}, methods=["saliency"],
        limit=1, seed=1,
    )  # fmt: skip
    row = found.table.query("concept == 'bright'").iloc[0]
    place = int(row["image"].removeprefix("array[").removesuffix("]"))
    assert row["area"] == pytest.approx([0.1, 0.2, 0.3][place])


def test_a_mask_that_does_not_fit_is_named(explainer):
    masks = {"bright": {"fox": [np.zeros((16, 16)), np.zeros((3, 3)), np.zeros((16, 16))]}}
    with pytest.raises(ExplanationError, match=r"mask of 'bright' for 'array\[1\]': expected"):
        compare(explainer, {"fox": IMAGES["fox"]}, masks=masks, methods=["saliency"])


# -- summary and ranks ------------------------------------------------------------------------


def test_summary_means_and_class_tests(found, explainer):
    summary = found.summary()
    assert len(summary) == (8 * 2 + 3) * 2 * 3  # erasure has no layers
    row = summary.query(
        "method == 'saliency' and layer == 'conv' and concept == 'cold' and class_name == 'dog'"
    ).iloc[0]
    own = values(found, "saliency", "conv", "dog")[:, 1]
    assert row["mean"] == pytest.approx(own.mean())
    assert row["std"] == pytest.approx(own.std(ddof=1))
    assert row["n"] == 3
    assert (summary.query("method == 'tcav'")["n"] == 0).all()
    glob = explainer.explain_class("dog", IMAGES["dog"]).summary()
    p = summary.query("method == 'visual_tcav' and class_name == 'dog'")["p_value"]
    if "p_value" in glob:
        assert np.allclose(p, glob["p_value"], equal_nan=True)


def test_ranks_by_hand(found):
    from scipy.stats import spearmanr

    ranks = found.ranks()
    assert len(ranks) == 2 * 55
    means = found.summary().query("layer == 'relu'")
    a, b = (means.query("method == @m")["mean"].to_numpy() for m in ("visual_tcav", "tcav"))
    row = ranks.query("layer == 'relu' and method == 'visual_tcav' and other == 'tcav'").iloc[0]
    assert row["n"] == 6
    assert row["spearman"] == pytest.approx(spearmanr(a, b).statistic)
    together = ranks.query("method == 'visual_tcav' and other == 'saliency'")
    assert (together["note"] == SAME_MAP).all()


# -- degenerate input -------------------------------------------------------------------------


def missing_values_have_notes(found):
    table = found.table
    assert (table.loc[table["value"].isna(), "note"] != "").all()
    tested = table["method"].isin(TCAV)
    assert (table.loc[tested & table["p_value"].isna(), "note"] != "").all()
    summary, ranks = found.summary(), found.ranks()
    assert (summary.loc[summary["mean"].isna(), "note"] != "").all()
    assert (ranks.loc[ranks["spearman"].isna(), "note"] != "").all()


def test_one_image_and_one_concept(tmp_path):
    explainer = vtcav.VisualTCAV(small_model(), ["3"], progress=False)
    explainer.fit({"bright": concepts()["bright"]}, negatives())
    found = compare(explainer, {"cat": IMAGES["cat"][:1]}, **OPTIONS)
    missing_values_have_notes(found)
    assert found.ranks()["note"].str.contains("a correlation needs at least 3").all()
    note = found.table.query("method == 'bottleneck'")["note"].iloc[0]
    assert "one class for all images" in note
    found.save(tmp_path)


def test_concept_and_negatives_alike(tmp_path):
    same = pictures(8, seed=1)
    explainer = vtcav.VisualTCAV(small_model(Mixed()), ["relu"], progress=False)
    explainer.fit({"same": same}, same)
    found = compare(explainer, IMAGES, **OPTIONS)
    missing_values_have_notes(found)
    table = found.table
    notes = table.groupby("method")["note"].unique()
    for method in ("tcav", "bottleneck"):
        assert all("do not separate" in n or "none of the" in n for n in notes[method]), method
    assert all("not separated" in note for note in notes["saliency"])
    assert all("not separated" in n or "no positive mass" in n for n in notes["grad_cam"])
    assert (table.query("method == 'saliency'")["value"] == 0).all()
    found.save(tmp_path)


def test_a_class_that_is_never_predicted(explainer):
    dark = pictures(4, seed=8, high=60)
    found = compare(explainer, {"cat": dark, "fox": dark}, methods=["bottleneck"])
    missing_values_have_notes(found)
    assert found.table["value"].isna().any()
    assert found.table["note"].str.contains("none of the images|one class for all").any()


def test_a_single_logit():
    model = small_model(small_net(1), ["no", "yes"], binary=True)
    explainer = small_explainer(model, layers=["3"])
    images = {"no": IMAGES["cat"], "yes": IMAGES["cat"]}
    found = compare(explainer, images, **OPTIONS)
    missing_values_have_notes(found)
    count = found.table.query("method == 'tcav'").set_index(["concept", "class_name"])["value"]
    assert count["cold", "no"] == pytest.approx(1 - count["cold", "yes"])


def test_an_unreadable_image_is_named(explainer, tmp_path):
    for i, picture in enumerate(IMAGES["fox"]):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.warns(vtcav.SkippedImageWarning, match=r"1\.png"):
        found = compare(explainer, {"fox": tmp_path}, methods=["visual_tcav", "grad_cam"])
    assert [skip.name for skip in found.skipped] == [str(tmp_path / "1.png")]
    left = [str(tmp_path / "0.png"), str(tmp_path / "2.png")]
    assert found.table.groupby("method")["image"].unique().map(list).tolist() == [left, left]
    own = explainer.explain_class("fox", left).attributions.query("layer == 'relu'")
    expected = own.pivot_table(index="image", columns="concept", values="attribution")
    assert np.allclose(values(found, "visual_tcav", "relu", "fox"), expected)


# -- refusals ---------------------------------------------------------------------------------


def test_refusals(explainer):
    with pytest.raises(ExplanationError, match=r"methods among 'visual_tcav', .* got 'lime'"):
        compare(explainer, IMAGES, methods=["tcav", "lime"])
    with pytest.raises(ExplanationError, match="got none"):
        compare(explainer, IMAGES, methods=[])
    with pytest.raises(
        ExplanationError, match=r"mapping from class names to images, .* got ndarray"
    ):
        compare(explainer, IMAGES["cat"])
    with pytest.raises(ExplanationError, match="got an empty one"):
        compare(explainer, {})
    with pytest.raises(ExplanationError, match="twice for class 0"):
        compare(explainer, {"cat": IMAGES["cat"], 0: IMAGES["cat"]})
    with pytest.raises(ModelError, match="unknown class 'cow'"):
        compare(explainer, {"cow": IMAGES["cat"]})
    with pytest.raises(CavError, match="call fit"):
        compare(vtcav.VisualTCAV(explainer.model, ["conv"]), IMAGES)


def test_without_captum_the_others_run(explainer, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(vtcav.ExtraError, match="Captum"):
        compare(explainer, IMAGES)
    rest = compare(explainer, IMAGES, methods=["tcav", "grad_cam"], runs=2)
    assert not math.isnan(rest.table["value"].mean())
