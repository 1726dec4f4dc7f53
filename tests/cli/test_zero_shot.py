"""CLIP as the network to explain, from the command line and in a study."""

import json

import pytest
from PIL import Image

import vtcav
from tests.helpers.joint import save_tiny
from tests.helpers.small import pictures
from vtcav.cli import main
from vtcav.errors import ModelError
from vtcav.models.sources import joint_towers

pytest.importorskip("transformers", reason="transformers is not installed")
PROMPTS = ["a photo of a cat", "a photo of a dog"]
FEW = ["--null-cavs", "20", "--bootstraps", "5"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("zero_shot")
    save_tiny(place / "clip")
    (place / "probe").mkdir()
    for i, picture in enumerate(pictures(24, seed=4, size=(40, 40))):
        Image.fromarray(picture).save(place / "probe" / f"{i}.png")
    (place / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return place


def test_prompts_are_asked_for(place, capsys):
    assert main(["layers", f"hf:{place / 'clip'}"]) == 1
    said = capsys.readouterr().err
    assert "has no classes of its own: pass prompts as class names" in said
    assert "--class-names FILE" in said


def test_words_and_prompts_on_the_command_line(place, capsys):
    code = main(
        [
            *("explain", str(place / "probe" / "0.png"), "--model", f"hf:{place / 'clip'}"),
            *("--class-names", str(place / "prompts.txt"), "--text", "bright=a bright texture"),
            *("--probe", str(place / "probe"), *FEW, "--json"),
        ]
    )
    assert code == 0
    rows = json.loads(capsys.readouterr().out)["attributions"]
    assert {row["class_name"] for row in rows} == set(PROMPTS)
    assert {row["concept"] for row in rows} == {"bright"}


def test_a_study_of_a_zero_shot_network(place, capsys):
    (place / "study.yaml").write_text(f"""
model: {{name: "hf:{place / "clip"}", class_names: {json.dumps(PROMPTS)}}}
texts: {{concepts: {{bright: a bright texture}}, images: probe}}
negatives: probe
layers: [vision_model.encoder.layers.0]
classes: {{a photo of a cat: probe}}
discover: {{images: probe, k: 2, attributed: 4}}
diagnostics: false
options: {{null_cavs: 20, bootstraps: 5, steps: 5}}
output: out
""")
    assert main(["run", str(place / "study.yaml")]) == 0, capsys.readouterr().err
    explained = vtcav.GlobalExplanation.load(place / "out" / "classes" / "a photo of a cat")
    assert set(explained.attributions["concept"]) == {"bright"}
    assert vtcav.Discovery.load(place / "out" / "discovery").images == 24
    assert (place / "out" / "report.html").is_file()


def test_a_broken_installation_is_not_the_folders_fault(place, monkeypatch):
    class Broken:
        @staticmethod
        def from_pretrained(*args, **settings):
            raise ModuleNotFoundError("Could not import module 'CLIPModel'.")

    monkeypatch.setattr("transformers.AutoModel", Broken)
    with pytest.raises(ModelError, match=r"cannot import what .* needs: Could not import module"):
        joint_towers.load_towers(str(place / "clip"))
