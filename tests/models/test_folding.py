"""Batch norm folded into convolutions: where, where not, and that no number moves by it."""

import copy
import logging
import pickle

import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.nets import noise


def normed(part, seed=0):
    """Give the norms of a module statistics as after training."""
    torch.manual_seed(seed)
    for norm in part.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.2, 3)
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.3)
    return part.eval()


class Net(nn.Module):
    """Two convolutions with norms beside a skip connection, and a layer that every path crosses."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False))
        self.bn1, self.conv2, self.bn2 = nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8)
        self.skip, self.end, self.bn3 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def between(self, x):
        return x

    def forward(self, x):
        y = torch.relu(self.bn1(self.stem(x)))
        y = torch.relu_(self.bn2(self.between(self.conv2(y))))
        y = torch.relu(self.bn3(self.end(y + self.skip(x))))
        return self.fc(y.mean((2, 3)))


class Twice(Net):
    """What the norm reads is read by something else, too."""

    def between(self, x):
        self.seen = x
        return x

    def forward(self, x):
        return super().forward(x) + self.seen.mean((2, 3))[:, :4]


class InPlace(Net):
    """The norm is given the very tensor of the convolution, but not its values."""

    def between(self, x):
        return torch.relu_(x)


class Again(Net):
    """The convolution runs twice."""

    def between(self, x):
        return x + 0 * self.conv2(torch.zeros_like(x)[:, :6]).mean()


class Reads(Net):
    """Its code reads the weights of a convolution, which are others while a norm is folded."""

    def between(self, x):
        self.size = self.stem[0].weight.abs().sum()
        return x

    def forward(self, x):
        return super().forward(x) * self.size


def model(module):
    return vtcav.Classifier(module, None, vtcav.Preprocess(16))


def folds(wrapped):
    words = wrapped.runtime.partition("torch, ")[2].split()
    return int(words[0]) if words else 0


def test_norms_are_folded_and_no_number_moves():
    net = normed(Net())
    wrapped, x = model(net), noise(3, size=16)
    before = copy.deepcopy(net.state_dict())
    maps, z = wrapped.activations_and_logits(x, ["end", "bn3"])
    assert folds(wrapped) == 2
    assert wrapped.runtime == "torch, 2 batch norms folded"
    with torch.no_grad():
        block = torch.relu(net.bn2(net.conv2(torch.relu(net.bn1(net.stem(x)))))) + net.skip(x)
        expected = {"end": net.end(block), "bn3": net.bn3(net.end(block))}
        for layer, F in expected.items():
            torch.testing.assert_close(maps[layer], F, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(z, net(x), rtol=1e-4, atol=1e-5)
    # every pass computes the same, whichever layers are asked for and wherever it ends
    assert torch.equal(wrapped.logits(x), z)
    assert torch.equal(wrapped.activations(x, ["end"])["end"], maps["end"])
    assert torch.equal(wrapped.activations(x, ["bn3"])["bn3"], maps["bn3"])
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert "forward" not in net.bn1.__dict__
    assert 0 < max(wrapped.runtime_differences["torch with batch norm folded"].values()) < 1e-5


def test_a_convolution_whose_maps_may_be_asked_for_keeps_its_norm():
    net = normed(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()))
    net.append(nn.Linear(4 * 14**2, 3))
    wrapped, x = model(net), noise(2, size=16)
    assert torch.equal(wrapped.activations(x, ["0"])["0"], net[0](x))
    assert folds(wrapped) == 0


class Parametrised(Net):
    def __init__(self):
        super().__init__()
        self.conv2 = nn.utils.parametrizations.weight_norm(self.conv2)


class Changed(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).abs()


class Own(Net):
    def __init__(self):
        super().__init__()
        self.bn2 = Changed(8)


@pytest.mark.parametrize("kind", [Twice, InPlace, Again, Parametrised, Own])
def test_a_norm_that_cannot_be_folded_is_left_alone(kind):
    net = normed(kind())
    wrapped, x = model(net), noise(2, size=16)
    # where there is a way around the last convolution, its maps cannot be asked for
    assert folds(wrapped) == (2 if kind is Twice else 1)
    torch.testing.assert_close(wrapped.logits(x), net(x), rtol=1e-4, atol=1e-5)


def test_a_result_that_would_differ_turns_folding_off(caplog):
    net = normed(Reads())
    wrapped, x = model(net), noise(2, size=16)
    with caplog.at_level(logging.WARNING, "vtcav"):
        torch.testing.assert_close(wrapped.logits(x), net(x), rtol=1e-5, atol=1e-5)
    assert "not in torch with batch norm folded: the results differ" in caplog.text
    caplog.clear()
    torch.testing.assert_close(wrapped.logits(x), net(x), rtol=1e-5, atol=1e-5)
    assert wrapped.runtime == "torch"
    assert not caplog.text


def in_place(net):
    net.conv2.weight.mul_(2)


def through_data(net):
    net.stem[0].weight.data.mul_(2)


def statistics(net):
    net.bn2.running_mean.add_(1)


def another(net):
    net.conv2.weight = nn.Parameter(net.conv2.weight.detach() + 1)


def other_modules(net):
    net.bn1 = nn.Sequential(nn.BatchNorm2d(6), nn.Tanh()).eval()


@pytest.mark.parametrize("change", [in_place, through_data, statistics, another, other_modules])
@torch.no_grad()
def test_changes_of_the_network_are_followed(change):
    net = normed(Net())
    wrapped, x = model(net), noise(2, size=16)
    head = wrapped.head("end")
    wrapped.logits(x)
    change(net)
    torch.testing.assert_close(wrapped.logits(x), net(x), rtol=1e-4, atol=1e-5)
    F = wrapped.activations(x, ["end"])["end"]
    torch.testing.assert_close(head(F), net(x), rtol=1e-4, atol=1e-5)


def test_nothing_is_folded_in_half_precision_or_a_borrowed_module():
    half = model(normed(Net()).to(torch.bfloat16))
    assert folds(half) == 0

    class Borrowed(vtcav.Classifier):
        _runs_a_copy = False

    borrowed = Borrowed(normed(Net()), None, vtcav.Preprocess(16))
    assert not borrowed.network.is_private
    assert folds(borrowed) == 0


def test_a_model_that_was_pickled_folds_the_same():
    wrapped, x = model(normed(Net())), noise(2, size=16)
    z = wrapped.logits(x)
    again = pickle.loads(pickle.dumps(wrapped))
    assert torch.equal(again.logits(x), z)
    assert again.runtime == wrapped.runtime
