"""`vtcav discover` by its output, and the page that it writes."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.small import pictures, small_net
from vtcav.cli import main

MODEL = "python:tests.cli.test_discover_command:network"


def network():
    import vtcav

    return vtcav.Classifier(small_net(), ["cat", "dog", "fox"], vtcav.Preprocess(16))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i, picture in enumerate(np.concatenate([pictures(12, 1, low=150), pictures(12, 3)])):
        Image.fromarray(picture).save(folder / f"{i:02}.png")
    return folder


def test_it_writes_tables_a_figure_and_a_page(images, tmp_path, capsys):
    out = tmp_path / "out"
    torch.manual_seed(0)
    code = main(
        [
            *("discover", "--images", str(images), "--model", MODEL, "--layers", "3", "--k", "2"),
            *("--attributed", "4", "--erased", "-o", str(out), "--json"),
        ]
    )
    answer = json.loads(capsys.readouterr().out)
    assert code == 0
    assert answer["best_layer"] == "3"
    assert [row["concept"] for row in answer["concepts"]] == [0, 1]
    assert {row["level"] for row in answer["concepts"]} <= {"fine", "look", "do not use"}
    assert sum(row["n"] for row in answer["attributions"]) == 8
    kinds = {"used", "not used", "not seen", "cannot be told"}
    assert {row["verdict"] for row in answer["attributions"]} <= kinds
    assert all("concept" in row["sentence"] for row in answer["attributions"])
    page = (out / "discovery.html").read_text()
    for text in ("Concept 0", "Concept 1", "stability", "predicted class", "used?"):
        assert text in page
    assert page.count('alt="Patch ') == 2 * 5
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    names = {path.name for path in out.iterdir()}
    assert {"discovery.json", "discovery.png", "discovery_concepts.csv"} <= names


def test_without_attributions_it_says_what_it_found(images, capsys):
    code = main(
        [
            *("discover", "--images", str(images), "--model", MODEL, "--layers", "1"),
            *("--attributed", "0", "--quiet"),
        ]
    )
    printed = capsys.readouterr().out
    assert code == 0
    assert "at 1 layer in 24 images" in printed
    assert printed.startswith("The most concepts without a flag: 1\n")
    assert "Nothing was written" in printed
    assert "Attributions" not in printed
