"""`vtcav find`: table and page, answered again without the network until something changes."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import vtcav
from tests.helpers.colours import explainer_of, patches
from vtcav.cli import main
from vtcav.cli.answered import Asked
from vtcav.files.manifest import save_result
from vtcav.results.ranking import Ranking

MODEL = """
import torch
from tests.helpers.colours import model

def build():
    with open("loads.txt", "a") as file:
        file.write("x")
    torch.manual_seed(0)
    return model()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "mycolours.py").write_text(MODEL)
    for folder, pictures in (
        ("images", np.concatenate([patches(2, 30, 6)[0], patches(0, 40, 5)[0]])),
        ("concepts/red", patches(0, 6, 1)[0]),
        ("concepts/blue", patches(2, 6, 2)[0]),
        ("random", np.random.default_rng(9).integers(0, 30, (8, 16, 16, 3)).astype(np.uint8)),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for i, image in enumerate(pictures):
            Image.fromarray(image).save(tmp_path / folder / f"{i:02d}.png")
    (tmp_path / "images/broken.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def find(*more, concept="red"):
    words = f"find {concept} --images images --model python:mycolours:build --layers 1,3"
    return main([*words.split(), *["--concepts", "concepts", "--negatives", "random"], *more])


def loads(place):
    return len((place / "loads.txt").read_text())


def test_table_and_page_then_the_answer_without_the_network(place, capsys):
    assert find("--layer", "1", "--pictures", "8", "-o", "out") == 0
    said = capsys.readouterr()
    assert "red, layer 1: 70 images, 40 with M > 0.5 somewhere, 0 with an empty map, 1" in said.out
    assert "50 more images in the table." in said.out
    assert "cannot be read: images/broken.png: it is not a picture" in said.out
    assert "1 of 71 images is left out" in said.err
    assert not (place / "out/run").exists()
    table = pd.read_csv(place / "out/ranking_table.csv")
    assert set(table["image"][:40]) == {f"images/{i}.png" for i in range(30, 70)}
    assert table["image"].iloc[-1] == "images/broken.png"
    page = (place / "out/ranking.html").read_text()
    assert page.count('<figure class="pair">') == 8
    assert "images/broken.png: it is not a picture" in page
    assert len(Ranking.load(place / "out").shown) == 8

    assert loads(place) == 1
    assert find("--layer", "1", "--pictures", "8", "-o", "out", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert loads(place) == 1
    assert [row["image"] for row in data["table"]] == table["image"].tolist()
    assert data["computed"].endswith("UTC")
    assert find("--layer", "1", "--pictures", "8", "-o", "out") == 0
    assert "Answered from the table of 20" in capsys.readouterr().out
    assert loads(place) == 1


def test_the_answer_is_computed_anew_on_demand_and_after_a_change(place, capsys):
    saved = explainer_of(vtcav.load_model("python:mycolours:build"))
    saved.cavs.save("cavs.safetensors")
    words = "find red --images images --model python:mycolours:build --cavs cavs.safetensors"
    words += " --pictures 0"
    for more in ("-o out", "-o out", "-o out --again"):
        assert main([*words.split(), *more.split()]) == 0
    said = capsys.readouterr().out
    assert said.count("Answered from the table") == 1
    assert "red, the layers together: 70 images" in said
    (place / "images/00.png").unlink()
    assert main([*words.split(), "-o", "out"]) == 0
    said = capsys.readouterr().out
    assert "Computed anew, as these have changed: images\n" in said
    assert "69 images" in said
    assert loads(place) == 4
    assert main([*words.split(), "--quiet"]) == 0
    assert "Nothing was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ("images/03.png", "images"),
        ("random/03.png", "negatives"),
        ("mycolours.py", "model"),
        ("weights.pt", "model"),
        ("names.json", "class_names"),
        ("", "layer"),
    ],
)
def test_what_has_changed_is_told(place, changed, what):
    (place / "names.json").write_text("[]")
    options = {"model": "python:mycolours:build", "images": "images", "negatives": "random"}
    options |= {"class_names": "names.json", "layer": "1", "weights": None}

    def asked():
        return Asked(options, ["images", "concepts", "negatives"])

    assert asked().answer(place, "ranking") is None
    assert asked().changed(place, "ranking") == []
    save_result(place, "ranking", "it", lambda folder: {"a": 1})
    asked().keep(place, "ranking")
    found, computed = asked().answer(place, "ranking")
    assert (found["a"], computed[:2]) == (1, "20")
    (place / "notes.txt").write_text("no code reads this")
    assert asked().answer(place, "ranking") is not None
    if changed:
        file = place / changed
        file.write_bytes(file.read_bytes() + b"x" if file.exists() else b"x")
    else:
        options["layer"] = "3"
    assert asked().answer(place, "ranking") is None
    assert asked().changed(place, "ranking") == [what]


def test_an_answer_that_was_replaced_or_damaged_is_not_given(place):
    asked = Asked({"images": "images"}, ["images"])
    save_result(place, "ranking", "it", lambda folder: {"a": 1})
    asked.keep(place, "ranking")
    save_result(place, "ranking", "it", lambda folder: {"a": 2})
    assert asked.answer(place, "ranking") is None
    (place / "ranking_asked.json").write_text("{")
    assert asked.answer(place, "ranking") is None
    assert asked.changed(place, "ranking") == []


def test_images_that_are_no_files_are_looked_at_anew(place):
    asked = Asked({"images": [np.zeros((4, 4, 3), np.uint8)]}, ["images"])
    save_result(place, "ranking", "it", lambda folder: {})
    asked.keep(place, "ranking")
    assert asked.answer(place, "ranking") is None


def test_a_caution_comes_before_the_order(place, capsys):
    for i in range(30, 70):
        (place / f"images/{i}.png").unlink()
    assert find() == 0
    assert capsys.readouterr().out.startswith("Caution: no image responds")


def test_mistakes_are_named_before_the_work(place, capsys):
    assert find(concept="green") == 1
    assert "no folder of the concept 'green'; there are 'blue', 'red'" in capsys.readouterr().err
    assert find("--workers", "2") == 2
    assert "--address and --workers need --engine ray" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        find("--pictures", "-1")
    assert "at least 0" in capsys.readouterr().err
