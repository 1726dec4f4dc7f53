"""A study with a score of one's own, and with classes and concepts from a table."""

import contextlib
import sys

import numpy as np
import pytest
from PIL import Image

import vtcav
from tests.helpers.literal_places import red_squares
from tests.helpers.medical import dicom
from vtcav.cli import main
from vtcav.results.error_analysis import ErrorAnalysis
from vtcav.results.explanation import GlobalExplanation
from vtcav.study import Study, StudyError, run_study
from vtcav.study.sources import paths

MODEL = """
import torch
from torch import nn

import vtcav

vtcav_net = nn.Sequential(
    nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
    nn.Linear(64, 3),
)

def build():
    torch.manual_seed(0)
    for p in vtcav_net.parameters():
        nn.init.normal_(p, 0, 0.3)
    return vtcav_net

def finished():
    return vtcav.Classifier(build(), ["a", "b", "c"], vtcav.Preprocess(32))

def against(output):
    return torch.stack([output[:, 0] - output[:, 1], 2 * output[:, 2]], 1)

three = 3
"""
STUDY = """model:
  name: python:scorednet:build
  score: python:scorednet:against
  class_names: [contrast, twice]
  preprocess: {size: 32}
layers: ["1"]
concepts: {red: table.csv:red}
negatives: noise
classes: labels.csv
options: {steps: 4, null_cavs: 0, bootstraps: 0, placebos: 0}
diagnostics: false
errors: labels.csv
report: false
output: out
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("scored")
    red, noise = red_squares()
    for folder, pixels in (("red", red), ("noise", noise)):
        (root / folder).mkdir()
        for i, each in enumerate(pixels):
            Image.fromarray(np.asarray(each)).save(root / folder / f"{i:02}.png")
    (root / "scorednet.py").write_text(MODEL)
    rows = [f"red/{i:02}.png,red" for i in range(10)]
    (root / "table.csv").write_text("\n".join(["path,label", *rows]))
    rows = [f"red/{i:02}.png,contrast\nnoise/{i:02}.png,twice" for i in range(4)]
    (root / "labels.csv").write_text("\n".join(["path,label", *rows]))
    (root / "study.yaml").write_text(STUDY)
    yield root
    sys.modules.pop("scorednet", None)


@pytest.fixture(scope="module")
def out(place):
    return run_study(Study.load(place / "study.yaml"), progress=False)


def test_a_study_explains_a_score_of_ones_own_and_classes_of_a_table(place, out, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    from scorednet import against, build

    names = ["contrast", "twice"]
    model = vtcav.Classifier(build(), names, vtcav.Preprocess(32), score=against)
    explainer = vtcav.VisualTCAV(model, ["1"], steps=4, placebos=0, progress=False)
    examples = [f"red/{i:02}.png" for i in range(10)]
    explainer.fit({"red": examples}, "noise", null_cavs=0, bootstraps=0)
    for name, folder in (("contrast", "red"), ("twice", "noise")):
        own = explainer.explain_class(name, [f"{folder}/{i:02}.png" for i in range(4)])
        found = GlobalExplanation.load(out / "classes" / name)
        assert found.attributions["attribution"].tolist() == (
            own.attributions["attribution"].tolist()
        )
    errors = ErrorAnalysis.load(out / "errors")
    assert errors.table.equals(explainer.errors("labels.csv").table)


def test_a_study_as_carried_out_says_it_and_can_be_read_again(place, out):
    (place / "again.yaml").write_text((out / "study.yaml").read_text())
    study, again = (Study.load(place / name) for name in ("study.yaml", "again.yaml"))
    assert again == study
    assert study.model.score == "python:scorednet:against"
    assert study.classes == {"contrast": "labels.csv:contrast", "twice": "labels.csv:twice"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("score: python:scorednet:against", "score: red", "line 3, model.score: expected python:"),
        ("net:against", "net:none", "line 3, model.score: the module 'scorednet' has no 'none'"),
        ("net:against", "net:three", "line 3, model.score: expected .* to be a function .*got int"),
        ("python:scorednet:against", "python:nothere:f", "line 3, model.score: there is no Python"),
        ("net:build", "net:finished", "line 2, model: .*finished model; set .*score"),
        (
            "classes: labels.csv",
            "classes: label.csv",
            "line 9, classes: 'label.csv' does not",
        ),
        ("classes: labels.csv", "classes: scorednet.py", "line 9, classes: expected a folder with"),
        (
            "classes: labels.csv",
            "classes: {twice: labels.csv:twise}",
            "line 9, classes.twice: 'labels.csv' has no label 'twise'; did you mean 'twice'",
        ),
        ("{red: table.csv:red}", "{red: table.csv:rot}", "line 7, concepts.red"),
        ("errors: labels.csv", "errors: study.yaml.csv", "line 12, errors"),
    ],
)
def test_mistakes_are_named_with_line_and_key(place, old, new, said, monkeypatch):
    (place / "study.yaml.csv").write_text("a,b\n1,2\n")
    (place / "wrong.yaml").write_text(STUDY.replace(old, new, 1).replace("out\n", "other\n"))
    with pytest.raises(StudyError, match=rf"wrong.yaml, {said}"):
        run_study(Study.load(place / "wrong.yaml"), progress=False)


def test_classes_of_a_folder(place):
    text = STUDY.replace("classes: labels.csv", "classes: byclass")
    for name in ("contrast", "twice"):
        (place / "byclass" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(place / "byclass" / name / "0.png")
    (place / "folder.yaml").write_text(text)
    classes = Study.load(place / "folder.yaml").classes
    assert classes == {"contrast": "byclass/contrast", "twice": "byclass/twice"}


def test_the_command_line_takes_a_score(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    network = ["--model", "python:scorednet:build", "--preprocess", "{size: 32}"]
    network += ["--layers", "1", "--score", "python:scorednet:against"]
    concepts = ["--concepts", "concepts", "--negatives", "noise", "--null-cavs", "0"]
    (place / "concepts").mkdir()
    (place / "concepts" / "red").symlink_to(place / "red")
    assert main(["explain", "red/00.png", *network, *concepts, "--bootstraps", "0"]) == 0
    assert "class 0" in capsys.readouterr().out


def test_keras_takes_no_score(tmp_path):
    with pytest.raises(vtcav.errors.ModelError, match=r"keras: networks take no score"):
        vtcav.load_model("keras:net.keras", score=lambda output: output)


def test_medical_scans_of_a_study(tmp_path):
    pytest.importorskip("pydicom")
    for name, count in (("nodule", 5), ("others", 6)):
        for k in range(count):
            (tmp_path / name / f"s{k}").mkdir(parents=True)
            for z in range(3):
                place = {
                    "ImagePositionPatient": [0, 0, z],
                    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                }
                values = np.full((8, 8), 10 * k + z, np.int16)
                file = tmp_path / name / f"s{k}" / f"{z}.dcm"
                dicom(file, values, SeriesInstanceUID=f"1.2.{len(name)}.{k}", **place)
    (tmp_path / "scans.yaml").write_text(
        "model: demo\nconcepts: {nodule: volumes:nodule}\nnegatives: volumes:others\n"
        "classes: {zebra: slices:nodule}\noutput: out\n"
    )
    study = Study.load(tmp_path / "scans.yaml")
    with contextlib.chdir(tmp_path):
        listed = {s: paths(s) for s in ("volumes:nodule", "volumes:others", "slices:nodule")}
    assert [len(refs) for refs in listed.values()] == [5, 6, 15]
    assert study.concepts["nodule"].negatives == "volumes:others"
    with contextlib.chdir(tmp_path):
        assert listed["volumes:nodule"][0].load().values.shape == (3, 8, 8, 1)
    (tmp_path / "scans.yaml").write_text(
        (tmp_path / "scans.yaml").read_text().replace("volumes:nodule", "volumes:nodules")
    )
    with pytest.raises(StudyError, match=r"line 2, concepts\.nodule"):
        Study.load(tmp_path / "scans.yaml")
