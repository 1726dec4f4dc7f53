"""torch.compile by request: the same numbers, and code that cannot be compiled is told."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.nets import GPU
from tests.helpers.small import (
    CLASSES,
    concepts,
    negatives,
    pictures,
    small_explainer,
    with_weights,
)
from tests.helpers.tokens import Transformer
from vtcav.errors import ExplanationError
from vtcav.models.heads.compiled import filled

COMPILER = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler"
)
# of torch.compile itself: its caches, its own use of what is deprecated
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*dynamo_pgo")


@pytest.fixture
def traced(monkeypatch):
    """What torch.compile is given runs as it is: the graphs, without minutes of Inductor."""
    graphs = []

    def keep(graph, **_):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", keep)
    return graphs


def net(between=None):
    layers = [
        *(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(4, 6, 3, 1, 1), nn.SiLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 6, 3, 1, 1), between or nn.ReLU(inplace=True)),
        *(nn.Flatten(), nn.Linear(96, 8), nn.Hardtanh(-2, 2), nn.Linear(8, 3)),
    ]
    return with_weights(nn.Sequential(*layers), 4)


def both(network=None, layers=("1", "3"), preprocess=None, device="auto", **options):
    """Return an explainer as it is, and one that compiles."""
    preprocess = preprocess or vtcav.Preprocess(16)
    model = vtcav.Classifier(network or net(), CLASSES, preprocess, device=device)
    plain = vtcav.VisualTCAV(model, layers, progress=False, **options)
    plain.fit(concepts(), negatives(), null_cavs=0, bootstraps=0)
    options["compile"] = options.get("compile", "default")
    return plain, vtcav.VisualTCAV(model, layers, cavs=plain.cavs, progress=False, **options)


def close(one, other):
    a, b = one.attributions, other.attributions
    assert a["attribution"].max() > 0.01
    np.testing.assert_allclose(a["attribution"], b["attribution"], rtol=1e-4, atol=1e-6)
    assert a["evaluations"].tolist() == b["evaluations"].tolist()


@COMPILER
def test_what_is_compiled_gives_the_same():
    plain, compiled = both()
    local = compiled.explain(pictures(1, seed=1), [1, 2])
    close(local, plain.explain(pictures(1, seed=1), [1, 2]))
    settings = local.provenance.settings
    assert settings["compile"] == "default"
    assert list(settings["compile_error"]) == ["1", "3"]
    assert max(settings["compile_error"].values()) < 1e-3
    assert "compile" not in plain.explain(pictures(1, seed=1)).provenance.settings


@pytest.mark.parametrize("steps", ["adaptive", 6])
@pytest.mark.parametrize("batch_size", [None, 1, 5])
@pytest.mark.parametrize("precision", [None, "bf16"])
def test_batches_that_are_filled_up(traced, steps, batch_size, precision):
    tolerance = 0.01 if precision is None else 0.5
    plain, compiled = both(
        steps=steps, batch_size=batch_size, precision=precision, tolerance=tolerance
    )
    close(
        compiled.explain_class("fox", pictures(5, seed=1)),
        plain.explain_class("fox", pictures(5, seed=1)),
    )
    assert 2 <= len(traced) <= 8  # per layer as many as there are sizes


def test_intervals_that_are_halved(traced):
    plain, compiled = both(tolerance=1e-4)
    found = plain.explain_class("fox", pictures(3, seed=1))
    assert found.attributions["evaluations"].max() > 32
    close(compiled.explain_class("fox", pictures(3, seed=1)), found)


def test_a_graph_serves_all_images_of_its_size(traced):
    _, compiled = both(steps=6)
    compiled.explain(pictures(1, seed=1), [2])
    count = len(traced)
    compiled.explain(pictures(1, seed=2), [1])
    assert len(traced) == count
    compiled.fit(concepts(), negatives(), null_cavs=0, bootstraps=0)
    compiled.explain(pictures(1, seed=2), [1])  # the network may be another: anew
    assert len(traced) == 2 * count


class Decides(nn.Module):
    def forward(self, x):
        return x * 2 if x.mean() > 0.1 else x.relu()


class Freezes(nn.Module):
    """Takes a number out of its input, which a graph would keep for ever."""

    def forward(self, x):
        return torch.relu(x) / float(x.detach().abs().numpy().max() + 1)


@pytest.mark.parametrize("steps", ["adaptive", 6])
@pytest.mark.parametrize("part", [Decides(), Freezes()])
def test_code_that_no_graph_holds_is_computed_as_it_is(traced, part, steps):
    plain, compiled = both(net(part), ["1"], steps=steps)
    found = plain.explain(pictures(1, seed=1), [2])
    with pytest.warns(UserWarning, match="layer '1' is computed without torch.compile, which fail"):
        close(compiled.explain(pictures(1, seed=1), [2]), found)
    assert not traced
    close(compiled.explain(pictures(1, seed=1), [2]), found)  # told once


def test_a_compiler_that_fails(monkeypatch):
    def fails(graph, **_):
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", fails)
    plain, compiled = both(layers=["1"], steps=6)
    with pytest.warns(UserWarning, match=r"fails for it \(RuntimeError: no C\+\+ compiler\)$"):
        close(compiled.explain(pictures(1, seed=1), [2]), plain.explain(pictures(1, seed=1), [2]))
    rows = []
    handle = compiled.model.module[-1].register_forward_hook(lambda *of: rows.append(len(of[-1])))
    compiled.explain(pictures(1, seed=2), [2])
    handle.remove()
    assert max(rows) == 7  # nothing is filled up in vain


def test_too_little_memory_is_no_failure_to_compile(traced, monkeypatch, caplog):
    plain, compiled = both(layers=["1"], steps=15)
    keep = torch.compile

    def greedy(graph, **options):
        def run(maps, *others):
            if len(maps) > 8:
                raise torch.OutOfMemoryError("out of memory")
            return graph(maps, *others)

        keep(graph, **options)
        return run

    monkeypatch.setattr(torch, "compile", greedy)
    close(compiled.explain(pictures(1, seed=1), [2]), plain.explain(pictures(1, seed=1), [2]))
    assert "going on with 8" in caplog.text


def test_the_module_is_left_as_it_was(traced):
    network = net().train()
    _, compiled = both(network)
    before = {name: id(p) for name, p in network.named_parameters()}
    compiled.explain(pictures(1, seed=1))
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert {name: id(p) for name, p in network.named_parameters()} == before


def test_class_tokens_go_along(traced):
    """The head of a transformer is bound to its images: their tokens are part of what goes in."""
    network = Transformer(seed=1)
    plain, compiled = both(network, None, steps=6, batch_size=10)
    found = plain.explain_class("fox", pictures(5, seed=1))
    close(compiled.explain_class("fox", pictures(5, seed=1)), found)
    assert traced


def test_wrong_modes():
    with pytest.raises(ExplanationError, match=r"compile to be None, 'default', .*, got True"):
        small_explainer(compile=True)


def test_filled():
    assert filled(0, 32) == 4
    assert [filled(n, 1) for n in (1, 2, 3)] == [1, 2, 4]
    for full in (1, 7, 32, 256):
        for n in range(1, 3 * full):
            assert n <= filled(n, full) < max(8 * n, full + 1)


@GPU
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("steps", ["adaptive", 50])
def test_on_a_gpu(mode, steps):
    plain, compiled = both(steps=steps, device="cuda", compile=mode)
    for seed in (1, 2):
        one = compiled.explain_class("fox", pictures(20, seed=seed)).attributions["attribution"]
        other = plain.explain_class("fox", pictures(20, seed=seed)).attributions["attribution"]
        assert float((one - other).abs().max()) < 1e-3
