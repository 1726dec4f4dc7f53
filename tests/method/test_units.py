"""Numbers do not depend on the units of a layer or of the logits."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.small import pictures
from vtcav.method.concept_map import contraharmonic_mean

SIZE = 16


class Scaled(nn.Module):
    """A layer in units of its own, and logits in others; ReLUs do not notice."""

    def __init__(self, layer=1.0, logits=1.0):
        super().__init__()
        torch.manual_seed(9)
        self.stem, self.act = nn.Conv2d(3, 8, 3, stride=2), nn.ReLU()
        self.conv, self.fc = nn.Conv2d(8, 12, 3, bias=False), nn.Linear(12, 4)
        self.layer, self.logits = layer, logits

    def forward(self, x):
        x = self.act(self.stem(x) * self.layer)
        x = torch.relu(self.conv(x) / self.layer).mean((2, 3))
        return self.fc(x) * self.logits


def explained(steps, variant, **scales):
    model = vtcav.Classifier(Scaled(**scales).eval(), None, vtcav.Preprocess(SIZE))
    explainer = vtcav.VisualTCAV(model, ["act"], steps, variant=variant, progress=False)
    examples = pictures(10, 1, low=128)
    explainer.fit({"a": examples}, pictures(24, 2, high=140), null_cavs=40, bootstraps=10)
    local = explainer.explain(pictures(1, 3, low=100)[0], classes=[0, 1, 2, 3])
    return local.attributions, local.concept_map("act", "a")


@pytest.mark.parametrize(
    ("steps", "variant", "scale"),
    [
        *itertools.product([8, "adaptive"], ["paper", "filter"], [1e-9, 1e-5, 1e5, 1e9]),
        *((8, "places", scale) for scale in (1e-9, 1e9)),
    ],
)
def test_units_of_the_layer_and_of_the_logits(steps, variant, scale):
    expected, expected_map = explained(steps, variant)
    assert expected["attribution"].max() > 0.01
    for scales in ({"layer": scale}, {"logits": scale}, {"layer": scale, "logits": 1 / scale}):
        found, found_map = explained(steps, variant, **scales)
        np.testing.assert_allclose(found_map, expected_map, atol=1e-4)
        for column in ("attribution", "p_value", "null_mean", "cav_low"):
            np.testing.assert_allclose(found[column], expected[column], atol=1e-3, rtol=1e-3)
        assert list(found["note"]) == list(expected["note"])


@pytest.mark.parametrize("scale", [1e-25, 1e-9, 1.0, 1e9, 1e25])
def test_the_contraharmonic_mean_scales_with_its_map(scale):
    R = torch.rand(3, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = R.square().sum((2, 3)) / R.sum((2, 3))
    torch.testing.assert_close(contraharmonic_mean(R * scale) / scale, expected)
    assert not contraharmonic_mean(torch.zeros(2, 3, 3)).any()
