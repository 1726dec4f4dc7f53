"""Feature maps: all layers from one pass that stops early."""

import pytest
import torch
from torch import nn

from tests.helpers.nets import SIZE, Conv, Net, classifier, equal, hooked, noise
from tests.helpers.small import small_model, with_weights
from vtcav.errors import LayerError


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
    # channels last: rounding, on some processors
    torch.testing.assert_close(maps, hooked(net, noise(2), ["2", "0"]))
    maps, logits = model.activations_and_logits(noise(2), ["2", "0"])
    torch.testing.assert_close(maps, hooked(net, noise(2), ["2", "0"]))
    torch.testing.assert_close(logits, net(noise(2)).detach())


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
