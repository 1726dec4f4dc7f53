"""Texts that no file can have as a name, wherever a path is taken: refused like a missing file."""

import pandas as pd
import pytest
from PIL import Image

import vtcav
from tests.helpers.small import concepts, negatives, pictures, small_model
from vtcav import datasets
from vtcav.cli import main
from vtcav.explainer.correction.corrected_network import CorrectedNetwork
from vtcav.files.paths import is_file, is_folder, is_link, is_there, usable
from vtcav.report import write_report
from vtcav.results.explanation import GlobalExplanation, LocalExplanation
from vtcav.study import Study
from vtcav.study.run import run_study

NAMES = {
    "endless": "x" * 300,
    "a long way": "y/" * 3000 + "z",
    "null": "a\0b",
    "half a letter": "\ud800",
    "in a file": "file/x",
    "a link to itself": "loop",
    "endless pattern": "[" * 100_000,
    "endless table": "x" * 300 + ".csv",
    "endless list": "x" * 300 + ".json",
}
STUDY = """
model: {name: 'torchvision:resnet18', weights: random}
layers: [layer4]
concepts: {a: some}
negatives: some
images: [some/0.png]
output: out
"""


@pytest.fixture(scope="module")
def explainer():
    made = vtcav.VisualTCAV(small_model(), ["3"], 2, progress=False)
    return made.fit(concepts(), negatives(), null_cavs=0, bootstraps=0)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    for i, pixels in enumerate(pictures(5)):
        Image.fromarray(pixels).save(tmp_path / "some" / f"{i}.png")
    (tmp_path / "file").write_text("x" * 300)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "study.yaml").write_text(STUDY)
    pd.DataFrame({"image": ["0.png"], "label": ["a"]}).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path


def _reading(explainer):
    load = vtcav.load_model
    return {
        "image": lambda p: explainer.explain(p),
        "images": lambda p: explainer.explain_class(0, p),
        "concepts": lambda p: explainer.fit(p, negatives()),
        "concept": lambda p: explainer.fit({"a": p}, negatives()),
        "negatives": lambda p: explainer.fit(concepts(), p),
        "ranked": lambda p: explainer.rank(p, "bright"),
        "errors": lambda p: explainer.errors(p, [0]),
        "parts": lambda p: explainer.discover(p, k=2),
        "texts": lambda p: explainer.fit(texts={"a": "b"}, images="some", text_model=p),
        "bank": vtcav.CavBank.load,
        "local": LocalExplanation.load,
        "global": GlobalExplanation.load,
        "correction": lambda p: CorrectedNetwork.load(p, explainer.model),
        "report": write_report,
        "study": Study.load,
        "weights": lambda p: load("torchvision:resnet18", weights=p),
        "hf": lambda p: load(f"hf:{p}"),
        "keras": lambda p: load(f"keras:{p}"),
        "folders": datasets.from_folders,
        "listed": lambda p: datasets.from_folders(".", listed=p),
        "table": datasets.from_table,
        "root": lambda p: datasets.from_table("table.csv", root=p),
        "boxes": datasets.from_boxes,
        "coco": lambda p: datasets.from_coco(p, "some"),
        "broden": datasets.from_broden,
        "arrays": datasets.from_arrays,
        "shards": datasets.from_webdataset,
        "lmdb": datasets.from_lmdb,
        "masks": lambda p: datasets.from_masks("some", p, {"a": 1}),
        "masked": lambda p: datasets.from_masks(p, "some", {"a": 1}),
        "volumes": datasets.volumes,
        "slices": datasets.slices,
    }


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_what_cannot_be_there_is_refused_where_it_is_read(name, place, explainer):
    for what, read in _reading(explainer).items():
        with pytest.raises(vtcav.VtcavError):
            pytest.fail(f"{what}: {read(name)!r}")


@pytest.mark.parametrize("name", [n for n in NAMES.values() if n != "loop"])
def test_what_cannot_be_there_is_refused_where_it_is_written(name, place, explainer):
    study, found = Study.load("study.yaml"), explainer.explain(pictures(1)[0])
    found.save("saved")
    writing = {
        "run": lambda: explainer.explain_class(0, pictures(2), run=name),
        "bank": lambda: explainer.cavs.save(name),
        "result": lambda: found.save(name),
        "report": lambda: write_report("saved", name),
        "concepts": lambda: datasets.from_table("table.csv", root="some").save(name),
    }
    if "\0" in name or "\ud800" in name:  # others are refused where the first file is written
        writing["study"] = lambda: run_study(study, name, progress=False)
    for what, write in writing.items():
        if what == "concepts" and name.startswith("y/"):
            continue
        with pytest.raises(vtcav.VtcavError):
            pytest.fail(f"{what}: {write()!r}")


@pytest.mark.parametrize("name", ["x" * 300, "file/x", "loop"])
def test_the_commands_refuse_in_a_line(name, place, capsys):
    network = "--model", "torchvision:resnet18", "--weights", "random"
    concept = "--concepts", ".", "--images", "some"
    for argv in (
        ["explain", "some/0.png", *network, *concept[:2], "-o", name],
        ["localise", *network, *concept, "--masks", name],
        ["report", name],
        ["run", name],
        ["run", "study.yaml", "-o", name, "--quiet"],
        ["concepts", name, "-o", "new"],
        ["init", name],
    ):
        assert main(argv) in (1, 2), argv
        said = capsys.readouterr().err
        assert "unexpected" not in said, (argv, said)


def test_what_is_there_is_told(place):
    told = {name: (is_file(name), is_folder(name), is_there(name), is_link(name)) for name in (
        "some", "file", "loop", "nothing"
    )}  # fmt: skip
    assert told == {
        "some": (False, True, True, False),
        "file": (True, False, True, False),
        "loop": (False, False, False, True),
        "nothing": (False, False, False, False),
    }
    with pytest.raises(OSError, match="no file can have this name"):
        usable("a\0b")
