"""Tensors set aside: in memory, then in a file."""

import threading

import pytest
import torch

from tests.helpers.nets import GPU
from vtcav.files.spill import Scratch

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


def test_room_of_a_section_is_used_again():
    given = [{"a": torch.full((20,), float(i))} for i in range(9)]
    with Scratch(160) as scratch:
        first = scratch.add(given[0])
        for i in range(1, 9):
            with scratch.section():
                place = scratch.add(given[i])
                assert scratch.add(given[0]) is None
                assert torch.equal(scratch.read(place, CPU)["a"], given[i]["a"])
        assert torch.equal(scratch.read(first, CPU)["a"], given[0]["a"])


def test_a_section_begins_after_what_is_still_being_written(monkeypatch):
    put, began = Scratch._put, threading.Event()

    def late(self, tensor):
        began.wait(10)
        return put(self, tensor)

    monkeypatch.setattr(Scratch, "_put", late)
    with Scratch(160) as scratch:
        first = scratch.add({"a": torch.ones(20)})
        threading.Timer(0.1, began.set).start()
        with scratch.section():
            scratch.add({"a": torch.zeros(20)})
        with scratch.section():
            scratch.add({"a": torch.zeros(20)})
        assert torch.equal(scratch.read(first, CPU)["a"], torch.ones(20))


def test_room_is_left_for_others():
    with Scratch(200) as scratch:
        assert scratch.add({"a": torch.zeros(10)}, spare=160) is not None
        assert scratch.add({"a": torch.zeros(10)}, spare=160) is None
        assert scratch.add({"a": torch.zeros(10)}) is None  # no gaps
        with scratch.section():
            assert all(scratch.add({"a": torch.zeros(10)}) for _ in range(4))
            assert scratch.add({"a": torch.zeros(1)}) is None


def test_room_that_is_left_takes_each_of_the_others_as_a_whole():
    given = {"a": torch.zeros(25)}
    with Scratch(190, memory=150) as scratch:
        assert scratch.add(given, spare=100) is not None
        assert scratch.add(given, spare=100) is None  # 50 and 90 bytes would be left
        with scratch.section():
            assert scratch.add(given) is not None


def test_nothing_is_read_after_its_section():
    with Scratch(160) as scratch:
        with scratch.section():
            place = scratch.add({"a": torch.zeros(20)})
        assert scratch.read(place, CPU) == {}


def test_an_error_of_the_writer_comes_once_and_the_room_is_there_again(monkeypatch):
    def fails(self, tensor):
        raise MemoryError

    monkeypatch.setattr(Scratch, "_put", fails)
    with Scratch(160) as scratch:
        with pytest.raises(MemoryError), scratch.section():
            scratch.add({"a": torch.zeros(20)})
        assert scratch.add({"a": torch.zeros(40)}) is not None  # all of the room, once more
        with pytest.raises(MemoryError):
            scratch._written()


def test_what_cannot_be_written_stays_in_memory(monkeypatch):
    class Full:
        def seek(self, place): ...

        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self): ...

    monkeypatch.setattr("vtcav.files.spill.tempfile.TemporaryFile", lambda **_: Full())
    with Scratch(1000) as scratch:
        given = {"a": torch.arange(10.0)}
        aside = scratch.add(given)
        assert torch.equal(scratch.read(aside, CPU)["a"], given["a"])
        assert scratch.add(given) is None
        with scratch.section():
            assert scratch.add(given) is None


def test_tensors_are_let_go_of_once_they_are_written():
    with Scratch(1000) as scratch:
        aside = scratch.add({"a": torch.arange(10.0)})
        scratch.read(aside, CPU)
        assert not isinstance(aside.places["a"], torch.Tensor)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_memory_is_used_before_the_file(device):
    where = torch.device(device)
    with Scratch(1000, memory=100) as scratch:
        given = {"a": torch.ones(20, device=device)}
        kept, written = scratch.add(given), scratch.add(given)
        assert scratch.read(kept, where)["a"].data_ptr() == given["a"].data_ptr()
        again = scratch.read(written, where)["a"]
        assert again.data_ptr() != given["a"].data_ptr()
        assert again.device.type == device
        assert torch.equal(again, given["a"])
