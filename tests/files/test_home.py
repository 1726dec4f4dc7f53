"""Paths that begin with `~/`: in the API, on the command line and in study files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import vtcav
from tests.helpers.small import small_explainer
from vtcav.cli import main
from vtcav.explainer.groups import groups_of
from vtcav.images.concepts import concept_folders
from vtcav.images.listing import collect
from vtcav.images.masks import find_masks
from vtcav.models.settings import LoadSettings
from vtcav.models.sources.checkpoints import read_weights
from vtcav.study import Study
from vtcav.study.second_network import with_network


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, with concepts, names, weights and a study; the process is elsewhere."""
    home = tmp_path / "home"
    for folder in ("concepts/dark", "concepts/random", "masks"):
        (home / folder).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(np.full((16, 16, 3), 40 * i, np.uint8)).save(home / folder / f"{i}.png")
    (home / "names.txt").write_text("cat\ndog\n")
    (home / "table.csv").write_text("path,label\nconcepts/dark/0.png,dark\n")
    save_file({"a": torch.zeros(2)}, home / "net.safetensors")
    (home / "study.yaml").write_text(
        "model: {name: demo, weights: ~/net.safetensors, class_names: ~/names.txt}\n"
        "concepts: {dark: [~/concepts/dark]}\nnegatives: ~/concepts/random\nlayers: ~\n"
        "classes: {dog: '~/table.csv:dark'}\nversus: ~/net.safetensors\noutput: ~/results\n"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    yield home
    assert not list((tmp_path / "elsewhere").iterdir())


def test_every_path_may_begin_in_the_home_folder(home):
    dark = [str(home / "concepts" / "dark" / f"{i}.png") for i in range(5)]
    for source in ("~/concepts/dark", Path("~/concepts/dark"), "~/concepts/dark/*.png"):
        assert [ref.name for ref in collect(source)] == dark
    assert [ref.name for ref in collect(["~/concepts/dark/3.png"])] == dark[3:4]
    assert list(concept_folders("~/concepts", besides="~/concepts/random")) == ["dark"]
    refs = collect("~/concepts/dark")
    assert find_masks(refs, "~/concepts/dark", "~/masks")[1] == home / "masks" / "1.png"
    assert find_masks(refs[:1], None, ["~/masks/1.png"]) == [home / "masks" / "1.png"]
    assert LoadSettings("demo", class_names="~/names.txt").names == ["cat", "dog"]
    assert list(read_weights("~/net.safetensors")) == ["a"]
    assert list(vtcav.datasets.from_table("~/table.csv")) == ["dark"]
    assert groups_of(dark[:1], "~/table.csv:label") == {dark[0]: "dark"}
    with pytest.raises(vtcav.ModelError, match=re.escape(str(home / "no folder"))):
        vtcav.load_model("hf:~/no folder")


def test_a_study_may_name_files_in_the_home_folder(home):
    study = Study.load("~/study.yaml")
    assert study.base / study.output == home / "results"
    assert study.concepts["dark"].examples == (str(home / "concepts" / "dark"),)
    assert study.concepts["dark"].negatives == str(home / "concepts" / "random")
    assert study.layers is None  # the null of YAML
    second = with_network(study, "~/net.safetensors").model
    assert (second.name, second.weights) == ("demo", str(home / "net.safetensors"))


def test_results_may_lie_in_the_home_folder(home, capsys):
    explainer = small_explainer()
    explainer.fit({"dark": "~/concepts/dark"}, "~/concepts/random", null_cavs=0, bootstraps=0)
    explainer.cavs.save("~/out/dark.safetensors")
    assert vtcav.CavBank.load("~/out/dark.safetensors").names == ("dark",)
    local = explainer.explain("~/concepts/dark/1.png", classes=1)
    assert vtcav.LocalExplanation.load(local.save("~/out/one")).image == local.image
    assert vtcav.LocalExplanation.load("~/out/one").image == local.image
    assert main(["report", "~/out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(home / "out" / "report.html")
    assert main(["init", "~/out", "--quiet"]) == 0
    assert (home / "out" / "study.yaml").exists()
