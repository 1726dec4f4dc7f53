"""Directions that are given: vectors of any origin as concepts of the bank."""

import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.small import concepts, negatives, pictures, small_explainer, small_model
from vtcav.errors import CavError, ConceptError, LayerError

FEW = {"null_cavs": 20, "bootstraps": 5}


def vectors(bank, *names):
    """The learned directions of concepts, by concept and layer."""
    return {
        name: {layer: cavs.v[bank.names.index(name)] for layer, cavs in bank.layers.items()}
        for name in names or bank.names
    }


@pytest.fixture(scope="module")
def learned():
    """Concepts with twice as many negatives as examples, and with fewer ("bright")."""
    sets = {"bright": pictures(7, seed=1, low=150), "cold": concepts()["cold"][:4]}
    explainer = vtcav.VisualTCAV(small_model(), ["1", "3"])
    return explainer.fit(sets, negatives(), min_examples=4, **FEW), sets


def given_back(bank, sets, **change):
    explainer = vtcav.VisualTCAV(small_model(), ["1", "3"])
    settings = {"images": sets, "negatives": negatives(), "min_examples": 4, **FEW} | change
    return explainer.fit_directions(vectors(bank), **settings)


def same_tables(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        one, other = found[name].to_numpy(), expected[name].to_numpy()
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6, err_msg=name)
        else:
            assert list(one) == list(other), name


def test_given_back_what_fit_learned_everything_is_the_same(learned, tmp_path):
    fitted, sets = learned
    again = given_back(fitted.cavs, sets)
    again.cavs.save(tmp_path / "cavs.safetensors")
    loaded = vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    for bank in (again.cavs, loaded):
        for layer, cavs in fitted.cavs.layers.items():
            tensors = bank.layers[layer].tensors()
            assert tensors.keys() == cavs.tensors().keys()
            for name, expected in cavs.tensors().items():
                torch.testing.assert_close(tensors[name], expected, rtol=0, atol=1e-6, msg=name)
        assert bank.resampling == fitted.cavs.resampling
    image = pictures(1, seed=9)[0]
    one, other = fitted.explain(image), vtcav.VisualTCAV(small_model(), cavs=loaded).explain(image)
    same_tables(other.attributions, one.attributions)
    same_tables(other.effects, one.effects)
    for layer in one.layers:
        for concept in one.concepts:
            maps = (each.concept_map(layer, concept) for each in (one, other))
            np.testing.assert_allclose(*maps, rtol=0, atol=1e-6)
    findings = (each.diagnostics().table.drop(columns="meaning") for each in (again, fitted))
    same_tables(*findings)


def test_the_length_of_a_vector_does_not_count_and_its_sign_does(learned):
    fitted, sets = learned
    image = pictures(1, seed=9)[0]
    expected = fitted.explain(image).attributions["attribution"].to_numpy()
    explainer = vtcav.VisualTCAV(small_model(), ["1", "3"])
    settings = {"images": sets, "negatives": negatives(), "min_examples": 4, **FEW}
    scaled, turned = (
        explainer.fit_directions(
            {
                name: {layer: factor * v.numpy().astype(np.float64) for layer, v in here.items()}
                for name, here in vectors(fitted.cavs).items()
            },
            **settings,
        ).explain(image)
        for factor in (1e-3, -1)
    )
    # the guard of 1e-7 in divisors is not scaled
    np.testing.assert_allclose(scaled.attributions["attribution"], expected, rtol=2e-4, atol=1e-6)
    assert not np.allclose(turned.attributions["attribution"], expected, atol=1e-3)
    assert turned.attributions["note"].str.contains("not separated|not seen").any()


def test_a_foreign_vector_stays_as_it_is_and_says_what_is_unknown():
    model, layer = small_model(), "3"
    v = np.random.default_rng(4).normal(size=6)
    explainer = vtcav.VisualTCAV(model, ["1", "3"]).fit_directions(
        {"probe": v},
        layer,
        images=pictures(8, seed=1, low=150),
        negatives=negatives(),
        origin="a linear probe on layer 3",
        **FEW,
    )
    bank = explainer.cavs
    assert list(bank.layers) == explainer.layers == [layer]
    cavs = bank.layers[layer]
    torch.testing.assert_close(cavs.v[0], torch.tensor(v, dtype=torch.float32))
    [drawn] = bank.resampling.bootstrap
    for j in drawn:  # only the images of the emblems are drawn again
        assert torch.equal(cavs.resampled.v[j], cavs.v[0])
    assert len(cavs.resampled.e_pos[drawn.start : drawn.stop].unique()) > 1
    # emblems are the medians of what this direction gives
    X = {"examples": pictures(8, seed=1, low=150), "negatives": negatives()}
    for role, e in (("examples", cavs.e_pos[0]), ("negatives", cavs.e_neg[0])):
        x = torch.stack([model.preprocess(picture) for picture in as_pictures(X[role])])
        F = model.activations(x, [layer])[layer]
        R = torch.einsum("c,nchw->nhw", cavs.v[0], F).relu()
        values = (R.square().sum((1, 2)) / (R.sum((1, 2)) + 1e-7)).sort().values
        half = len(values) // 2
        median = values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2
        torch.testing.assert_close(e, median, rtol=1e-5, atol=1e-6)
    # erasure finds the region by the vector itself
    torch.testing.assert_close(cavs.places.w[0], cavs.v[0])
    assert bank.concepts[0].origin == "a linear probe on layer 3"
    assert (
        explainer.explain(pictures(1)[0]).provenance.concepts[0].origin == bank.concepts[0].origin
    )
    findings = explainer.diagnostics().table.set_index("check")
    for check in ("split half", "standard error", "bootstrap", "negatives halves"):
        assert findings.loc[check, "level"] == "not applicable"
        assert "the direction was given" in findings.loc[check, "meaning"]
    G = [images.gap[layer].double() @ torch.tensor(v) for images in bank.evidence("probe")]
    pairs = torch.sign(G[0][:, None] - G[1])
    assert findings.loc["separability", "value"] == pytest.approx((float(pairs.mean()) + 1) / 2)


def as_pictures(array):
    from PIL import Image

    return [Image.fromarray(each) for each in array]


def test_directions_join_concepts_that_are_learned_and_replace_those_of_a_name(tmp_path):
    explainer = small_explainer(layers=["3"])
    before = explainer.cavs
    v = torch.linspace(-1, 1, 6)
    explainer.fit_directions(
        {"ramp": v}, images=pictures(8, seed=1, low=150), negatives=negatives()
    )
    after = explainer.cavs
    assert after.names == ("bright", "cold", "ramp")
    assert len(after.sets) == len(before.sets) + 1  # the negatives are one set
    image = pictures(1, seed=9)[0]
    rows = explainer.explain(image).attributions
    alone = vtcav.VisualTCAV(small_model(), cavs=before).explain(image).attributions
    numbers = ["attribution", "p_value", "cav_low", "cav_high", "null_mean"]
    joined = rows[rows["concept"] != "ramp"][numbers].to_numpy()
    np.testing.assert_allclose(joined, alone[numbers].to_numpy(), rtol=0, atol=1e-7)
    explainer.fit_directions(
        {"bright": v}, images=pictures(8, seed=1, low=150), negatives=negatives()
    )
    assert explainer.cavs.names == ("cold", "ramp", "bright")
    rows = explainer.explain(image).attributions
    one, other = (rows[rows["concept"] == name][numbers].to_numpy() for name in ("ramp", "bright"))
    np.testing.assert_allclose(one[:, 0], other[:, 0], rtol=0, atol=1e-7)
    assert explainer.diagnostics().concepts == explainer.cavs.names
    explainer.cavs.save(tmp_path / "cavs.safetensors")
    assert vtcav.CavBank.load(tmp_path / "cavs.safetensors").concepts == explainer.cavs.concepts


def test_one_set_of_images_serves_many_directions():
    explainer = vtcav.VisualTCAV(small_model(), ["3"]).fit_directions(
        {"a": np.eye(6)[0], "b": np.eye(6)[1]}, images=pictures(8), negatives=negatives(), **FEW
    )
    assert len(explainer.cavs.sets) == 2
    assert not torch.equal(*explainer.cavs.layers["3"].places.w)
    found = explainer.diagnostics()
    assert abs(float(np.asarray(found.cosines("3"))[0, 1])) < 1e-6
    of_a = found.table[found.table["concept"] == "a"].set_index("check")
    assert "the same images as those of 'b'" in of_a.loc["shared with concepts", "meaning"]
    assert of_a.loc["other concepts", "level"] == "not applicable"


V = np.ones(6)
WRONG = {
    "length": (
        {"a": np.ones(5)},
        "3",
        CavError,
        r"expected 6 numbers.*got an array of shape \[5\]",
    ),
    "a row": ({"a": np.ones((1, 6))}, "3", CavError, r"shape \[1, 6\]; take its row \[0\]"),
    "zeros": ({"a": 0 * V}, "3", CavError, "is 0, which points nowhere"),
    "NaN": ({"a": V * np.nan}, "3", CavError, "got 6 that are not"),
    "overflow": ({"a": V * 1e300}, "3", CavError, "finite numbers in the range of float32"),
    "no vector": ({"a": "striped"}, "3", CavError, "expected a vector of 6 numbers"),
    "no layer": ({"a": V}, None, CavError, "expected layer=NAME.*2 layers"),
    "two layers": ({"a": {"1": np.ones(4)}}, "3", CavError, "drop one of the two"),
    "other layers": ({"a": {"1": np.ones(4)}, "b": {"3": V}}, None, CavError, "at the same layers"),
    "unknown layer": ({"a": V}, "33", LayerError, "33"),
    "none": ({}, "3", ConceptError, "as a mapping"),
    "no layers": ({"a": {}}, None, CavError, "at least one layer"),
    "a name": ({" ": V}, "3", ConceptError, "printable"),
}


@pytest.mark.parametrize(("directions", "layer", "error", "match"), WRONG.values(), ids=WRONG)
def test_wrong_directions(directions, layer, error, match):
    explainer = vtcav.VisualTCAV(small_model(), ["1", "3"])
    with pytest.raises(error, match=match):
        explainer.fit_directions(directions, layer, images=pictures(8), negatives=negatives())
    assert explainer.layers == ["1", "3"]


def test_what_directions_do_not_go_with():
    both = small_explainer()
    with pytest.raises(CavError, match="'bright', 'cold' are learned at layers '1' and '3'"):
        both.fit_directions({"a": V}, "3", images=pictures(8), negatives=negatives())
    other = vtcav.VisualTCAV(small_model(), ["3"], variant="filter")
    with pytest.raises(CavError, match="expected variant='paper'"):
        other.fit_directions({"a": V}, images=pictures(8), negatives=negatives())
    plain = vtcav.VisualTCAV(small_model(), ["3"])
    with pytest.raises(ConceptError, match="expected images for each of 'a'"):
        plain.fit_directions({"a": V}, images={"b": pictures(8)}, negatives=negatives())
    with pytest.raises(ConceptError, match="expected at least 5 images, got 3"):
        plain.fit_directions({"a": V}, images=pictures(3), negatives=negatives())


def test_banks_that_do_not_fit_are_not_joined():
    bank = small_explainer(layers=["3"]).cavs
    with pytest.raises(CavError, match="both banks have a concept 'bright', 'cold'"):
        bank.followed_by(bank)
    with pytest.raises(CavError, match="other layers"):
        bank.followed_by(small_explainer(layers=["1"]).cavs)
    with pytest.raises(CavError, match="expected concepts of the bank"):
        bank.of_concepts(["striped"])
