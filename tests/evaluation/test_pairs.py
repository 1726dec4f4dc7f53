"""Photographs with and without a thing: measured effects, placebos, and pairs that do not fit."""

import json
import zlib

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
from vtcav.method.erasure.fill import filled
from vtcav.method.erasure.region import elsewhere
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
    repeated = summary.columns[summary.nunique() == 1]
    assert list(repeated) == ["n"]  # what the thing does is no matter of the concept
    texts = [axes.get_title(loc="left") for axes in found.plot().axes]
    assert sum("rho" in text or "no correlation" in text for text in texts) == 6


def test_what_the_thing_does_is_said_once(found):
    [row] = found.effect().to_dict("records")
    assert row["n"] == 6
    assert row["measured"] == pytest.approx(found.table["measured"].mean())
    assert row["measured_low"] < row["measured"] < row["measured_high"]
    assert abs(row["placebo"]) < 0.2 * row["measured"]
    assert row["p_value"] < 0.05
    size = f"falls by {row['measured']:.2f} logits ({row['measured_low']:.2f} to "
    assert found.sentence.startswith(f"Without the thing the score of 'a' {size}")
    assert "on average over 6 pairs; " in found.sentence
    assert found.sentence.endswith(" (of the difference p < 0.001).")


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
    assert own.effect()["p_value"].isna().all()
    assert own.sentence.startswith("Without the thing the score of the predicted class ")
    assert own.sentence.endswith("elsewhere: not tried.")


def filled_in(explainer, fill):
    """Return the inputs with the masks' regions filled in."""
    x = torch.stack([explainer.model.preprocess(Image.fromarray(p)) for p in RED])
    return filled(x, torch.from_numpy(MASKS).float(), fill)


@pytest.mark.parametrize("fill", ["convolution", "mean"])
def test_masks_give_what_the_filled_pictures_give(explainer, fill):
    own = vtcav.VisualTCAV(
        explainer.model, cavs=explainer.cavs, steps=2, fill=fill, placebos=0, progress=False
    )
    found = measure_pairs(own, RED, None, "a", masks=MASKS)
    z = explainer.model.logits(filled_in(explainer, fill)).double().numpy()[:, 0]
    expected = logits(explainer.model, RED)[:, 0] - z
    table = found.table
    for image, rows in table.groupby("image"):
        n = int(image[6:-1])
        np.testing.assert_allclose(rows["measured"], expected[n], atol=1e-5)
        np.testing.assert_allclose(rows["changed"], MASKS[n].mean())
    # given as pictures they are rounded to 8 bits
    pictures = (filled_in(explainer, fill) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    given = measure_pairs(own, RED, pictures, "a").table
    np.testing.assert_allclose(table["measured"], given["measured"], atol=0.05)
    assert table["attribution"].equals(given["attribution"])
    assert found.provenance.settings["without"] == "masks"
    assert found.provenance.settings["fill"] == fill


def test_placebos_of_masks_have_their_shape_elsewhere(explainer):
    found = measure_pairs(explainer, RED[:1], None, "a", masks=MASKS[:1], placebos=3)
    H = torch.from_numpy(MASKS[0]).float()
    placebos = elsewhere(H, 3, zlib.crc32(H.bool().numpy().tobytes()))
    x = explainer.model.preprocess(Image.fromarray(RED[0])).expand(3, -1, -1, -1)
    z = explainer.model.logits(torch.cat([x[:1], filled(x, placebos)]))[:, 0].double()
    np.testing.assert_allclose(found.table["placebo"], float((z[0] - z[1:]).mean()), atol=1e-5)
    assert (placebos.sum((1, 2)) == H.sum()).all()
    assert not (placebos * H).any()


def test_masks_that_are_missing_or_do_not_fit_are_named(explainer, tmp_path):
    save(tmp_path / "with", {f"{i}.png": picture for i, picture in enumerate(RED)})
    spots = [np.where(mask, 255, 0).astype(np.uint8) for mask in MASKS]
    spots[2], spots[3], spots[4] = spots[2][:12], spots[3] * 0, np.full_like(spots[4], 255)
    save(tmp_path / "masks", {f"{i}.png": spot for i, spot in enumerate(spots) if i != 1})
    with pytest.warns(SkippedImageWarning, match="4 pictures left out"):
        found = measure_pairs(explainer, tmp_path / "with", None, "a", masks=tmp_path / "masks")
    reasons = {skip.name[-5:]: skip.reason for skip in found.skipped}
    assert found.table["image"].nunique() == 2
    assert reasons["1.png"] == "there is no mask of this name"
    assert "its mask cannot be used: expected a mask of 16 x 16 pixels" in reasons["2.png"]
    assert reasons["2.png"].endswith("masks/2.png' of 16 x 12")
    assert reasons["3.png"].startswith("its mask cannot be used: the mask marks nothing")
    assert reasons["4.png"].startswith("its mask covers 100 % of the picture, where at most 50 %")
    labels = {f"{i}.png": (mask * 2 + 1).astype(np.uint8) for i, mask in enumerate(MASKS)}
    save(tmp_path / "labels", labels)
    how = {"masks": tmp_path / "labels", "value": 3}
    of_label = measure_pairs(explainer, tmp_path / "with", None, "a", **how)
    assert of_label.table["image"].nunique() == 6
    for wrong in ({}, {"without": WITHOUT, "masks": MASKS}):
        with pytest.raises(ExplanationError, match="or masks of it, and not both"):
            measure_pairs(explainer, RED, **wrong)


def test_pictures_beyond_the_limit_are_not_said_to_be_alone(explainer, recwarn):
    found = measure_pairs(explainer, RED, WITHOUT, "a", limit=2, placebos=0)
    assert found.table["image"].nunique() == 2
    assert not found.skipped
    assert not [one for one in recwarn if issubclass(one.category, SkippedImageWarning)]


def test_names_that_several_pictures_have_are_not_paired(explainer, tmp_path):
    for folder, pictures in (("with", RED), ("without", WITHOUT)):
        save(tmp_path / folder / "cats", {"1.png": pictures[0], "2.png": pictures[1]})
        save(tmp_path / folder / "dogs", {"1.png": pictures[2]})
    with pytest.warns(SkippedImageWarning, match="several pictures with the thing have this name"):
        found = measure_pairs(explainer, tmp_path / "with", tmp_path / "without", "a")
    assert found.table["image"].nunique() == 1
    assert len(found.skipped) == 2


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
    with pytest.warns(SkippedImageWarning, match="4 pictures left out"):
        found = measure_pairs(bare, tmp_path / "with", tmp_path / "without", "a")
    assert found.table["image"].nunique() == 1
    reasons = {skip.name[-5:]: skip.reason for skip in found.skipped}
    assert reasons["1.png"] == (
        "not aligned: the network's inputs are 16 x 16 with the thing, 16 x 12 without"
    )
    assert reasons["2.png"].startswith("not aligned: 100 % of the picture differs")
    assert reasons["3.png"] == "there is no picture of this name without the thing"
    assert reasons["9.png"] == "there is no picture of this name with the thing"
    assert reasons["2.png"].endswith("give everywhere=True (--everywhere)")
    with pytest.raises(ImageError, match="no pair is left"):
        measure_pairs(bare, tmp_path / "with", tmp_path / "without" / "9.png", "a")
    with pytest.raises(ExplanationError, match="placebos to be a whole number"):
        measure_pairs(bare, RED, WITHOUT, "a", placebos=-1)


def test_a_thing_may_be_all_over_the_pictures(explainer):
    """A scanner's noise: no region elsewhere is as large, so there are no placebos."""
    found = measure_pairs(explainer, RED, 255 - RED, "a", everywhere=True)
    assert not found.skipped
    assert (found.table["changed"] > 0.5).all()
    assert found.table["placebo"].isna().all()
    z, without = (logits(explainer.model, pictures) for pictures in (RED, 255 - RED))
    expected = (z - without)[:, 0].mean()
    assert found.effect()["measured"].iloc[0] == pytest.approx(expected, abs=1e-6)


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
    assert data["effect"]["measured"] == pytest.approx(found.effect()["measured"][0], rel=1e-5)
    saved = json.loads((tmp_path / "out" / "pairs.json").read_text("utf-8"))
    assert saved["effect"]["measured"] == data["effect"]["measured"]
    assert (tmp_path / "out" / "pairs_summary.csv").exists()
    save(tmp_path / "masks", {f"{i}.png": mask for i, mask in enumerate(MASKS)})
    masks = ["evaluate", "--pairs", "with", "--masks", "masks", *command[4:], *concepts]
    assert main([*masks, "-o", "masked", "--json", "--quiet"]) == 0
    table = json.loads(capsys.readouterr().out)["table"]
    assert len(table) == 12
    assert main([*masks, "-o", "masked", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("Without the thing the score of 'a' falls by") == 1
    assert "placebo" not in printed
    assert main([*command, *concepts, "--masks", "masks", "-o", "out"]) == 2
    assert "expected --pairs WITH WITHOUT, or --pairs WITH --masks DIR" in capsys.readouterr().err
    assert main(["evaluate", "--masks", "masks", "-o", "out"]) == 2
    assert "--masks are of the photographs of --pairs" in capsys.readouterr().err
    assert main([*command, "-o", "out"]) == 2
    assert "--pairs needs the concepts" in capsys.readouterr().err
    assert main(["evaluate", "--pairs", "with", "without", "-o", "out"]) == 2
    assert "--pairs needs the network" in capsys.readouterr().err


def build():
    return vtcav.Classifier(network(5.0, 0.2), ["a", "b"], vtcav.Preprocess(16))


def test_masks_without_a_photograph_are_named(explainer, tmp_path):
    save(tmp_path / "with", {f"{i}.png": RED[i] for i in range(3)})
    save(tmp_path / "masks", {f"{i}.png": MASKS[i] for i in range(5)})
    with pytest.warns(SkippedImageWarning, match=r"2 pictures left out.*it is a mask"):
        found = measure_pairs(explainer, tmp_path / "with", None, "a", masks=tmp_path / "masks")
    named = {skip.name[-5:]: skip.reason for skip in found.skipped}
    assert list(named) == ["3.png", "4.png"]
    assert "no picture of its name" in named["3.png"]
