"""The rows of the parts of a run: one table, in order, however many parts there are."""

import weakref

import numpy as np
import pyarrow as pa
import pytest

from vtcav.explainer.runs.gathered_rows import GatheredRows
from vtcav.results.tables import stored_rows


def part(number, size=3):
    """A part's table: its texts are a dictionary of its own."""
    names = pa.array([f"{number}-{i}" for i in range(size)]).dictionary_encode()
    numbers = {"p_value": np.linspace(0, 1, size), "q_value": np.full(size, np.nan)}
    return pa.table({"image": names, **numbers})


@pytest.mark.parametrize("most", [10, 10_000], ids=["on disk", "in memory"])
def test_rows_come_in_order_whatever_their_number_and_as_often_as_asked(monkeypatch, most):
    monkeypatch.setattr(stored_rows, "MOST_IN_MEMORY", most)
    gathered = GatheredRows()
    for number in range(20):
        gathered.add(part(number))
    frame = gathered.rows().frame()
    assert frame["image"].tolist() == [f"{n}-{i}" for n in range(20) for i in range(3)]
    assert frame["q_value"].iloc[:3].tolist() == pytest.approx([0, 0.75, 1.0])
    assert gathered.rows().frame().equals(frame)


def test_no_table_of_a_part_stays_in_memory():
    gathered, table = GatheredRows(), part(0)
    kept = weakref.ref(table)
    gathered.add(table)
    del table
    assert kept() is None
    assert len(gathered.rows().frame()) == 3
