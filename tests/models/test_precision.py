"""Other precisions and devices."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.nets import (
    GPU,
    Around,
    InPlace,
    LateBatchSize,
    Net,
    Residual,
    check_head,
    classifier,
    gradient,
    names,
    noise,
)
from vtcav.errors import LayerError, ModelError


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
