"""Which layers are usable and recommended, and why the others are not."""

import numpy as np
import pytest
from torch import nn

import vtcav
from tests.helpers.nets import SIZE, Conv, Residual, classifier, refused
from tests.helpers.small import small_model, with_weights
from vtcav.errors import LayerError


class Shapes(nn.Module):
    """A layer of every awkward kind."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = Conv(3, 7, 2), Conv(7, 7)
        self.last, self.first, self.tokens = ToLast(), ToFirst(), nn.Flatten(2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.twice, self.never, self.aux = nn.ReLU(), Conv(7, 7), Conv(7, 3)
        self.fc = nn.Linear(7, 4)
        with_weights(self, 0)

    def forward(self, x):
        x = self.twice(self.conv(self.twice(self.stem(x))))
        aux = self.aux(x)
        x = self.first(self.last(x))
        x = self.tokens(x).reshape(x.shape)
        return {"logits": self.fc(self.pool(x)[:, :, 0, 0]), "aux": aux.mean((2, 3))}


class ToLast(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class ToFirst(nn.Module):
    def forward(self, x):
        return x.permute(0, 3, 1, 2)


@pytest.mark.parametrize("size", [SIZE, (16, 24), (40, 16)])
def test_why_a_layer_cannot_be_used(size):
    model = classifier(Shapes(), size)
    high, wide = (np.ravel(size) * [1, 1] // 2).tolist()
    assert [(layer.name, layer.shape) for layer in model.layers()] == [
        ("stem", (7, high, wide)),
        ("conv", (7, high, wide)),
        ("last", (7, high, wide)),
        ("first", (7, high, wide)),
    ]
    assert [layer.layout for layer in model.layers()] == ["NCHW", "NCHW", "NHWC", "NCHW"]
    for name, why in {
        "tokens": r"a tensor of shape \(1, 7, .*expected feature maps \[1, C, h, w\]",
        "pool": "maps of 1 x 1",
        "twice": "runs 2 times",
        "aux": "does not reach the scores",
        "fc": r"a tensor of shape \(1, 4\)",
    }.items():
        message = refused(model, name, f"'{name}' cannot be explained: it .*{why}")
        assert "The nearest usable layers: " in message
        assert "'first'" in message or "'conv'" in message
    refused(model, "never", "a module that did not run, 'never'; the closest usable names")


def test_strips_are_not_in_channels_last_order():
    pool, fc = nn.AdaptiveAvgPool2d((None, 1)), nn.Linear(32 * SIZE, 4)
    net = with_weights(nn.Sequential(Conv(3, 32), pool, nn.Flatten(), fc), 0)
    assert [layer.shape for layer in classifier(net).layers()] == [(32, 16, 16), (32, 16, 1)]


def test_a_wrong_name_is_answered_with_the_closest():
    model = classifier(Residual())
    refused(model, "blok2", "no layer 'blok2'; the closest usable names are 'block2', 'block1'")
    refused(model, "zzz", "no layer 'zzz'; the last usable ones are 'stem', 'block1', 'block2'")
    refused(model, "", "no layer ''|did not run, ''")
    with pytest.raises(LayerError, match="layers must be a list of names, got 3"):
        model.check_layers([3])
    with pytest.raises(LayerError, match="layers must be a list of names, got the text 'stem'"):
        model.check_layers("stem")
    with pytest.raises(LayerError, match="layers is empty"):
        model.check_layers([])


def test_a_network_without_usable_layers_says_so():
    net = with_weights(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 4)), 0)
    model = classifier(net)
    assert model.layers() == []
    with pytest.raises(LayerError, match="no usable layer"):
        model.check_layers(None)
    refused(model, "1", r"a tensor of shape \(1, 4\).*nearest usable layers: none")


def test_layers_in_order_with_kind_and_shape():
    found = [(layer.name, layer.kind, layer.shape) for layer in small_model().layers()]
    assert found == [
        ("0", "Conv2d", (4, 8, 8)),
        ("1", "ReLU", (4, 8, 8)),
        ("2", "Conv2d", (6, 4, 4)),
        ("3", "ReLU", (6, 4, 4)),
    ]
    assert [layer.recommended for layer in small_model().layers()] == [False] * 3 + [True]


def recommended(net, size=SIZE):
    return [layer.name for layer in classifier(net, size).check_layers(None)]


def test_the_recommended_layers_are_the_last_of_each_stage():
    def stage(*channels):
        return nn.Sequential(Conv(*channels, 2), nn.ReLU(inplace=True))

    stages = nn.Sequential(stage(3, 4), stage(4, 5), stage(5, 6), stage(6, 6))
    tail = [nn.Dropout(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)]
    net = with_weights(nn.Sequential(stages, *tail), 0)
    assert recommended(net, 64) == ["0.1", "0.2", "0.3"]  # not "0" and not the pooling
    flat = [module for part in stages for module in part]
    net = with_weights(nn.Sequential(*flat, *tail), 0)
    assert recommended(net, 64) == ["3", "5", "7"]  # a ReLU in place is not what it is given
    scores = [nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = with_weights(nn.Sequential(stages, *scores), 0)
    assert recommended(net, 64) == ["0.1", "0.2", "0.3"]  # "1" is the scores already
    net = with_weights(nn.Sequential(nn.Conv2d(3, 4, 1), *scores[1:]), 0)
    assert recommended(net, 64) == ["0"]  # there is nothing else


def test_an_auxiliary_head_makes_the_map_of_the_scores_no_layer_to_recommend():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.segment, self.aux = Conv(3, 8, 4), nn.Conv2d(8, 4, 1), Conv(8, 4)

        def forward(self, x):
            maps = self.body(x)
            return {"out": self.segment(maps).mean((2, 3)), "aux": self.aux(maps)}

    model = vtcav.Classifier(
        with_weights(TwoHeads(), 0), None, vtcav.Preprocess(32), device="cpu",
        score=lambda output: output["out"],
    )  # fmt: skip
    assert [layer.name for layer in model.check_layers(None)] == ["body"]
