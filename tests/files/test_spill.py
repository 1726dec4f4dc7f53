"""A buffer of tensors: in memory, then in a file."""

import threading

import pytest
import torch

from tests.helpers.nets import GPU
from vtcav.files.spill import SpillFile

CPU = torch.device("cpu")


def test_tensors_come_back_in_any_order():
    given = [{"a": torch.rand(3, 4), "b": torch.arange(i + 1)} for i in range(3)]
    with SpillFile(10_000) as spill:
        added = [spill.add(tensors) for tensors in given]
        for tensors, spilled in reversed(list(zip(given, added, strict=True))):
            read = spill.read(spilled, CPU)
            assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_what_does_not_fit_ends_it():
    with SpillFile(100) as spill:
        assert spill.add({"a": torch.zeros(20)}) is not None
        assert spill.add({"a": torch.zeros(20)}) is None
        assert spill.add({"a": torch.zeros(1)}) is None  # no gaps


def test_the_space_of_a_section_is_used_again():
    given = [{"a": torch.full((20,), float(i))} for i in range(9)]
    with SpillFile(160) as spill:
        first = spill.add(given[0])
        for i in range(1, 9):
            with spill.section():
                spilled = spill.add(given[i])
                assert spill.add(given[0]) is None
                assert torch.equal(spill.read(spilled, CPU)["a"], given[i]["a"])
        assert torch.equal(spill.read(first, CPU)["a"], given[0]["a"])


def test_a_section_begins_after_what_is_still_being_written(monkeypatch):
    put, began = SpillFile._put, threading.Event()

    def late(self, tensor):
        began.wait(10)
        return put(self, tensor)

    monkeypatch.setattr(SpillFile, "_put", late)
    with SpillFile(160) as spill:
        first = spill.add({"a": torch.ones(20)})
        threading.Timer(0.1, began.set).start()
        with spill.section():
            spill.add({"a": torch.zeros(20)})
        with spill.section():
            spill.add({"a": torch.zeros(20)})
        assert torch.equal(spill.read(first, CPU)["a"], torch.ones(20))


def test_space_is_left_for_later_sections():
    with SpillFile(200) as spill:
        assert spill.add({"a": torch.zeros(10)}, spare=160) is not None
        assert spill.add({"a": torch.zeros(10)}, spare=160) is None
        assert spill.add({"a": torch.zeros(10)}) is None  # no gaps
        with spill.section():
            assert all(spill.add({"a": torch.zeros(10)}) for _ in range(4))
            assert spill.add({"a": torch.zeros(1)}) is None


def test_the_space_left_takes_each_later_set_as_a_whole():
    given = {"a": torch.zeros(25)}
    with SpillFile(190, memory=150) as spill:
        assert spill.add(given, spare=100) is not None
        assert spill.add(given, spare=100) is None  # 50 and 90 bytes would be left
        with spill.section():
            assert spill.add(given) is not None


def test_nothing_is_read_after_its_section():
    with SpillFile(160) as spill:
        with spill.section():
            spilled = spill.add({"a": torch.zeros(20)})
        assert spill.read(spilled, CPU) == {}


def test_an_error_of_the_writer_comes_once_and_its_space_is_used_again(monkeypatch):
    def fails(self, tensor):
        raise MemoryError

    monkeypatch.setattr(SpillFile, "_put", fails)
    with SpillFile(160) as spill:
        with pytest.raises(MemoryError), spill.section():
            spill.add({"a": torch.zeros(20)})
        assert spill.add({"a": torch.zeros(40)}) is not None  # all of the budget again
        with pytest.raises(MemoryError):
            spill._written()


def test_what_cannot_be_written_stays_in_memory(monkeypatch):
    class Full:
        def seek(self, place): ...

        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self): ...

    monkeypatch.setattr("vtcav.files.spill.tempfile.TemporaryFile", lambda **_: Full())
    with SpillFile(1000) as spill:
        given = {"a": torch.arange(10.0)}
        spilled = spill.add(given)
        assert torch.equal(spill.read(spilled, CPU)["a"], given["a"])
        assert spill.add(given) is None
        with spill.section():
            assert spill.add(given) is None


def test_written_tensors_are_released():
    with SpillFile(1000) as spill:
        spilled = spill.add({"a": torch.arange(10.0)})
        spill.read(spilled, CPU)
        assert not isinstance(spilled.locations["a"], torch.Tensor)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_memory_is_used_before_the_file(device):
    where = torch.device(device)
    with SpillFile(1000, memory=100) as spill:
        given = {"a": torch.ones(20, device=device)}
        kept, written = spill.add(given), spill.add(given)
        assert spill.read(kept, where)["a"].data_ptr() == given["a"].data_ptr()
        again = spill.read(written, where)["a"]
        assert again.data_ptr() != given["a"].data_ptr()
        assert again.device.type == device
        assert torch.equal(again, given["a"])
