"""Classifier: feature maps, heads, cuts, logits, and a network that is left as it was found."""

import copy
import warnings
from collections import Counter, namedtuple
from contextlib import contextmanager
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


@contextmanager
def in_evaluation(net):
    """Evaluation mode for a while."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    yield
    for module, mode in modes:
        module.training = mode


def hooked(net, x, layers):
    """What hooks record in a plain pass."""
    maps, handles = {}, []
    for name in layers:

        def keep(_module, _inputs, output, name=name):
            maps[name] = output.detach().clone()

        handles.append(net.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad(), in_evaluation(net):
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
            y = self.maps(x)
        except Exception:  # noqa: BLE001  (as networks do)
            y = torch.zeros(len(x), 5, 8, 8)
        return self.rest(x, y)


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
    with pytest.raises(LayerError, match=r"'layer' ran when .* did not run for these images"):
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
    with in_evaluation(net):
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
    refused(model, "broken", "'broken' .* gives no single tensor")


class Block(nn.Module):
    """Two convolutions and one ReLU that runs twice, with a skip connection around them."""

    def __init__(self, channels, relu=None):
        super().__init__()
        self.conv1, self.conv2 = Conv(channels, channels), Conv(channels, channels)
        self.relu = relu or nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.conv2(self.relu(self.conv1(x))))


class Residual(nn.Module):
    """stem - block1 - block2 - fc, with one ReLU for all."""

    def __init__(self, seed=0):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.stem = Conv(3, 5, 2)
        self.block1, self.block2 = Block(5, self.relu), Block(5, self.relu)
        self.fc = nn.Linear(5, 4)
        with_weights(self, seed)

    def forward(self, x):
        x = self.block2(self.block1(self.relu(self.stem(x))))
        return self.fc(x.mean((2, 3)))


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
    with pytest.raises(LayerError, match=r"'parts' cannot be explained: it gives no single tensor"):
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


# --- cuts -------------------------------------------------------------------------------------


class Graph(nn.Module):
    """A random acyclic network: each module takes the sum or the product of earlier results."""

    def __init__(self, seed):
        super().__init__()
        random = np.random.default_rng(seed)
        count = int(random.integers(3, 8))
        kinds = random.choice(["conv", "conv", "tanh", "identity", "dropout", "block"], count)
        made = {
            "conv": lambda: nn.Conv2d(2, 2, 3, padding=1),
            "tanh": nn.Tanh,
            "identity": nn.Identity,
            "dropout": nn.Dropout,
            "block": lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.Tanh()),
        }
        self.stem = nn.Conv2d(3, 2, 1)
        self.steps = nn.ModuleList(made[kind]() for kind in kinds)
        self.takes = [
            random.choice(i + 1, int(random.integers(1, min(i + 1, 2) + 1)), replace=False).tolist()
            for i in range(count)
        ]
        self.products = (random.random(count) < 0.3).tolist()
        self.ends = sorted({count, int(random.integers(count - 1, count + 1))})
        self.fc = nn.Linear(2, 3)
        with_weights(self.double(), seed)

    def forward(self, x):
        results = [torch.tanh(self.stem(x))]
        for step, takes, product in zip(self.steps, self.takes, self.products, strict=True):
            taken = [results[i] for i in takes]
            both = taken[0] * taken[-1] if product else sum(taken)
            results.append(step(both))
        return self.fc(torch.tanh(sum(results[i] for i in self.ends)).mean((2, 3)))


def decides(net, name, images):
    """Whether the logits ignore the image once the module's output is fixed."""
    fixed = []

    def fix(_module, _inputs, output):
        fixed.append(output.clone())
        return fixed[0].clone()

    handle = net.get_submodule(name).register_forward_hook(fix)
    with torch.no_grad(), in_evaluation(net):
        z = [net(image[None]) for image in images]
    handle.remove()
    return bool(fixed) and all(torch.equal(z[0], other) for other in z[1:])


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_usable_layers_are_those_that_decide_the_logits(seed):
    net = Graph(seed)
    model = classifier(net, 6)
    modules = [name for name, module in net.named_modules() if name and name != "steps"]
    x = noise(3, 6, dtype=torch.float64)
    usable = [name for name in modules if name != "fc" and decides(net, name, x)]
    assert sorted(names(model)) == sorted(usable)
    for name in usable:
        maps = model.activations(x, [name])[name]
        torch.testing.assert_close(model.head(name)(maps), net.eval()(x).float())


def test_random_graphs_have_bypassed_layers_and_layers_that_decide():
    x = noise(3, 6, dtype=torch.float64)
    found = Counter(decides(Graph(seed), "steps.0", x) for seed in range(40))
    assert min(found[True], found[False]) >= 5


def refused(model, layer, match):
    assert layer not in names(model)
    for ask in (
        lambda: model.check_layers([layer]),
        lambda: model.head(layer),
        lambda: model.activations(noise(1), [layer]),
        lambda: model.activations_and_logits(noise(1), [layer]),
    ):
        with pytest.raises(LayerError, match=match) as caught:
            ask()
    return str(caught.value)


def test_the_inside_of_a_residual_block_is_bypassed():
    model = classifier(Residual())
    assert names(model) == ["stem", "block1", "block2"]
    message = refused(model, "block2.conv1", r"'block2.conv1' .* is bypassed: .*skip connection")
    assert message.endswith("The nearest usable layers: 'block1', 'block2'")
    assert refused(model, "block1.conv2", "bypassed").endswith(": 'stem', 'block1'")
    refused(model, "relu", r"'relu' .* runs 5 times in one pass")


class Dense(nn.Module):
    """A block that concatenates what its layers give."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = Conv(3, 4, 2), Conv(4, 2), Conv(6, 2)
        self.norm, self.fc = nn.BatchNorm2d(8), nn.Linear(8, 4)
        with_weights(self, 0)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([x, self.a(x)], 1)
        x = torch.cat([x, self.b(x)], 1)
        return self.fc(F.relu(self.norm(x)).mean((2, 3)))


def test_the_inside_of_a_concatenating_block_is_bypassed():
    net = Dense()
    model = classifier(net)
    assert names(model) == ["stem", "norm"]
    refused(model, "a", "bypassed.*'stem', 'norm'")
    refused(model, "b", "bypassed.*'stem', 'norm'")
    check_head(net, "stem", "single")
    check_head(net, "norm", "single")


class Around(Net):
    """The layer's input goes around it, unchanged or under a cloak."""

    def __init__(self, around):
        super().__init__()
        self.around, self.identity = around, nn.Identity()

    def maps(self, x):
        y = self.relu(self.stem(x))
        return self.layer(y) + self.around(self.identity(y))


def test_an_identity_around_the_layer_is_a_bypass():
    model = classifier(Around(lambda y: y))
    assert names(model) == ["stem", "conv"]
    for name in ("layer", "identity"):
        refused(model, name, f"'{name}' .* is bypassed.*: 'stem', 'conv'$")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "around",
    [
        lambda y: y.detach(),
        lambda y: 0.2 * y.detach(),
        lambda y: (y > 0.5).to(y.dtype),
        lambda y: torch.from_numpy(y.detach().float().numpy()).to(y.dtype),
        lambda y: y.detach().mean((1, 2, 3), keepdim=True),
    ],
)
def test_a_bypass_without_a_gradient_is_found_by_its_numbers(around, dtype):
    model = classifier(Around(around).to(dtype))
    assert "layer" in names(model)  # the graph says so
    with pytest.raises(LayerError, match=r"'layer' .* gives other scores.*around the layer") as no:
        model.head("layer")
    assert str(no.value).endswith("The next usable layers: 'conv'")


def test_a_bypass_that_cancels_in_the_graph_is_no_cut():
    model = classifier(Around(lambda y: y - y.detach()))
    refused(model, "layer", "bypassed")


class Aliases(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.identity, self.drop = Conv(3, 4), nn.Identity(), nn.Dropout(0.5)
        self.drop2d, self.empty = nn.Dropout2d(0.5), nn.Sequential()
        self.fc = nn.Linear(4, 4)
        with_weights(self, 0)

    def forward(self, x):
        x = self.empty(self.drop2d(self.drop(self.identity(self.conv(x)))))
        return self.fc(F.relu(x).mean((2, 3)))


def test_layers_that_hand_on_their_input_are_usable_but_not_recommended():
    net = Aliases().train()
    model = classifier(net)
    assert names(model) == ["conv", "identity", "drop", "drop2d", "empty"]
    assert [layer.name for layer in model.layers() if layer.recommended] == ["conv"]
    for name in names(model):
        check_head(net, name, "single", model=model)
    maps = model.activations(noise(2), names(model))
    assert all(torch.equal(maps["conv"], other) for other in maps.values())


class Shapes(nn.Module):
    """A layer of every awkward kind."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = Conv(3, 7, 2), Conv(7, 7)
        self.last, self.first, self.tokens = ToLast(), ToFirst(), nn.Flatten(2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.twice, self.never, self.aux = nn.ReLU(), Conv(7, 7), Conv(7, 3)
        self.fc = nn.Linear(7, 4)
        with_weights(self, 0)

    def forward(self, x):
        x = self.twice(self.conv(self.twice(self.stem(x))))
        aux = self.aux(x)
        x = self.first(self.last(x))
        x = self.tokens(x).reshape(x.shape)
        return self.fc(self.pool(x)[:, :, 0, 0]), aux.mean((2, 3))


class ToLast(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class ToFirst(nn.Module):
    def forward(self, x):
        return x.permute(0, 3, 1, 2)


@pytest.mark.parametrize("size", [SIZE, (16, 24), (40, 16)])
def test_why_a_layer_cannot_be_used(size):
    model = classifier(Shapes(), size)
    high, wide = (np.ravel(size) * [1, 1] // 2).tolist()
    assert [(layer.name, layer.shape) for layer in model.layers()] == [
        ("stem", (7, high, wide)),
        ("conv", (7, high, wide)),
        ("first", (7, high, wide)),
    ]
    for name, why in {
        "last": r"channels-last order, \(1, .* 7\)",
        "tokens": r"a tensor of shape \(1, 7, .*expected feature maps \[1, C, h, w\]",
        "pool": "maps of 1 x 1",
        "twice": "runs 2 times",
        "aux": "does not reach the scores",
        "fc": r"a tensor of shape \(1, 4\)",
    }.items():
        message = refused(model, name, f"'{name}' cannot be explained: it .*{why}")
        assert "The nearest usable layers: " in message
        assert "'first'" in message or "'conv'" in message
    refused(model, "never", "a module that did not run, 'never'; the closest usable names")


def test_strips_are_not_in_channels_last_order():
    pool, fc = nn.AdaptiveAvgPool2d((None, 1)), nn.Linear(32 * SIZE, 4)
    net = with_weights(nn.Sequential(Conv(3, 32), pool, nn.Flatten(), fc), 0)
    assert [layer.shape for layer in classifier(net).layers()] == [(32, 16, 16), (32, 16, 1)]


def test_a_wrong_name_is_answered_with_the_closest():
    model = classifier(Residual())
    refused(model, "blok2", "no layer 'blok2'; the closest usable names are 'block2', 'block1'")
    refused(model, "zzz", "no layer 'zzz'; the last usable ones are 'stem', 'block1', 'block2'")
    refused(model, "", "no layer ''|did not run, ''")
    with pytest.raises(LayerError, match="layers must be a list of names, got 3"):
        model.check_layers([3])
    with pytest.raises(LayerError, match="layers must be a list of names, got the text 'stem'"):
        model.check_layers("stem")
    with pytest.raises(LayerError, match="layers is empty"):
        model.check_layers([])


def test_a_network_without_usable_layers_says_so():
    net = with_weights(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 4)), 0)
    model = classifier(net)
    assert model.layers() == []
    with pytest.raises(LayerError, match="no usable layer"):
        model.check_layers(None)
    refused(model, "1", r"a tensor of shape \(1, 4\).*nearest usable layers: none")


@pytest.mark.parametrize("cut", ["no_grad", "detach"])
def test_a_network_without_a_gradient_says_so(cut):
    class Cut(Net):
        def maps(self, x):
            with torch.set_grad_enabled(torch.is_grad_enabled() and cut != "no_grad"):
                y = super().maps(x)
            return y.detach() if cut == "detach" else y

    with pytest.raises(ModelError, match="no gradient flows from the network's scores"):
        classifier(Cut()).layers()


def test_layers_in_order_with_kind_and_shape():
    found = [(layer.name, layer.kind, layer.shape) for layer in small_model().layers()]
    assert found == [
        ("0", "Conv2d", (4, 8, 8)),
        ("1", "ReLU", (4, 8, 8)),
        ("2", "Conv2d", (6, 4, 4)),
        ("3", "ReLU", (6, 4, 4)),
    ]
    assert [layer.recommended for layer in small_model().layers()] == [False] * 3 + [True]


def recommended(net, size=SIZE):
    return [layer.name for layer in classifier(net, size).check_layers(None)]


def test_the_recommended_layers_are_the_last_of_each_stage():
    def stage(*channels):
        return nn.Sequential(Conv(*channels, 2), nn.ReLU(inplace=True))

    stages = nn.Sequential(stage(3, 4), stage(4, 5), stage(5, 6), stage(6, 6))
    tail = [nn.Dropout(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)]
    net = with_weights(nn.Sequential(stages, *tail), 0)
    assert recommended(net, 64) == ["0.1", "0.2", "0.3"]  # not "0" and not the pooling
    flat = [module for part in stages for module in part]
    net = with_weights(nn.Sequential(*flat, *tail), 0)
    assert recommended(net, 64) == ["3", "5", "7"]  # a ReLU in place is not what it is given
    scores = [nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = with_weights(nn.Sequential(stages, *scores), 0)
    assert recommended(net, 64) == ["0.1", "0.2", "0.3"]  # "1" is the scores already
    net = with_weights(nn.Sequential(nn.Conv2d(3, 4, 1), *scores[1:]), 0)
    assert recommended(net, 64) == ["0"]  # there is nothing else


# --- logits -----------------------------------------------------------------------------------


class Ends(nn.Module):
    """Ends as told: `end` maps logits [N, T] to the network's output."""

    def __init__(self, end, classes=4):
        super().__init__()
        self.net, self.end = Net(classes), end

    def forward(self, x):
        return self.end(self.net(x))


def in_place(z):
    return (z * 1).sigmoid_()


SOFTMAX = {
    "module": nn.Softmax(1),
    "module, last dim": nn.Softmax(-1),
    "function": lambda z: F.softmax(z, 1),
    "function, keyword": lambda z: F.softmax(z, dim=1),
    "all keywords": lambda z: F.softmax(input=z, dim=1),
    "torch": lambda z: torch.softmax(z, -1),
    "special": lambda z: torch.special.softmax(z, 1),
    "method": lambda z: z.softmax(1),
    "method, keyword": lambda z: z.softmax(dim=-1),
    "squeezed": lambda z: z[:, :, None, None].softmax(1).squeeze(-1).squeeze(-1),
    "flattened": lambda z: nn.Flatten()(nn.Softmax2d()(z[:, :, None, None])),
    "viewed": lambda z: F.softmax(z, 1).view(len(z), -1),
    "copied": lambda z: F.softmax(z, 1).clone(),
    "clamped": lambda z: F.softmax(z, 1).clamp(1e-7, 1),
    "another dtype": lambda z: F.softmax(z, 1).double(),
    "an activation after it": lambda z: (F.softmax(z, 1), torch.sigmoid(z.mean(1)))[0],
}
LOG_SOFTMAX = {
    "module": nn.LogSoftmax(1),
    "function": lambda z: F.log_softmax(z, dim=1),
    "torch": lambda z: torch.log_softmax(z, 1),
    "method": lambda z: z.log_softmax(1),
    "special": lambda z: torch.special.log_softmax(z, 1),
}
SIGMOID = {
    "module": nn.Sigmoid(),
    "function": F.sigmoid,
    "torch": torch.sigmoid,
    "special": torch.special.expit,
    "method": lambda z: z.sigmoid(),
    "in place": in_place,
}
LOG_SIGMOID = {"module": nn.LogSigmoid(), "function": F.logsigmoid}
FINAL = [
    pytest.param(final, end, activation, id=f"{final}: {how}")
    for final, ends, activation in (
        ("softmax", SOFTMAX, lambda z: z.softmax(1)),
        ("log-softmax", LOG_SOFTMAX, lambda z: z.softmax(1)),
        ("sigmoid", SIGMOID, torch.sigmoid),
        ("log-sigmoid", LOG_SIGMOID, torch.sigmoid),
    )
    for how, end in ends.items()
]


@pytest.mark.parametrize(("final", "end", "activation"), FINAL)
def test_logits_before_a_final_activation(final, end, activation):
    net = Ends(end)
    model = classifier(net)
    assert model.logits_source == f"the input of the final {final}"
    x = noise(5)
    with torch.no_grad():
        z = net.net.eval()(x)
    assert torch.equal(model.logits(x), z)
    assert torch.equal(model.activations_and_logits(x, ["net.layer"])[1], z)
    torch.testing.assert_close(model.probabilities(z), activation(z))
    assert len(model.class_names) == 4
    before = Ends(lambda z: z)
    check_head(before, "net.layer", "single", model=model)


@pytest.mark.parametrize(
    ("end", "read", "source"),
    [
        (lambda z: z, first, "the network's output"),
        (lambda z: (z, z + 1), lambda out: out[0], "the first of the network's 2 outputs"),
        (lambda z: [z], lambda out: out[0], "the first of the network's 1 outputs"),
        (lambda z: {"logits": z, "loss": None}, lambda out: out["logits"], "the 'logits' of"),
        (
            lambda z: SimpleNamespace(logits=z, hidden=z + 1),
            lambda out: out.logits,
            "the `logits` of",
        ),
        (lambda z: (z.softmax(1), z), lambda out: out[1], "the input of the final softmax"),
        (lambda z: z.softmax(1) @ torch.eye(4) * 3, first, "the network's output"),
    ],
)
def test_outputs_of_many_forms(end, read, source):
    net = Ends(end)
    model = check_head(net, "net.layer", "single", read)
    assert model.logits_source.startswith(source)


class Attention(Net):
    """A softmax and a sigmoid on the way, and plain scores at the end."""

    def rest(self, x, y):
        y = self.relu(self.conv(self.relu(y)))
        places = y.flatten(2)
        y = (places @ torch.softmax(places.mT @ places, -1)).reshape(y.shape)
        weights = torch.softmax(places.mean(1), 1).reshape(len(y), 1, *y.shape[2:])
        gates = torch.sigmoid(y.mean((2, 3)))
        mixed = torch.softmax(self.fc((y * weights).sum((2, 3)) * gates), 1)
        return mixed @ self.fc.weight @ self.fc.weight.T


def test_an_activation_on_the_way_is_not_taken():
    model = check_head(Attention(), "layer", "single")
    assert model.logits_source == "the network's output"


@pytest.mark.parametrize(
    "end",
    [
        lambda z: z.exp() / z.exp().sum(1, keepdim=True),
        lambda z: 0.9 * z.softmax(1) + 0.1 / 4,
        lambda z: z.softmax(1).log(),
        lambda z: z - z.logsumexp(1, keepdim=True),
        lambda z: torch.cat([z[:, :1].sigmoid(), 1 - z[:, :1].sigmoid()], 1),
    ],
)
def test_probabilities_without_a_findable_softmax_are_refused(end):
    with pytest.raises(ModelError, match=r"returns probabilities \(each row.* sums to 1\)"):
        classifier(Ends(end))


def test_a_softmax_over_something_else_than_the_classes_is_refused():
    with pytest.raises(ModelError, match=r"ends in softmax, but not over the 4 scores"):
        classifier(Ends(lambda z: z.view(-1, 2, 2).softmax(2).view(-1, 4)))


def test_a_network_that_ends_otherwise_later_is_refused():
    net = Ends(nn.Softmax(1))
    model = classifier(net)
    net.end = nn.Identity()
    with pytest.raises(ModelError, match="ended in softmax when it was first run"):
        model.logits(noise(1))


@pytest.mark.parametrize(
    ("end", "came"),
    [
        (lambda z: None, "NoneType"),
        (lambda z: "cat", "str"),
        (lambda z: {"scores": z}, r"a dict with the keys \['scores'\]"),
        (lambda z: z[:, :, None], r"torch.float32 tensor of shape \(3, 4, 1\)"),
        (lambda z: z.argmax(1), r"torch.int64 tensor of shape \(3,\)"),
        (lambda z: z.mean(), r"tensor of shape \(\) for 3 images"),
        (lambda z: z[:2], r"tensor of shape \(2, 4\) for 3 images"),
        (lambda z: (), "tuple"),
    ],
)
def test_other_outputs_are_refused(end, came):
    with pytest.raises(ModelError, match=rf"expected .*class scores \[N, T\], got .*{came}"):
        classifier(Ends(end))


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ModelError, match="scores that are not finite"):
        classifier(Ends(lambda z: z / 0))


@pytest.mark.parametrize(
    "end",
    [
        lambda z: F.dropout(z, 0.5),
        lambda z: z - z.mean(0),
        lambda z: z + torch.randn_like(z),
        lambda z: z / z.std(0, correction=0),
    ],
)
def test_scores_that_depend_on_chance_or_on_other_images_are_refused(end):
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="other scores alone than beside others"):
        classifier(Ends(end))


def test_a_network_with_more_scores_for_some_images_is_refused():
    with pytest.raises(ModelError, match=r"expected 4 scores for each of 1 images, got .*\(1, 3\)"):
        classifier(Ends(lambda z: z if len(z) > 1 else z[:, :3]))


def squeezed(x):
    return x.squeeze()


@pytest.mark.parametrize("end", [squeezed, lambda z: squeezed(z).softmax(-1)])
def test_a_squeeze_may_take_the_dimension_of_a_single_image(end):
    net = Ends(end)
    model = classifier(net)
    assert model.logits(noise(1)).shape == (1, 4)
    check_head(Ends(lambda z: z), "net.layer", "single", model=model)


# --- binary -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "source"),
    [
        (lambda z: z, "the network's output"),
        (lambda z: z[:, 0], "the network's output"),
        (squeezed, "the network's output"),
        (nn.Sigmoid(), "the input of the final sigmoid"),
        (lambda z: torch.sigmoid(z).squeeze(1), "the input of the final sigmoid"),
        (lambda z: squeezed(z).sigmoid(), "the input of the final sigmoid"),
        (in_place, "the input of the final sigmoid"),
    ],
)
def test_a_single_logit(end, source):
    net = Ends(end, classes=1)
    model = classifier(net, binary=True)
    assert model.logits_source == source
    assert model.class_names == ("negative", "positive")
    for count in (1, 5):
        with torch.no_grad():
            z = net.net.eval()(noise(count))
        assert torch.equal(model.logits(noise(count)), z)
        expected = torch.cat([1 - z.sigmoid(), z.sigmoid()], 1)
        torch.testing.assert_close(model.probabilities(z), expected)
    check_head(Ends(lambda z: z, classes=1), "net.layer", "single", model=model)


def test_binary_must_fit_the_network():
    with pytest.raises(ModelError, match="single logit per image, the network gives 4 scores"):
        classifier(Ends(first), binary=True)
    with pytest.raises(ModelError, match="two scores are two classes"):
        classifier(Ends(first, classes=2), binary=True)
    for end in (first, squeezed, nn.Sigmoid()):
        with pytest.raises(ModelError, match="pass binary=True"):
            classifier(Ends(end, classes=1))
    with pytest.raises(ModelError, match=r"probabilities \(each lies in \[0, 1\], and a sigmoid"):
        classifier(Ends(lambda z: 0.8 * z.sigmoid() + 0.1, classes=1), binary=True)


def test_class_names_must_fit_the_network():
    net = Ends(first, classes=2)
    assert vtcav.Classifier(net, ["a", "b"], vtcav.Preprocess(SIZE)).class_names == ("a", "b")
    assert vtcav.Classifier(net, None, vtcav.Preprocess(SIZE)).class_names == ("class 0", "class 1")
    named = (name for name in np.array(["a", "b"]))
    assert vtcav.Classifier(net, named, vtcav.Preprocess(SIZE)).class_names == ("a", "b")
    with pytest.raises(ModelError, match=r"expected 2 class names, one per score.*got 3"):
        vtcav.Classifier(net, CLASSES, vtcav.Preprocess(SIZE))
    for wrong in ("ab", [1, 2]):
        with pytest.raises(ModelError, match="class_names must be a list of texts"):
            vtcav.Classifier(net, wrong, vtcav.Preprocess(SIZE))
    single = Ends(first, classes=1)
    with pytest.raises(ModelError, match=r"2 class names \(\[negative, positive\]\).*got 1"):
        vtcav.Classifier(single, ["positive"], vtcav.Preprocess(SIZE), binary=True)


# --- the network is left as it was found ------------------------------------------------------


class Fragile(Net):
    """Mixed flags, batch norm, dropout, and a forward that raises when asked."""

    def extend(self):
        self.norm, self.drop = nn.BatchNorm2d(5), nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(6)
        self.error = None
        self.register_buffer("mask", torch.ones(1))

    def maps(self, x):
        return self.layer(self.drop(self.relu(self.norm(self.stem(x)))))

    def rest(self, x, y):
        if self.error:
            raise self.error
        return self.fc(self.drop(self.frozen(self.relu(self.conv(y)))).mean((2, 3)))


def fragile(dtype=torch.float32):
    net = Fragile().to(dtype).train()
    net.frozen.eval()
    net.stem.requires_grad_(False)
    net.fc.bias.requires_grad_(False)
    net.layer.register_forward_hook(lambda *_: None)
    net.conv.register_forward_pre_hook(lambda *_: None)
    return net


def state(net):
    """Everything that a borrowed module must get back."""
    modules = [
        (name, id(m), m.training, list(m.__dict__), [list(v) for v in hooks(m)])
        for name, m in net.named_modules()
    ]
    tensors = [
        (name, id(t), t.data_ptr(), t._version, t.requires_grad, t.dtype, t.device, t.grad)
        for name, t in [*net.named_parameters(), *net.named_buffers()]
    ]
    return modules, tensors


def hooks(module):
    return [value for key, value in module.__dict__.items() if "hooks" in key]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nothing_of_the_network_changes(dtype):
    net = fragile(dtype)
    values = copy.deepcopy(net.state_dict())
    before = state(net)
    model = classifier(net)
    assert state(net) == before
    steps = [
        model.layers,
        lambda: model.check_layers(None),
        lambda: model.activations(noise(2), ["stem", "layer"]),
        lambda: model.activations_and_logits(noise(2), ["layer"]),
        lambda: model.logits(noise(2)),
        lambda: gradient(model.head("layer"), torch.rand(2, 5, 8, 8)),
        lambda: model.predict([Image.new("RGB", (20, 20))]),
        lambda: model.fingerprint,
    ]
    for step in steps:
        step()
        assert state(net) == before
    assert all(torch.equal(net.state_dict()[key], value) for key, value in values.items())
    assert model.module is net


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_nothing_of_the_network_changes_after_an_error(error):
    net = fragile()
    before = state(net)
    model = classifier(net)
    head = model.head("layer")
    fresh = classifier(net)
    net.error = error
    steps = [
        fresh.layers,
        lambda: model.activations_and_logits(noise(2), ["layer"]),
        lambda: model.logits(noise(2)),
        lambda: head(torch.rand(2, 5, 8, 8)),
        lambda: model.head("stem"),
    ]
    for step in steps:
        with pytest.raises(type(error)):
            step()
        assert state(net) == before
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ModelError):
        classifier(net)
    assert state(net) == before
    model.activations(noise(2), ["layer"])  # stops before the error
    net.error = None
    assert torch.equal(model.logits(noise(2)), net.eval()(noise(2)))


def test_a_network_in_training_mode_is_read_in_evaluation_mode():
    net = fragile()
    model = classifier(net)
    x = noise(2)
    assert torch.equal(model.logits(x), model.logits(x))
    expected = copy.deepcopy(net).eval()(x)
    torch.testing.assert_close(model.logits(x), expected)
    maps = model.activations(x, ["layer"])["layer"]
    torch.testing.assert_close(model.head("layer")(maps), expected)
    assert net.training


class Merging(Net):
    """Its train() does more than set flags."""

    def train(self, mode=True):
        if mode is False:
            self.fc.weight.data.mul_(2)
        return super().train(mode)


def test_the_networks_own_train_method_is_not_called():
    net = Merging().train()
    expected = net(noise(2)).detach()
    assert torch.equal(classifier(net).logits(noise(2)), expected)
    assert torch.equal(net(noise(2)), expected)


def test_gradients_of_the_users_tensors_are_untouched():
    net = fragile()
    model = classifier(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    leaf = torch.rand(2, 5, 8, 8, requires_grad=True)
    model.head("layer")(leaf).sum().backward()
    assert leaf.grad is not None
    assert all((p.grad == 1).all() for p in net.parameters())
    assert not model.logits(noise(2)).requires_grad
    assert not any(m.requires_grad for m in model.activations(noise(2), ["layer"]).values())


def test_a_forward_of_ones_own_on_a_module_is_put_back():
    net = Net()
    own = net.stem.forward
    net.stem.forward = own
    model = check_head(net, "layer", "single")
    assert net.stem.__dict__["forward"] is own
    assert "forward" not in net.layer.__dict__
    model.head("layer")(torch.rand(1, 5, 8, 8))
    assert net.stem.__dict__["forward"] is own


# --- dtypes, devices, kinds of modules --------------------------------------------------------


@pytest.mark.parametrize("kind", [Net, LateBatchSize, InPlace])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions(dtype, kind):
    net = kind().to(dtype)
    model = classifier(net)
    assert model.dtype == dtype
    x = noise(4)
    maps = model.activations(x, ["layer"])["layer"]
    assert maps.dtype == model.logits(x).dtype == torch.float32
    with torch.no_grad():
        expected = net(x.to(dtype))
    assert torch.equal(model.logits(x), expected.float())
    z, G = gradient(model.head("layer"), maps)
    assert z.dtype == G.dtype == torch.float32
    torch.testing.assert_close(z, expected.float())
    exact = gradient(classifier(copy.deepcopy(net).float()).head("layer"), maps)
    tolerance = max(40 * torch.finfo(dtype).eps, 1e-5)
    assert float((G - exact[1]).abs().max()) <= tolerance * float(exact[1].abs().max())


class MixedPrecision(Net):
    def extend(self):
        self.conv.to(torch.bfloat16)

    def rest(self, x, y):
        y = self.conv(self.relu(y).bfloat16()).float()
        return self.fc(y.mean((2, 3)))


def test_a_layer_of_another_precision_than_the_input():
    net = MixedPrecision()
    net.layer.register_forward_hook(lambda _module, _inputs, output: output.bfloat16())
    model = classifier(net)
    maps = model.activations(noise(2), ["layer"])["layer"]
    assert maps.dtype == torch.float32
    assert model.head("layer").like.dtype == torch.bfloat16
    torch.testing.assert_close(model.head("layer")(maps), net(noise(2)))


class Fixed(nn.Module):
    """Sobel filters: a network without a parameter, with a buffer or without."""

    def __init__(self, buffer):
        super().__init__()
        weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        if buffer:
            self.register_buffer("weight", weight.double())
        else:
            self.weight = weight
        self.act = nn.Tanh()

    def forward(self, x):
        return self.act(F.conv2d(x, self.weight)).mean((2, 3)) * 3


def test_a_network_without_parameters():
    net = Fixed(buffer=False)
    model = check_head(net, "act", "single")
    assert model.dtype == torch.float32
    assert names(model) == ["act"]
    assert model.fingerprint == classifier(net).fingerprint
    model = classifier(Fixed(buffer=True))  # its buffer is in double precision
    assert model.dtype == torch.float64
    maps = model.activations(noise(2), ["act"])["act"]
    torch.testing.assert_close(model.head("act")(maps), net(noise(2)))
    assert model.fingerprint != classifier(net).fingerprint


def test_devices():
    net = Net()
    model = classifier(net, device="cpu")
    assert model.module is net
    assert model.device == torch.device("cpu")
    assert classifier(net, device=torch.device("cpu")).module is net
    for wrong in ("nonsense", "xpu", 3.5):
        with pytest.raises(ModelError, match=f"device '{wrong}' cannot be used: .*use 'auto'"):
            classifier(net, device=wrong)
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match=r"device 'cuda' cannot be used: .*use 'auto'"):
            classifier(net, device="cuda")


def test_a_network_that_cannot_be_copied_to_another_device(monkeypatch):
    net = Net()
    monkeypatch.setattr(type(net), "__deepcopy__", lambda *_: 1 / 0, raising=False)
    with pytest.raises(ModelError, match=r"cannot be copied to device 'meta'.*move it there"):
        classifier(net, device="meta")


@GPU
@pytest.mark.parametrize("kind", [Net, LateBatchSize, InPlace, Residual])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_gpu(kind, dtype):
    net = kind().to(dtype)
    here, there = classifier(net), classifier(net, device="cuda")
    assert there.module is not net
    assert next(net.parameters()).device.type == "cpu"
    assert there.device.type == "cuda"
    assert here.fingerprint == there.fingerprint
    x, layer = noise(4), "stem"
    maps = here.activations(x, [layer])[layer]
    tolerance = 5e-3 if dtype == torch.float32 else 40 * torch.finfo(dtype).eps
    assert there.activations(x, [layer])[layer].device.type == "cuda"
    (z, G), (z_there, G_there) = (gradient(m.head(layer), maps) for m in (here, there))
    assert here.head(layer).resume == there.head(layer).resume
    assert float((z - z_there.cpu()).abs().max()) <= tolerance * float(z.abs().max())
    assert float((G - G_there.cpu()).norm()) <= 4 * tolerance * float(G.norm())


@GPU
def test_a_detached_bypass_is_refused_on_a_gpu():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = classifier(Around(lambda y: 0.2 * y.detach()).to("cuda", dtype))
        with pytest.raises(LayerError, match="gives other scores"):
            model.head("layer")


def compiled(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        return torch.compile(net)


def test_wrapped_networks_are_unwrapped():
    net = Net()
    expected = names(classifier(net))
    for wrapped in (nn.DataParallel(net), compiled(net), nn.DataParallel(compiled(net))):
        model = classifier(wrapped)
        assert model.module is net
        assert names(model) == expected
        assert model.fingerprint == classifier(net).fingerprint
        check_head(net, "layer", "single", model=model)


def compiled_in_place():
    net = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.compile()
    return net


def compiled_inside():
    net = Net()
    net.conv = compiled(net.conv)
    return net


def traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(small_net().eval(), noise(1))


def traced_inside():
    return nn.Sequential(nn.Identity(), traced())


def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))


def inference_tensors():
    with torch.inference_mode():
        return small_net()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (compiled_in_place, "it is compiled by torch.compile"),
        (compiled_inside, "part 'conv' is compiled by torch.compile"),
        (traced, "it is compiled by TorchScript"),
        (traced_inside, "part '1' is compiled by TorchScript"),
        (lazy, "not initialised"),
        (lambda: Net().to("meta"), "not initialised"),
        (inference_tensors, "inference_mode"),
    ],
)
def test_networks_that_cannot_be_looked_into_are_refused(make, why):
    with pytest.raises(ModelError, match=why):
        classifier(make())


def test_a_lazy_network_is_not_initialised_by_the_attempt():
    net = lazy()
    with pytest.raises(ModelError):
        classifier(net)
    assert isinstance(net[0], nn.LazyConv2d)
    assert nn.parameter.is_lazy(net[0].weight)


def test_a_quantised_network_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            net = torch.ao.quantization.quantize_dynamic(small_net(), {nn.Linear})
        except (AttributeError, RuntimeError):
            pytest.skip("this torch cannot quantise")
    with pytest.raises(ModelError, match=r"no gradient flows.*quantised"):
        classifier(net).layers()


def test_graph_modules_are_eager():
    net = torch.fx.symbolic_trace(small_net())
    assert names(classifier(net)) == ["0", "1", "2", "3"]
    check_head(net, "1", "single")


def test_what_is_no_module_is_refused():
    for wrong in (None, "resnet", lambda x: x, nn.Conv2d):
        with pytest.raises(ModelError, match=r"expected a torch.nn.Module, got \w+"):
            classifier(wrong)
    with pytest.raises(ModelError, match=r"preprocess must be vtcav.Preprocess"):
        vtcav.Classifier(small_net(), None, 224)


# --- fingerprint ------------------------------------------------------------------------------


def normed():
    net = nn.Sequential(Conv(3, 4), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * SIZE**2, 3))
    return with_weights(net, 0)


def change_in_place(net):
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] += 1e-3


def reorder_in_place(net):
    with torch.no_grad():
        net[0].weight.copy_(net[0].weight.flip(0))


def change_through_data(net):
    net[0].weight.data[0, 0, 0, 0] += 1e-3


def replace_data(net):
    net[0].weight.data = net[0].weight.data.flip(0)


def change_through_numpy(net):
    net[0].weight.detach().numpy()[0, 0, 0, 0] += 1e-3


def change_a_buffer(net):
    net[1].running_mean.add_(1)


def change_a_count(net):
    net[1].num_batches_tracked.add_(1)


def change_the_architecture(net):
    net[1].eps = 1e-2


def replace_a_module(net):
    net[2] = nn.Flatten(1, 3)


def load(net):
    net.load_state_dict({key: value + 1 for key, value in net.state_dict().items()})


def change_the_dtype(net):
    net[3].weight.data = net[3].weight.data.bfloat16()


CHANGES = [
    *(change_in_place, reorder_in_place, change_through_data, replace_data, change_through_numpy),
    *(change_a_buffer, change_a_count, change_the_architecture, replace_a_module, load),
    change_the_dtype,
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_notices_every_change(change):
    net = normed()
    model = classifier(net)
    before = model.fingerprint
    assert model.fingerprint == before
    change(net)
    if change is not replace_a_module:  # an equal one
        assert model.fingerprint != before
    change_back = classifier(normed())
    assert change_back.fingerprint == before


def test_the_fingerprint_is_of_the_content():
    first_made = classifier(normed()).fingerprint
    assert len(first_made) == 64
    assert classifier(copy.deepcopy(normed())).fingerprint == first_made
    assert classifier(normed().to(memory_format=torch.channels_last)).fingerprint == first_made
    assert classifier(normed().eval().requires_grad_(False)).fingerprint == first_made
    assert classifier(normed().double()).fingerprint != first_made
    assert classifier(with_weights(normed(), 1)).fingerprint != first_made


def test_a_later_change_of_the_weights_is_used():
    net = Net()
    model = classifier(net)
    head = model.head("layer")
    maps = torch.rand(2, 5, 8, 8)
    before = head(maps)
    with torch.no_grad():
        net.fc.weight.mul_(2)
        net.stem.weight.zero_()
    assert not torch.allclose(head(maps), before)
    check_head(net, "layer", "single", model=model)


# --- classes ----------------------------------------------------------------------------------


def named(*class_names):
    return vtcav.Classifier(small_net(len(class_names)), class_names, vtcav.Preprocess(SIZE))


@pytest.mark.parametrize(
    ("wanted", "index"),
    [("cat", 0), ("fox", 2), (1, 1), ("1", 1), (np.int64(2), 2), (np.uint8(0), 0)],
)
def test_a_class_by_name_or_index(wanted, index):
    found = named(*CLASSES).class_index(wanted)
    assert found == index
    assert type(found) is int


def test_a_class_by_a_tensor():
    assert named(*CLASSES).class_index(torch.tensor(2)) == 2


NO_CLASSES = [
    *(True, False, np.True_, 1.0, 0.5, None, [1], "-1", "1.0", ""),
    *(np.array([0, 1]), torch.tensor(0.5)),
]


@pytest.mark.parametrize("wanted", NO_CLASSES, ids=str)
def test_what_is_no_class_is_refused(wanted):
    with pytest.raises(ModelError, match=r"unknown class .*3 class names or an index from 0 to 2"):
        named(*CLASSES).class_index(wanted)


@pytest.mark.parametrize("wanted", [3, -1, "3", np.int64(99), 10**30])
def test_an_index_out_of_range_is_refused(wanted):
    with pytest.raises(ModelError, match=f"index {wanted} is out of range.* 3 classes, 0 to 2"):
        named(*CLASSES).class_index(wanted)


def test_an_unknown_class_is_answered_with_the_closest():
    model = named("zebra", "tench, Tinca tinca", "Egyptian cat", "dalmatian")
    for wanted, hint in {
        "zebre": "'zebra'",
        "ZEBRA": "'zebra'",
        "tench": "'tench, Tinca tinca'",
        "Dalmation": "'dalmatian'",
        "cat": "'Egyptian cat'",
    }.items():
        with pytest.raises(ModelError, match=f"did you mean .*{hint}"):
            model.class_index(wanted)
    with pytest.raises(ModelError, match=r"0 to 3$"):
        model.class_index("qqqqqqqq")


def test_a_name_for_several_classes_is_refused():
    model = named("crane", "cat", "crane")
    with pytest.raises(ModelError, match=r"'crane' stands for 2 classes, with indices \[0, 2\]"):
        model.class_index("crane")
    assert model.class_index(2) == 2


def test_digits_are_names_first():
    model = named("2", "1", "0")
    assert [model.class_index(name) for name in "012"] == [2, 1, 0]
    assert [model.class_index(index) for index in range(3)] == [0, 1, 2]


# --- preprocessing ----------------------------------------------------------------------------


def test_without_preprocessing_there_is_a_warning_and_pictures_keep_their_size():
    net = Net()
    with pytest.warns(UserWarning, match="no preprocess given") as caught:
        model = vtcav.Classifier(net)
    assert caught[0].filename == __file__
    arrays = [pictures(1, size=size) for size in ((16, 16), (40, 25))]
    inputs = [torch.from_numpy(array).movedim(-1, 1) / 255 for array in arrays]
    got = model.predict(Image.fromarray(array[0]) for array in arrays)
    torch.testing.assert_close(got, torch.cat([net(x).softmax(1) for x in inputs]))
    check_head(net, "layer", "single", model=model)


def test_any_callable_preprocesses():
    def grey(image):
        return torch.from_numpy(np.asarray(image.convert("L").resize((SIZE, SIZE)))[None] / 255.0)

    net = with_weights(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(784, 3)), 0)
    model = vtcav.Classifier(net, CLASSES, grey)
    assert [layer.shape for layer in model.layers()] == [(4, 14, 14)]
    picture = Image.new("RGB", (30, 50), (10, 200, 30))
    expected = net(grey(picture)[None].float()).softmax(1)
    torch.testing.assert_close(model.predict([picture]), expected)
    assert "Classifier(Sequential, 3 classes, preprocess=" in repr(model)


def test_a_preprocessing_that_does_not_fit_the_network():
    with pytest.raises(ModelError, match=r"cannot compute images of shape \(3, 20, 20\): Runtime"):
        vtcav.Classifier(small_net(), None, vtcav.Preprocess(20))
    with (
        pytest.warns(UserWarning, match="no preprocess"),
        pytest.raises(ModelError, match=r"cannot compute images of shape \(3, 224, 224\) or "),
    ):
        vtcav.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(7, 3)))
