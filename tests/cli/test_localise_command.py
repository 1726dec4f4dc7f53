"""`vtcav localise`: what it prints and writes, and how it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

import vtcav
from tests.helpers.colours import patches
from vtcav.cli import main


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs `vtcav localise` in a folder with a network, images, masks, concepts and negatives."""
    place = tmp_path
    images, masks = patches(0, 4, 5)
    (place / "colours.py").write_text(
        "from tests.helpers.colours import model\n\ndef build():\n    return model()\n"
    )
    for folder, pictures in (
        ("images", images),
        ("masks", masks.astype(np.uint8) + 1),
        ("concepts/red", patches(0, 6, 1)[0]),
        ("concepts/blue", patches(2, 6, 2)[0]),
        ("random", np.random.default_rng(9).integers(0, 30, (8, 16, 16, 3)).astype(np.uint8)),
    ):
        (place / folder).mkdir(parents=True)
        for i, image in enumerate(pictures):
            Image.fromarray(image).save(place / folder / f"{i}.png")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)

    def run(*more):
        words = "localise --images images --masks masks --model python:colours:build --layers 1,3"
        words += " --concepts concepts --negatives random --quiet"
        if code := main([*words.split(), *more, "--debug"]):
            raise SystemExit(code)

    return run


def test_command(command, tmp_path, capsys):
    command("--concept", "red", "--value", "2", "-o", "out")
    said = capsys.readouterr().out
    assert "means over 4 images, 0 left out" in said
    assert "red" in said
    assert "blue" not in said
    assert (tmp_path / "out/localisation.json").exists()
    command("--concept", "red,blue", "--value", "1,2", "--json")
    data = json.loads(capsys.readouterr().out)
    assert [row["area"] for row in data["means"]] == [1, 1, 1, 1]
    assert data["output"] is None


def test_command_with_a_folder_of_masks_for_each_concept(command, tmp_path, capsys):
    (tmp_path / "masks").rename(tmp_path / "red")
    (tmp_path / "masks").mkdir()
    for name in ("red", "blue"):
        (tmp_path / "masks" / name).symlink_to(tmp_path / "red")
    command("--value", "2", "--json")
    data = json.loads(capsys.readouterr().out)
    assert {row["concept"] for row in data["means"]} == {"red", "blue"}
    assert [row["area"] for row in data["means"]] == [1 / 16] * 4


def test_command_errors(command, capsys):
    with pytest.raises(SystemExit):
        command("--value", "red")
    assert "expected comma-separated numbers, nonzero or a colour" in capsys.readouterr().err
    with pytest.raises(vtcav.ExplanationError, match="whose masks are these"):
        command("--value", "1")
