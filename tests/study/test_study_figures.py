"""The figures of a study are drawn with all that it knows: one scale, and the doubts."""

import sys

import numpy as np
import pytest
from PIL import Image

import vtcav
from tests.helpers.literal_places import red_squares
from vtcav.errors import ExplanationError
from vtcav.files.manifest import replace_file
from vtcav.study import Study, run_study

MODEL = """
import vtcav
from tests.helpers.literal_places import square_network

def build():
    return vtcav.Classifier(square_network(), ["a", "b", "c"], vtcav.Preprocess(32))
"""
STUDY = """
model: python:figurenet:build
layers: ["3"]
concepts: {red: red}
negatives: noise
classes: {a: photos}
images: [photos/00.png, photos/01.png]
options: {steps: 4, null_cavs: 20, bootstraps: 0, placebos: 0}
diagnostics: {resamples: 20}
report: false
output: out
"""
IMAGES = ("00", "01")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("figures")
    red, noise = red_squares()
    for folder, pixels in (("red", red[:7]), ("noise", noise), ("photos", red[8:14])):
        (root / folder).mkdir()
        for i, each in enumerate(pixels):
            Image.fromarray(each).save(root / folder / f"{i:02}.png")
    (root / "figurenet.py").write_text(MODEL)
    (root / "study.yaml").write_text(STUDY)
    yield root
    sys.modules.pop("figurenet", None)


def carry_out(place):
    said = []
    out = run_study(Study.load(place / "study.yaml"), progress=False, say=said.append)
    return out, said


def figures(out):
    names = [*(f"images/{name}/local.png" for name in IMAGES), "classes/a/global.png"]
    return {name: (out / name).read_bytes() for name in names}


def test_figures_have_one_scale_and_the_doubts_and_are_drawn_once(place, tmp_path):
    out, said = carry_out(place)
    assert "Drawing the figures" in said
    diagnostics = vtcav.Diagnostics.load(out / "diagnostics")
    assert set(diagnostics.summary()["level"]) != {"fine"}  # seven examples are few
    local = [vtcav.LocalExplanation.load(out / "images" / name) for name in IMAGES]
    for name, explanation in zip(IMAGES, local, strict=True):
        explanation.save(tmp_path / name, diagnostics=diagnostics, beside=local)
        drawn = (tmp_path / name / "local.png").read_bytes()
        assert figures(out)[f"images/{name}/local.png"] == drawn
        explanation.save(tmp_path / name)
        assert (tmp_path / name / "local.png").read_bytes() != drawn
    vtcav.GlobalExplanation.load(out / "classes" / "a").save(tmp_path, diagnostics=diagnostics)
    assert figures(out)["classes/a/global.png"] == (tmp_path / "global.png").read_bytes()

    before = figures(out)
    _, said = carry_out(place)
    assert "Drawing the figures" not in said
    (out / "images" / "00" / "local.png").unlink()
    with pytest.warns(UserWarning, match=r"images/00 is made again"):
        _, said = carry_out(place)
    assert "Drawing the figures" in said
    assert figures(out) == before


def test_one_file_of_a_result_is_replaced(place, tmp_path):
    out, _ = carry_out(place)
    local = vtcav.LocalExplanation.load(out / "images" / "00")
    local.save(tmp_path)
    replace_file(tmp_path, "local", "local explanation", "local.png", lambda p: p.write_bytes(b"x"))
    assert (tmp_path / "local.png").read_bytes() == b"x"
    again = vtcav.LocalExplanation.load(tmp_path)
    assert again.attributions.equals(local.attributions)
    assert np.array_equal(again.picture, local.picture)
    (tmp_path / "local_maps.npz").unlink()
    with pytest.raises(ExplanationError, match=r"local_maps\.npz' is missing or was changed"):
        replace_file(tmp_path, "local", "local explanation", "local.png", lambda p: p.touch())


def test_a_file_that_cannot_be_written_leaves_the_result_as_it_was(place, tmp_path):
    out, _ = carry_out(place)
    vtcav.LocalExplanation.load(out / "images" / "00").save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path):
        raise OSError("no space")

    with pytest.raises(ExplanationError, match=r"local\.png': no space; nothing was changed there"):
        replace_file(tmp_path, "local", "local explanation", "local.png", full)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
