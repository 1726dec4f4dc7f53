"""Tables as CSV and folders of results, also after a writer that was killed."""

import threading

import numpy as np
import pandas as pd
import pytest

from vtcav.errors import ExplanationError
from vtcav.files.atomic import replace_files
from vtcav.files.csv_text import unmarked, write_csv
from vtcav.files.manifest import load_manifest, save_result
from vtcav.files.schema import checked_array

NAMES = ["a\rb", "a\nb", "nan", "NULL", "=1+1", "+x", "-x", "@x", "\tx", "'quoted'", 'q"z', "plain"]


def test_texts_come_back_and_are_no_formulas(tmp_path):
    table = pd.DataFrame({"concept": NAMES, "value": np.linspace(-1, 1, len(NAMES))})
    write_csv(tmp_path / "t.csv", table)
    found = pd.read_csv(tmp_path / "t.csv")
    assert [unmarked(text) for text in found["concept"].fillna("")] == NAMES
    assert np.allclose(found["value"], table["value"])
    cells = [text for text in found["concept"].fillna("") if text]
    assert not [text for text in cells if text[0] in "=+-@\t\r"]


def test_what_a_killed_writer_left_goes_and_comes_back(tmp_path):
    half = tmp_path / ".vtcav-abcd"
    (half / ".old").mkdir(parents=True)
    (half / ".old" / "moved.txt").write_text("aside")
    (half / "new.txt").write_text("half")
    save_result(tmp_path, "thing", "the thing", lambda folder: {"x": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved.txt", "thing.json"]
    assert load_manifest(tmp_path, "thing", "thing")["x"] == 1


def test_two_writers_of_one_folder(tmp_path):
    def write(folder, letter):
        (folder / "file.txt").write_text(letter * 1000)
        return {"letter": letter}

    def work(letter):
        for _ in range(20):
            save_result(tmp_path, "thing", "the thing", lambda folder: write(folder, letter))

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    letter = load_manifest(tmp_path, "thing", "thing")["letter"]
    assert (tmp_path / "file.txt").read_text() == letter * 1000
    assert not list(tmp_path.glob(".vtcav-*"))


def test_a_folder_that_stays_locked(tmp_path, monkeypatch):
    monkeypatch.setattr("vtcav.files.atomic._PATIENCE", 0.1)
    with (
        replace_files(tmp_path),
        pytest.raises(ExplanationError, match="another process is writing"),
    ):
        save_result(tmp_path, "thing", "the thing", lambda folder: {})


def test_an_array_whose_numbers_are_all_missing():
    """As the correlations of a single concept are."""
    empty = {"x": np.full((1, 1), np.nan)}
    assert checked_array(empty, "x", "float64", 1, 1, gaps=True) is empty["x"]
    with pytest.raises(ValueError, match="holds numbers"):
        checked_array(empty, "x", "float64", 1, 1)
