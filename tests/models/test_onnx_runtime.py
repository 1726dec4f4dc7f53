"""Passes in ONNX Runtime: the same numbers, followed changes, and every way back to PyTorch."""

import logging
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend
from torch.utils.flop_counter import FlopCounterMode

import vtcav
from tests.helpers.nets import noise
from vtcav.errors import ExtraError, ModelError
from vtcav.models.passes import forward, onnx_runtime

needs_runtime = pytest.mark.skipif(
    onnx_runtime.runtime_version() is None, reason="onnxruntime and onnx are not installed"
)
LAYERS = ["1", "2.1"]


@pytest.fixture(autouse=True)
def _worth_it(monkeypatch):
    """Take it for small networks, too."""
    monkeypatch.setattr(forward, "LEAST_WORK", 1.0)


class Scaled(nn.Module):
    """Multiplies by an attribute, which a trace takes for a constant."""

    def __init__(self):
        super().__init__()
        self.factor = 1.0

    def forward(self, x):
        return x * self.factor


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)),
        nn.Sequential(nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.GELU()),
        *(Scaled(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), nn.Softmax(1)),
    ).eval()


def model(module=None, **options):
    return vtcav.Classifier(module or net(), None, vtcav.Preprocess(16), **options)


def way(wrapped):
    """The passes in ONNX Runtime, or None."""
    return next((w for w in wrapped.forward.ways() if w.name == "ONNX Runtime"), None)


def spied(monkeypatch):
    """Return the sizes of the passes that ONNX Runtime made."""
    sizes, run = [], onnx_runtime.OnnxSession.run
    monkeypatch.setattr(
        onnx_runtime.OnnxSession, "run", lambda self, x: sizes.append(len(x)) or run(self, x)
    )
    return sizes


@needs_runtime
def test_maps_and_logits_are_those_of_pytorch(monkeypatch):
    sizes = spied(monkeypatch)
    wrapped, plain, x = model(), model(runtime="torch"), noise(9, size=16)
    maps, z = wrapped.activations_and_logits(x, LAYERS)
    assert sizes == [9]
    expected, wanted = plain.activations_and_logits(x, LAYERS)
    assert sizes == [9]
    assert list(maps) == LAYERS
    for layer in LAYERS:
        torch.testing.assert_close(maps[layer], expected[layer], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(z, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(wrapped.logits(x), wanted, rtol=1e-4, atol=1e-5)
    early = wrapped.activations(x, LAYERS[:1])
    torch.testing.assert_close(early["1"], expected["1"], rtol=1e-4, atol=1e-5)
    assert sizes == [9, 9, 9]
    assert "ONNX Runtime" in wrapped.runtime
    assert "ONNX" not in plain.runtime
    assert max(wrapped.runtime_differences["ONNX Runtime"].values()) < 1e-5


@needs_runtime
def test_an_image_gives_the_same_in_any_batch_and_any_number_of_threads():
    x = noise(9, size=16)
    maps, z = model().activations_and_logits(x, LAYERS)
    again, part = model().activations_and_logits(x[2:7], LAYERS)
    assert torch.equal(z[2:7], part)
    assert all(torch.equal(maps[layer][2:7], again[layer]) for layer in LAYERS)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(model().logits(x), z)
    finally:
        torch.set_num_threads(threads)


@needs_runtime
def test_few_images_pass_in_pytorch(monkeypatch):
    sizes = spied(monkeypatch)
    wrapped, x = model(), noise(5, size=16)
    wrapped.logits(x[: forward.FEWEST - 1])
    assert not sizes
    monkeypatch.setattr(forward, "LEAST_WORK", 1e12)
    assert way(model()) is None


def weights(module):
    module[2][1].weight.data.mul_(2)


def attribute(module):
    module[3].factor = 3.0


def part(module):
    module[2][2] = nn.Tanh()


@needs_runtime
@pytest.mark.parametrize("change", [weights, attribute, part])
def test_changes_of_the_network_are_followed(change, monkeypatch):
    sizes = spied(monkeypatch)
    module, x = net(), noise(4, size=16)
    wrapped = model(module)
    before = wrapped.logits(x)
    change(module)
    after = wrapped.logits(x)
    assert sizes == [4, 4]
    assert not torch.allclose(before, after)
    with torch.no_grad():
        torch.testing.assert_close(after, module[:7](x), rtol=1e-4, atol=1e-5)


@needs_runtime
def test_what_no_comparison_of_modules_finds_is_followed_too(caplog):
    class Configured(nn.Module):
        def __init__(self):
            super().__init__()
            self.configuration = types.SimpleNamespace(factor=1.0)

        def forward(self, x):
            return x * self.configuration.factor

    module = net()
    module[3] = Configured().eval()
    wrapped, x = model(module), noise(5, size=16)
    wrapped.logits(x)
    module[3].configuration.factor = 2.0
    with caplog.at_level(logging.WARNING, "vtcav"):
        z = wrapped.logits(x)
    torch.testing.assert_close(z, model(module, runtime="torch").logits(x))
    assert "not in ONNX Runtime" in caplog.text


class Looks(nn.Module):
    """Goes one way or the other by the values of an image."""

    def forward(self, x):
        return x * 2 if float(x.mean()) > 0 else x


READS = {
    "float": lambda x: x * float(x.mean()),
    "bool": lambda x: x if (x > 0).all() else -x,
    "list": lambda x: x * x.mean().tolist(),
    "array": lambda x: x * float(np.asarray(x).mean()),
    "index": lambda x: x * [1, 2, 3][x.argmax() % 3],
    "equal": lambda x: x if torch.equal(x, -x) else -x,
    "nonzero": lambda x: x * len(torch.nonzero(x > 0)),
    "mask": lambda x: x * x[x > 0].sum(),
}


@pytest.mark.parametrize("name", READS)
def test_a_network_that_reads_values_is_refused(name):
    x = noise(1, size=4)
    with torch.no_grad(), pytest.raises(onnx_runtime.ReadsValuesError):
        onnx_runtime.reads_no_values(lambda: READS[name](x))


def test_multiply_adds():
    x = noise(1, size=4)

    def run():
        y = nn.functional.conv2d(x, torch.ones(2, 3, 1, 1))
        return y[:, :, : y.shape[-1] // 2].flatten(1) @ torch.ones(16, 5)

    assert onnx_runtime.multiply_adds(run) == 4 * 4 * 3 * 2 + 16 * 5
    onnx_runtime.reads_no_values(run)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=4)
        ),
        nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(16, 4, 8, batch_first=True)),
    ],
    ids=["convolutions", "attention"],
)
def test_multiply_adds_are_those_that_pytorch_counts(module):
    x = noise(1, size=4)
    with FlopCounterMode(display=False) as counter, nn.attention.sdpa_kernel(SDPBackend.MATH):
        module.train()(x.requires_grad_())  # attention's fast path counts nothing
    assert onnx_runtime.multiply_adds(lambda: module.eval()(x)) == counter.get_total_flops() // 2


class Exponential(nn.Module):
    """What ONNX has no operator for."""

    def forward(self, x):
        return torch.linalg.matrix_exp(x).sum((2, 3))


def test_an_export_that_fails_prints_nothing(capfd):
    """Without a private name of PyTorch the exporter prints the graph to the process's output."""
    with pytest.raises(torch.onnx.errors.UnsupportedOperatorError):
        onnx_runtime.export(Exponential(), lambda net, x: [net(x)], noise(1, size=4))
    assert capfd.readouterr() == ("", "")


def test_explaining_does_not_import_the_compiler():
    code = (
        "import sys; from tests.helpers.small import pictures, small_explainer\n"
        "small_explainer().explain(pictures(1, seed=3)[0])\n"
        "print({'torch._dynamo', 'sympy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


class Special(nn.Module):
    """Has an operation that ONNX does not."""

    def forward(self, x):
        return torch.special.i1e(x) + x


@needs_runtime
@pytest.mark.parametrize("part", [Looks, Special])
def test_a_network_that_it_cannot_take_passes_in_pytorch(part, monkeypatch, caplog):
    sizes = spied(monkeypatch)
    module, x = net(), noise(4, size=16)
    module[3] = part()
    wrapped = model(module)
    with caplog.at_level(logging.INFO, "vtcav"), torch.no_grad():
        torch.testing.assert_close(wrapped.logits(x), module[:7](x), rtol=1e-4, atol=1e-5)
        wrapped.logits(x)
    assert not sizes
    assert caplog.text.lower().count("not in onnx runtime") == 1


@needs_runtime
def test_other_results_are_not_taken(monkeypatch, caplog):
    run = onnx_runtime.OnnxSession.run
    monkeypatch.setattr(
        onnx_runtime.OnnxSession, "run", lambda self, x: [1.001 * part for part in run(self, x)]
    )
    wrapped, plain, x = model(), model(runtime="torch"), noise(4, size=16)
    with caplog.at_level(logging.WARNING, "vtcav"):
        assert torch.equal(wrapped.logits(x), plain.logits(x))
    assert "differ too much" in caplog.text
    assert way(wrapped) is None
    assert wrapped.runtime == plain.runtime


@needs_runtime
def test_not_in_other_precisions_and_pickled_without_sessions():
    assert way(model(net().double())) is None
    wrapped, x = model(), noise(4, size=16)
    z = wrapped.logits(x)
    assert torch.equal(pickle.loads(pickle.dumps(wrapped)).logits(x), z)


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(onnx_runtime, "find_spec", lambda name: None)
    assert way(model()) is None
    with pytest.raises(ExtraError, match="vtcav\\[fast\\]"):
        model(runtime="onnxruntime")
    with pytest.raises(ModelError, match="runtime"):
        model(runtime="tensorrt")
