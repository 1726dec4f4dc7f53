"""What a user's network raises is told as an error of this package, with what it was about."""

import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.small import pictures
from vtcav.errors import ModelError


class Failing(nn.Module):
    """Fails once it is told to, with an exception of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 3)
        self.fails = {"before": False, "after": False}

    def forward(self, x):
        if self.fails["before"]:
            raise ValueError("no such\x1b[31m table\nsecond line")
        x = self.act(self.conv(x))
        if self.fails["after"]:
            raise RuntimeError("sparse tensors are not supported")
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def made():
    net = Failing().eval()
    explainer = vtcav.VisualTCAV(
        vtcav.Classifier(net, None, vtcav.Preprocess(16)), ["act"], 4, progress=False
    )
    explainer.fit({"a": pictures(6, 1)}, pictures(12, 2), null_cavs=0, bootstraps=0)
    return net, explainer


def test_while_learning(made):
    net, explainer = made
    net.fails["before"] = True
    with pytest.raises(ModelError, match=r"fails for examples such as .*: ValueError: no such"):
        explainer.fit({"b": pictures(6, 3)}, pictures(12, 2))


def test_while_explaining(made):
    net, explainer = made
    net.fails["before"] = True
    with pytest.raises(ModelError, match=r"the network fails for 'array\[0\]': ValueError") as told:
        explainer.explain(pictures(1, 5)[0])
    assert "\x1b" not in str(told.value)
    assert isinstance(told.value.__cause__, ValueError)


def test_while_a_gradient_is_taken(made):
    net, explainer = made
    images = explainer.attributor.forward(["a"], torch.rand(1, 3, 16, 16))
    net.fails["after"] = True
    with explainer.model.network.running():  # which takes over the change
        pass
    found = explainer.attributor.results(images, [0])
    with pytest.raises(ModelError, match=r"fails at layer 'act': RuntimeError: sparse tensors"):
        list(found)


def test_a_second_input_is_no_question_of_the_preprocessing():
    class Two(Failing):
        def forward(self, x, mask):
            return super().forward(x)

    with pytest.raises(ModelError, match=r"takes the images alone; wrap it in a module"):
        vtcav.Classifier(Two(), None, vtcav.Preprocess(16))
