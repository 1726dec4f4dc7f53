"""Channels last in memory: where it is taken, where not, and that numbers stay."""

from typing import ClassVar

import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.nets import noise


def net(end=None):
    torch.manual_seed(0)
    convolutions = [
        part
        for i in range(6)
        for part in (nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1), nn.ReLU())
    ]
    tail = end or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*convolutions, tail, nn.Linear(8 if end is None else 2048, 4)).eval()


class View(nn.Module):
    """Cannot take maps with the channels last."""

    def forward(self, x):
        return x.view(len(x), -1)


class Order(nn.Module):
    """Takes both orders and gives other numbers."""

    def forward(self, x):
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        return x.mean((2, 3)).repeat(1, 256) * (2.0 if last else 1.0)


def model(module, dtype=torch.float32):
    return vtcav.Classifier(module.to(dtype), None, vtcav.Preprocess(16))


def seen(module, work):
    """Return how the input of the network's last convolution lies in memory."""
    orders = []
    last = module[10].weight.data_ptr()  # which the copy that vtcav runs shares

    def note(part, inputs):
        if isinstance(part, nn.Conv2d) and part.weight.data_ptr() == last:
            orders.append("usual" if inputs[0].is_contiguous() else "last")

    handle = nn.modules.module.register_module_forward_pre_hook(note)
    work()
    handle.remove()
    return orders


def test_convolutions_get_channels_last():
    module = net()
    wrapped = model(module)
    x = noise(3, size=16)
    assert seen(module, lambda: wrapped.logits(x)) == ["last"]
    torch.testing.assert_close(wrapped.logits(x), module(x))
    maps = wrapped.activations(x, ["1", "9"])
    assert all(F.is_contiguous() for F in maps.values())
    head = wrapped.head("1")
    assert seen(module, lambda: head(maps["1"])) == ["last"]
    # one convolution follows: nothing is gained
    assert not wrapped.head("9").channels_last
    torch.testing.assert_close(wrapped.head("1")(maps["1"]), module(x))


@pytest.mark.parametrize("end", [View, Order])
def test_the_usual_order_where_the_network_needs_it(end):
    module = net(end())
    wrapped = model(module)
    x = noise(3, size=16)
    assert seen(module, lambda: wrapped.logits(x)) == ["usual"]
    F = wrapped.activations(x, ["1"])["1"]
    head = wrapped.head("1")
    assert seen(module, lambda: head(F)) == ["usual"]
    assert torch.equal(head(F), module(x))


def test_not_in_other_precisions_of_the_processor():
    for dtype in (torch.float64, torch.bfloat16):
        wrapped = model(net(), dtype)
        assert not wrapped._channels_last
        assert not wrapped.head("1").channels_last


class Counting(nn.Conv2d):
    """Says how many maps each pass has. A hook would be left out."""

    maps: ClassVar[list[int]] = []

    def forward(self, x):
        self.maps.append(len(x))
        return super().forward(x)


def test_zero_maps_pass_through_the_head_once_per_layer():
    module = net()
    module[4] = Counting(8, 8, 3, padding=1).eval()
    explainer = vtcav.VisualTCAV(model(module), ["1", "3"], 4, batch_size=4, progress=False)
    pictures = torch.randint(0, 255, (12, 16, 16, 3), dtype=torch.uint8).numpy()
    explainer.fit({"a": pictures[:6]}, pictures[6:], null_cavs=0, bootstraps=0)
    for layer in explainer.layers:
        explainer.model.head(layer)  # checked with passes of its own
    Counting.maps.clear()
    explainer.explain_class(0, pictures[:8])
    assert Counting.maps.count(1) == 2
