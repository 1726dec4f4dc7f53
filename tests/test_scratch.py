"""Tensors set aside: in a file, or in a device's own memory."""

import pytest
import torch

from vtcav.scratch import Scratch

CPU = torch.device("cpu")


def test_tensors_come_back_in_any_order():
    given = [{"a": torch.rand(3, 4), "b": torch.arange(i + 1)} for i in range(3)]
    with Scratch(10_000) as scratch:
        places = [scratch.add(tensors) for tensors in given]
        for tensors, place in reversed(list(zip(given, places, strict=True))):
            found = scratch.read(place, CPU)
            assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_what_does_not_fit_ends_it():
    with Scratch(100) as scratch:
        assert scratch.add({"a": torch.zeros(20)}) is not None
        assert scratch.add({"a": torch.zeros(20)}) is None
        assert scratch.add({"a": torch.zeros(1)}) is None  # no gaps


@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_a_device_keeps_its_own_as_far_as_there_is_room(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    with Scratch(1000, beside=100) as scratch:
        first = {"a": torch.ones(20, device=device)}
        kept = scratch.read(scratch.add(first), torch.device(device))
        assert kept["a"].device.type == device
        assert kept["a"].data_ptr() == first["a"].data_ptr()
        if device == "cuda":  # no more room there: into the file, and back
            again = scratch.read(scratch.add(first), torch.device(device))
            assert again["a"].data_ptr() != first["a"].data_ptr()
            assert torch.equal(again["a"], first["a"])


def test_the_processor_uses_the_file():
    with Scratch(1000, beside=1000) as scratch:
        given = torch.ones(20)
        assert scratch.read(scratch.add({"a": given}), CPU)["a"].data_ptr() != given.data_ptr()
