"""Parity with the numbers of the first implementation, through the public API."""

import json

import numpy as np
import pytest

import vtcav
from tests.helpers.replica import GOLDEN, GoldenNet

CASES = ("relu", "gelu", "binary")


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
            assert difference <= 1e-5 * np.linalg.norm(theirs[k])


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
            np.testing.assert_allclose(maps, expected[f"local/{i}/{layer}/maps"], atol=1e-3)
            table = local.attributions.query("layer == @layer").pivot(
                index="concept", columns="class_index", values="attribution"
            )
            ours = table.loc[meta["concepts"], classes].to_numpy()
            theirs = expected[f"local/{i}/{layer}/attributions"]
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


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
            np.testing.assert_allclose(ours.loc[meta["concepts"]], theirs, atol=1e-4)
            means = summary.loc[layer].loc[meta["concepts"]]
            np.testing.assert_allclose(
                means["mean"], expected[f"global/{key}/{layer}/mean"], atol=1e-4
            )
            population = means["std"] * np.sqrt(6 / 7)
            np.testing.assert_allclose(population, expected[f"global/{key}/{layer}/std"], atol=1e-4)


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
