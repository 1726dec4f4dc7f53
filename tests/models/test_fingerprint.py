"""The fingerprint is of the content and notices every change."""

import copy

import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.nets import SIZE, Conv, Net, check_head, classifier
from tests.helpers.small import pictures, with_weights
from vtcav.errors import CavError


def normed():
    net = nn.Sequential(Conv(3, 4), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * SIZE**2, 3))
    return with_weights(net, 0)


def change_in_place(net):
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] += 1e-3


def reorder_in_place(net):
    with torch.no_grad():
        net[0].weight.copy_(net[0].weight.flip(0))


def change_through_data(net):
    net[0].weight.data[0, 0, 0, 0] += 1e-3


def replace_data(net):
    net[0].weight.data = net[0].weight.data.flip(0)


def change_through_numpy(net):
    net[0].weight.detach().numpy()[0, 0, 0, 0] += 1e-3


def change_a_buffer(net):
    net[1].running_mean.add_(1)


def change_a_count(net):
    net[1].num_batches_tracked.add_(1)


def change_the_architecture(net):
    net[1].eps = 1e-2


def replace_a_module(net):
    net[2] = nn.Flatten(1, 3)


def load(net):
    net.load_state_dict({key: value + 1 for key, value in net.state_dict().items()})


def change_the_dtype(net):
    net[3].weight.data = net[3].weight.data.bfloat16()


CHANGES = [
    *(change_in_place, reorder_in_place, change_through_data, replace_data, change_through_numpy),
    *(change_a_buffer, change_a_count, change_the_architecture, replace_a_module, load),
    change_the_dtype,
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_notices_every_change(change):
    net = normed()
    model = classifier(net)
    before = model.fingerprint
    assert model.fingerprint == before
    change(net)
    if change is not replace_a_module:  # an equal one
        assert model.fingerprint != before
    change_back = classifier(normed())
    assert change_back.fingerprint == before


def test_the_fingerprint_is_of_the_content():
    first_made = classifier(normed()).fingerprint
    assert len(first_made) == 64
    assert classifier(copy.deepcopy(normed())).fingerprint == first_made
    assert classifier(normed().to(memory_format=torch.channels_last)).fingerprint == first_made
    assert classifier(normed().eval().requires_grad_(False)).fingerprint == first_made
    assert classifier(normed().double()).fingerprint != first_made
    assert classifier(with_weights(normed(), 1)).fingerprint != first_made


def test_a_later_change_of_the_weights_is_used():
    net = Net()
    model = classifier(net)
    head = model.head("layer")
    maps = torch.rand(2, 5, 8, 8)
    before = head(maps)
    with torch.no_grad():
        net.fc.weight.mul_(2)
        net.stem.weight.zero_()
    assert not torch.allclose(head(maps), before)
    check_head(net, "layer", "single", model=model)


# ---------------------------------------------------------------- what weights do not tell


class Sloped(nn.Module):
    """Computes otherwise with the same weights and the same repr."""

    def __init__(self, slope=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.slope = slope
        self.conv, self.last, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(8, 3)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.conv(x), self.slope)
        return self.fc(torch.relu(self.last(x)).mean((2, 3)))


def test_cavs_of_other_code_with_the_same_weights_are_refused(tmp_path):
    models = [vtcav.Classifier(Sloped(s).eval(), None, vtcav.Preprocess(16)) for s in (0.0, 0.3)]
    assert models[0].fingerprint == models[1].fingerprint
    explainer = vtcav.VisualTCAV(models[0], ["last"], 4, progress=False)
    explainer.fit({"a": pictures(6, 1, low=100)}, pictures(12, 2), null_cavs=0, bootstraps=0)
    explainer.cavs.save(tmp_path / "cavs.safetensors")
    bank = vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    assert bank.behaviour == explainer.cavs.behaviour
    again = vtcav.Classifier(Sloped().eval(), None, vtcav.Preprocess(16))
    vtcav.VisualTCAV(again, cavs=bank)
    with pytest.raises(CavError, match="with these weights that computes otherwise"):
        vtcav.VisualTCAV(models[1], cavs=bank)


def test_addresses_in_a_repr_do_not_count():
    class Called(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def extra_repr(self):
            return str(self.function)

        def forward(self, x):
            return self.function(x)

    def net():
        torch.manual_seed(0)
        end = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        return nn.Sequential(nn.Conv2d(3, 4, 3), Called(lambda x: x.relu()), end).eval()

    first, second = net(), net()
    assert repr(first) != repr(second)
    assert classifier(first).fingerprint == classifier(second).fingerprint
