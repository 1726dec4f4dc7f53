"""`vtcav run` and `vtcav init`: a tiny study from beginning to end, cut off, and taken up again."""

import html
import json
import re
import shutil
import sys
import warnings
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import vtcav
from vtcav.cli import main, parser
from vtcav.cli.options import Arguments, UsageError
from vtcav.diagnostics.result import Diagnostics
from vtcav.errors import ExplanationError
from vtcav.explainer.runs.run_folder import DamagedPartWarning
from vtcav.files.manifest import load_manifest
from vtcav.report import write_report
from vtcav.results.explanation import LocalExplanation
from vtcav.study import Study, StudyError, run_study

MODEL = """
import pathlib

from tests.helpers.small import small_model

pathlib.Path("loaded-here").touch()


def build():
    return small_model(classes=("a/b", "../x", "Egyptian cat"))
"""
STUDY = """
model: python:studynet:build
layers: [3]
concepts: concepts
negatives: random
classes:
  a/b: pictures
  ../x: pictures/0.png
images: [photo.png]
options: {steps: 4, null_cavs: 20, bootstraps: 10, top: 2}
diagnostics: {resamples: 20}
report: false
output: out
"""
NAMES = 'classes=("a/b", "../x", "Egyptian cat")'
HOSTILE = ["a_b-", "x-"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a network, two concepts, negatives, pictures and a study."""
    root = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    for folder, count, low, high in (
        ("concepts/bright", 5, 150, 255),
        ("concepts/dark", 5, 0, 90),
        ("random", 11, 0, 255),
        ("pictures", 3, 100, 255),
        (".", 1, 100, 255),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(low, high, (16, 16, 3), dtype=np.uint8)
            name = "photo" if folder == "." else str(i)
            Image.fromarray(pixels).save(root / folder / f"{name}.png")
    (root / "studynet.py").write_text(MODEL)
    (root / "study.yaml").write_text(STUDY)
    return root


@pytest.fixture(scope="module", autouse=True)
def _no_figures():
    """Other tests draw."""
    with pytest.MonkeyPatch.context() as patched:
        figures = "vtcav.results.figures.page"
        patched.setattr(f"{figures}.save_figure", lambda draw, path: path.touch())
        yield


@pytest.fixture(autouse=True)
def _fresh_module():
    sys.modules.pop("studynet", None)
    yield
    sys.modules.pop("studynet", None)


@pytest.fixture
def place(data, tmp_path, monkeypatch):
    """A copy of that folder; the process is somewhere else."""
    shutil.copytree(data, tmp_path / "here")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "here"


@pytest.fixture(scope="module")
def whole(data):
    """The results of the study, carried out at one go."""
    return run_study(Study.load(data / "study.yaml"), data.parent / "whole", progress=False)


@pytest.fixture
def uninterrupted(whole):
    return tables(whole)


@pytest.fixture
def finished(whole, place):
    """The folder of `place`, with the results of its study."""
    shutil.copytree(whole, place / "out")
    return place


def tables(folder):
    kinds = ("*.csv", "*.parquet", "*.json", "study.yaml", "cavs.safetensors")
    files = [path for kind in kinds for path in folder.rglob(kind)]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if not name.startswith("run")}


def carry_out(place, said=None, output=None):
    say = (lambda text: None) if said is None else said.append
    study = Study.load(place / "study.yaml")
    return run_study(study, output, progress=False, say=say)


def edit(place, old, new):
    text = (place / "study.yaml").read_text()
    assert old in text
    (place / "study.yaml").write_text(text.replace(old, new))


def command(*arguments):
    parsed = parser().parse_args(arguments, Arguments())
    parsed.run(parsed)


# -- from beginning to end --------------------------------------------------------------------


def test_a_study_ends_with_one_table_of_everything(place, uninterrupted):
    out = carry_out(place)
    assert out == place / "out"
    assert (place / "loaded-here").exists()
    assert not any((place.parent / "elsewhere").iterdir())
    table = pd.read_parquet(out / "summary.parquet")
    assert list(table["kind"]) == ["class"] * 4 + ["image"] * 4
    folders = list(dict.fromkeys(table["folder"]))
    assert all(f.startswith(h) for f, h in zip(folders, [*HOSTILE, "photo"], strict=True))
    for folder, rows in table[table["kind"] == "class"].groupby("folder"):
        glob = vtcav.GlobalExplanation.load(out / "classes" / folder)
        summary = glob.summary()
        assert list(rows["attribution"]) == list(summary["mean"])
        np.testing.assert_array_equal(rows["q_value"], summary["q_value"])
        assert set(glob.images["image"]) <= {f"pictures/{i}.png" for i in range(3)}
    local = vtcav.LocalExplanation.load(out / "images" / "photo")
    assert local.image == "photo.png"
    rows = table[table["kind"] == "image"]
    assert list(rows["attribution"]) == list(local.attributions["attribution"])
    assert table["attribution"].max() > 0
    levels = Diagnostics.load(out / "diagnostics")
    assert set(table["trust"]) == {levels.level("3", name) for name in ("bright", "dark")}
    without = table[table.drop(columns="note").isna().any(axis=1)]
    assert (without["note"] != "").all()
    assert len(without) > 0
    manifest = load_manifest(out, "study", "study")
    assert manifest["provenance"]["model"]["fingerprint"]
    assert manifest["study"]["layers"] == ["3"]
    assert str(place) not in json.dumps(manifest)
    assert tables(out) == uninterrupted


def test_the_same_again_does_nothing_twice_and_gives_the_same(finished, uninterrupted, monkeypatch):
    monkeypatch.setattr(vtcav.VisualTCAV, "fit", None)
    monkeypatch.setattr(vtcav.VisualTCAV, "explain", None)
    monkeypatch.setattr(vtcav.VisualTCAV, "diagnostics", None)
    monkeypatch.setattr("vtcav.explainer.runs.image_table.compute_parts", None)
    said = []
    out = carry_out(finished, said)
    assert sum(text.endswith("kept from before") for text in said) == 5
    assert tables(out) == uninterrupted


# -- cut off ----------------------------------------------------------------------------------


class CutOff(BaseException):
    """What a person or a system does to a process."""


def fail_at(monkeypatch, owner, name, call):
    """Make a method end the process when it is called for the `call`-th time, after its work."""
    whole, calls = getattr(owner, name), []

    def cut(*args, **kwargs):
        calls.append(name)
        found = whole(*args, **kwargs)
        if len(calls) == call:
            raise CutOff
        return found

    monkeypatch.setattr(owner, name, cut)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (vtcav.CavBank, "save", 1),
        (vtcav.VisualTCAV, "explain_class", 2),
        (vtcav.VisualTCAV, "explain", 1),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_a_study_that_is_cut_off_goes_on(place, uninterrupted, monkeypatch, owner, name, call):
    with monkeypatch.context() as patched:
        fail_at(patched, owner, name, call)
        with pytest.raises(CutOff):
            carry_out(place)
    assert not (place / "out" / "study.json").exists()
    out = carry_out(place)
    assert tables(out) == uninterrupted


def test_an_interrupted_command_says_how_to_go_on(place, monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(vtcav.VisualTCAV, "explain_class", interrupt)
    assert main(["run", str(place / "study.yaml"), "--quiet"]) == 130
    assert f"in {str(place / 'out')!r} is whole: run the same command" in capsys.readouterr().err


def test_a_damaged_part_is_named_and_made_again(finished, uninterrupted):
    out = finished / "out"
    (out / "images" / "photo" / "local_attributions.csv").write_text("")
    with pytest.warns(DamagedPartWarning, match="images/photo is made again: .* was changed"):
        carry_out(finished)
    assert tables(out) == uninterrupted


# -- other settings ---------------------------------------------------------------------------


def test_results_of_other_settings_are_refused_by_name(finished):
    place = finished
    before = tables(place / "out")
    edit(place, "steps: 4", "steps: 5")
    with pytest.raises(vtcav.ExplanationError, match=r"options\.steps was 4, is 5"):
        carry_out(place)
    edit(place, "steps: 5", "steps: 4")
    path = place / "concepts" / "dark" / "0.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    with pytest.raises(
        vtcav.ExplanationError, match=r"concepts\.dark\.examples\.sha256 has changed"
    ):
        carry_out(place)
    assert tables(place / "out") == before


def test_classes_may_be_added_and_not_taken_away(finished, monkeypatch):
    edit(finished, "classes:\n", "classes:\n  egyptian_cat: pictures/1.png\n")
    with pytest.warns(DamagedPartWarning, match="diagnostics is made again: the images"):
        out = carry_out(finished)
    assert "Egyptian cat" in {path.name for path in (out / "classes").iterdir()}
    table = pd.read_csv(out / "summary.csv")
    assert table["name"].nunique() == 4
    edit(finished, "  egyptian_cat: pictures/1.png\n", "")
    with pytest.raises(StudyError, match=r"line 13, output: there are results in .*Egyptian cat"):
        carry_out(finished)
    shutil.rmtree(out / "classes" / "Egyptian cat")
    edit(finished, "diagnostics: {resamples: 20}", "diagnostics: false")
    with pytest.raises(StudyError, match=r"there are results in .*diagnostics'"):
        carry_out(finished)


# -- what is wrong is said before the work, with its line -------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("studynet:build", "studynet:nope", "line 2, model: the module 'studynet' has no 'nope'"),
        ("layers: [3]", "layers: [9]", "line 3, layers: .*no layer '9'"),
        ("a/b: pictures", "a/c: pictures", "line 7, classes.a/c: unknown class .*'a/b'"),
        ("../x: pictures/0.png", "0: pictures", "line 8, classes.0: '0' and 'a/b' are the same"),
        ("top: 2", "top: [cow]", "line 10, options.top: unknown class 'cow'"),
        ("[photo.png]", "[studynet.py]", r"line 9, images.studynet: cannot read 'studynet.py'"),
    ],
)
def test_mistakes_that_the_network_tells(place, monkeypatch, old, new, message):
    monkeypatch.setattr(vtcav.VisualTCAV, "fit", None)
    edit(place, old, new)
    with pytest.raises(StudyError, match=message):
        carry_out(place)
    assert not (place / "out").exists()


def test_a_photograph_that_cannot_be_read_is_named(place):
    (place / "broken.png").write_bytes(b"no image")
    edit(place, "[photo.png]", "[photo.png, broken.png]")
    edit(place, "classes:\n  a/b: pictures\n  ../x: pictures/0.png\n", "")
    edit(place, "diagnostics: {resamples: 20}", "diagnostics: false")
    with pytest.warns(vtcav.SkippedImageWarning, match=r"1 of 2 photographs .*'broken.png'"):
        out = carry_out(place)
    skipped = load_manifest(out, "study", "study")["skipped"]
    assert [skip["name"] for skip in skipped] == ["broken.png"]
    assert set(pd.read_csv(out / "summary.csv")["trust"]) == {"not diagnosed"}
    edit(place, "steps: 4", "steps: 4, strict: true")
    with pytest.raises(StudyError, match=r"line 6, images.broken: cannot read 'broken.png'"):
        carry_out(place, output=place / "strict")


# -- the commands -----------------------------------------------------------------------------


def test_init_then_run(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    (place / "pictures").rename(place / "Egyptian_cat")
    (place / "classes").mkdir()
    (place / "Egyptian_cat").rename(place / "classes" / "Egyptian_cat")
    with pytest.raises(vtcav.ExplanationError, match=r"'study.yaml' exists already; --force"):
        command("init", "-o", "study.yaml")
    (place / "net.safetensors").touch()
    (place / "half.py").write_text("def build(size): ...\n\ndef (")
    (place / "loaded-here").unlink(missing_ok=True)
    command("init", "--force")
    said = capsys.readouterr().out
    assert "The network: python:studynet:build\n" in said
    assert "Not taken: net.safetensors; where the network does not load" in said
    assert not (place / "loaded-here").exists()  # the file was read, and not run
    assert f"Written to {place / 'study.yaml'}" in said
    assert "Set under model: preprocess and class_names, which a function" in said
    assert "\n  # preprocess: {size: 224, " in (place / "study.yaml").read_text()
    assert "vtcav run study.yaml" in said
    edit(place, "null_cavs: null ", "null_cavs: 20 ")
    edit(place, "bootstraps: 100 ", "bootstraps: 10 ")
    edit(place, "steps: adaptive ", "steps: 4 ")
    edit(place, "diagnostics: true", "diagnostics: {resamples: 20}\nlayers: [3]\nreport: false")
    edit(place, "[csv, parquet]", "[json]")
    command("run", "study.yaml", "--quiet", "-o", "other")
    said = capsys.readouterr().out
    assert "Egyptian cat: concept attributions over 3 images" in said
    verdicts = vtcav.GlobalExplanation.load("other/classes/Egyptian cat").verdicts()
    lines = [f"{verdict.kind}: {verdict.sentence}" for verdict in verdicts]
    assert said.startswith(
        "The network predicts 3 of the 3 images of 'Egyptian cat' as another class (3 as '../x')."
    )
    assert said.partition("\n")[2].startswith("\n".join(lines))  # the answer comes first
    assert re.search(r"not significant \(q > 0\.05\): \d values?: .*of 20 random direct", said)
    assert f"Written to {place / 'other'}" in said
    assert not (place / "results").exists()
    assert not (place / "other" / "summary.csv").exists()
    command("run", "study.yaml", "--json", "-o", "other")
    data = json.loads(capsys.readouterr().out)
    assert data["summary"] == json.loads((place / "other" / "summary.json").read_text())
    assert [one["sentence"] for one in data["verdicts"]] == [v.sentence for v in verdicts]
    assert [text[:51] for text in data["cautions"]] == [said[:51]]
    assert data["output"] == str(place / "other")
    assert data["report"] is None


def test_init_takes_no_results_for_pictures(finished, capsys):
    (finished / "out").rename(finished / "earlier")
    (finished / "begun" / "run").mkdir(parents=True)
    (finished / "begun" / "run" / "run.json").touch()
    (finished / "scans").mkdir()
    command("init", str(finished), "--force", "--json")
    assert json.loads(capsys.readouterr().out)["not_taken"] == ["pictures", "scans"]


def test_init_says_what_it_does_not_find(tmp_path, capsys):
    command("init", str(tmp_path), "-o", str(tmp_path / "new" / "a.yaml"))
    said = capsys.readouterr().out
    assert "Not found: concepts (a folder 'concepts'" in said
    assert "The network: demo, as no Python file beside it has a function build()" in said
    (tmp_path / "one.py").write_text("def build(size=3): ...")
    (tmp_path / "two.py").write_text("def build(*, size=3): ...")
    (tmp_path / "three.py").write_text("def build(*, size): ...")
    command("init", str(tmp_path))
    said = capsys.readouterr().out
    assert "demo, as there are python:one:build and python:two:build; --model names one" in said
    assert "Not taken: the folder 'new'; name what the study needs of it" in said
    assert (tmp_path / "new" / "a.yaml").exists()
    with pytest.raises(UsageError, match="got 'nowhere', which does not exist"):
        command("init", "nowhere")


BARE = """
from torch import nn

from tests.helpers.small import with_weights


def build():
    maps = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU()
    net = nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    return with_weights(net, 0)
"""


def test_init_takes_a_file_of_class_names_and_asks_for_the_preprocess(place, capsys):
    (place / "names.txt").write_text("cat\ndog\nzebra\n")
    (place / "barenet.py").write_text(BARE)
    command("init", str(place), "--force", "--model", "python:barenet:build", "--json")
    assert json.loads(capsys.readouterr().out)["to_set"] == ["preprocess"]
    assert Study.load(place / "study.yaml").model.class_names == "names.txt"
    (place / "barenet.py").write_text(BARE + "# vtcav.Classifier(build(), names, None)\n")
    command("init", str(place), "--force", "--model", "python:barenet:build", "--json")
    assert json.loads(capsys.readouterr().out)["to_set"] == []
    command("init", str(place), "--force", "--model", "timm:resnet18")
    said = capsys.readouterr().out
    assert "Not taken: names.txt; where these are the network's classes, write" in said
    assert "Set under model" not in said


def test_pictures_of_several_shapes_are_told_before_anything_is_learned(place, capsys):
    (place / "barenet.py").write_text(BARE)
    edit(place, "studynet", "barenet")
    edit(place, "classes:\n  a/b: pictures\n  ../x: pictures/0.png", "classes: {1: pictures}")
    Image.new("RGB", (24, 20), "red").save(place / "photo.png")
    assert main(["run", str(place / "study.yaml"), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "diagnostics: expected inputs of one shape, got (3, 20, 24) for " in said
    assert "give the model a preprocess with a size, for example preprocess: {size: 224}" in said
    assert not (place / "out" / "cavs.safetensors").exists()


def test_changes_that_no_reader_can_compare_are_named_alone(finished):
    edit(finished, "model: python:studynet:build", "model: python:studynet:other")
    code = MODEL + "\n\ndef other():\n    return small_model(preprocess=other_size)\n"
    code = code.replace("import pathlib\n", "import pathlib\n\nimport vtcav\n")
    code += "\n\nother_size = vtcav.Preprocess(16, mean=0.2)\n"
    (finished / "studynet.py").write_text(
        code.replace("small_model(pre", f"small_model({NAMES}, pre")
    )
    with pytest.raises(ExplanationError) as told:
        carry_out(finished)
    assert str(told.value).partition("settings: ")[2] == (
        "model.behaviour (what the network computes) has changed; model.preprocess_behaves (how "
        "pictures become inputs) has changed. Undo the change, choose another folder, or delete "
        "this one"
    )


def test_a_network_without_a_preprocess_says_so_in_everything_that_is_handed_over(place, capsys):
    pytest.importorskip("jinja2")
    (place / "barenet.py").write_text(BARE)
    edit(place, "studynet", "barenet")
    edit(place, "classes:\n  a/b: pictures\n  ../x: pictures/0.png", "classes: {1: pictures}")
    edit(place, "report: false\n", "")
    edit(place, "diagnostics: {resamples: 20}", "diagnostics: false")
    with pytest.warns(UserWarning, match="no preprocess given"):
        command("run", str(place / "study.yaml"), "--quiet")
    said = "No preprocess was given: pictures are used at their own size, scaled to [0, 1]. "
    assert capsys.readouterr().out.startswith(said)
    out = place / "out"
    assert load_manifest(out, "study", "study")["cautions"][0].startswith(said)
    [local] = (out / "images").iterdir()
    for explained in (
        vtcav.LocalExplanation.load(local),
        vtcav.GlobalExplanation.load(out / "classes" / "class 1"),
    ):
        assert explained.provenance.picture_notes[0].startswith(said)
    page = html.unescape((out / "report.html").read_text("utf-8"))
    [(_, first)] = re.findall(r'(<main [^>]*>)\s*<p class="warnings">(.*?)</p>', page)
    assert first.startswith(said)


def test_a_study_ends_with_its_report(place, capsys):
    pytest.importorskip("jinja2")
    edit(place, "report: false\n", "title: Are zebras striped?\n")
    edit(place, "classes:\n  a/b: pictures\n  ../x: pictures/0.png\n", "")
    command("run", str(place / "study.yaml"), "--quiet")
    page = place / "out" / "report.html"
    assert f"Report: {page}" in capsys.readouterr().out
    assert "photo" in page.read_text("utf-8")
    assert "<title>Are zebras striped?</title>" in page.read_text("utf-8")
    assert "Are zebras striped?" in write_report(place / "out").read_text("utf-8")


# -- limits -----------------------------------------------------------------------------------

LIMITS = """
limits:
  bright: {max_attribution: 0.0, layer: "3", classes: [a/b]}
  dark: {max_share: 0.0, strict: true}
output: out
"""


def test_a_broken_limit_ends_the_command_with_a_code_of_its_own(finished, capsys):
    edit(finished, "\noutput: out\n", LIMITS)
    out = finished / "out"
    assert main(["run", str(finished / "study.yaml")]) == 3
    said = capsys.readouterr()
    limits = load_manifest(out, "study", "study")["limits"]
    assert [(one["concept"], one["class_name"], one["quantity"]) for one in limits] == [
        ("bright", "a/b", "attribution"),
        ("dark", "a/b", "share"),
        ("dark", "../x", "share"),
    ]
    table = pd.read_parquet(out / "summary.parquet").query(
        "kind == 'class' and concept == 'bright'"
    )
    [row] = table[table["class_name"] == "a/b"].to_dict("records")
    assert limits[0]["found"] == pytest.approx(row["attribution"], rel=1e-12)
    assert limits[0]["low"] == pytest.approx(min(row["ci_low"], row["cav_low"]), rel=1e-12)
    for one in limits:
        assert (f": {one['sentence']}" in said.out) == one["failed"]
    assert "Limit failed (strict): cannot tell whether what erasing 'dark' changes" in said.out
    assert f"{sum(one['state'] == 'kept' for one in limits)} of 3 limits kept" in said.out
    suite = ElementTree.parse(out / "limits.xml").getroot()[0]
    assert suite.get("failures") == str(sum(one["failed"] for one in limits))
    assert "limits:" in (out / "study.yaml").read_text()
    page = write_report(out).read_text()
    assert "<h3>Limits</h3>" in page
    assert all(one["sentence"][1:] in html.unescape(page) for one in limits)
    # other limits need no other run
    edit(finished, "max_attribution: 0.0, ", "max_attribution: 100, ")
    edit(finished, "  dark: {max_share: 0.0, strict: true}\n", "")
    assert main(["run", str(finished / "study.yaml")]) == 0
    assert "of 1 limit kept" in capsys.readouterr().out
    edit(finished, LIMITS.splitlines()[1], "# none")
    edit(finished, '  bright: {max_attribution: 100, layer: "3", classes: [a/b]}\n', "")
    assert main(["run", str(finished / "study.yaml")]) == 0
    assert not (out / "limits.xml").exists()


def test_what_cannot_be_told_is_a_warning(finished, capsys):
    limit = "limits: {dark: {max_share: 0.1, classes: [../x]}}"
    edit(finished, "\noutput: out\n", f"\n{limit}\noutput: out\n")
    assert main(["run", str(finished / "study.yaml")]) == 0
    [one] = load_manifest(finished / "out", "study", "study")["limits"]
    assert one["state"] == "cannot tell"  # it has one image
    assert f"limit: {one['sentence']}" in " ".join(capsys.readouterr().err.split())


def test_a_limit_at_a_layer_that_is_not_explained_is_refused(place):
    limit = 'limits: {dark: {max_attribution: 0.1, layer: "1"}}'
    edit(place, "\noutput: out\n", f"\n{limit}\noutput: out\n")
    with pytest.raises(StudyError, match=r"limits\.dark\.layer: layer '1' is not explained; .* 3"):
        carry_out(place)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("grey: {max_share: 1}", "limits.grey: there is no concept 'grey'; expected bright, dark"),
        ("dark: {strict: true}", "limits.dark: expected max_attribution, max_share or both"),
        ("dark: {max_share: -1}", "limits.dark.max_share: expected a number of at least 0"),
        ("dark: {max_share: 1, classes: [c]}", "limits.dark: there is no class 'c' in the study"),
        ("dark: {most: 1}", "limits.dark: unknown key 'most'"),
    ],
)
def test_limits_that_cannot_be(place, limit, message):
    edit(place, "\noutput: out\n", f"\nlimits: {{{limit}}}\noutput: out\n")
    with pytest.raises(StudyError, match=f"line 13, {re.escape(message)}"):
        Study.load(place / "study.yaml")


def test_a_study_of_words(data, tmp_path, libraries, monkeypatch):
    from tests.helpers.joint import save_tiny

    root = tmp_path / "study"
    shutil.copytree(data, root)
    monkeypatch.syspath_prepend(str(root))
    rng = np.random.default_rng(1)
    (root / "probe").mkdir()
    for i in range(24):
        pixels = rng.integers(0, 40 + 9 * i, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "probe" / f"{i:02}.png")
    save_tiny(root / "clip")
    words = "texts: {concepts: {light: a bright picture}, images: probe, model: clip}\n"
    text = re.sub("concepts: concepts\nnegatives: random\n", words, STUDY)
    (root / "words.yaml").write_text(text.replace("output: out", "output: of-words"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights mean little
        run_study(Study.load(root / "words.yaml"), progress=False)
    bank = vtcav.CavBank.load(root / "of-words" / "cavs.safetensors")
    assert bank.concepts[0].texts == ("a bright picture",)
    summary = pd.read_csv(root / "of-words" / "summary.csv")
    assert set(summary["concept"]) == {"light"}
    # another model is another study
    (root / "clip" / "more.txt").write_text("changed")
    with pytest.raises(ExplanationError, match=r"other settings: texts\.files\.more\.txt"):
        run_study(Study.load(root / "words.yaml"), progress=False)


# -- discovery --------------------------------------------------------------------------------


def test_concepts_that_nobody_named_are_a_step_of_a_study(finished, uninterrupted):
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(1)
    (finished / "more").mkdir()
    for i in range(24):
        pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        pixels[4:12, 4:12, i % 3] = 250
        Image.fromarray(pixels).save(finished / "more" / f"{i}.png")
    discover = "discover: {images: more, k: 2, attributed: 3, erased: true}"
    edit(finished, "\noutput: out\n", f"\n{discover}\noutput: out\n")
    said = []
    out = carry_out(finished, said)
    assert "Finding concepts that nobody named in 24 images" in said
    found = vtcav.Discovery.load(out / "discovery")
    assert len(found.concepts) == 2
    assert found.attributions["verdict"].ne("").all()
    assert "discover:" in (out / "study.yaml").read_text()
    said.clear()
    carry_out(finished, said)
    assert "Finding concepts that nobody named in 24 images: kept from before" in said
    others = {name: data for name, data in tables(out).items() if "discovery" not in name}
    changed = {"study.yaml", "study.json"}
    assert {n: d for n, d in others.items() if n not in changed} == {
        n: d for n, d in uninterrupted.items() if n not in changed
    }
    edit(finished, f"{discover}\n", "")
    with pytest.raises(StudyError, match="discovery' that the study does not ask for"):
        carry_out(finished)


def test_a_study_of_photographs_alone_says_what_erasing_does(place, capsys, monkeypatch):
    edit(place, "classes:\n  a/b: pictures\n  ../x: pictures/0.png\n", "")
    edit(place, "photo.png]", "photo.png, pictures/0.png]")
    monkeypatch.setattr("vtcav.cli.commands.run._FIRST", 2)
    assert main(["run", str(place / "study.yaml"), "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ("photo", "0")
    own = [LocalExplanation.load(place / "out/images" / name).sentences() for name in names]
    assert own[0][1] == own[1][1]  # of a concept that no layer sees, said once
    said = [f"{name}: {each[0]}" for name, each in zip(names, own, strict=True)]
    assert lines[:3] == [*said, "1 more on photographs in study.json"]
    found = load_manifest(place / "out", "study", "study")
    assert found["photographs"] == [*said, own[0][1]]
