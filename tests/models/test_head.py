"""The network after a layer: every way to resume it is the plain pass."""

import copy
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vtcav
from tests.helpers.nets import (
    SIZE,
    Conv,
    InPlace,
    LateBatchSize,
    Net,
    Residual,
    check_head,
    classifier,
    names,
    refused,
)
from tests.helpers.small import small_model, with_weights
from vtcav.errors import LayerError


class LateConcatenation(Net):
    def extend(self):
        self.fc = nn.Linear(8, 4)

    def rest(self, x, y):
        y = self.relu(self.conv(self.relu(y))).mean((2, 3))
        return self.fc(torch.cat([y, x.new_ones(len(x), 2)], 1))


class LateAssertion(Net):
    def rest(self, x, y):
        assert len(y) == len(x), "one feature map for each image"
        return super().rest(x, y)


class OwnError(Exception):
    pass


class LateOwnError(Net):
    def rest(self, x, y):
        if len(y) != len(x):
            raise OwnError
        return super().rest(x, y)


class Gates(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))

    def forward(self, x):
        return self.weight * 1


class Gated(LateBatchSize):
    """A module before the layer gives something whose first dimension is not the batch."""

    def extend(self):
        self.gates = Gates()

    def maps(self, x):
        y = self.relu(self.stem(x))
        return self.layer(y * self.gates(y)[None, :, None, None])


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        (Net, "single"),
        (LateBatchSize, "expanded"),
        (LateConcatenation, "expanded"),
        (LateAssertion, "expanded"),
        (LateOwnError, "expanded"),
        (InPlace, "replay"),
        (Gated, "replay"),
    ],
)
def test_every_way_gives_the_plain_pass_and_its_gradient(kind, way):
    net = kind()
    model = check_head(net, "layer", way)
    net.stem.runs = net.layer.runs = net.conv.runs = 0
    model.head("layer")(torch.rand(3, 5, 8, 8))
    below = 1 if way == "replay" else 0
    assert (net.stem.runs, net.layer.runs, net.conv.runs) == (below, below, 1)


def test_a_head_does_not_write_into_its_maps():
    net = nn.Sequential(Conv(3, 4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * SIZE**2, 3))
    head = classifier(with_weights(net, 0)).head("0")
    maps = torch.randn(2, 4, SIZE, SIZE)
    kept = maps.clone()
    head(maps)
    assert torch.equal(maps, kept)


class InPlaceSingle(InPlace):
    def rest(self, x, y):
        return Net.rest(self, x, y)


def test_a_head_does_not_write_into_its_record():
    head = classifier(InPlaceSingle()).head("layer")
    assert head.resume == "single"
    kept = copy.deepcopy(head.outputs)
    head(torch.rand(2, 5, 8, 8))
    assert torch.equal(head.outputs["stem"][0], kept["stem"][0])


class Falls(Net):
    """A part that fails, and is replaced by another."""

    def extend(self):
        self.broken = nn.Sequential(nn.Identity(), nn.Linear(7, 7))

    def maps(self, x):
        try:
            y = self.broken(x)
        except RuntimeError:
            y = self.stem(x)
        return self.layer(self.relu(y))


def test_a_module_that_fails_below_the_layer():
    net = Falls()
    model = check_head(net, "layer", "single")
    assert names(model) == ["stem", "layer", "conv"]
    net.stem.runs = 0
    model.head("layer")(torch.rand(2, 5, 8, 8))
    assert net.stem.runs == 0
    refused(model, "broken", "'broken' .* gives no tensor")


@pytest.mark.parametrize("layer", ["stem", "block1", "block2"])
def test_one_relu_for_the_whole_network(layer):
    net = Residual()
    model = check_head(net, layer, "single")
    convs = [m for m in net.modules() if isinstance(m, Conv)]
    for conv in convs:
        conv.runs = 0
    model.head(layer)(torch.rand(2, 5, 8, 8))
    below = {"stem": 1, "block1": 3, "block2": 5}[layer]
    assert [conv.runs for conv in convs] == [0] * below + [1] * (5 - below)


class Outermost(nn.Module):
    """A convolution that runs on its own, inside of a part, and again after the layer."""

    def __init__(self, seed=0):
        super().__init__()
        self.stem, self.shared, self.layer = Conv(3, 5), Conv(5, 5), Conv(5, 5)
        self.part = nn.Sequential(self.shared, nn.ReLU(), self.shared)
        self.fc = nn.Linear(5, 4)
        with_weights(self, seed)

    def forward(self, x):
        x = self.shared(self.part(self.shared(self.stem(x))))
        x = self.shared(F.relu(self.layer(x)))
        return self.fc(x.mean((2, 3)))


def test_a_module_that_runs_inside_and_outside_of_another():
    net = Outermost()
    model = check_head(net, "layer", "single")
    net.shared.runs = 0
    model.head("layer")(torch.rand(2, 5, SIZE, SIZE))
    assert net.shared.runs == 1
    assert names(model) == ["stem", "part.1", "part", "layer"]


Pair = namedtuple("Pair", "a b")


class Parts(nn.Module):
    """Gives its two convolutions in a container."""

    def __init__(self, make):
        super().__init__()
        self.a, self.b, self.make = Conv(3, 5, 2), Conv(3, 5, 2), make

    def forward(self, x):
        return self.make(self.a(x), self.b(x))


CONTAINERS = {
    "tuple": (lambda a, b: (a, b), lambda out: out),
    "list": (lambda a, b: [a, [b]], lambda out: (out[0], out[1][0])),
    "dict": (lambda a, b: {"a": a, "b": b}, lambda out: (out["a"], out["b"])),
    "named": (Pair, lambda out: out),
    "object": (lambda a, b: SimpleNamespace(a=a, b=b), lambda out: (out.a, out.b)),
    "none": (lambda a, b: (a, None, b, 3), lambda out: (out[0], out[2])),
}


class Contained(Net):
    container = "tuple"

    def extend(self):
        make, self.take = CONTAINERS[self.container]
        self.parts = Parts(make)

    def maps(self, x):
        a, b = self.take(self.parts(x))
        return self.layer(self.relu(a + b))


class ContainedLate(Contained, LateBatchSize):
    pass


@pytest.mark.parametrize("kind", [Contained, ContainedLate])
@pytest.mark.parametrize("container", CONTAINERS)
def test_modules_below_the_layer_may_give_anything(kind, container, monkeypatch):
    monkeypatch.setattr(kind, "container", container)
    net = kind()
    model = check_head(net, "layer", "single" if kind is Contained else None)
    net.parts.a.runs = 0
    model.head("layer")(torch.rand(2, 5, 8, 8))
    assert net.parts.a.runs == (model.head("layer").resume == "replay")
    why = "no tensor, expected feature maps" if container == "object" else "2 tensors, and the scor"
    with pytest.raises(LayerError, match=f"'parts' cannot be explained: it gives {why}"):
        model.head("parts")


class Transformed(Net):
    """Reads the image's size after the layer."""

    def rest(self, x, y):
        y = self.relu(self.conv(self.relu(y)))
        y = F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=True)
        return self.fc((y * torch.linspace(0, 1, x.shape[-1])).mean((2, 3)))


def test_a_head_that_depends_on_the_images_size_needs_a_fixed_one():
    check_head(Transformed(), "layer", "single")
    loose = vtcav.Classifier(Transformed(), None, lambda image: vtcav.Preprocess(None)(image))
    with pytest.raises(LayerError, match="the image's size"):
        loose.head("layer")
    model = vtcav.Classifier(Net(), None, vtcav.Preprocess(None))
    check_head(model.module, "layer", "single", model=model)


def test_a_network_that_takes_one_size_alone_may_come_without_a_fixed_one():
    net = nn.Sequential(Conv(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3))
    with pytest.warns(UserWarning, match="no preprocess"):
        model = vtcav.Classifier(with_weights(net, 0))
    assert [layer.shape for layer in model.layers()] == [(4, 14, 14), (4, 14, 14)]
    check_head(net, "1", "single", size=28, model=model)


def test_the_head_is_made_once():
    model = small_model()
    assert model.head("1") is model.head("1")
