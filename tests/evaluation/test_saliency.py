"""Saliency maps by hand, against Captum and autograd; shares inside regions."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

import vtcav
from tests.helpers.small import small_model, small_net
from vtcav.errors import ExplanationError, ExtraError
from vtcav.evaluation.peers import saliency
from vtcav.evaluation.peers.saliency import (
    grad_cam,
    gradient_saliency,
    integrated_gradients,
    mass_inside,
    upsample,
)
from vtcav.evaluation.peers.tcav import class_gradients
from vtcav.models.base import Model

X = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 2, 1])


class Linear(nn.Module):
    """Scores that are sums over pixels: class 0 of red, class 1 of minus twice blue."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, -2]])[:, :, None, None])

    def forward(self, x):
        return self.conv(x).sum((2, 3))


def test_gradient_saliency_by_hand():
    maps = gradient_saliency(small_model(Linear(), ["red", "blue"]), X[:2], torch.tensor([0, 1]))
    assert torch.equal(maps, torch.tensor([1.0, 2.0])[:, None, None].expand(2, 16, 16))


def test_gradient_saliency_against_autograd():
    net = small_net()
    x = X.clone().requires_grad_()
    z = net(x)[torch.arange(3), TARGETS].sum()
    expected = torch.autograd.grad(z, x)[0].abs().amax(1)
    assert torch.allclose(gradient_saliency(small_model(net), X, TARGETS), expected, atol=1e-6)


@pytest.mark.parametrize(("baseline", "start"), [("zero", 0.0), ("black", -1.0)])
def test_integrated_gradients_by_hand(baseline, start):
    preprocess = vtcav.Preprocess(16, mean=0.5, std=0.5)  # black is -1 here
    model = small_model(Linear(), ["red", "blue"], preprocess)
    maps = integrated_gradients(
        model, X[:2], torch.tensor([0, 1]), baseline=baseline, steps=5, batch_size=2
    )
    expected = torch.stack([X[0, 0] - start, -2 * (X[1, 2] - start)])
    assert torch.allclose(maps, expected, atol=1e-5)


def test_integrated_gradients_are_complete():
    model = small_model()
    maps = integrated_gradients(model, X, TARGETS, baseline="zero", steps=200, batch_size=64)
    z, z0 = model.logits(X), model.logits(torch.zeros_like(X))
    rise = (z - z0)[torch.arange(3), TARGETS]
    assert torch.allclose(maps.sum((1, 2)), rise, rtol=0.02, atol=0.01)


def test_grad_cam_against_captum():
    attr = pytest.importorskip("captum.attr")
    net = small_net()
    model = small_model(net)
    F = model.activations(X, ["3"])["3"]
    ours = grad_cam(F, class_gradients(model.head("3"), F, TARGETS), (16, 16))
    theirs = attr.LayerGradCam(net, net[3]).attribute(
        X, TARGETS, relu_attributions=True, attr_dim_summation=True
    )
    theirs = attr.LayerAttribution.interpolate(theirs, (16, 16), "bilinear")[:, 0]
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert float(ours.amax()) > 0


def test_a_softmax_at_the_end_is_not_differentiated():
    plain, soft = small_net(), nn.Sequential(small_net(), nn.Softmax(1))
    a = gradient_saliency(small_model(plain), X, TARGETS)
    b = gradient_saliency(small_model(soft), X, TARGETS)
    assert torch.allclose(a, b, atol=1e-6)


def test_a_single_logit():
    model = small_model(small_net(1), ["no", "yes"], binary=True)
    no, yes = (
        integrated_gradients(model, X, torch.full((3,), t), baseline="zero", steps=8)
        for t in (0, 1)
    )
    assert torch.allclose(no, -yes, atol=1e-6)
    assert float(yes.abs().max()) > 0


def test_the_model_is_left_as_it_was_also_after_an_error():
    net = small_net()
    net.train()
    model = small_model(net)
    gradient_saliency(model, X, TARGETS)
    integrated_gradients(model, X, TARGETS, steps=3)
    with pytest.raises(Exception, match=r"size|shape|mat1"):
        gradient_saliency(model, X[:, :, :5], TARGETS)
    assert all(module.training for module in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert not X.requires_grad


def test_mass_inside_by_hand():
    maps = torch.tensor([[[3.0, 1.0], [-9.0, 0.0]], [[-1.0, 0.0], [0.0, 0.0]]])
    regions = torch.zeros(2, 2, 2, 2)
    regions[:, 0, 0, 0] = 1
    regions[:, 1] = 0.5
    found = mass_inside(maps, regions)
    assert found[0].tolist() == pytest.approx([0.75, 0.5])
    assert all(math.isnan(value) for value in found[1].tolist())


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.float32, (2, 4, 4), elements=st.floats(-3, 3, width=16)),
    arrays(np.float32, (2, 1, 4, 4), elements=st.floats(0, 1, width=16)),
)
def test_a_region_and_the_rest_share_the_mass(maps, regions):
    maps, regions = torch.from_numpy(maps), torch.from_numpy(regions)
    inside, outside = mass_inside(maps, regions), mass_inside(maps, 1 - regions)
    some = (maps > 0).any(2).any(1)
    assert torch.allclose((inside + outside)[some], torch.ones(int(some.sum()), 1), atol=1e-4)
    assert inside[~some].isnan().all()


def test_a_map_that_says_nothing_gives_the_area():
    region = torch.zeros(1, 1, 4, 4)
    region[..., :1, :] = 1
    assert float(mass_inside(torch.ones(1, 4, 4), region)) == 0.25


def test_upsampling_keeps_the_range_and_the_constant():
    M = torch.rand(2, 3, 4, 4)
    big = upsample(M, (17, 23))
    assert big.shape == (2, 3, 17, 23)
    assert float(big.min()) >= float(M.min())
    assert float(big.max()) <= float(M.max())
    assert torch.allclose(upsample(torch.full((1, 1, 2, 2), 0.3), (9, 9)), torch.tensor(0.3))


def test_refusals(monkeypatch):
    model = small_model()
    with pytest.raises(ExplanationError, match="baseline to be 'black' or 'zero', got 'grey'"):
        integrated_gradients(model, X, TARGETS, baseline="grey")

    class Foreign(Model):
        def __getattr__(self, name):
            raise AttributeError(name)

        fingerprint = layers = check_layers = activations = None
        activations_and_logits = head = logits = probabilities = None

    with pytest.raises(ExplanationError, match=r"need a vtcav\.Classifier .* got Foreign"):
        gradient_saliency(Foreign(), X, TARGETS)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ExtraError, match=r"pip install 'vtcav\[evaluation\]'"):
        saliency.check_captum()


def test_a_black_picture_of_another_shape_is_refused():
    def halved(picture):
        values = np.asarray(picture, np.float32).transpose(2, 0, 1) / 255
        return torch.from_numpy(values[:, ::2, ::2].copy())

    model = vtcav.Classifier(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                      nn.Linear(4, 3)),
        ["cat", "dog", "fox"], halved,
    )  # fmt: skip
    with pytest.raises(ExplanationError, match="use baseline='zero'"):
        integrated_gradients(model, X, TARGETS, steps=2)
    assert integrated_gradients(model, X, TARGETS, steps=2, baseline="zero").shape == (3, 16, 16)
