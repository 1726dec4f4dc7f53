"""Scores at zero feature maps, and the layer that is read first because of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

import vtcav
from tests.helpers.small import concepts, pictures, small_explainer, small_model, small_net
from vtcav.errors import CavError
from vtcav.report import build_report
from vtcav.results.bank.zero_maps import ZeroMaps
from vtcav.results.reading import best_first, read_first, reading_order


@pytest.fixture(scope="module")
def explainer():
    return small_explainer()


def test_scores_are_those_of_the_network(explainer):
    net, preprocess = small_net(), explainer.model.preprocess
    examples = np.concatenate(list(concepts().values()))
    x = torch.stack([preprocess(Image.fromarray(picture)) for picture in examples])
    with torch.no_grad():
        z = net(x)
        for layer, cavs in explainer.cavs.layers.items():
            z0 = net[int(layer) + 1 :](torch.zeros(1, *shape(layer)))
            zero = cavs.zero
            torch.testing.assert_close(zero.scores, z0)
            torch.testing.assert_close(zero.spread, z.std(1, correction=0))
            best = z.argmax(1)
            assert zero.raised.tolist() == (z[range(len(z)), best] > z0[0, best]).tolist()
            expected = np.std(z0.numpy()) / np.std(z.numpy(), axis=1).mean()
            assert zero.apart == pytest.approx(expected, rel=1e-5)


def test_scores_that_depend_on_the_image_are_kept_for_every_batch():
    z = torch.tensor([[1.0, 3.0], [2.0, 0.0]])
    own = [ZeroMaps.of(z0[None], z[:1], binary=False) for z0 in z]
    assert torch.equal(ZeroMaps.joined(own).scores, z)
    assert torch.equal(ZeroMaps.joined([own[0], own[0]]).scores, z[:1])


def shape(layer):
    return {"1": (4, 8, 8), "3": (6, 4, 4)}[layer]


def with_zero(explainer, apart, *, seen=None):
    """The bank with scores at zero maps that lie so far apart, by layer."""
    layers = {}
    for layer, cavs in explainer.cavs.layers.items():
        zero = ZeroMaps(torch.tensor([[0.0, 2 * apart[layer]]]), torch.ones(3), torch.ones(3) > 0)
        places = replace(cavs.places, seen=torch.tensor((seen or {}).get(layer, [1.0, 1.0])))
        layers[layer] = replace(cavs, zero=zero, places=places)
    return replace(explainer.cavs, layers=layers)


def test_the_layer_of_the_most_even_zero_maps_is_read_first(explainer):
    even = with_zero(explainer, {"1": 0.3, "3": 0.1})
    assert even.best_layers == {"bright": "3", "cold": "3"}
    unseen = with_zero(explainer, {"1": 0.3, "3": 0.1}, seen={"3": [1.0, 0.7]})
    assert unseen.best_layers == {"bright": "3", "cold": "1"}
    cavs = even.layers["3"]
    swapped = replace(cavs, e_pos=cavs.e_neg, e_neg=cavs.e_pos)
    bank = replace(even, layers={"1": even.layers["1"], "3": swapped})
    assert bank.best_layer("bright") == "1"
    nowhere = with_zero(explainer, {"1": 0.3, "3": 0.1}, seen={k: [1.0, 0.7] for k in ("1", "3")})
    assert nowhere.best_layer("cold") == "3"
    assert nowhere.best_layers == {"bright": "3"}
    unknown = with_zero(explainer, {"1": 0.3, "3": float("nan")})
    assert unknown.best_layer("cold") == "1"


def test_it_is_saved_with_the_bank_and_older_banks_say_what_to_do(explainer, tmp_path):
    explainer.cavs.save(tmp_path / "bank")
    bank = vtcav.CavBank.load(tmp_path / "bank")
    assert bank.best_layers == explainer.cavs.best_layers
    again = vtcav.VisualTCAV(explainer.model, cavs=bank)
    assert again.best_layer("cold") == explainer.best_layer("cold")
    with pytest.raises(CavError, match="no concept 'warm'"):
        again.best_layer("warm")
    older = replace(bank, layers={k: replace(c, zero=None) for k, c in bank.layers.items()})
    older.save(tmp_path / "older")
    older = vtcav.VisualTCAV(explainer.model, cavs=vtcav.CavBank.load(tmp_path / "older"))
    with pytest.raises(CavError, match="fit again, or choose a layer yourself"):
        older.best_layer("cold")
    local = older.explain(pictures(1)[0])
    assert local.best_layers == {}


def test_it_comes_first_in_every_order(explainer, tmp_path):
    bank = with_zero(explainer, {"1": 0.3, "3": 0.1}, seen={"3": [1.0, 0.7]})
    assert reading_order(["1", "3"], bank.best_layers) == ("1", "3")
    assert reading_order(["1", "3"], {"bright": "3"}) == ("3", "1")
    other = vtcav.VisualTCAV(explainer.model, cavs=bank)
    for found in (other.explain(pictures(1)[0]), other.explain_class("cat", pictures(2))):
        table = found.attributions if hasattr(found, "picture") else found.summary()
        first = best_first(table, found.best_layers)
        keys = list(dict.fromkeys(zip(first["layer"], first["concept"], strict=True)))
        assert keys == [("1", "cold"), ("3", "bright"), ("1", "bright"), ("3", "cold")]
        sentence = read_first(found.best_layers, found.layers)
        assert sentence.startswith("Read first: 'cold' at layer '1'; 'bright' at layer '3'. ")
        texts = " ".join(text.get_text() for text in found.plot().findobj(Text))
        assert "Read first: 'cold' at layer '1'" in " ".join(texts.split())
        assert "Read first:" in found._repr_html_()
        found.save(tmp_path)
        assert type(found).load(tmp_path).best_layers == bank.best_layers
    assert read_first({"cold": "1"}, ["1"]) == ""
    many = {f"{i}": "1" for i in range(6)}
    assert read_first(many, ["1", "3"]).startswith("Read first: all concepts at layer '1'. ")
    odd = read_first({**many, "cold": "3"}, ["1", "3"])
    assert odd.startswith("Read first: 6 of 7 concepts at layer '1'; 'cold' at layer '3'. ")
    page = build_report([], [found], title="Study")
    assert "Read first:" in page
    assert page.count('<span class="muted">read first</span>') == 2


def test_a_dozen_images_spread_over_a_set_stand_for_it():
    examples = pictures(30, seed=5)
    explainer = vtcav.VisualTCAV(small_model(), ["3"], progress=False)
    explainer.fit({"any": examples}, pictures(20, seed=6), null_cavs=0, bootstraps=0)
    preprocess = explainer.model.preprocess
    chosen = [examples[round(i)] for i in np.linspace(0, 29, 12)]
    x = torch.stack([preprocess(Image.fromarray(picture)) for picture in chosen])
    with torch.no_grad():
        expected = small_net()(x).std(1, correction=0)
    torch.testing.assert_close(explainer.cavs.layers["3"].zero.spread, expected)
