"""Networks of an image and a second input, which is held fixed."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import vtcav
from tests.helpers.small import pictures, with_weights
from vtcav import ImageError, ModelError
from vtcav.models.second_input import SecondInput, planes_of

PREPROCESS = vtcav.Preprocess(16)
CLASSES = ["a", "b", "c"]


class WithMetadata(nn.Module):
    """Metadata scales the features, and adds to the scores."""

    def __init__(self, count=2):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU()
        )
        self.meta, self.head = nn.Linear(count, 6), nn.Linear(6, 3)

    def forward(self, x, meta):
        gate = torch.sigmoid(self.meta(meta))
        return self.head(torch.tanh(self.body(x).mean((2, 3))) * gate) + meta[:, :1]


class WithMask(WithMetadata):
    """The mean over a mask of the size of the picture."""

    def forward(self, x, mask):
        small = nn.functional.avg_pool2d(mask, 4)
        return self.head((self.body(x) * small).mean((2, 3)))


class Bound(nn.Module):
    """The network of one image, with its second input built in."""

    def __init__(self, network, second):
        super().__init__()
        self.network = network
        self.register_buffer("second", second)

    def forward(self, x):
        return self.network(x, self.second.expand(len(x), *self.second.shape))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, values in (("bright", pictures(6, 1, low=150)), ("dark", pictures(6, 2, high=100))):
        (tmp_path / name).mkdir()
        for i, picture in enumerate(values):
            Image.fromarray(picture).save(tmp_path / name / f"{name}{i}.png")
    names = [f"{name}{i}.png" for name in ("bright", "dark") for i in range(6)]
    table = pd.DataFrame(rng.normal(size=(12, 2)), index=names, columns=["age", "sex"])
    return tmp_path, table


@pytest.mark.parametrize("kind", ["metadata", "mask"])
def test_each_image_is_explained_with_its_own(folder, kind):
    root, table = folder
    net = with_weights((WithMetadata if kind == "metadata" else WithMask)(), 1).eval()
    second = table
    if kind == "mask":
        rng = np.random.default_rng(1)
        masks = {name: rng.integers(0, 2, (1, 16, 16)).astype(np.float32) for name in table.index}
        second = SecondInput(lambda name: masks[name.rpartition("/")[2]], np.ones((1, 16, 16)))
    model = vtcav.Classifier(net, CLASSES, PREPROCESS, device="cpu", second=second)
    layer = "network.body.3"
    assert layer in [info.name for info in model.layers()]
    explainer = vtcav.VisualTCAV(model, ["network.body.1", layer], steps=30)
    explainer.fit({"bright": root / "bright"}, root / "dark", null_cavs=0, min_examples=2)
    glob = explainer.explain_class("a", root / "bright").attributions
    assert model.head(layer).resume == "replay"
    drops, largest = set(), 0
    for name in ("bright0.png", "bright3.png"):
        local = explainer.explain(root / "bright" / name, classes=CLASSES)
        own = table.loc[name].to_numpy(np.float32) if kind == "metadata" else masks[name]
        bound = vtcav.Classifier(
            Bound(net, torch.from_numpy(own)), CLASSES, PREPROCESS, device="cpu"
        )
        alone = vtcav.VisualTCAV(bound, ["network.body.1", layer], steps=30)
        alone.fit({"bright": root / "bright"}, root / "dark", null_cavs=0, min_examples=2)
        expected = alone.explain(root / "bright" / name, classes=CLASSES)
        for column in ("attribution", "presence"):
            np.testing.assert_allclose(
                local.attributions[column], expected.attributions[column], rtol=1e-4, atol=1e-6
            )
        # the picture without the concept, and the same second input
        np.testing.assert_allclose(
            local.effects["without"], expected.effects["without"], rtol=1e-4, atol=1e-5
        )
        assert (local.picture == expected.picture).all()
        rows = glob[glob["image"].str.endswith(name)]
        mine = local.attributions[local.attributions["class_name"] == "a"]
        np.testing.assert_allclose(rows["attribution"], mine["attribution"], rtol=1e-4, atol=1e-6)
        drops |= set(local.effects["logit"].round(5))
        largest = max(largest, local.attributions["attribution"].max())
    assert len(drops) > 3
    assert largest > 0


def test_what_is_missing_or_of_another_shape_is_named(folder):
    root, table = folder
    net = with_weights(WithMetadata(), 1).eval()
    model = vtcav.Classifier(net, CLASSES, PREPROCESS, device="cpu", second=table[1:])
    explainer = vtcav.VisualTCAV(model, ["network.body.3"], fill=None)
    with pytest.warns(vtcav.SkippedImageWarning, match=r"no second input for .*'bright0\.png'"):
        explainer.fit({"bright": root / "bright"}, root / "dark", null_cavs=0, min_examples=2)
    with pytest.raises(ImageError, match=r"bright0\.png.*no second input"):
        explainer.explain(root / "bright/bright0.png")
    with pytest.raises(vtcav.LayerError, match="second input of each image"):
        model.head("network.body.3")(torch.zeros(1, 6, 4, 4))
    uneven = SecondInput(lambda name: [1.0] * (1 + ("b" in name)), [0.0])
    with pytest.raises(ImageError, match=r"shape \[1\], got \[2\] for 'b\.png'"):
        uneven.of("b.png")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "at least one image"),
        ({"a": [1], "b": [1, 2]}, "of one shape"),
        ({"a": ["x"]}, "expected numbers as the second input of 'a'"),
        ({"a": [float("nan")]}, "finite numbers"),
        (lambda name: [1], "needs default="),
        (3, "mapping from names of images, a table or a callable, got int"),
    ],
)
def test_second_inputs_that_are_none_are_refused(values, message):
    with pytest.raises(ModelError, match=message):
        SecondInput(values)


def test_other_preprocessings_and_saliency_are_refused(folder):
    _, table = folder
    net = with_weights(WithMetadata(), 1).eval()
    with pytest.raises(ModelError, match=r"needs a vtcav\.Preprocess"):
        vtcav.Classifier(net, CLASSES, lambda p: PREPROCESS(p), device="cpu", second=table)
    model = vtcav.Classifier(net, CLASSES, PREPROCESS, device="cpu", second=table)
    from vtcav.evaluation.peers.saliency import integrated_gradients

    with pytest.raises(vtcav.ExplanationError, match="a second input"):
        integrated_gradients(model, torch.zeros(1, 4, 16, 16), torch.tensor([0]))


def test_planes_hold_any_number_of_values():
    value = torch.arange(10.0)
    assert planes_of(value, (2, 2)).shape == (3, 2, 2)
    assert planes_of(value, (2, 2)).flatten()[:10].equal(value)
