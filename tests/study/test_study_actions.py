"""Errors, a correction and a second network: steps of a study and sections of its report."""

import html
import json
import re
import shutil
import sys
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import vtcav
from tests.helpers.literal_places import red_squares
from vtcav.cli import main
from vtcav.errors import ExplanationError, VtcavError
from vtcav.files.manifest import load_manifest
from vtcav.report import write_report
from vtcav.results.error_analysis import ErrorAnalysis
from vtcav.study import Study, StudyError, run_study
from vtcav.study.versus import versus_study

MODEL = """
import torch
import vtcav
from tests.helpers.literal_places import square_network


def build(scale=1.0):
    net = square_network()
    with torch.no_grad():
        net[6].weight *= scale
    return vtcav.Classifier(net, ["a", "b", "c"], vtcav.Preprocess(32))


def other():
    return build(0.2)
"""
STUDY = """
model: python:actnet:build
layers: ["1", "3"]
concepts: {red: red}
negatives: noise
classes: {a: labelled/a}
options: {steps: 4, null_cavs: 20, bootstraps: 0, placebos: 0}
diagnostics: false
errors: labelled
correct: {concepts: red, images: labelled, layer: "1", rounds: 2, anyway: true, attributions: true}
versus: python:actnet:other
groups: (\\d)\\.png
output: out
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("actions")
    red, noise = red_squares()
    for folder, pixels in (
        ("red", red[:12]), ("noise", noise), ("labelled/a", red[10:]), ("labelled/b", noise[:5]),
    ):  # fmt: skip
        (root / folder).mkdir(parents=True)
        for i, each in enumerate(pixels):
            Image.fromarray(each).save(root / folder / f"{i:02}.png")
    (root / "actnet.py").write_text(MODEL)
    (root / "study.yaml").write_text(STUDY)
    return root


@pytest.fixture(scope="module")
def out(place):
    yield run_study(Study.load(place / "study.yaml"), progress=False)
    sys.modules.pop("actnet", None)


def test_each_step_gives_what_the_function_gives(place, out, monkeypatch):
    monkeypatch.syspath_prepend(place)
    from actnet import build, other

    settings = {"steps": 4, "placebos": 0, "progress": False}
    explainer = vtcav.VisualTCAV(build(), ["1", "3"], **settings)
    fit = {"null_cavs": 20, "bootstraps": 0}
    explainer.fit({"red": place / "red"}, place / "noise", **fit)
    errors = explainer.errors(place / "labelled", groups=r"(\d)\.png")
    assert ErrorAnalysis.load(out / "errors").table.equals(errors.table)
    fixed = explainer.correct(
        "red", "1", images=place / "labelled", rounds=2, anyway=True, attributions=True
    )
    loaded = vtcav.CorrectedNetwork.load(out / "correction", build())
    x = torch.rand(3, 3, 32, 32)
    assert torch.equal(loaded(x), fixed(x))
    assert loaded.report.effects.equals(fixed.report.effects)
    # means of a table that was read may be summed in another order
    pd.testing.assert_frame_equal(loaded.report.attributions, fixed.report.attributions, rtol=1e-12)
    second = vtcav.VisualTCAV(other(), ["1", "3"], **settings)
    second.fit({"red": place / "red"}, place / "noise", **fit)
    groups = {"groups": r"(\d)\.png"}
    versus = vtcav.versus(explainer, second, place / "labelled" / "a", "a", **groups)
    found = vtcav.Versus.load(out / "versus")
    assert found.names == ("python:actnet:build", "python:actnet:other")
    numbers = ["a", "b", "difference", "q_value"]
    assert found.differences[numbers].equals(versus.differences[numbers])


def test_the_report_has_their_sections_and_not_the_second_networks_classes(out):
    page = (out / "report.html").read_text("utf-8")
    titles = ("Wrong predictions", "The corrected network", "Two networks side by side")
    for title in (*titles, "Groups of “a”"):
        assert f">{title}</h2>" in page
        assert f'">{title}</a>' in page
    assert vtcav.Versus.load(out / "versus").described in page
    assert len(re.findall(r'<tr data-class="\d+"', page)) == 2  # one class, two layers


def test_the_command_prints_what_they_say(place, out, capsys, monkeypatch):
    monkeypatch.setattr("vtcav.cli.commands.run._FIRST", 3)
    assert main(["run", str(place / "study.yaml"), "--quiet"]) == 0
    said = capsys.readouterr().out
    errors = ErrorAnalysis.load(out / "errors")
    versus = vtcav.Versus.load(out / "versus")
    correction = load_manifest(out / "correction", "correction", "correction")["report"]["findings"]
    found = {
        "errors": errors.findings() or [errors.conclusion],
        "correction": correction,
        "versus": versus.sentences(),
    }
    lines = said.splitlines()
    for kind, sentences in found.items():
        expected = [f"{kind}: {sentence}" for sentence in sentences[:3]]
        if len(sentences) > 3:
            expected.append(f"{kind}: {len(sentences) - 3} more in {kind}/{kind}.json")
            assert (out / kind / f"{kind}.json").is_file()
        assert [line for line in lines if line.startswith(f"{kind}: ")] == expected
        table = next(i for i, line in enumerate(lines) if "concept attributions over" in line)
        assert lines.index(expected[-1]) < table
    assert len(found["correction"]) > 3
    assert main(["run", str(place / "study.yaml"), "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == found


SITES = """
import torch
import vtcav
from torch import nn


def build():
    # scores "a" by red above 0.6, in channels that are colours
    net = nn.Sequential(
        *(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 3, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)),
    )
    with torch.no_grad():
        for i, bias in ((0, -0.6), (3, 0.0)):
            net[i].weight.copy_(torch.eye(3)[:, :, None, None])
            net[i].bias.fill_(bias)
        net[7].weight.copy_(torch.tensor([[20.0, 0, 4], [0, 0, 3]]))
        net[7].bias.zero_()
    return vtcav.Classifier(net, ["a", "b"], vtcav.Preprocess(32))
"""
OF_SITES = """
model: python:sites:build
layers: ["1", "4"]
concepts: {red: red}
negatives: dark
classes: {a: pictures}
options: {steps: 4, null_cavs: 20, bootstraps: 0, placebos: 20}
diagnostics: false
groups: ([ABC])[0-9]\\.png
limits: {red: {max_share: 0.2}}
output: out
"""


def squares(count, colour, seed):
    """Dark noise with a square of a colour, or without."""
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 40, (count, 32, 32, 3)).astype(np.uint8)
    for picture in pictures if colour else ():
        i, j = random.integers(0, 24, 2)
        picture[i : i + 8, j : j + 8] = colour
    return pictures


def test_a_group_that_breaks_a_limit_is_named_everywhere(tmp_path, capsys):
    red, blue = (255, 0, 0), (0, 0, 255)
    for folder, name, count, colour in (
        ("red", "", 12, red), ("dark", "", 24, None), ("pictures", "A", 6, red),
        ("pictures", "B", 6, blue), ("pictures", "C", 6, blue),
    ):  # fmt: skip
        (tmp_path / folder).mkdir(exist_ok=True)
        for i, each in enumerate(squares(count, colour, count + len(name))):
            Image.fromarray(each).save(tmp_path / folder / f"{name}{i}.png")
    (tmp_path / "sites.py").write_text(SITES)
    file = tmp_path / "study.yaml"
    file.write_text(OF_SITES)
    assert main(["run", str(file), "--quiet"]) == 3
    [limit] = load_manifest(tmp_path / "out", "study", "study")["limits"]
    assert (limit["state"], limit["groups"]) == ("broken", 3)
    assert [(one["group"], one["n"]) for one in limit["above"]] == [("A", 6)]
    sentence = limit["sentence"]
    assert "breaks the limit of 20 % in the group 'A' (6 images): 100 % (" in sentence
    assert f"Limit broken: {sentence}" in capsys.readouterr().out
    tree = ElementTree.parse(tmp_path / "out" / "limits.xml")
    assert tree.find(".//failure").get("message") == sentence
    assert sentence[1:] in html.unescape((tmp_path / "out" / "report.html").read_text("utf-8"))
    file.write_text(OF_SITES.replace("0.2}", "0.2, each_group: false}"))
    assert main(["run", str(file), "--quiet"]) == 0
    sys.modules.pop("sites", None)


def test_a_folder_of_errors_alone_has_a_report(out, tmp_path):
    shutil.copytree(out / "errors", tmp_path / "errors")
    page = write_report(tmp_path).read_text("utf-8")
    assert '<h2 id="errors-title">Wrong predictions</h2>' in page
    assert 'id="overview"' not in page
    table = next((tmp_path / "errors").glob("errors_table.parquet"))
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(ExplanationError, match="errors"):
        write_report(tmp_path)


def test_finished_steps_are_kept(place, out):
    said = []
    run_study(Study.load(place / "study.yaml"), progress=False, say=said.append)
    kept = [text for text in said if text.endswith(": kept from before")]
    assert len(kept) == 5, said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("errors: labelled", "errors: labeled", "line 9, errors.*'labeled' does not exist"),
        ("concepts: red, im", "concepts: [red, blue], im", r"concepts\[1\].*no concept 'blue'"),
        ("rounds: 2", "rounds: 0", r"line 10, correct.rounds: expected a whole number"),
        ("rounds: 2", "times: 2", r"line 10, correct: unknown key 'times'"),
        ("classes: {a: labelled/a}", "images: red", "line 11, versus.*the study has none"),
        ("versus: p", "versus: {margin: 2, network: x}\n# p", r"versus.margin: expected a number"),
    ],
)
def test_mistakes_are_named_with_their_line(place, tmp_path, old, new, message):
    shutil.copytree(place, tmp_path / "copy", ignore=shutil.ignore_patterns("out"))
    assert old in STUDY
    (tmp_path / "copy" / "study.yaml").write_text(STUDY.replace(old, new))
    with pytest.raises(StudyError, match=message):
        Study.load(tmp_path / "copy" / "study.yaml")


@pytest.fixture
def late(place, tmp_path):
    """A function that writes a study beside the data, with a network that is loaded anew."""
    shutil.copytree(place, tmp_path / "copy", ignore=shutil.ignore_patterns("out"))
    (tmp_path / "copy" / "actnet.py").rename(tmp_path / "copy" / "late.py")
    file = tmp_path / "copy" / "study.yaml"

    def write(text):
        file.write_text(text.replace("actnet", "late"))
        return file

    yield write
    sys.modules.pop("late", None)


@pytest.mark.parametrize(
    ("versus", "message"),
    [
        ("weights.pt", "line 11, versus: weights.pt: .* a finished model; set weights there"),
        ("python:late:nothing", "line 11, versus: python:late:nothing: .* has no 'nothing'"),
        ("python:late:others", "line 11, versus: python:late:others: unknown class 'a'"),
        ("python:late:capital", "line 11, versus: .*: .*to be the same in both .* 'a' and 'A'"),
        ("python:late:flat", "line 11, versus: python:late:flat: layer '1' cannot be explained"),
    ],
)
def test_a_second_network_is_checked_before_anything_is_learned(late, versus, message):
    file = late(STUDY.replace("python:actnet:other", versus))
    (file.parent / "weights.pt").touch()
    with (file.parent / "late.py").open("a") as code:
        code.write(MORE)
    said = []
    with pytest.raises(StudyError, match=message):
        run_study(Study.load(file), progress=False, say=said.append)
    assert said == ["Loading the network python:late:build"]
    if versus.startswith("python"):
        with pytest.raises(VtcavError, match=message.rpartition(": ")[2]):
            versus_study(
                Study.load(file),
                (["python:late:build"], [versus]),
                file.parent / "two",
                margin=None,
                progress=False,
                say=said.append,
            )
        assert len(said) == 1


MORE = """


def others():
    return vtcav.Classifier(square_network(), ["x", "y", "z"], vtcav.Preprocess(32))


def capital():
    return vtcav.Classifier(square_network(), ["A", "y", "z"], vtcav.Preprocess(32))


def flat():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 3, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    return vtcav.Classifier(net, ["a", "b", "c"], vtcav.Preprocess(32))
"""


def test_a_last_step_that_fails_does_not_cost_the_report(late, capsys):
    # examples that are the negatives: nothing can be taken out
    text = STUDY.replace("anyway: true, ", "").replace("{red: red}", "{red: noise}")
    file = late(re.sub("(versus|errors|groups): .*\n", "", text).replace("rounds: 2", "rounds: 1"))
    (file.parent / "out" / "correction").mkdir(parents=True)
    (file.parent / "out" / "correction" / "correction.json").write_text("of an earlier study")
    assert main(["run", str(file), "--quiet"]) == 1
    captured = capsys.readouterr()
    assert "Report: " in captured.out
    said = re.search("vtcav: not done: correction: .*line 9, correct: (.*)[.] All", captured.err)[1]
    out = file.parent / "out"
    [undone] = load_manifest(out, "study", "study")["not_done"]
    assert undone["step"] == "correction"
    assert undone["why"].rstrip(".") == said
    page = html.unescape((out / "report.html").read_text("utf-8"))
    assert re.search(r'<main [^>]*>\s*<p class="warnings">Not done: correction: ', page)
    assert said[:40] in page


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"(\d)\.png", "site(.)", "groups: '.*' has no group: expected 'site"),
        ("errors: labelled", "errors: others", r"errors.images: .*'x'"),
        (
            'layer: "1", rounds',
            'layer: "9", rounds',
            "line 10, correct.layer: layer '9' is not expl",
        ),
    ],
)
def test_labels_and_groups_are_checked_before_anything_is_learned(late, old, new, message):
    assert old in STUDY
    file = late(STUDY.replace(old, new))
    shutil.copytree(file.parent / "labelled" / "a", file.parent / "others" / "x")
    said = []
    with pytest.raises(VtcavError, match=message):
        run_study(Study.load(file), progress=False, say=said.append)
    assert said == ["Loading the network python:late:build"]
