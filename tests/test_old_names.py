"""Modules under their old names: found, or an error that names the new place."""

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

import vtcav


@pytest.mark.parametrize("old", sorted(vtcav._RENAMED))
def test_a_renamed_module_names_its_new_place(old):
    homes = [f"vtcav.{home}" for home in vtcav._RENAMED[old].split(",")]
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(f"vtcav.{old}")
    assert str(caught.value) == f"No module named 'vtcav.{old}': it is now {' or '.join(homes)}"
    assert all(find_spec(home) for home in homes)


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("from vtcav.explanation import LocalExplanation", "vtcav.results.explanation"),
        ("from vtcav.cav import CavBank, direction", "vtcav.results.bank or vtcav.method.cav"),
        ("import vtcav.integration.adaptive", "vtcav.method.integral"),
        ("from vtcav.evaluation.tcav import tcav", "vtcav.evaluation.peers.tcav"),
        ("from vtcav.significance import p_value", "vtcav.method.significance"),
        ("from vtcav.provenance import Provenance", "vtcav.results.provenance"),
        ("from vtcav.attribution import attribution_map", "vtcav.method.attribution"),
        ("from vtcav.evaluation.effects import causal_effects", ".*experiment.effects"),
        ("import vtcav.notebook", "vtcav.results.notebook"),
        ("import vtcav; vtcav.quadrature.trapezoid", "vtcav.method.integral.trapezoid"),
    ],
)
def test_statements_of_old_code(statement, place):
    with pytest.raises((ModuleNotFoundError, AttributeError), match=f"it is now {place}$"):
        exec(statement)


STATEMENTS = [
    "import vtcav.textures; assert vtcav.textures.draw('dotted', 1).shape == (1, 224, 224, 3)",
    "from vtcav.textures import draw, write, NAMES",
    "import vtcav.demo; from vtcav import demo; from vtcav.demo import negatives, photograph",
    "import vtcav, vtcav.datasets.textures as t; assert vtcav.textures is t",
    "from vtcav.images import ImageRef, ImageSource, Skipped, UnreadableError, collect, read",
    "from vtcav.explainer import VisualTCAV",
    "from vtcav.evaluation.compare import compare",
    "from vtcav.evaluation.experiment import Evaluation, evaluate",
    "from vtcav.evaluation.localisation import FolderLocalisation, localise_folder",
    "from vtcav.cli import main",
    "from vtcav.study import Study, run_study",
    "from vtcav.report import build_report, write_report",
]
FORKED = """
import json, os, sys, traceback
import matplotlib, pandas, scipy.ndimage, torch

def run(statement):
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    try:
        exec(statement)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

print(json.dumps([run(statement) for statement in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def exit_codes():
    """Of every statement in a process where no part of vtcav has been imported before."""
    command = [sys.executable, "-c", FORKED, json.dumps(STATEMENTS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(zip(STATEMENTS, json.loads(done.stdout), strict=True)), done.stderr


@pytest.mark.parametrize("statement", STATEMENTS)
def test_what_keeps_working(exit_codes, statement):
    codes, errors = exit_codes
    assert codes[statement] == 0, errors


def test_names_that_never_were_fail_as_ever():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'vtcav.zebra'$"):
        importlib.import_module("vtcav.zebra")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'explanation'"):
        importlib.import_module("explanation")
    with pytest.raises(AttributeError, match="no attribute 'zebra'"):
        _ = vtcav.zebra
    assert find_spec("explanation") is None
