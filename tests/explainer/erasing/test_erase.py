"""Regions erased by hand, and the pictures without concepts that results keep."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.small import (
    negatives,
    pictures,
    small_explainer,
    small_model,
    small_net,
)
from vtcav.errors import ExplanationError
from vtcav.files.manifest import load_manifest
from vtcav.method.erasure.effect import share
from vtcav.method.erasure.fill import filled
from vtcav.results.erasure import Erasure
from vtcav.results.explanation import GlobalExplanation, LocalExplanation

IMAGE = pictures(1, seed=21, low=100)[0]
BOX = (3, 4, 9, 12)


@pytest.fixture(scope="module")
def explainer():
    return small_explainer()


@pytest.fixture(scope="module")
def local(explainer):
    return explainer.explain(IMAGE, classes=3)


@pytest.fixture(scope="module")
def glob(explainer):
    return explainer.explain_class("cat", pictures(5, seed=22, low=100))


def logits(model, pictures):
    x = torch.stack([model.preprocess(vtcav_image(p)) for p in pictures])
    return model.logits(x).detach()


def vtcav_image(pixels):
    from PIL import Image

    return Image.fromarray(pixels)


def test_without_concepts_the_drop_is_what_the_network_says():
    model = small_model()
    found = vtcav.VisualTCAV(model, ["1"]).erase(IMAGE, BOX, classes=[0, 2])
    x = model.preprocess(vtcav_image(IMAGE))[None]
    H = torch.zeros(1, 16, 16)
    H[0, 4:12, 3:9] = 1
    drops = (model.logits(x) - model.logits(filled(x, H)))[0, [0, 2]].detach()
    np.testing.assert_allclose(found.effects["drop"], drops, atol=1e-5)
    assert found.effects["share"].isna().all()
    assert set(found.effects["note"]) == {"no negatives are known, so there is no share"}
    assert found.region == "box 3, 4, 9, 12"
    assert "Without the marked region the score of 'cat'" in found.sentences()[0]
    assert "logits (" in found.sentences()[0]
    assert (found.effects["placebos"] == 20).all()
    assert (found.erased.region == H[0].bool().numpy()).all()


def test_shares_are_of_the_negatives():
    model = small_model()
    found = vtcav.VisualTCAV(model, ["1"]).erase(IMAGE, BOX, [0, 1, 2], negatives=negatives())
    z = logits(model, negatives())
    for row in found.effects.to_dict("records"):
        own = z[:, row["class_index"]]
        assert row["reference"] == pytest.approx(own.mean().item(), abs=1e-5)
        spread = own.std(correction=0).item()
        expected = share(row["drop"], row["logit"], own.mean().item(), spread)
        assert row["share"] == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_a_concepts_region_by_hand_gives_the_concepts_numbers(explainer, local):
    shown = [c for c in local.concepts if local.region(c).any()]
    assert shown
    for concept in shown:
        by_hand = explainer.erase(IMAGE, local.region(concept), classes=3)
        expected = local.effects[local.effects["concept"] == concept]
        for column in ("class_index", "drop", "drop_low", "drop_high", "share", "area"):
            np.testing.assert_allclose(by_hand.effects[column], expected[column], atol=1e-5)
        assert (by_hand.erased.after == local.erased(concept).after).all()


def test_the_picture_without_a_concept_is_what_the_network_saw(local):
    for concept in local.concepts:
        seen = local.erased(concept)
        assert (seen.before == IMAGE).all()
        outside = ~seen.region
        assert (seen.after[outside] == IMAGE[outside]).all()
        x = torch.from_numpy(IMAGE / 255).permute(2, 0, 1)[None]
        H = torch.tensor(seen.region)[None].float()
        expected = (filled(x, H)[0].permute(1, 2, 0) * 255).numpy()
        if seen.region.any():
            assert np.abs(seen.after - expected).max() <= 0.51
            assert (seen.after != IMAGE).any()


def test_pictures_are_saved_and_older_folders_load(local, tmp_path):
    again = LocalExplanation.load(local.save(tmp_path / "out"))
    for concept in local.concepts:
        assert (again.erased(concept).after == local.erased(concept).after).all()
    assert again.sentences() == local.sentences()
    older = dataclasses.replace(local, _input=np.zeros((0, 0, 3), np.uint8), _filled={})
    again = LocalExplanation.load(older.save(tmp_path / "older"))
    assert (again.region("bright") == local.region("bright")).all()
    with pytest.raises(ExplanationError, match="an earlier version made it"):
        again.erased("bright")


def test_a_class_keeps_a_few_pictures(glob, tmp_path):
    assert glob.erased
    for picture in glob.erased:
        rows = glob.effects.query("image == @picture.image and concept == @picture.concept")
        numbers = rows[["drop", "share"]].to_numpy()[0]
        np.testing.assert_array_equal([picture.drop, picture.share], numbers)
        assert picture.region.any()
        assert (picture.after[~picture.region] == picture.before[~picture.region]).all()
    counts = {c: sum(p.concept == c for p in glob.erased) for c in glob.concepts}
    assert max(counts.values()) <= 3
    first = [p for p in glob.erased if p.concept == glob.erased[0].concept]
    shares = glob.effects.query("concept == @first[0].concept and area > 0")["share"].dropna()
    if len(shares):
        assert first[0].share == shares.max()
    again = GlobalExplanation.load(glob.save(tmp_path / "out"))
    assert [p.change for p in again.erased] == [p.change for p in glob.erased]
    for one, other in zip(again.erased, glob.erased, strict=True):
        assert (one.after == other.after).all()


def test_an_erasure_is_saved_and_loaded(explainer, tmp_path):
    found = explainer.erase(IMAGE, BOX, classes=2)
    folder = found.save(tmp_path / "out")
    assert {p.name for p in folder.iterdir()} >= {"erasure.json", "erasure.png"}
    again = Erasure.load(folder)
    assert again.sentences() == found.sentences()
    assert (again.erased.after == found.erased.after).all()
    assert again.provenance == found.provenance
    assert load_manifest(folder, "erasure", "erasure")["region"] == "box 3, 4, 9, 12"
    assert "<img" in found._repr_html_()
    shutil.rmtree(folder)


def test_the_shown_fill_is_the_measured_one():
    """A callable may be random: what is shown is what the network saw."""
    calls = []

    def noise(x, H):
        calls.append(torch.rand_like(x))
        return calls[-1]

    found = vtcav.VisualTCAV(small_model(), ["1"], fill=noise).erase(IMAGE, BOX, classes=1)
    inside = found.erased.region
    expected = (calls[0][0].permute(1, 2, 0).numpy() * 255)[inside]
    assert np.abs(found.erased.after[inside] - expected).max() <= 0.51


def test_a_single_logit_has_two_classes():
    model = small_model(small_net(classes=1), ("no", "yes"), binary=True)
    found = vtcav.VisualTCAV(model, ["1"]).erase(IMAGE, BOX, ["no", "yes"])
    no, yes = found.effects["drop"]
    assert no == pytest.approx(-yes)


def test_where_nothing_is_erased_it_says_so():
    with pytest.raises(ExplanationError, match="fill=None"):
        vtcav.VisualTCAV(small_model(), ["1"], fill=None).erase(IMAGE, BOX)


def test_what_the_network_does_not_see_is_noted():
    model = small_model(preprocess=vtcav.Preprocess(16))
    wide = pictures(1, seed=4, size=(16, 32))[0]
    found = vtcav.VisualTCAV(model, ["1"]).erase(wide, (4, 0, 12, 16), classes=1)
    assert "50% of the marked region lies outside" in found.effects["note"].iloc[0]
