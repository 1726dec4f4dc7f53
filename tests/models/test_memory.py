"""Batches that fit: found from memory, lowered when it runs out; results do not hang on them."""

import logging
import re
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import vtcav
from tests.helpers.small import CLASSES, concepts, negatives, pictures, small_net
from vtcav.errors import ModelError
from vtcav.method.integral.trapezoid import integrate, trapezoid
from vtcav.models import memory as budget
from vtcav.models.memory import (
    BatchSize,
    Budget,
    bytes_per_map,
    free_memory,
    is_out_of_memory,
)


class Small(nn.Module):
    """Has memory for a few rows only; counts its calls."""

    def __init__(self, most):
        super().__init__()
        # shared with the copy that vtcav runs
        self.log = SimpleNamespace(most=most, seen=[], failed=0)
        self.act, self.conv = nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1)
        self.layer, self.fc = nn.Tanh(), nn.Linear(6, 3)
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x):
        y = self.conv(self.act(self.stem(x)))
        self.check(y)
        y = self.layer(y)
        self.check(y)
        return self.fc((y * y).mean((2, 3)))

    def check(self, y):
        self.log.seen.append(len(y))
        if len(y) > self.log.most:
            self.log.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")


def explainer(most, **settings):
    torch.manual_seed(0)
    net = Small(10**6).eval()
    model = vtcav.Classifier(net, CLASSES, vtcav.Preprocess(16))
    for layer in ("act", "layer"):
        model.head(layer)
    net.log.most = most
    return vtcav.VisualTCAV(model, ["act", "layer"], progress=False, **settings), net


def rows(most, **settings):
    found, net = explainer(most, **settings)
    found.fit(concepts(), negatives(), null_cavs=20, bootstraps=20)
    table = found.explain_class("cat", pictures(9, seed=3)).attributions
    return table.set_index(["image", "layer", "concept"])["attribution"], net


@pytest.mark.parametrize("steps", ["adaptive", 7])
def test_less_memory_gives_the_same_numbers(steps, caplog):
    plenty, net = rows(10**6, steps=steps)
    assert not net.log.failed
    with caplog.at_level(logging.WARNING, "vtcav"):
        little, net = rows(3, steps=steps)
    assert net.log.failed
    np.testing.assert_allclose(little, plenty, atol=1e-5)
    messages = [record.getMessage() for record in caplog.records]
    for lowered in (
        r"\d images per pass; continuing with 2",
        r"of layer 'layer' .*; continuing with 2",
    ):
        assert any(re.search(lowered, message) for message in messages), messages
    # every size fails once, then the smaller one is kept
    assert len(messages) == len(set(messages))


def test_a_given_size_is_respected_and_lowered():
    _, net = rows(10**6, steps=7, batch_size=5)
    assert max(net.log.seen) == 5
    _, net = rows(2, steps=7, batch_size=5)
    assert net.log.failed <= 4  # images, and each layer's maps once; 5 -> 2


def test_not_even_one():
    found, _ = explainer(0, steps=7)
    with pytest.raises(ModelError, match=r"not enough memory for one of the images \(CUDA out of"):
        found.fit(concepts(), negatives())


def test_other_errors_are_not_taken_for_it():
    def work(rows):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(BatchSize(4).run(4, work))
    for error in (MemoryError(), torch.OutOfMemoryError("x"), RuntimeError("std::bad_alloc")):
        assert is_out_of_memory(error)
    assert not is_out_of_memory(ValueError("out of memory"))


def test_the_memory_of_the_processor_runs_out():
    """For real: the address space of a process is limited."""
    code = """
        import resource, torch
        from vtcav.models.memory import BatchSize
        torch.set_num_threads(1)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limit = used + (300 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        size = BatchSize(16)
        work = lambda rows: torch.ones(rows.stop - rows.start, 10 << 20).sum().item()
        print(sum(size.run(20, work)) / (10 << 20), size.size)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    total, size = done.stdout.split()
    assert float(total) == 20
    assert int(size) in (2, 4)
    assert "memory ran out with 16 feature maps per pass; continuing with 8" in done.stderr


def test_sizes_hang_on_the_memory_at_hand(monkeypatch):
    head = vtcav.Classifier(small_net(), CLASSES, vtcav.Preprocess(16)).head("1")
    F = torch.rand(
        2, *vtcav.Classifier(small_net(), CLASSES, vtcav.Preprocess(16)).layers()[0].shape
    )
    each = bytes_per_map(head, F)
    assert bytes_per_map(head, F, 10) == each + 9 * 4 * F[0].numel()
    assert Budget(None).of(head, F, 1).size == 32
    assert Budget(7).of(head, F, 1).size == 7
    monkeypatch.setattr(budget, "free_memory", lambda device: 12 * each)
    assert Budget(None).of(head, F, 1).size == 4  # 0.4 of the memory
    monkeypatch.setattr(budget, "free_memory", lambda device: 0)
    assert Budget(None).of(head, F, 1).size == 1


def test_what_a_map_takes_is_about_what_autograd_keeps():
    """Two tanh keep their outputs, the convolution its input."""

    class Head:
        layer, per_image = "x", False

        def __call__(self, F):
            return F.tanh().tanh().sum((2, 3))

    F = torch.rand(3, 5, 8, 8)
    assert bytes_per_map(Head(), F) == (2 * 2 + 3) * 4 * 5 * 64


def test_free_memory(tmp_path):
    assert 0 < free_memory(torch.device("cpu")) < 1 << 50
    assert budget._container(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    assert budget._container(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    assert budget._container(tmp_path) == 450


class Backward(TorchDispatchMode):
    """Notes which gradients convolutions compute: of the input, the weight, the bias."""

    def __init__(self):
        super().__init__()
        self.masks = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "convolution_backward" in str(func):
            self.masks.append(tuple(args[-1]))
        return func(*args, **(kwargs or {}))


def test_no_gradient_of_a_weight_is_computed():
    net = small_net().train()
    assert all(p.requires_grad for p in net.parameters())
    model = vtcav.Classifier(net, CLASSES, vtcav.Preprocess(16))
    F = torch.rand(2, *model.layers()[0].shape)
    classes = torch.zeros(2, 1, dtype=torch.int64)
    alpha, weight = trapezoid(3)
    head = model.head("1")
    with Backward() as noted:
        integrate(head, F, classes, alpha, weight, batch_size=4)
    assert noted.masks
    assert set(noted.masks) == {(True, False, False)}
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert net.training


def test_the_sum_over_points_whatever_the_batches():
    """Batches that end inside an image, at its end, and hold several."""
    model = vtcav.Classifier(small_net(), CLASSES, vtcav.Preprocess(16))
    head = model.head("1")
    F = torch.rand(3, *model.layers()[0].shape)
    classes = torch.tensor([[0, 1], [1, 2], [2, 0]])
    alpha, weight = trapezoid(4)
    expected = torch.zeros(3, 2, *F.shape[1:])
    for n in range(3):
        for a, w in zip(alpha, weight, strict=True):
            x = (a * F[n : n + 1]).requires_grad_()
            z = head(x)[0]
            for t in range(2):
                (G,) = torch.autograd.grad(z[classes[n, t]], x, retain_graph=True)
                expected[n, t] += w * G[0]
    for size in (1, 2, 4, 5, 7, 10, 99):
        IG = integrate(head, F, classes, alpha, weight, batch_size=size).IG
        torch.testing.assert_close(IG, expected)
