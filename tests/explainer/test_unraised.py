"""Images and classes that raise no logit above zero maps: nothing is integrated, and 0 is told."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from vtcav.explainer.layer_result import NOT_RAISED


class Counting(nn.Conv2d):
    """Says how many maps each pass with gradients has."""

    maps: ClassVar[list[int]] = []

    def forward(self, x):
        if torch.is_grad_enabled():
            self.maps.append(len(x))
        return super().forward(x)


@pytest.fixture(scope="module")
def parts():
    """A network whose first and last class rise above zero maps, and whose second never does."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU(), Counting(4, 6, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
    ).eval()
    with torch.no_grad():
        net[0].weight.abs_()
        net[2].weight.abs_()
        net[6].weight.copy_(torch.stack([torch.ones(6), -torch.ones(6), torch.arange(6.0) / 6]))
    pictures = np.random.default_rng(0).integers(0, 255, (18, 16, 16, 3), dtype=np.uint8)
    model = vtcav.Classifier(net, ["up", "down", "half"], vtcav.Preprocess(16))
    first = vtcav.VisualTCAV(model, ["1"], progress=False, fill=None)
    first.fit({"bright": 255 - pictures[:8] // 3}, pictures[8:16], null_cavs=20, bootstraps=0)
    return model, first.cavs, pictures[16:]


def explainer(parts, steps):
    model, cavs, _ = parts
    made = vtcav.VisualTCAV(model, steps=steps, cavs=cavs, progress=False, fill=None)
    model.head("1")
    return made


@pytest.mark.parametrize("steps", [8, "adaptive"])
def test_other_classes_are_what_they_are_alone(parts, steps):
    picture, own = parts[2][0], explainer(parts, steps)
    table = own.explain(picture, classes=["up", "down", "half"]).attributions
    table = table.set_index("class_name")
    alone = own.explain(picture, classes=["up", "half"]).attributions.set_index("class_name")
    assert (table.loc[["up", "half"], "attribution"] > 0).all()
    columns = ["attribution", "p_value", "error", "evaluations", "note"]
    for column in columns:
        assert table.loc[["up", "half"], column].tolist() == alone[column].tolist(), column
    down = table.loc["down"]
    assert (down["attribution"], down["error"]) == (0, 0)
    assert down["note"].startswith(NOT_RAISED)


@pytest.mark.parametrize("steps", [8, "adaptive"])
def test_nothing_is_integrated_where_nothing_rises(parts, steps):
    own = explainer(parts, steps)
    own.explain_class("up", list(parts[2]))
    Counting.maps.clear()
    found = own.explain_class("down", list(parts[2]))
    assert not Counting.maps
    table = found.attributions
    assert (table[["attribution", "error", "evaluations"]] == 0).all(axis=None)
    assert table["note"].str.startswith(NOT_RAISED).all()
    assert own.explain_class("up", list(parts[2])).attributions["evaluations"].min() > 0
    assert Counting.maps
