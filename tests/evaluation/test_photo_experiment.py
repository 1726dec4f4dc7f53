"""The experiment on one's own photographs: crops of real ones, with settings that learn little."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import nn

import vtcav
from vtcav.cli import parser
from vtcav.cli.options import Arguments, UsageError
from vtcav.errors import ExplanationError, ImageError, LayerError
from vtcav.evaluation.experiment.drawn_unit import UnitSettings
from vtcav.evaluation.experiment.evaluate import evaluate
from vtcav.evaluation.experiment.network import Training
from vtcav.evaluation.experiment.photo_network import Frozen, Samples, input_of
from vtcav.evaluation.experiment.photo_unit import PhotoExperiment, PhotoSettings
from vtcav.evaluation.experiment.photographs import read_photographs
from vtcav.evaluation.experiment.scenes import PREPROCESS, scene_seed
from vtcav.evaluation.experiment.tags import GLYPHS, put_tags
from vtcav.images.references import SkippedImageWarning

TINY = PhotoSettings(
    Training(scenes=64, epochs=2),
    examples=6,
    test_images=3,
    methods=("visual_tcav", "visual_tcav_filter", "tcav"),
    tcav_runs=2,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fifteen crops of a cat and twelve of a cup of coffee."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, picture, count in (("cat", data.chelsea(), 15), ("coffee", data.coffee(), 12)):
        (root / name).mkdir()
        for i in range(count):
            y, x = (int(rng.integers(0, side - 150)) for side in picture.shape[:2])
            Image.fromarray(picture[y : y + 150, x : x + 150]).save(root / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def model():
    """A network whose block "features" has maps of 16 x 16."""
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 1, 1), nn.ReLU()
    )
    pool = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 3))
    net = nn.Sequential()
    net.add_module("features", features)
    net.add_module("rest", pool)
    preprocess = vtcav.Preprocess(32, mean=0.4, std=0.3, crop_pct=0.9)
    return vtcav.Classifier(net, ["a", "b", "c"], preprocess)


@pytest.fixture(scope="module")
def finished(folder, model, tmp_path_factory):
    before = {name: part.clone() for name, part in model.module.state_dict().items()}
    out = tmp_path_factory.mktemp("run") / "out"
    found = evaluate(
        out, images=folder, model=model, settings=TINY, seeds=[3], agreements=[0, 1], progress=False
    )
    after = model.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    return found


def test_the_outputs_are_those_of_the_drawn_experiment(finished):
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert summary["kind"] == "photographs"
    assert list(summary["methods"]) == list(TINY.methods)
    for entry in summary["methods"].values():
        for name in ("spearman", "pearson"):
            assert {"best_layer", "median_layer", "per_seed"} <= set(entry[name])
    assert {"pointing_game", "soft_iou", "balanced_mse"} <= set(summary["localisation"])
    known = summary["run"]["photographs"]["classes"]
    assert known == {"cat": {"listed": 15, "used": 15}, "coffee": {"listed": 12, "used": 12}}
    assert summary["run"]["model"]["layer"] == "features"
    assert len(finished.points) == 3 * 2 * 2 * 5  # methods, q, classes, layers
    assert set(finished.points["cue"]) == {"tag"}
    layers = ["stem", "block1", "block2", "block3", "block4"]
    assert list(finished.points["layer"].unique()) == layers
    missing = finished.points.drop(columns="note").isna().any(axis=1)
    assert (finished.points.loc[missing, "note"] != "").all()
    page = finished.page.read_text()
    assert "after &#39;features&#39;, frozen" in page
    assert "Only the tag is known" in page
    assert page.count("data:image/png;base64,") == 8


def test_a_run_goes_on_and_other_photographs_are_refused(finished, folder, model, tmp_path):
    shared = {"model": model, "settings": TINY, "seeds": [3], "progress": False}
    units = finished.folder / "units"
    before = {p: p.stat().st_mtime_ns for p in units.rglob("unit.json")}
    again = evaluate(finished.folder, images=folder, agreements=[0, 1], **shared)
    assert before == {
        p: p.stat().st_mtime_ns for p in (finished.folder / "units").rglob("unit.json")
    }
    assert again.points.equals(finished.points)
    with pytest.raises(ExplanationError, match="other settings: photographs"):
        evaluate(finished.folder, images=folder, limit=13, **shared)


def test_without_a_model_small_networks_are_trained(folder, tmp_path):
    less = replace(TINY, methods=("visual_tcav",))
    found = evaluate(
        tmp_path / "out", images=folder, settings=less, seeds=[0], agreements=[1], progress=False
    )
    assert found.summary["run"]["model"] is None
    assert "from scratch" in found.page.read_text()
    assert found.points["layer"].nunique() == 7


def test_the_truth_is_the_effect_of_taking_the_tag_off(finished, folder, model):
    """Literally: the trained weights, the test photographs, twice through the network."""
    from safetensors.torch import load_file

    from vtcav.evaluation.experiment.photo_network import photo_network

    frozen = Frozen.of(model)
    photographs = read_photographs(folder, model.preprocess, limit=400, seed=3)
    experiment = PhotoExperiment(photographs, frozen, model.preprocess, TINY)
    weights = load_file(finished.folder / "units" / "seed-3_q-100" / "network.safetensors")
    assert not any(name.startswith("stem") for name in weights)
    trial = experiment.trial(3, each=3)
    plain = trial.versions["without_tag"]
    net = photo_network(frozen, 2, 3)
    net.load_state_dict(weights)
    net.eval()
    with torch.no_grad():
        z, z_plain = (
            net(input_of(part, experiment.preprocess)).double().numpy()
            for part in (trial.pictures, plain)
        )
    rows = finished.points[(finished.points["q"] == 1) & (finished.points["layer"] == "block4")]
    for t, name in enumerate(photographs.classes):
        own = trial.labels == t
        effect = (z[own, t] - z_plain[own, t]).mean()
        gap = z[own, t].mean() - z_plain[~own, t].mean()
        here = rows[(rows["class_name"] == name) & (rows["method"] == "visual_tcav")].iloc[0]
        assert here["effect"] == pytest.approx(effect, abs=1e-4)
        assert here["gap"] == pytest.approx(gap, abs=1e-4)
    assert ((trial.pictures != plain).any(3) <= trial.masks["tag"]).all()


def test_agreements_share_the_frozen_features(folder, model):
    photographs = read_photographs(folder, model.preprocess)
    learn, test = photographs.split(3, seed=0)
    assert not set(learn) & set(test)
    assert np.bincount(photographs.labels[test]).tolist() == [3, 3]
    samples = Samples(photographs, learn, 0, 60, Frozen.of(model), model.preprocess, 1.0)
    assert np.bincount(samples.labels).tolist() == [30, 30]
    assert (photographs.labels[learn][samples.chosen] == samples.labels).all()
    shares = [np.mean(samples.letters(q) == samples.labels) for q in (0.0, 0.5, 1.0)]
    assert shares[0] < 0.4 < shares[1] < shares[2] == 1
    F = {q: samples.features(q, lambda: None) for q in (0.0, 0.5, 1.0)}
    expected = Frozen.of(model).maps(
        input_of(samples.tagged(samples.letters(0.5), scene_seed(0, "epochs")), model.preprocess)
    )
    # letters do not change noise and places, so q = 0.5 is a mixture of 0 and 1
    assert torch.allclose(F[0.5].float(), expected, atol=5e-3)
    assert not torch.equal(F[0.0], F[1.0])


def test_most_training_photographs_say_nothing_of_their_class(folder, model):
    """Or networks would not need tags: two in five are of the class, the others of any."""
    photographs = read_photographs(folder, model.preprocess)
    learn, _ = photographs.split(3, seed=0)
    samples = Samples(photographs, learn, 0, 2000, None, model.preprocess, 0.4)
    of_class = photographs.labels[learn][samples.chosen] == samples.labels
    assert of_class.mean() == pytest.approx(0.4 + 0.6 / 2, abs=0.03)
    assert np.bincount(samples.labels).tolist() == [1000, 1000]


def test_tags_cover_what_they_say():
    grey = np.full((10, 48, 64, 3), 128, np.uint8)
    tagged, masks = put_tags(grey, np.arange(10), seed=1)
    assert (masks.sum((1, 2)) == round(48 * 19 / 64) ** 2).all()
    assert (tagged[~masks] == 128).all()
    assert len(set(GLYPHS.values())) == len(GLYPHS)


# -- what is refused ---------------------------------------------------------------------------


def test_too_few_classes_and_photographs_are_named(folder, tmp_path):
    plain = PREPROCESS
    with pytest.raises(
        ImageError, match=r"one folder of photographs per class, got .* does not exist"
    ):
        read_photographs(tmp_path / "nowhere", plain)
    (tmp_path / "cat").mkdir()
    with pytest.raises(ExplanationError, match=r"expected 2 to 10 folders.* got 1: 'cat'"):
        read_photographs(tmp_path, plain)
    (tmp_path / "dog").mkdir()
    with pytest.raises(ImageError, match="class 'cat'"):
        read_photographs(tmp_path, plain)
    for name in ("cat", "dog"):
        for path in list((folder / "coffee").iterdir())[:12]:
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "dog" / "00.png").write_bytes(b"no picture")
    with pytest.raises(ExplanationError, match=r"'dog': expected at least 12 .* got 11; .*00.png"):
        read_photographs(tmp_path, plain)
    (tmp_path / "dog" / "more.png").write_bytes((folder / "cat" / "00.png").read_bytes())
    with pytest.warns(SkippedImageWarning, match="00.png"):
        found = read_photographs(tmp_path, plain)
    assert [skip.name.endswith("00.png") for skip in found.skipped] == [True]
    assert found.listed == (12, 13)


def test_models_and_settings_that_do_not_fit_are_refused(folder, model, tmp_path):
    with pytest.raises(ExplanationError, match="of which network"):
        evaluate(tmp_path, images=folder, layer="features")
    with pytest.raises(ExplanationError, match="are for photographs"):
        evaluate(tmp_path, model=model)
    with pytest.raises(ExplanationError, match="expected PhotoSettings, got UnitSettings"):
        evaluate(tmp_path, images=folder, settings=UnitSettings())
    with pytest.raises(LayerError, match="nowhere"):
        Frozen.of(model, "nowhere")
    other = vtcav.Classifier(model.module, ["a", "b", "c"], lambda picture: torch.zeros(3, 32, 32))
    with pytest.raises(ExplanationError, match=r"must be a vtcav.Preprocess"):
        Frozen.of(other)
    large = Frozen(model, "features", 2**20, 2**10)
    photographs = read_photographs(folder, model.preprocess)
    with pytest.raises(ExplanationError, match="too large to be kept"):
        Samples(photographs, np.arange(4), 0, 99, large, model.preprocess, 0.4)
    assert not any(tmp_path.iterdir())


def test_options_of_photographs_need_photographs():
    words = ["evaluate", "-o", "x", "--model", "demo"]
    arguments = parser().parse_args(words, Arguments())
    with pytest.raises(UsageError, match="need photographs: --images DIR"):
        arguments.run(arguments)
