"""Photographs with and without a thing: measured effects, placebos, and pairs that do not fit."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import vtcav
from tests.explainer.test_versus import DARK, network
from tests.helpers.colours import patches
from vtcav import SkippedImageWarning
from vtcav.cli import main
from vtcav.errors import ExplanationError, ImageError
from vtcav.evaluation import measure_pairs
from vtcav.evaluation.correlation import pearson, spearman
from vtcav.evaluation.experiment.effects import causal_effects
from vtcav.evaluation.pairs import result
from vtcav.results.effect_tables import TOGETHER

RED, MASKS = patches(0, 6, 5)
for _i, _picture in enumerate(RED):  # squares of several strengths
    _picture[..., 0] = np.where(MASKS[_i], 120 + 25 * _i, _picture[..., 0])
WITHOUT = np.where(MASKS[..., None], 15, RED).astype(np.uint8)


@pytest.fixture(scope="module")
def explainer():
    model = vtcav.Classifier(network(5.0, 0.2), ["a", "b"], vtcav.Preprocess(16))
    made = vtcav.VisualTCAV(model, ["1", "3"], 2, placebos=0, progress=False)
    examples = {"red": patches(0, 8, 1)[0], "blue": patches(2, 8, 2)[0]}
    return made.fit(examples, DARK, null_cavs=0, bootstraps=0)


@pytest.fixture(scope="module")
def found(explainer):
    return measure_pairs(explainer, RED, WITHOUT, "a")


def logits(model, pictures):
    x = torch.stack([model.preprocess(Image.fromarray(p)) for p in pictures])
    return model.logits(x).double().numpy()


def test_measured_effects_are_those_of_the_experiment(found, explainer):
    z, without = (logits(explainer.model, pictures) for pictures in (RED, WITHOUT))
    expected = causal_effects(z, {"tag": without}, without, np.zeros(6, int))["tag"].effect
    table = found.table
    assert len(table) == 6 * 3 * 2
    for image, own in table.groupby("image"):
        np.testing.assert_allclose(own["measured"], expected[int(image[6:-1])], atol=1e-6)
    glob = explainer.explain_class("a", RED)
    rows = glob.attributions.set_index(["image", "layer", "concept"])["attribution"]
    own = table[table["layer"] != TOGETHER].set_index(["image", "layer", "concept"])
    np.testing.assert_allclose(own["attribution"], rows[own.index], rtol=1e-5)
    drops = glob.effects.set_index(["image", "concept"])["drop"]
    own = table[table["layer"] == TOGETHER].set_index(["image", "concept"])
    np.testing.assert_allclose(own["attribution"], drops[own.index], rtol=1e-5)


def test_the_summary_correlates_and_compares_with_placebos(found):
    summary = found.summary().set_index(["layer", "concept"])
    row = summary.loc[(TOGETHER, "red")]
    assert row["n"] == 6
    assert row["spearman"] > 0.9
    assert row["pearson_low"] < row["pearson"] < row["pearson_high"] <= 1
    assert row["measured_low"] < row["measured"] < row["measured_high"]
    assert abs(row["placebo"]) < 0.2 * row["measured"]
    assert row["p_value"] < 0.05
    texts = [axes.get_title(loc="left") for axes in found.plot().axes]
    assert sum("rho" in text or "no correlation" in text for text in texts) == 6


def test_intervals_of_correlations_cover():
    """For normal pairs with rho = 0.6, whose rank correlation is 0.58."""
    rng = np.random.default_rng(0)
    inside = np.zeros(2)
    for _ in range(400):
        x = rng.normal(size=25)
        y = 0.6 * x + 0.8 * rng.normal(size=25)
        for k, (statistic, truth) in enumerate(((pearson, 0.6), (spearman, 0.582))):
            low, high = result._interval(statistic(x, y), 0.95, ranks=k == 1)
            inside[k] += low < truth < high
    assert ((inside / 400 > 0.92) & (inside / 400 < 0.98)).all()


def test_identical_pairs_have_no_effect(explainer):
    same = measure_pairs(explainer, RED[:3], RED[:3].copy(), "a", placebos=2)
    assert (same.table["measured"] == 0).all()
    assert (same.table["placebo"] == 0).all()
    assert (same.table["changed"] == 0).all()
    row = same.summary().set_index(["layer", "concept"]).loc[("3", "red")]
    assert row["note"] == "all truths are the same"
    assert np.isnan(row["spearman"])


def test_the_class_is_the_predicted_one(explainer):
    blue = np.maximum(RED[:2], patches(2, 2, 6)[0] // 8)
    own = measure_pairs(explainer, blue, WITHOUT[:2], placebos=0)
    z = logits(explainer.model, blue)
    for image, rows in own.table.groupby("image"):
        assert (rows["class_index"] == z[int(image[6:-1])].argmax()).all()
    assert own.table["placebo"].isna().all()
    assert own.summary()["p_value"].isna().all()


def save(folder, pictures):
    folder.mkdir(parents=True)
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name)


def test_pairs_that_do_not_fit_are_named(explainer, tmp_path):
    free = vtcav.Classifier(explainer.model.module, ["a", "b"], vtcav.Preprocess(None))
    bare = vtcav.VisualTCAV(free, ["3"], 2, placebos=0, progress=False)
    bare.fit({"red": patches(0, 8, 1)[0]}, DARK, null_cavs=0, bootstraps=0)
    names = [f"{i}.png" for i in range(4)]
    save(tmp_path / "with", dict(zip(names, RED, strict=False)))
    others = {"0.png": WITHOUT[0], "1.png": WITHOUT[1][:12], "2.png": 255 - RED[2]}
    save(tmp_path / "without", others | {"9.png": RED[0]})
    with pytest.warns(SkippedImageWarning, match="4 pictures are left out"):
        found = measure_pairs(bare, tmp_path / "with", tmp_path / "without", "a")
    assert found.table["image"].nunique() == 1
    reasons = {skip.name[-5:]: skip.reason for skip in found.skipped}
    assert reasons["1.png"] == (
        "not aligned: the network's inputs are 16 x 16 with the thing, 16 x 12 without"
    )
    assert reasons["2.png"].startswith("not aligned: 100 % of the picture differs")
    assert reasons["3.png"] == "there is no picture of this name without the thing"
    assert reasons["9.png"] == "there is no picture of this name with the thing"
    with pytest.raises(ImageError, match="no pair is left"):
        measure_pairs(bare, tmp_path / "with", tmp_path / "without" / "9.png", "a")
    with pytest.raises(ExplanationError, match="placebos to be a whole number"):
        measure_pairs(bare, RED, WITHOUT, "a", placebos=-1)


def test_the_command(found, tmp_path, monkeypatch, capsys):
    (tmp_path / "pairsnet.py").write_text(
        "from tests.evaluation.test_pairs import build\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    folders = {"concepts/red": patches(0, 8, 1)[0], "random": DARK, "with": RED, "without": WITHOUT}
    for folder, pictures in folders.items():
        save(tmp_path / folder, {f"{i}.png": picture for i, picture in enumerate(pictures)})
    command = ["evaluate", "--pairs", "with", "without", "--model", "python:pairsnet:build"]
    concepts = ["--layers", "3", "--concepts", "concepts", "--negatives", "random", "--class", "a"]
    assert main([*command, *concepts, "-o", "out", "--json", "--quiet"]) == 0
    data = json.loads(capsys.readouterr().out)
    expected = found.summary().set_index(["layer", "concept"]).loc[("3", "red"), "measured"]
    assert data["summary"][0]["measured"] == pytest.approx(expected, rel=1e-5)
    assert (tmp_path / "out" / "pairs_summary.csv").exists()
    assert main([*command, "-o", "out"]) == 2
    assert "--pairs needs the concepts" in capsys.readouterr().err
    assert main(["evaluate", "--pairs", "with", "without", "-o", "out"]) == 2
    assert "--pairs needs the network" in capsys.readouterr().err


def build():
    return vtcav.Classifier(network(5.0, 0.2), ["a", "b"], vtcav.Preprocess(16))
