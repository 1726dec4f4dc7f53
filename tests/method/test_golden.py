"""Parity with the numbers of the first implementation, through the public API."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.replica import GOLDEN, GoldenNet
from vtcav.method.cav import direction

CASES = ("relu", "gelu", "binary")
ROOT = Path(__file__).parents[2]


def claimed(before, text="docs/comparison.md"):
    """The tolerance that a page claims after some words."""
    return float(re.search(rf"{before}\s(\de-\d)", (ROOT / text).read_text("utf-8"))[1])


ATTRIBUTION = claimed("odd number of images in every set:")
MAP = claimed("on attributions,")
DIRECTION = claimed("on maps,")
MANY_CHANNELS = claimed(r"directions\sagree\sto")


def test_other_pages_claim_no_more():
    assert claimed(r"The paper's numbers\*\* to", "README.md") >= ATTRIBUTION
    assert claimed("give its numbers to", "docs/keras.md") >= ATTRIBUTION


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A fitted explainer beside its expected numbers."""
    folder = GOLDEN / request.param
    meta = json.loads((folder / "meta.json").read_text())
    images, expected = np.load(folder / "images.npz"), np.load(folder / "expected.npz")
    model = vtcav.Classifier(
        GoldenNet(request.param),
        meta["classes"],
        vtcav.Preprocess(64, mean=0.5, std=0.5),
        binary=meta["binary"],
    )
    explainer = vtcav.VisualTCAV(model, meta["layers"], steps=50)
    concepts = {name: images[f"concept_{name}"] for name in meta["concepts"]}
    explainer.fit(concepts, images["random"])
    return meta, explainer, images, expected


def test_directions(case):
    meta, explainer, _, expected = case
    for layer in meta["layers"]:
        ours, theirs = explainer.cavs.layers[layer], expected[f"cav/{layer}/direction"]
        for k in range(len(meta["concepts"])):
            difference = np.linalg.norm(ours.v[k].numpy() - theirs[k])
            assert difference <= DIRECTION * np.linalg.norm(theirs[k])


def test_emblems(case):
    meta, explainer, _, expected = case
    for layer in meta["layers"]:
        ours, theirs = explainer.cavs.layers[layer], expected[f"cav/{layer}/emblems"]
        np.testing.assert_allclose(ours.e_pos.numpy(), theirs[:, 0], rtol=1e-4)
        np.testing.assert_allclose(ours.e_neg.numpy(), theirs[:, 1], rtol=1e-4)


def test_local(case):
    meta, explainer, images, expected = case
    for i, image in enumerate(images["test"]):
        local = explainer.explain(image, classes=2 if meta["binary"] else 3)
        probabilities = local.predictions.set_index("class_index")["probability"]
        outputs = expected[f"local/{i}/outputs"]
        if meta["binary"]:
            classes = [1, 0]  # the golden column 0 is the positive direction of the logit
            assert probabilities[1] == pytest.approx(outputs.ravel()[-1], abs=1e-5)
        else:
            classes = expected[f"local/{i}/top_classes"].tolist()
            assert local.predictions["class_index"].tolist()[:3] == classes
            np.testing.assert_allclose(probabilities.sort_index(), outputs, atol=1e-5)
        for layer in meta["layers"]:
            maps = np.stack([local.concept_map(layer, c) for c in meta["concepts"]])
            np.testing.assert_allclose(maps, expected[f"local/{i}/{layer}/maps"], atol=MAP)
            table = local.attributions.query("layer == @layer").pivot(
                index="concept", columns="class_index", values="attribution"
            )
            ours = table.loc[meta["concepts"], classes].to_numpy()
            theirs = expected[f"local/{i}/{layer}/attributions"]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=ATTRIBUTION)


def test_global(case):
    meta, explainer, images, expected = case
    for name in meta["classes"]:
        # The first implementation called the positive direction by the first label.
        key = {"not_striped": "not_striped/negative", "striped": "not_striped"}.get(
            name if meta["binary"] else "", name
        )
        if f"global/{key}/{meta['layers'][0]}/per_image" not in expected:
            continue
        glob = explainer.explain_class(name, images["test"])
        summary = glob.summary().set_index(["layer", "concept"])
        for layer in meta["layers"]:
            theirs = expected[f"global/{key}/{layer}/per_image"]
            rows = glob.attributions.query("layer == @layer")
            ours = rows.pivot(index="concept", columns="image", values="attribution")
            np.testing.assert_allclose(ours.loc[meta["concepts"]], theirs, rtol=0, atol=ATTRIBUTION)
            means = summary.loc[layer].loc[meta["concepts"]]
            np.testing.assert_allclose(
                means["mean"], expected[f"global/{key}/{layer}/mean"], rtol=0, atol=ATTRIBUTION
            )
            population = means["std"] * np.sqrt(6 / 7)
            np.testing.assert_allclose(population, expected[f"global/{key}/{layer}/std"], atol=1e-4)


def test_maps_with_an_even_number_of_negatives_differ_as_told(case):
    """The first implementation's median is one of the two middle values."""
    meta, explainer, images, _ = case
    explainer = vtcav.VisualTCAV(explainer.model, meta["layers"], steps=1)
    concepts = {name: images[f"concept_{name}"] for name in meta["concepts"]}
    even = explainer.fit(concepts, images["random"][1:], null_cavs=0, bootstraps=0).cavs
    tried = 0
    F, _ = explainer.model.activations_and_logits(
        torch.stack(
            [explainer.model.preprocess(vtcav.images.picture_of(x)) for x in images["test"]]
        ),
        meta["layers"],
    )
    for layer in meta["layers"]:
        ours = even.layers[layer]
        ordered = [values.sort().values for values in ours.values_neg]
        for middle in (len(ordered[0]) // 2 - 1, len(ordered[0]) // 2):
            theirs = torch.stack([values[middle] for values in ordered]).to(ours.e_neg)
            other = dataclasses.replace(ours, e_neg=theirs).maps(F[layer])
            difference = (ours.maps(F[layer]) - other).abs().amax((0, 2, 3))
            least = ours.e_pos - torch.maximum(ours.e_neg, theirs)
            told = (ours.e_neg - theirs).abs() / least  # half the gap
            separated = least > 0
            assert (difference[separated] <= told[separated] * 1.001 + 1e-6).all()
            tried += int(separated.sum())
    assert tried > 8


def test_directions_of_many_channels_in_single_precision():
    generator = torch.Generator().manual_seed(0)
    F = torch.randn(90, 2048, 7, 7, generator=generator).relu_() * 3
    F[:30, :64] *= 1.5
    pooled = F.mean((2, 3)).numpy()
    theirs = pooled[:30].mean(0) - pooled[30:].mean(0)  # in float32
    ours = direction(*F.double().mean((2, 3)).split([30, 60])).numpy()
    assert np.linalg.norm(ours - theirs) <= MANY_CHANNELS * np.linalg.norm(theirs)


def test_every_golden_class_is_compared(case):
    meta, _, _, expected = case
    stored = {key.split("/")[1] for key in expected if key.startswith("global/")}
    assert stored <= set(meta["classes"])
    assert stored


def test_adaptive_agrees_with_the_paper_rule(case):
    meta, explainer, images, _ = case
    adaptive = vtcav.VisualTCAV(explainer.model, meta["layers"], cavs=explainer.cavs)
    fine = vtcav.VisualTCAV(explainer.model, meta["layers"], steps=512, cavs=explainer.cavs)
    covered = []
    for image in images["test"]:
        ours, truth = adaptive.explain(image).attributions, fine.explain(image).attributions
        difference = (ours["attribution"] - truth["attribution"]).abs()
        floored = truth["attribution"].clip(lower=0.01)
        covered.append(difference <= ours["error"] + 0.001 * floored)  # 512 steps are off, too
        assert (difference <= ours["error"] + 0.01 * floored).all()
        # nothing is integrated where the image does not raise the class
        assert (truth["attribution"][ours["evaluations"] == 0] == 0).all()
    assert np.mean(covered) >= 0.97
