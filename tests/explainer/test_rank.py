"""Images in order of presence: the numbers of explanations, without gradients, from any engine."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import vtcav
from tests.helpers.colours import explainer_of, model, patches
from tests.helpers.small import negatives, pictures, small_explainer, small_model
from vtcav import SkippedImageWarning
from vtcav.errors import CavError, ExplanationError, ImageError
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.runs.rank_task import RankTask
from vtcav.results.figures.page import save_figure
from vtcav.results.figures.ranking import plot_ranking
from vtcav.results.ranking import shown_positions

RED, BLUE = patches(0, 70, 5)[0], patches(2, 30, 6)[0]
IMAGES = np.concatenate([BLUE, RED])  # parts of 64 and 36


@pytest.fixture(scope="module")
def explainer():
    made = explainer_of(model())
    made.progress = False
    return made


@pytest.fixture(scope="module")
def ranking(explainer):
    return explainer.rank(IMAGES, "red", "1", pictures=12)


def test_the_order_is_that_of_the_presence_of_explanations(explainer, ranking):
    table = ranking.table
    assert list(table) == [
        *("image", "layer", "concept", "presence", "area"),
        *("predicted_class", "probability", "note"),
    ]
    assert len(table) == 100
    assert table["presence"].is_monotonic_decreasing
    assert set(table["image"][:70]) == {f"array[{i}]" for i in range(30, 100)}
    assert set(table["layer"]) == {"1"}
    rows = explainer.explain_class("a", IMAGES).attributions
    own = rows.query("layer == '1' and concept == 'red'").set_index("image")
    expected = own.loc[table["image"]]
    np.testing.assert_allclose(table["presence"], expected["presence"], atol=1e-6)
    assert table["predicted_class"].tolist() == expected["predicted_class"].tolist()
    first = ranking.shown[0]
    M = explainer.explain(IMAGES[int(first.image[6:-1])], ["a"]).concept_map("1", "red")
    np.testing.assert_allclose(first.concept_map, M, atol=1e-6)
    assert table["area"][0] == (M > 0.5).mean()
    assert table["presence"][0] == pytest.approx((M**2).sum() / M.sum(), abs=1e-6)


def test_no_gradient_is_taken(explainer, monkeypatch):
    monkeypatch.setattr(Attributor, "class_rows", None)
    monkeypatch.setattr(torch.autograd, "grad", None)
    monkeypatch.setattr(torch.Tensor, "backward", None)
    assert len(explainer.rank(RED[:3], "red").table) == 3


def test_the_layers_together_are_ranked_unless_one_is_named(explainer):
    ranking = explainer.rank(IMAGES, "red", pictures=4)
    assert (ranking.layer, ranking.place) == ("layers together", "the layers together")
    assert set(ranking.table["image"][:70]) == {f"array[{i}]" for i in range(30, 100)}
    first = ranking.shown[0]
    local = explainer.explain(IMAGES[int(first.image[6:-1])], ["a"])
    M = local.concept_map("layers together", "red").astype(float)
    assert first.presence == pytest.approx((M**2).sum() / M.sum(), abs=1e-6)
    np.testing.assert_allclose(first.concept_map, M, atol=1e-6)
    assert first.concept_map.shape == (16, 16)
    assert {explainer.rank(IMAGES[:2], "red", layer).layer for layer in ("1", "3")} == {"1", "3"}
    with pytest.raises(CavError, match="learned at layers '1' and '3', not at '9'"):
        explainer.rank(IMAGES[:2], "red", "9")
    with pytest.raises(CavError, match="got 'green'"):
        explainer.rank(IMAGES[:2], "green", "1")
    with pytest.raises(ExplanationError, match=r"pictures .*at least 0, got -1"):
        explainer.rank(IMAGES[:2], "red", pictures=-1)


@pytest.mark.parametrize("layer", [None, "3"])
def test_an_order_that_may_be_chance_is_said(layer):
    made = vtcav.VisualTCAV(model(), ["1", "3"], 2, progress=False)
    dark = np.random.default_rng(9).integers(0, 30, (24, 16, 16, 3)).astype(np.uint8)
    mixed = np.concatenate([RED[:9], dark[:3]])  # of which some do not show it
    made.fit({"red": mixed}, dark[3:], null_cavs=0, bootstraps=0)
    with pytest.warns(UserWarning, match="the order may be no better than chance"):
        ranking = made.rank(RED, "red", layer=layer)
    assert "with an AUC of 0.89 alone" in ranking.caution
    assert not ranking.table["note"].str.contains("chance").any()


def test_images_without_the_concept_give_a_caution(explainer):
    with pytest.warns(UserWarning, match=r"no image responds nearly as .* is 0\.0") as warned:
        ranking = explainer.rank(BLUE[:5], "red")
    assert f"layer={explainer.best_layer('red')!r}" in str(warned[0].message)
    assert ranking.caution.startswith("no image responds")
    assert ranking.table["presence"].max() < 0.1
    assert explainer.rank(RED[:5], "red").caution == ""


def test_without_place_filters_the_best_layer_is_ranked():
    fitted = vtcav.VisualTCAV(model(), ["1", "3"], fill=None, progress=False)
    fitted.fit({"red": RED[:8]}, BLUE[:8], null_cavs=0, bootstraps=0)
    assert fitted.rank(IMAGES[:2], "red").layer == fitted.best_layer("red")
    with pytest.raises(CavError, match="'layers together' needs place filters"):
        fitted.rank(IMAGES[:2], "red", "layers together")


def test_a_concept_that_no_layer_sees_gives_no_order():
    noise = pictures(16, seed=4)
    explainer = vtcav.VisualTCAV(small_model(), ["1", "3"], progress=False)
    explainer.fit({"noise": noise[:8]}, noise[8:], null_cavs=0, bootstraps=0)
    with pytest.raises(
        CavError, match=r"no layer sees 'noise' .*below 0\.8\), so there is no order"
    ):
        explainer.rank(pictures(3), "noise")


def test_a_layer_that_does_not_separate_the_concept_gives_no_order():
    explainer = vtcav.VisualTCAV(small_model(), ["3"], progress=False)
    explainer.fit({"same": negatives()}, negatives())
    with pytest.raises(CavError, match=r"does not separate 'same' .* there is no order of images"):
        explainer.rank(pictures(3), "same", "3")


def test_a_layer_that_does_not_see_the_concept_says_so_everywhere(tmp_path):
    explainer = small_explainer(progress=False)
    with pytest.warns(UserWarning, match=r"ranking by 'cold' at layer '3': not seen .*0.73"):
        ranking = explainer.rank(pictures(4), "cold", "3")
    assert ranking.table["note"].str.startswith("not seen at this layer").all()
    assert "not seen at this layer (held-out AUC 0.73" in ranking._repr_html_()
    assert ranking.caution.startswith("not seen")


def test_equal_presence_is_ordered_by_area_then_by_the_list():
    explainer = small_explainer(progress=False)
    table = explainer.rank(pictures(150, seed=7), "bright", "3").table
    ties = table[table["presence"] == 1]
    assert len(ties) > 5
    assert ties["area"].is_monotonic_decreasing
    empty = table[table["presence"] == 0]
    numbers = empty["image"].str.extract(r"(\d+)")[0].astype(int)
    assert len(empty) > 5
    assert numbers.is_monotonic_increasing


def test_what_cannot_be_read_stands_last_with_its_reason(explainer, tmp_path):
    for i, picture in enumerate(RED[:3]):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.warns(SkippedImageWarning, match=r"1 of 3 images is left out: .*1\.png"):
        ranking = explainer.rank(tmp_path, "red", "1")
    last = ranking.table.iloc[-1]
    assert last["image"].endswith("1.png")
    assert last["note"].startswith("cannot be read: it is not a picture")
    assert math.isnan(last["presence"])
    assert len(ranking.table) == 3
    assert "2 images, 2 with M > 0.5 somewhere, 0 with an empty map, 1 cannot be read" in repr(
        ranking
    )
    assert len(ranking.shown) == 2
    with pytest.raises(ImageError, match=r"cannot read .*1\.png"):
        explainer.rank(tmp_path, "red", "1", strict=True)


def test_examples_of_the_concept_are_marked(explainer):
    examples = patches(0, 8, 1)[0]
    table = explainer.rank(np.concatenate([examples[:1], RED[:1]]), "red", "1").table
    notes = table.set_index("image")["note"]
    assert "among those that the concept was learned from" in notes["array[0]"]
    assert notes["array[1]"] == ""


def test_a_run_goes_on_where_it_was_cut_off(explainer, ranking, tmp_path, monkeypatch):
    rows, seen = RankTask._rows, []

    def cut(self, names, *rest):
        if len(seen) >= 64:
            raise KeyboardInterrupt
        seen.extend(names)
        return rows(self, names, *rest)

    monkeypatch.setattr(RankTask, "_rows", cut)
    with pytest.raises(KeyboardInterrupt):
        explainer.rank(IMAGES, "red", "1", run=tmp_path, pictures=12)
    monkeypatch.setattr(
        RankTask,
        "_rows",
        lambda self, names, *rest: (seen.extend(names), rows(self, names, *rest))[1],
    )
    again = explainer.rank(IMAGES, "red", "1", run=tmp_path, pictures=12)
    assert len(seen) == 100
    assert again.table.equals(ranking.table)
    assert again.provenance == ranking.provenance
    with pytest.raises(ExplanationError, match=r"a run with other settings: .*concepts was"):
        explainer.rank(IMAGES, "blue", "1", run=tmp_path)


def test_saved_and_loaded(ranking, tmp_path):
    ranking.save(tmp_path)
    again = vtcav.Ranking.load(tmp_path)
    assert again.table.equals(ranking.table)
    assert repr(again) == repr(ranking)
    assert again.provenance == ranking.provenance
    for one, other in zip(again.shown, ranking.shown, strict=True):
        assert (one.image, one.position, one.box) == (other.image, other.position, other.box)
        np.testing.assert_array_equal(one.concept_map, other.concept_map)
        np.testing.assert_array_equal(one.picture, other.picture)
    assert json.loads(ranking.to_json())["table"][0]["image"] == ranking.table["image"][0]
    csv = pd.read_csv(tmp_path / "ranking_table.csv")
    assert csv["image"].tolist() == ranking.table["image"].tolist()
    with (tmp_path / "ranking_table.csv").open("a") as file:
        file.write("x")
    with pytest.raises(ExplanationError, match=r"ranking_table\.csv.* was changed"):
        vtcav.Ranking.load(tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ranking.layer = "3"


def test_the_figure_shows_the_first_and_the_last(ranking, tmp_path):
    drawn = []
    save_figure(lambda f: drawn.append(plot_ranking(ranking, f)) or f, tmp_path / "a.png")
    labels = {axes.get_label() for axes in drawn[0].axes}
    assert {"curve", "picture 1", "map 1", "map 100"} <= labels
    assert sum(label.startswith("map ") for label in labels) == 12
    empty = dataclasses.replace(ranking, shown=())
    save_figure(lambda f: plot_ranking(empty, f), tmp_path / "b.png")


@pytest.mark.parametrize(("images", "shown"), [(1000, 48), (49, 48), (48, 48), (5, 4), (9, 0)])
def test_shown_positions_are_distinct_and_in_order(images, shown):
    positions = shown_positions(images, shown)
    assert len(positions) == min(images, shown)
    assert positions == sorted(set(positions))
    if shown:
        assert (positions[0], positions[-1]) == (0, images - 1)
