"""Networks that cut a picture into a bag of tiles, and pool what they say of these."""

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.small import pictures, with_weights
from vtcav import LayerError
from vtcav.models.inspection.layout import Layout

CLASSES = ["a", "b", "c"]


class Whole(nn.Module):
    """Twelve positions [4 x 6] of a picture of 16 x 24, pooled by tiles of 2 x 2, and summed."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x):
        tiles = nn.functional.avg_pool2d(self.body(x), 2).flatten(2).transpose(1, 2)
        return self.head(tiles).sum(1)


class Bag(Whole):
    """The same with tiles of 8 x 8 pixels in a batch of their own."""

    def forward(self, x):
        tiles = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        return self.head(self.body(tiles).mean((2, 3))).view(len(x), -1, 3).sum(1)


def test_a_bag_of_tiles_is_explained_as_the_whole_picture():
    preprocess = vtcav.Preprocess((16, 24), resize="stretch")
    concept, negatives = pictures(8, 1, low=150), pictures(9, 2)
    tables = []
    for net, layouts in ((Whole(), None), (Bag(), {"body*": "tiles(2x3)"})):
        model = vtcav.Classifier(
            with_weights(net, 3).eval(), CLASSES, preprocess, device="cpu", layouts=layouts
        )
        assert {layer.name: layer.shape for layer in model.layers()}["body.1"] == (5, 4, 6)
        explainer = vtcav.VisualTCAV(model, ["body.1"], steps=30)
        explainer.fit({"bright": concept}, negatives, null_cavs=0, min_examples=2)
        tables.append(explainer.explain(concept[0], classes=CLASSES))
    one, other = tables
    assert one.attributions["attribution"].max() > 0.05
    for column in ("attribution", "presence"):
        np.testing.assert_allclose(
            one.attributions[column], other.attributions[column], rtol=1e-4, atol=1e-6
        )
    map_, same = (table.concept_map("body.1", "bright") for table in tables)
    np.testing.assert_allclose(map_, same, atol=1e-5)
    np.testing.assert_allclose(one.effects["drop"], other.effects["drop"], rtol=1e-3, atol=1e-5)


def test_tiles_are_put_together_and_cut_again():
    F = torch.arange(2 * 1 * 4 * 6.0).reshape(2, 1, 4, 6)
    layout = Layout.parse("tiles(2x3)")
    tiles = layout.from_maps(F, F)
    assert tiles.shape == (12, 1, 2, 2)
    assert tiles[1, 0].tolist() == F[0, 0, :2, 2:4].tolist()
    assert layout.to_maps(tiles, (16, 24)).equal(F)
    assert str(layout) == "tiles(2x3)"
    assert "needs a shape [6 N, C, h, w]" in layout.fault((4, 1, 2, 2))


def test_tiles_that_are_not_named_are_refused_with_the_advice():
    preprocess = vtcav.Preprocess((16, 24), resize="stretch")
    model = vtcav.Classifier(Bag().eval(), CLASSES, preprocess, device="cpu")
    with pytest.raises(LayerError, match=r"shape \(6, 5, 2, 2\) for one .*tiles\(2x3\)"):
        model.activations(torch.zeros(2, 3, 16, 24), ["body.1"])
    with pytest.raises(LayerError, match=r"tiles\(2x2\)"):
        vtcav.Classifier(
            Bag().eval(), CLASSES, preprocess, device="cpu", layouts={"body.1": "tiles(2x2)"}
        )
