"""The error told for a fixed rule, and its notes."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.small import pictures
from vtcav.explainer.layer_result import INCOMPLETE, ROUGH


class Cosine(nn.Module):
    """A head that knows only the direction of its features: all happens close to zero maps."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.f = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
        self.w = nn.Parameter(torch.randn(4, 8))

    def forward(self, x):
        y = nn.functional.normalize(self.f(x).mean((2, 3)))
        return 16 * nn.functional.linear(y, nn.functional.normalize(self.w))


class Plain(Cosine):
    def forward(self, x):
        return nn.functional.linear(self.f(x).mean((2, 3)), self.w)


class Other(Cosine):
    """Another head on the same features."""

    def __init__(self, head):
        super().__init__()
        self.head = head
        self.w = nn.Parameter(torch.randn(8, 8))
        self.mid, self.late = nn.Linear(8, 24), nn.Linear(24, 8)
        with torch.no_grad():
            self.mid.weight *= 4
            self.late.weight *= 4

    def forward(self, x):
        return self.head(self, self.f(x))


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y):
        return y.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -0.5 * gradient


class Rounded(torch.autograd.Function):
    """Straight through: a step with the gradient of a line."""

    @staticmethod
    def forward(ctx, y):
        return (y > 0.3).float()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def mean(F):
    return F.mean((2, 3))


HEADS = {
    "cosine": lambda net, F: 16 * nn.functional.normalize(mean(F)) @ net.w.T,
    "layer norm": lambda net, F: nn.functional.layer_norm(mean(F), (8,)) @ net.w.T,
    "relu": lambda net, F: net.late(net.mid(mean(F)).relu()).relu() @ net.w.T,
    "waves": lambda net, F: (25 * mean(F)).sin() @ net.w.T,
    "reversed": lambda net, F: net.late(net.mid(mean(Reversed.apply(F))).relu()) @ net.w.T,
    "straight through": lambda net, F: mean((Rounded.apply(F) + F).square()) @ net.w.T,
    "dead near zero": lambda net, F: 3 * mean((F - 0.25).relu()) @ net.w.T,
}


def explained(net, *steps):
    """The attributions of one image, with each number of steps."""
    model = vtcav.Classifier(net.eval(), None, vtcav.Preprocess(16))
    explainer = vtcav.VisualTCAV(model, ["f.1"], fill=None)
    examples = {"a": pictures(8, 1, low=128), "b": pictures(8, 4)}
    cavs = explainer.fit(examples, pictures(16, 2, high=140), null_cavs=0).cavs
    image = pictures(1, 3, low=100)[0]
    for n in steps:
        explainer = vtcav.VisualTCAV(model, cavs=cavs, steps=n, fill=None)
        yield explainer.explain(image, classes=list(range(len(net.w)))).attributions


@pytest.mark.parametrize("head", HEADS)
def test_the_error_told_covers_the_error_or_a_note_says_so(head):
    reference, *tables = explained(Other(HEADS[head]), 2000, 1, 2, 3, 8, 50)
    for table in tables:
        a, error = table["attribution"], table["error"]
        off = (a - reference["attribution"]).abs()
        noted = table["note"].str.contains(f"{re.escape(INCOMPLETE)}|{re.escape(ROUGH)}")
        assert (noted | (off <= 1.2 * error + 1e-5)).all(), table
        assert (noted | (a == 0) | (error <= 0.05 * a.clip(0.01))).all(), table


@pytest.mark.parametrize("steps", [10, 50])
def test_an_incomplete_integral_is_told(steps):
    table, exact = explained(Cosine(), steps, "adaptive")
    assert table["note"].str.contains(INCOMPLETE, regex=False).all()
    off = (table["attribution"] - exact["attribution"]).abs()
    assert off.max() > 0.01
    big = table["attribution"] > 0.01
    assert (table["error"][big] > 0.02 * table["attribution"][big]).all()


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_an_exact_one_has_no_error(steps):
    table, exact = explained(Plain(), steps, "adaptive")
    assert (table["note"] == exact["note"]).all()
    assert table["attribution"].max() > 0.01
    np.testing.assert_allclose(table["error"], 0, atol=1e-6)


@pytest.mark.parametrize("head", ["relu", "dead near zero"])
def test_fifty_steps_of_a_piecewise_linear_head_need_no_note(head):
    table, exact = explained(Other(HEADS[head]), 50, "adaptive")
    assert (table["note"] == exact["note"]).all()
