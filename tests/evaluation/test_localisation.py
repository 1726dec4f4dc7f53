"""Concept maps against masks: planted concepts, geometry, what is left out, figure."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import vtcav
from tests.helpers.colours import explainer_of, model, patches
from vtcav.evaluation import localise_folder
from vtcav.evaluation.localisation.compute import NOT_SEPARATED
from vtcav.evaluation.localisation.result import ONE_IMAGE
from vtcav.evaluation.metrics import EMPTY_MAP, EMPTY_MASK, METRICS, at_resolution, localise


@pytest.fixture(scope="module")
def explainer():
    return explainer_of(model())


@pytest.fixture(scope="module")
def found(explainer):
    images, masks = patches(0, 6, 5)
    return localise_folder(explainer, images, masks, ["red", "blue"])


# -- numbers -----------------------------------------------------------------------------------


def test_a_planted_concept_is_found_and_another_is_not(found):
    means = found.means().set_index(["layer", "concept"])
    red, blue = means.loc[("1", "red")], means.loc[("1", "blue")]
    assert red["pointing_game"] == 1
    assert red["energy_inside"] > 0.85
    assert red["soft_iou"] > 0.6
    assert red["cell_auc"] > 0.9
    assert red["balanced_mse"] < 0.1
    assert blue["balanced_mse"] > 0.4
    assert not blue["pointing_game"] > 0.5
    assert red["area"] == 1 / 16
    assert list(means["images"]) == [6] * 4


def test_the_table_is_what_the_metrics_say(explainer, found):
    images, masks = patches(0, 6, 5)
    rows = found.table.set_index(["image", "layer", "concept"])
    assert len(rows) == 6 * 2 * 2
    for n in (0, 4):
        local = explainer.explain(images[n])
        for layer, shape in (("1", (8, 8)), ("3", (2, 2))):
            G = at_resolution(masks[n], shape)
            expected = localise(local.concept_map(layer, "red"), G)
            row = rows.loc[(f"array[{n}]", layer, "red")]
            for metric in (*METRICS, "area"):
                assert row[metric] == pytest.approx(getattr(expected, metric), nan_ok=True)
            assert row["note"] == expected.note


def test_summary(found):
    values = found.table.query("layer == '3' and concept == 'red'")["soft_iou"]
    row = found.summary().set_index(["layer", "concept", "metric"]).loc[("3", "red", "soft_iou")]
    assert row["n"] == 6
    assert row["mean"] == pytest.approx(values.mean())
    assert row["std"] == pytest.approx(values.std())
    half = 2.570581835636314 * values.std() / 6**0.5
    assert row["ci_low"] == pytest.approx(row["mean"] - half)
    assert row["ci_high"] == pytest.approx(row["mean"] + half)
    wide = found.summary(0.99).set_index(["layer", "concept", "metric"])
    assert wide.loc[("3", "red", "soft_iou"), "ci_low"] < row["ci_low"]
    with pytest.raises(vtcav.ExplanationError, match=r"confidence .* between 0 and 1, got 95"):
        found.summary(95)


@pytest.mark.parametrize(
    "preprocess",
    [
        vtcav.Preprocess(16, crop_pct=0.8),
        vtcav.Preprocess((16, 24), resize="stretch"),
        vtcav.Preprocess(16, resize="pad"),
    ],
    ids=["crop", "stretch", "pad"],
)
@pytest.mark.parametrize("size", [(40, 64), (70, 32)], ids=["wide", "high"])
def test_masks_follow_the_preprocessing(preprocess, size):
    """A mask goes the way of its picture: preprocessed as a picture, it covers the same cells."""
    explainer = explainer_of(model(preprocess))
    images, _ = patches(0, 1, 5, size)
    mask = np.zeros(size, bool)
    mask[10:32, 6:25] = True
    found = localise_folder(explainer, images, [mask], "red").table
    as_picture = Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB")
    seen = preprocess(as_picture)[0].clamp(0, 1).numpy()
    cells = (seen.shape[0] // 2, seen.shape[1] // 2)
    assert found["area"].iloc[0] == pytest.approx(at_resolution(seen, cells).mean(), abs=0.02)
    # the picture is dark where it was padded, so the mask as a picture would be found
    assert 0.05 < found["area"].iloc[0] < 0.7


def test_a_smaller_mask_of_the_same_proportions(explainer):
    images, masks = patches(0, 2, 5)
    images = images.repeat(3, 1).repeat(3, 2)
    small = localise_folder(explainer, images, masks, "red").table
    large = localise_folder(explainer, images, masks.repeat(3, 1).repeat(3, 2), "red").table
    pd.testing.assert_frame_equal(small, large)


# -- stated results ----------------------------------------------------------------------------


def test_empty_masks_and_maps(explainer):
    images, masks = patches(0, 3, 5)
    masks[0] = False
    images[1] = 0
    found = localise_folder(explainer, images, masks, "red")
    notes = found.table.query("layer == '1'")["note"].tolist()
    assert notes == [EMPTY_MASK, EMPTY_MAP, ""]
    summary = found.summary().set_index(["layer", "metric"])
    assert summary.loc[("1", "pointing_game"), "n"] == 1
    note = f"1 of 3 images: {EMPTY_MASK}; 1 of 3 images: {EMPTY_MAP}; {ONE_IMAGE}"
    assert summary.loc[("1", "pointing_game"), "note"] == note
    assert summary.loc[("1", "soft_iou"), "n"] == 2
    assert summary.loc[("1", "soft_iou"), "note"] == f"1 of 3 images: {EMPTY_MASK}"
    assert summary.loc[("1", "area"), "note"] == ""
    for table in (found.table, found.summary(), found.means()):
        assert (table["note"] != "")[table.isna().any(axis=1)].all()


def test_a_concept_that_is_not_separated():
    images, masks = patches(0, 6, 5)
    explainer = vtcav.VisualTCAV(model(), ["1"])
    explainer.fit({"same": images}, images, null_cavs=0, bootstraps=0)
    found = localise_folder(explainer, images, masks)
    assert set(found.table["note"]) == {f"{NOT_SEPARATED}; {EMPTY_MAP}"}
    assert not found.table["separated"].any()
    pointing = found.summary().set_index("metric").loc["pointing_game"]
    assert (pointing["n"], pointing["note"]) == (0, f"{NOT_SEPARATED}; {EMPTY_MAP}")


# -- which masks, which concepts ---------------------------------------------------------------


@pytest.fixture
def place(tmp_path):
    """Four images in a folder, masks of labels: 1 for the red square, 2 for all else."""
    images, masks = patches(0, 4, 5)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        Image.fromarray(image).save(tmp_path / f"images/{i}.png")
        Image.fromarray(np.where(mask, 1, 2).astype(np.uint8)).save(tmp_path / f"masks/{i}.png")
    return tmp_path


def test_a_value_for_each_concept(explainer, place):
    found = localise_folder(
        explainer, place / "images", place / "masks", value={"red": 1, "blue": [2, 3]}
    )
    assert found.concepts == ("red", "blue")
    assert found.means().query("layer == '1'")["area"].tolist() == [1 / 16, 15 / 16]
    assert found.provenance.settings["localisation"]["value"] == "{'red': 1, 'blue': [2, 3]}"


def test_masks_for_each_concept(explainer):
    images, masks = patches(0, 2, 5)
    found = localise_folder(explainer, images, {"blue": iter(~masks), "red": iter(masks)})
    assert found.concepts == ("blue", "red")
    assert found.means().query("layer == '1'")["area"].tolist() == [15 / 16, 1 / 16]


def test_images_that_cannot_be_used_are_named(explainer, place):
    (place / "masks/0.png").unlink()
    Image.new("L", (30, 16)).save(place / "masks/1.png")
    with pytest.warns(vtcav.SkippedImageWarning, match="left out: .*0.png' .there is no mask.; "):
        found = localise_folder(explainer, place / "images", place / "masks", "red", value=1)
    reasons = {skip.name[-5:]: skip.reason for skip in found.skipped}
    assert reasons["0.png"] == "there is no mask"
    assert "it is 30 x 16 and the picture 16 x 16 (upright); expected the same" in reasons["1.png"]
    assert found.table["image"].nunique() == 2
    with pytest.raises(vtcav.ImageError, match=r"0.png' cannot be used: there is no mask"):
        localise_folder(explainer, place / "images", place / "masks", "red", value=1, strict=True)


def test_a_mask_of_one_concept_alone(explainer, place):
    (place / "other").mkdir()
    (place / "masks/3.png").rename(place / "other/3.png")
    with pytest.warns(vtcav.SkippedImageWarning, match="no mask of concept 'blue'"):
        found = localise_folder(
            explainer,
            place / "images",
            {"red": place / "masks", "blue": place / "other"},
            value="nonzero",
        )
    images = found.means().set_index(["layer", "concept"])["images"]
    assert images.loc[("1", "red")] == 3
    assert images.loc[("1", "blue")] == 1


def test_when_no_image_can_be_used(explainer, place):
    with pytest.raises(vtcav.ImageError, match=r"none of the 4 images can be used.*values 1, 2"):
        localise_folder(explainer, place / "images", place / "masks", "red")
    (place / "masks/0.png").rename(place / "masks/x.png")
    for i in (1, 2, 3):
        (place / f"masks/{i}.png").unlink()
    with pytest.raises(vtcav.ExplanationError, match="none of the 4 images has a mask: expected"):
        localise_folder(explainer, place / "images", place / "masks", "red")


def test_a_limit_draws_from_the_images_with_masks(explainer, place):
    (place / "masks/0.png").unlink()
    drawn = set()
    for seed in (0, 1, 11):
        with pytest.warns(vtcav.SkippedImageWarning):
            found = localise_folder(
                explainer, place / "images", place / "masks", "red", value=1, limit=1, seed=seed
            )
        assert found.table["image"].nunique() == 1
        drawn |= {name[-5] for name in found.table["image"]}
    assert drawn == {"1", "2", "3"}
    with pytest.raises(vtcav.ImageError, match="limit to be a whole number of at least 1, got 0"):
        localise_folder(explainer, place / "images", place / "masks", "red", limit=0)


def test_a_preprocessing_of_unknown_geometry():
    def crop(image):
        values = np.asarray(image.crop((0, 0, 16, 16)), np.float32) / 255
        return torch.from_numpy(values).movedim(-1, 0)

    explainer = explainer_of(model(crop))
    images, masks = patches(0, 2, 5, (16, 40))
    with pytest.raises(vtcav.ExplanationError, match="is a callable, so it is not known which"):
        localise_folder(explainer, images, masks, "red")
    found = localise_folder(explainer, images, masks[:, :, :16], "red", at="input")
    assert found.table["area"].iloc[0] == masks[0, :, :16].mean()
    with pytest.raises(vtcav.ImageError, match="it is 40 x 16, expected the size of the network's"):
        localise_folder(explainer, images, masks, "red", at="input")


def test_errors(explainer):
    images, masks = patches(0, 2, 5)
    with pytest.raises(vtcav.ExplanationError, match="whose masks are these"):
        localise_folder(explainer, images, masks)
    with pytest.raises(vtcav.CavError, match="no concept 'pink'; it has 'red', 'blue'"):
        localise_folder(explainer, images, masks, "pink")
    with pytest.raises(vtcav.ExplanationError, match="at least one concept, got none"):
        localise_folder(explainer, images, masks, [])
    with pytest.raises(vtcav.ExplanationError, match=r"no entry for concept 'blue' in \['red'\]"):
        localise_folder(explainer, images, {"red": masks}, ["red", "blue"])
    with pytest.raises(
        vtcav.ExplanationError, match="expected at to be 'picture' or 'input', got 'cells'"
    ):
        localise_folder(explainer, images, masks, "red", at="cells")
    with pytest.raises(vtcav.CavError, match="no concepts are learned yet"):
        localise_folder(vtcav.VisualTCAV(explainer.model, ["1"]), images, masks, "red")


# -- files and figure ----------------------------------------------------------------------------


def test_save(found, tmp_path):
    found.save(tmp_path)
    stems = [f"{stem}.{kind}" for stem in ("table", "summary") for kind in ("csv", "parquet")]
    expected = {"localisation.json", "localisation.png", *(f"localisation_{s}" for s in stems)}
    assert {path.name for path in tmp_path.iterdir()} == expected
    kept = pd.read_parquet(tmp_path / "localisation_table.parquet")
    pd.testing.assert_frame_equal(kept, found.table, check_dtype=False, check_like=True)
    data = json.loads((tmp_path / "localisation.json").read_text())
    assert data["concepts"] == ["red", "blue"]
    assert data["provenance"]["settings"]["localisation"]["at"] == "picture"
    assert len(data["summary"]) == 2 * 2 * 6


def test_plot(found):
    import matplotlib.pyplot as plt

    figure = found.plot()
    axes = {ax.get_label(): ax for ax in figure.axes}
    for concept in ("red", "blue"):
        assert {f"{concept}/{metric}" for metric in METRICS} <= set(axes)
        # two images, spread over the six; each with its picture and two layers
        shown = [name for name in axes if name.startswith(f"{concept}/array")]
        assert len(shown) == 6
        assert {name.split("/")[1] for name in shown} == {"array[0]", "array[5]"}
    mean = found.means().set_index(["layer", "concept"]).loc[("1", "red"), "soft_iou"]
    assert any(mean in line.get_xdata() for line in axes["red/soft_iou"].get_lines())
    texts = " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
    assert f"{mean:.3f}" in texts
    plt.close(figure)
