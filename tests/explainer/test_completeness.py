"""What a fixed rule misses of z(F) - z(0) is part of the error, and told."""

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.small import pictures
from vtcav.explainer.layer_result import INCOMPLETE


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


def explained(net, steps):
    model = vtcav.Classifier(net.eval(), None, vtcav.Preprocess(16))
    explainer = vtcav.VisualTCAV(model, ["f.1"], steps, progress=False)
    explainer.fit({"a": pictures(8, 1, low=128)}, pictures(16, 2, high=140), null_cavs=0)
    return explainer.explain(pictures(1, 3, low=100)[0], classes=[0, 1, 2, 3]).attributions


@pytest.mark.parametrize("steps", [10, 50])
def test_an_incomplete_integral_is_told(steps):
    table = explained(Cosine(), steps)
    assert table["note"].str.contains(INCOMPLETE, regex=False).all()
    exact = explained(Cosine(), "adaptive")
    off = (table["attribution"] - exact["attribution"]).abs()
    assert off.max() > 0.01
    big = table["attribution"] > 0.01
    assert (table["error"][big] > 0.02 * table["attribution"][big]).all()


@pytest.mark.parametrize("steps", [1, 10])
def test_a_complete_one_has_no_error(steps):
    table = explained(Plain(), steps)
    assert not table["note"].str.contains(INCOMPLETE, regex=False).any()
    assert table["attribution"].max() > 0.01
    np.testing.assert_allclose(table["error"], 0, atol=1e-6)
