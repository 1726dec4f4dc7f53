"""Networks of 1 to 13 channels, through every route, against the paper read literally."""

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from tests.helpers import literal
from tests.helpers.small import with_weights
from vtcav.images.decoding import BandPicture
from vtcav.images.opening import picture_of

CLASSES = ["a", "b", "c"]


def net_of(count):
    net = nn.Sequential(
        nn.Conv2d(count, 4, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip
    return with_weights(net, 2).eval()


def tiles(count, n, seed, *, shift=0, kind=np.uint16):
    """Pictures [16, 16, count] of 12 bits, of which a corner may be brighter."""
    random = np.random.default_rng(seed)
    values = random.integers(0, 800, (n, 16, 16, count))
    values[:, 4:12, 4:12, count // 2 :] += shift
    return [picture_of(v.astype(kind)) for v in values]


def scene(count, n=8):
    """A concept, negatives, and one image."""
    return tiles(count, n, 1, shift=3000), tiles(count, n, 2), tiles(count, 1, 3, shift=3000)[0]


@pytest.mark.parametrize("count", [1, 2, 5, 13])
def test_attributions_are_those_of_the_paper_read_literally(count):
    concept, negatives, image = scene(count)
    preprocess = vtcav.Preprocess(16, channels=count, window=(0, 4095), mean=0.3, std=0.2)
    net = net_of(count)
    model = vtcav.Classifier(net, CLASSES, preprocess, device="cpu")
    explainer = vtcav.VisualTCAV(model, ["1", "3"], steps=50)
    explainer.fit({"spot": concept}, negatives, null_cavs=0, min_examples=2)
    local = explainer.explain(image, classes=CLASSES)
    for layer, rows in local.attributions.groupby("layer", sort=False):
        expected = literal.attributions(net, layer, preprocess, concept, negatives, image, range(3))
        assert max(expected) > 0.01
        np.testing.assert_allclose(rows["attribution"], expected, atol=1e-5)
    assert np.isfinite(local.effects["drop"]).all()
    erased = local.erased("spot")
    assert erased.after.shape == erased.before.shape == (16, 16, 3)
    assert (erased.after != erased.before).any(2)[~erased.region].sum() == 0


def test_a_grey_network_and_its_replica_in_rgb_give_the_same_bits(tmp_path):
    concept, negatives, image = scene(1)
    window = {"window": (0, 4095), "mean": 0.25, "std": 0.5}
    grey = net_of(1)
    colour = net_of(1)
    colour[0] = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    with torch.no_grad():
        # the blue channel counts, as any could: sums of three products are rounded otherwise
        colour[0].weight.zero_()
        colour[0].weight[:, 2:] = grey[0].weight
        colour[0].bias.copy_(grey[0].bias)
    tables = []
    for net, preprocess in (
        (grey, vtcav.Preprocess(12, channels=1, **window)),
        (colour, vtcav.Preprocess(12, channels=3, **window)),
        (colour, vtcav.Preprocess(12, **window)),
    ):
        net[5] = nn.Linear(54, 8)
        with_weights(nn.Sequential(net[5]), 9)
        model = vtcav.Classifier(net.eval(), CLASSES, preprocess, device="cpu")
        explainer = vtcav.VisualTCAV(model, ["1", "3"])
        explainer.fit({"spot": concept}, negatives, null_cavs=5, min_examples=2)
        tables.append(explainer.explain(image, classes=CLASSES))
    for other in tables[1:]:
        columns = ["attribution", "p_value"]
        assert tables[0].attributions[columns].equals(other.attributions[columns])
        assert (tables[0].effects["drop"] == other.effects["drop"]).all()
        assert (tables[0].picture == other.picture).all()


@pytest.fixture(scope="module")
def satellite():
    """An explainer of tiles of 13 bands, of which figures show three."""
    preprocess = vtcav.Preprocess(
        16, channels=13, window=(0, 4095), mean=0.3, std=0.2, shown=(3, 2, 1)
    )
    model = vtcav.Classifier(net_of(13), CLASSES, preprocess, device="cpu")
    explainer = vtcav.VisualTCAV(model, ["3"])
    return explainer.fit(
        {"spot": tiles(13, 8, 1, shift=3000)}, tiles(13, 9, 2), null_cavs=5, min_examples=2
    )


def test_every_route_takes_thirteen_channels_and_says_which_it_shows(satellite, tmp_path):
    images = tiles(13, 10, 5, shift=2900)
    said = "Pictures show channels 3, 2, 1 of 0 to 12, as red, green and blue."
    local = satellite.explain(images[0], classes=2)
    shown = np.asarray(images[0])[..., [3, 2, 1]] / 4095 * 255
    assert (local.picture == np.rint(shown)).all()
    found = satellite.discover(images, k=2)
    for result in (
        local,
        satellite.erase(images[0], (4, 4, 12, 12)),
        satellite.explain_class("a", images),
        satellite.rank(images, "spot", layer="3"),
        found,
    ):
        texts = " ".join(text.get_text() for text in result.plot().axes[0].texts)
        assert said in " ".join(texts.split())
    assert said in local._repr_html_()
    assert vtcav.LocalExplanation.load(local.save(tmp_path / "local")).provenance.picture_notes
    satellite.cavs.save(tmp_path / "cavs.safetensors")
    again = vtcav.VisualTCAV(
        satellite.model, ["3"], cavs=vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    )
    assert again.explain(images[0], classes=2).attributions.equals(local.attributions)


def test_a_picture_that_does_not_fit_is_named_with_what_came(satellite):
    with pytest.raises(vtcav.ImageError, match=r"expected 13 channels, got 5 channels \(16 x 16"):
        satellite.explain(tiles(5, 1, 0)[0])
    with pytest.warns(vtcav.SkippedImageWarning, match="expected 13 channels, got 2 channels"):
        found = satellite.explain_class("a", [*tiles(2, 1, 0), *tiles(13, 3, 0)])
    assert len(found.skipped) == 1
    grey = vtcav.Classifier(net_of(1), CLASSES, vtcav.Preprocess(16, channels=1), device="cpu")
    assert grey.predict([tiles(1, 1, 0, shift=30000)[0]]).shape == (1, 3)


def test_a_network_of_other_channels_than_the_preprocessing_says_so():
    with pytest.raises(vtcav.ModelError, match=r"takes 13 channels, .*\.\.\., channels=13"):
        vtcav.Classifier(net_of(13), CLASSES, vtcav.Preprocess(16), device="cpu")


@pytest.mark.parametrize("says", [True, False])
def test_callables_get_the_values_of_all_channels(says):
    class Own:
        cache_key = "reflectance"
        if says:
            channels = 13

        def __call__(self, picture):
            values = np.asarray(picture).astype(np.float32) / 10000
            return torch.from_numpy(values).permute(2, 0, 1)[:, :16, :16]

    model = vtcav.Classifier(net_of(13), CLASSES, Own(), device="cpu")
    explainer = vtcav.VisualTCAV(model, ["3"])
    concept, negatives, image = scene(13)
    explainer.fit({"spot": concept}, negatives, null_cavs=0, min_examples=2)
    local = explainer.explain(image, classes=1)
    values = torch.from_numpy(np.asarray(image).astype(np.float32) / 10000).permute(2, 0, 1)
    z = model.module(values[None])[0].detach().softmax(0)
    assert local.predictions["probability"].max() == pytest.approx(float(z.max()), rel=1e-5)
    assert "the mean of the 13 channels" in local.provenance.picture_notes[0]
    assert isinstance(image, BandPicture)
    assert explainer.erase(image, (4, 4, 12, 12), classes=1).effects["drop"].notna().all()
