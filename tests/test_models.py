"""Classifier: feature maps, heads, cuts, logits, and a network that is left as it was found."""

import copy
import operator
import warnings
from collections import Counter, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import vtcav
from tests.small import CLASSES, pictures, small_model, small_net, with_weights
from vtcav.errors import LayerError, ModelError

SIZE = 16
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def classifier(net, size=SIZE, **options):
    return vtcav.Classifier(net, None, vtcav.Preprocess(size), **options)


def noise(count, size=SIZE, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator).to(dtype)


def names(model):
    return [layer.name for layer in model.layers()]


class Conv(nn.Conv2d):
    """A 3 x 3 convolution that counts how often it computes."""

    def __init__(self, channels_in, channels_out, stride=1):
        super().__init__(channels_in, channels_out, 3, stride, padding=1)
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return super().forward(x)


class Net(nn.Module):
    """stem /2 - relu - layer - relu - conv /2 - pooling - fc, to be varied by its subclasses."""

    def __init__(self, classes=4, seed=0):
        super().__init__()
        self.stem, self.layer, self.conv = Conv(3, 5, 2), Conv(5, 5), Conv(5, 6, 2)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, classes)
        self.extend()
        with_weights(self, seed)

    def extend(self):
        pass

    def maps(self, x):
        return self.layer(self.relu(self.stem(x)))

    def rest(self, x, y):
        return self.fc(self.relu(self.conv(self.relu(y))).mean((2, 3)))

    def forward(self, x):
        return self.rest(x, self.maps(x))


# --- feature maps -----------------------------------------------------------------------------


def hooked(net, x, layers):
    """What hooks record in a plain pass."""
    maps, handles = {}, []
    for name in layers:

        def keep(_module, _inputs, output, name=name):
            maps[name] = output.detach().clone()

        handles.append(net.get_submodule(name).register_forward_hook(keep))
    net.eval()
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return maps


def equal(maps, expected):
    return maps.keys() == expected.keys() and all(
        torch.equal(maps[name], expected[name]) for name in maps
    )


def test_all_layers_come_from_one_pass_that_stops_after_the_deepest():
    convs = [Conv(3, 4), Conv(4, 4), Conv(4, 4), Conv(4, 4)]
    tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    net = with_weights(nn.Sequential(*convs, *tail), 0)
    model = classifier(net)
    model.layers()
    for conv in convs:
        conv.runs = 0
    maps = model.activations(noise(2), ["2", "0"])
    assert [conv.runs for conv in convs] == [1, 1, 1, 0]
    assert list(maps) == ["2", "0"]
    assert equal(maps, hooked(net, noise(2), ["2", "0"]))
    maps, logits = model.activations_and_logits(noise(2), ["2", "0"])
    assert equal(maps, hooked(net, noise(2), ["2", "0"]))
    assert torch.equal(logits, net(noise(2)))


def test_relu_in_place_does_not_reach_the_recorded_maps():
    net = nn.Sequential(Conv(3, 4), nn.ReLU(inplace=True), Conv(4, 4), nn.ReLU(inplace=True))
    net = with_weights(nn.Sequential(net, nn.Flatten(), nn.Linear(4 * SIZE**2, 3)), 0)
    model, layers = classifier(net), ["0.0", "0.1", "0.2", "0.3", "0"]
    x = noise(3)
    kept = x.clone()
    maps = model.activations(x, layers)
    assert equal(maps, hooked(net, x, layers))
    assert maps["0.0"].min() < 0
    assert maps["0.1"].min() == 0
    assert torch.equal(x, kept)
    x[:] = 0  # nor does what the caller does with the images later
    assert equal(maps, hooked(net, kept, layers))


class Catches(Net):
    def forward(self, x):
        try:
            return super().forward(x)
        except Exception:
            return torch.zeros(len(x), 4)


def test_a_network_that_catches_exceptions_is_stopped_all_the_same():
    net = Catches()
    model = classifier(net)
    model.layers()
    net.conv.runs = 0
    maps = model.activations(noise(2), ["layer"])
    assert net.conv.runs == 0
    assert equal(maps, hooked(net, noise(2), ["layer"]))


def test_the_order_and_repetition_of_layers_are_the_callers():
    model = small_model()
    maps = model.activations(noise(1), ["3", "1", "3"])
    assert list(maps) == ["3", "1"]
    assert [info.name for info in model.check_layers(["3", "1", "3"])] == ["1", "3"]


class Selective(Net):
    def maps(self, x):
        y = self.relu(self.stem(x))
        return self.layer(y) if x.shape[-1] == SIZE else y


def test_a_layer_that_does_not_run_this_time_is_named():
    model = classifier(Selective())
    with pytest.raises(LayerError, match="'layer' ran when .* did not run for these images"):
        model.activations(noise(1, size=24), ["layer"])


def test_user_hooks_keep_working():
    net, seen = Net(), []
    net.layer.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    net.layer.register_forward_pre_hook(lambda _module, inputs: (inputs[0] + 1,))
    net.conv.register_forward_hook(lambda *_: seen.append(1))
    truth = hooked(net, noise(2), ["layer"])["layer"]
    model = classifier(net)
    F_ = model.activations(noise(2), ["layer"])["layer"]
    assert torch.equal(F_, truth)
    seen.clear()
    torch.testing.assert_close(model.head("layer")(F_), net(noise(2)))
    assert seen


# --- heads ------------------------------------------------------------------------------------


def first(output):
    return output


def truth(net, layer, x, maps, read=first):
    """Logits and their gradient, by a plain pass of real images with a leaf in the layer."""
    leaf = maps.clone().requires_grad_()
    handle = net.get_submodule(layer).register_forward_hook(lambda *_: leaf.clone())
    net.eval()
    z = read(net(x))
    handle.remove()
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(3))
    return z.detach(), torch.autograd.grad((z * weights).sum(), leaf)[0]


def gradient(head, maps):
    leaf = maps.clone().requires_grad_()
    z = head(leaf)
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(3))
    return z.detach(), torch.autograd.grad((z * weights).sum(), leaf)[0]


def check_head(net, layer, way=None, read=first, size=SIZE, model=None):
    """The head is the plain pass on real maps, and the full replay on others, with gradients."""
    model = model or classifier(net, size)
    head = model.head(layer)
    assert head.layer == layer
    if way:
        assert head.resume == way
    for count in (1, 5):
        x = noise(count, size)
        maps = model.activations(x, [layer])[layer]
        with torch.no_grad():
            net.eval()
            torch.testing.assert_close(head(maps), read(net(x)).detach())
        for F_ in (maps, 0.3 * maps + 0.1):
            z, G = gradient(head, F_)
            expected_z, expected_G = truth(net, layer, x, F_, read)
            torch.testing.assert_close(z, expected_z)
            torch.testing.assert_close(G, expected_G)
            assert G.abs().max() > 0
    return model


class LateBatchSize(Net):
    def rest(self, x, y):
        y = self.relu(self.conv(self.relu(y))).mean((2, 3))
        return self.fc(y.view(x.size(0), -1))


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


class InPlace(LateBatchSize):
    """Writes into what a module before the layer gave, which an expanded tensor cannot take."""

    def maps(self, x):
        y = self.stem(x)
        y.add_(1)
        return self.layer(y)


class Gates(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))

    def forward(self, x):
        return self.weight * x.mean()


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
    if kind is Gated:  # the mean over the batch would mix the images
        net.gates.forward = lambda x: net.gates.weight * 1
    model = check_head(net, "layer", way)
    net.stem.runs = net.layer.runs = net.conv.runs = 0
    model.head("layer")(torch.rand(3, 5, 8, 8))
    below = 1 if way == "replay" else 0
    assert (net.stem.runs, net.layer.runs, net.conv.runs) == (below, below, 1)


def test_a_head_does_not_write_into_its_maps():
    model = small_model(with_weights(nn.Sequential(*InPlaceAfter()), 0))
    F_ = torch.randn(2, 4, SIZE, SIZE)
    kept = F_.clone()
    model.head("0")(F_)
    assert torch.equal(F_, kept)


def InPlaceAfter():  # noqa: N802
    yield from (Conv(3, 4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * SIZE**2, 3))
