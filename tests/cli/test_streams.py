"""Standard output and error of commands, and the folders that they leave."""

import json
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest

from vtcav.cli import main
from vtcav.cli.terminal import by_class, print_table
from vtcav.files.cache_location import cache_of
from vtcav.files.home import expanded
from vtcav.images.progress import progress_bar

LOUD = """
import torch


def build():
    print("loading the weights")
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_a_users_code_prints_comes_not_before_the_json(here, capsys, monkeypatch):
    (here / "loudmodel.py").write_text(LOUD)
    monkeypatch.delitem(sys.modules, "loudmodel", raising=False)
    (here / "names.txt").write_text("a\nb\nc\n")
    options = ["--class-names", "names.txt"]
    assert main(["layers", "python:loudmodel:build", "--json", *options]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)
    assert "loading the weights" in printed.err


def test_a_failed_command_leaves_no_empty_folder(here, capsys):
    (here / "kept").mkdir()
    for folder in ("new/inner", "kept"):
        wrong = ["concepts", "no-such-folder", "-o", folder]
        assert main(wrong) != 0
    explain = ["explain", "x.png", "--model", "python:no_module:build", "--cavs", "no.safetensors"]
    assert main([*explain, "-o", "new/inner"]) == 1
    assert [path.name for path in here.iterdir()] == ["kept"]


def test_names_that_no_encoding_holds_are_refused_before_the_work(here, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "-o", "out\udc80\ud800"])
    assert "choose another name" in capsys.readouterr().err
    assert not list(here.iterdir())


def test_programs_without_a_console(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    for shown in (None, True):
        with progress_bar("images", 2, shown=shown) as bar:
            bar.advance(2)
    with warnings.catch_warnings():
        assert main(["report", "no-such-folder"]) == 1
    print_table("title", ["a"], [["1"]])


def test_a_folder_named_like_the_home_wins(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    monkeypatch.setenv("USERPROFILE", str(here / "home"))
    assert cache_of("~/cache", unset=False).folder == here / "home/cache"
    assert expanded("~old/x") == Path("~old/x")
    assert expanded("./~/x") == Path("./~/x")
    (here / "~").mkdir()
    assert expanded("~/cache") == Path("~/cache")


def test_a_note_about_one_class_does_not_stand_for_another():
    table = pd.DataFrame(
        {
            "layer": ["a"] * 2,
            "concept": ["dark"] * 2,
            "class_index": [0, 1],
            "class_name": ["cat", "dog"],
            "attribution": [0.0, 0.4],
            "error": [0.1, 0.1],
            "q_value": [0.5, 0.01],
            "note": ["too few draws; the class is not raised", "too few draws"],
        }
    )
    found, _ = by_class(table)
    assert found["note"].tolist() == ["too few draws; the class is not raised (cat)"]
