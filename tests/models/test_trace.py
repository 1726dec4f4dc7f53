"""Which layers all paths cross, and which are bypassed."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.helpers.nets import (
    Around,
    Conv,
    Net,
    Residual,
    check_head,
    classifier,
    decides,
    names,
    noise,
    refused,
)
from tests.helpers.small import with_weights
from vtcav.errors import LayerError, ModelError


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


@pytest.mark.parametrize("cut", ["no_grad", "detach"])
def test_a_network_without_a_gradient_says_so(cut):
    class Cut(Net):
        def maps(self, x):
            with torch.set_grad_enabled(torch.is_grad_enabled() and cut != "no_grad"):
                y = super().maps(x)
            return y.detach() if cut == "detach" else y

    with pytest.raises(ModelError, match="no gradient flows from the network's scores"):
        classifier(Cut()).layers()
