"""Standard output and error of commands, and the folders that they leave."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from vtcav.cli import main
from vtcav.cli.terminal import by_class, print_table
from vtcav.files.atomic import replace_files
from vtcav.files.cache_location import cache_of
from vtcav.files.manifest import read_table, write_table
from vtcav.files.paths import expanded
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


def test_json_alone_and_valid_whatever_the_encoding_and_the_library(here):
    print_all = 'os.write(1, b"from C"); sys.stdout.write("\\u03c0 of sys")'
    loud = LOUD.replace('print("loading the weights")', f"import os, sys; {print_all}")
    (here / "loudmodel.py").write_text(loud)
    (here / "names.txt").write_text("\u0437\u0435\u0431\u0440\u0430\nb\nc\n", "utf-8")
    (here / "c" / "\u0437").mkdir(parents=True)
    (here / "neg").mkdir()
    for i in range(4):
        Image.effect_noise((40, 40), 90).save(here / "c" / "\u0437" / f"{i}.png")
        Image.effect_noise((40, 40), 50).save(here / "neg" / f"{i}.png")
    command = [sys.executable, "-m", "vtcav", "explain", "neg/0.png"]
    command += ["--model", "python:loudmodel:build", "--class-names", "names.txt", "--layers", "1"]
    command += ["--concepts", "c", "--negatives", "neg", "--null-cavs", "0", "--min-examples", "2"]
    command += ["--preprocess", "{size: 32}", "--json", "--bootstraps", "0", "-o", "~/out"]
    home = {"HOME": str(here / "home"), "USERPROFILE": str(here / "home")}
    run = subprocess.run(
        command, capture_output=True, env=os.environ | home | {"PYTHONIOENCODING": "ascii"}
    )
    assert run.returncode == 0, run.stderr
    assert {row["concept"] for row in json.loads(run.stdout)["attributions"]} == {"\u0437"}
    assert b"from C" in run.stderr
    assert b"of sys" in run.stderr
    assert (here / "home" / "out" / "local.json").is_file()
    assert not (here / "~").exists()


def test_a_closed_standard_output_is_no_fault_of_the_users_code(here, monkeypatch):
    (here / "loudmodel2.py").write_text(LOUD.replace("print(", "import sys; sys.stdout.write("))
    (here / "names.txt").write_text("a\nb\nc\n")
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["layers", "python:loudmodel2:build", "--class-names", "names.txt"]) == 0


def test_code_that_ends_the_program_is_named(here, capsys):
    (here / "quitting.py").write_text("import sys\n\ndef build():\n    sys.exit(3)\n")
    assert main(["layers", "python:quitting:build"]) == 1
    assert "python:quitting:build failed: SystemExit: 3" in capsys.readouterr().err


def test_results_go_into_a_folder_named_like_the_home(here):
    (here / "~").mkdir()
    table = pd.DataFrame({"a": [1]})
    with replace_files(Path("~/out")) as staging:
        write_table(staging / "t", table)
    assert read_table(Path("~/out/t")).equals(table)
    assert (here / "~" / "out" / "t.csv").is_file()


def test_a_failed_command_leaves_no_empty_folder(here, capsys):
    (here / "kept").mkdir()
    for folder in ("new/inner", "kept"):
        wrong = ["concepts", "no-such-folder", "-o", folder]
        assert main(wrong) != 0
    explain = ["explain", "x.png", "--model", "python:no_module:build", "--cavs", "no.safetensors"]
    assert main([*explain, "-o", "new/inner"]) == 1
    assert [path.name for path in here.iterdir()] == ["kept"]
    (here / "loudmodel3.py").write_text(LOUD)
    diagnose = ["diagnose", "--model", "python:loudmodel3:build", "--preprocess", "{size: 32}"]
    assert main([*diagnose, "--cavs", "no.safetensors", "-o", "new/inner"]) == 1
    assert "no file of CAVs" in capsys.readouterr().err
    assert not (here / "new").exists()


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
            "presence": [0.5, 0.5],
            "error": [0.1, 0.1],
            "q_value": [0.5, 0.01],
            "note": ["too few draws; the class is not raised", "too few draws"],
        }
    )
    found, _ = by_class(table)
    assert found["note"].tolist() == ["too few draws; the class is not raised (cat)"]


def test_the_parser_loads_no_torch():
    code = "import sys, vtcav.cli; vtcav.cli.parser(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
