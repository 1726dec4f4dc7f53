"""Networks inside of wrappers, and modules that cannot be looked into."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vtcav
from tests.helpers.nets import Net, check_head, classifier, compiled, gradient, names, noise
from tests.helpers.small import small_net, with_weights
from vtcav.errors import ModelError


def test_wrapped_networks_are_unwrapped():
    net = Net()
    expected = names(classifier(net))
    for wrapped in (nn.DataParallel(net), compiled(net), nn.DataParallel(compiled(net))):
        model = classifier(wrapped)
        assert model.module is net
        assert names(model) == expected
        assert model.fingerprint == classifier(net).fingerprint
        check_head(net, "layer", "single", model=model)


def compiled_in_place():
    net = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.compile()
    return net


def compiled_inside():
    net = Net()
    net.conv = compiled(net.conv)
    return net


@pytest.mark.parametrize("make", [compiled_in_place, compiled_inside])
def test_compiled_parts_run_as_they_were_written(make):
    net, plain = make(), Net()
    model = classifier(net)
    x = noise(2)
    maps, z = model.activations_and_logits(x, ["layer", "conv"])
    expected, expected_z = classifier(plain).activations_and_logits(x, ["layer", "conv"])
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(z, expected_z)
    for layer in ("layer", "conv"):
        got = gradient(model.head(layer), maps[layer])
        torch.testing.assert_close(got, gradient(classifier(plain).head(layer), maps[layer]))
    assert type(net.conv) is (type(plain.conv) if make is compiled_in_place else type(net.conv))


class Trainer(nn.Module):
    """A module as training frameworks make them: the network, a loss, and much else."""

    def __init__(self, net):
        super().__init__()
        self.model, self.loss, self.history = net, nn.CrossEntropyLoss(), []

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch):
        return self.loss(self(batch[0]), batch[1])


@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel])
def test_a_network_inside_of_a_trainer(wrap):
    net = Net()
    model = classifier(Trainer(wrap(net)))
    inside = "model.module." if wrap is nn.DataParallel else "model."
    assert [name for name in names(model) if name.startswith(inside)] == [
        f"{inside}{name}" for name in names(classifier(net))
    ]
    x = noise(2)
    maps, z = model.activations_and_logits(x, [f"{inside}layer"])
    assert torch.equal(z, classifier(net).logits(x))
    expected = gradient(classifier(net).head("layer"), maps[f"{inside}layer"])
    got = gradient(model.head(f"{inside}layer"), maps[f"{inside}layer"])
    torch.testing.assert_close(got, expected)


class LowRank(nn.Module):
    """A convolution with a low-rank addition, as adapters put it in the place of the original."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base_layer = base
        self.down = nn.Conv2d(base.in_channels, rank, 3, base.stride, 1, bias=False)
        self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        self.drop, self.merged = nn.Dropout(0.5), False
        with_weights(self.down, 1)
        with_weights(self.up, 2)

    def forward(self, x):
        return self.base_layer(x) + self.up(self.down(self.drop(x)))


class Adapted(nn.Module):
    def __init__(self, net):
        super().__init__()
        net.layer = LowRank(net.layer)
        self.base_model = nn.Module()
        self.base_model.model = net

    def forward(self, *args, **kwargs):
        return self.base_model.model(*args, **kwargs)


def test_a_network_with_adapters():
    net = Adapted(Net()).train()
    model = classifier(net)
    layer = "base_model.model.layer"
    assert layer in names(model)
    assert f"{layer}.base_layer" not in names(model)  # the low-rank path leads around it
    check_head(net, layer, "single", model=model)
    assert not net.base_model.model.layer.merged


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_inputs_of_any_number_of_channels(channels):
    def planes(image):
        grey = torch.from_numpy(np.asarray(image.convert("L").resize((16, 16))) / 255.0).float()
        return torch.stack([grey**k for k in range(1, channels + 1)])

    convs = [nn.Conv2d(channels, 4, 3), nn.ReLU()]
    net = with_weights(nn.Sequential(*convs, nn.Flatten(), nn.Linear(784, 3)), 0)
    model = vtcav.Classifier(net, None, planes)
    assert [layer.shape for layer in model.layers()] == [(4, 14, 14)] * 2
    x = planes(Image.new("RGB", (30, 50), (10, 200, 30)))[None]
    maps, z = model.activations_and_logits(x, ["1"])
    torch.testing.assert_close(model.head("1")(maps["1"]), z)


def test_a_network_of_another_number_of_channels_says_so():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(784, 3))
    with pytest.raises(ModelError, match=r"its first convolution takes 1 channels.*gives 3"):
        classifier(net)


def test_an_exported_program_is_told_what_to_do():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        program = torch.export.export(small_net(), (noise(1),))
        module = torch.export.unflatten(program)
    with pytest.raises(ModelError, match=r"got ExportedProgram; .*torch.export.unflatten"):
        classifier(program)
    with pytest.raises(ModelError, match=r"cannot compute images .*"):
        classifier(module)  # exported for a batch of one alone


def traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(small_net().eval(), noise(1))


def traced_inside():
    return nn.Sequential(nn.Identity(), traced())


def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))


def inference_tensors():
    with torch.inference_mode():
        return small_net()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (traced, "it is compiled by TorchScript"),
        (traced_inside, "part '1' is compiled by TorchScript"),
        (lazy, "not initialised"),
        (lambda: Net().to("meta"), "not initialised"),
        (inference_tensors, "inference_mode"),
    ],
)
def test_networks_that_cannot_be_looked_into_are_refused(make, why):
    with pytest.raises(ModelError, match=why):
        classifier(make())


def test_a_lazy_network_is_not_initialised_by_the_attempt():
    net = lazy()
    with pytest.raises(ModelError):
        classifier(net)
    assert isinstance(net[0], nn.LazyConv2d)
    assert nn.parameter.is_lazy(net[0].weight)


def test_a_quantised_network_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            net = torch.ao.quantization.quantize_dynamic(small_net(), {nn.Linear})
        except (AttributeError, RuntimeError):
            pytest.skip("this torch cannot quantise")
    with pytest.raises(ModelError, match=r"no gradient flows.*quantised"):
        classifier(net).layers()


def test_graph_modules_are_eager():
    net = torch.fx.symbolic_trace(small_net())
    assert names(classifier(net)) == ["0", "1", "2", "3"]
    check_head(net, "1", "single")


def test_what_is_no_module_is_refused():
    for wrong in (None, "resnet", lambda x: x, nn.Conv2d):
        with pytest.raises(ModelError, match=r"expected a torch.nn.Module, got \w+"):
            classifier(wrong)
    with pytest.raises(ModelError, match=r"preprocess must be vtcav.Preprocess"):
        vtcav.Classifier(small_net(), None, 224)
