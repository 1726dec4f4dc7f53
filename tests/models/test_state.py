"""The network is left as it was found, also after an error."""

import copy

import pytest
import torch
from PIL import Image
from torch import nn

from tests.helpers.nets import Net, check_head, classifier, gradient, noise, state
from vtcav.errors import ModelError


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
    told = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else (ModelError, type(error))
    for step in steps:
        with pytest.raises(told):
            step()
        assert state(net) == before
    with pytest.raises(told):
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


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_buffers_that_are_sparse(layout):
    class Mixing(Net):
        def extend(self):
            self.register_buffer("mixing", torch.eye(4).to_sparse(layout=layout))

        def rest(self, x, y):
            scores = super().rest(x, y)
            self.mixing.values().mul_(2)  # as a network does that writes in evaluation mode
            return (self.mixing.to_dense() @ scores.T).T

    net = Mixing()
    model = classifier(net)
    before = model.fingerprint
    torch.testing.assert_close(model.logits(noise(2)), 2 * Net()(noise(2)).detach())
    assert net.mixing.to_dense().equal(torch.eye(4))
    with torch.no_grad():
        net.mixing.values().mul_(3)
    assert model.fingerprint != before
