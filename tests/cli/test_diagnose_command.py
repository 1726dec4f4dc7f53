import json

import numpy as np
import pytest
from PIL import Image

import vtcav
from tests.helpers.small import small_model
from vtcav.cli import parser
from vtcav.cli.options import Arguments, UsageError
from vtcav.diagnostics.diagnosis import diagnose
from vtcav.diagnostics.result import Diagnostics


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in a folder with two concepts and negatives, without a real network."""
    rng = np.random.default_rng(0)
    for folder, high in (("concepts/dark", 60), ("concepts/grey", 150), ("random", 255)):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, high, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vtcav.models.registry.load_network", lambda settings: small_model())

    def run(*options):
        words = ["diagnose", "--model", "small", "--quiet", *options]
        arguments = parser().parse_args(words, Arguments())
        arguments.run(arguments)

    return run


SOURCES = "--concepts", "concepts", "--negatives", "random"


def test_levels_and_reasons_are_printed_and_kept(run, tmp_path, capsys):
    run(*SOURCES, "--layers", "1,3", "-o", "out")
    out = capsys.readouterr().out
    assert "How far each concept can be trusted" in out
    assert "decided by" in out
    assert "dark" in out
    assert f"Written to {tmp_path / 'out'}" in out
    found = Diagnostics.load("out")
    assert found.concepts == ("dark", "grey")
    assert all(found.level(layer, "dark") in out for layer in found.layers)
    bank = vtcav.CavBank.load("out/cavs.safetensors")
    assert diagnose(bank).summary().equals(found.summary())


def test_json_and_a_bank_in_place_of_concepts(run, capsys):
    run(*SOURCES, "-o", "out")
    capsys.readouterr()
    run("--cavs", "out/cavs.safetensors", "--json")
    data = json.loads(capsys.readouterr().out)
    assert {row["concept"] for row in data["summary"]} == {"dark", "grey"}
    assert {"separability", "place"} <= {row["check"] for row in data["findings"]}
    assert data["duplicates"] == []
    assert data["output"] is None


def test_images_to_explain_that_are_examples_are_found(run, capsys):
    run(*SOURCES, "--images", "concepts/dark", "--other-negatives", "concepts/grey")
    out = capsys.readouterr().out
    assert out.startswith("do not use: dark: 12 images of 12 to explain were used to learn")


def test_sources_are_checked_before_anything_is_learned(run):
    with pytest.raises(UsageError, match="either --concepts DIR"):
        run("-o", "out")
    with pytest.raises(vtcav.ImageError, match="'nowhere' does not exist"):
        run(*SOURCES, "--images", "nowhere")
