"""The controlled experiment from end to end, with settings so small that nothing is learned."""

import importlib
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch

from vtcav.cli import parser
from vtcav.cli.options import Arguments
from vtcav.errors import ExplanationError
from vtcav.evaluation.experiment.agreement import (
    NO_SIZE,
    by_image,
    by_layer,
    by_opposition,
    by_presence,
    by_seed,
    summarise,
)
from vtcav.evaluation.experiment.drawn_unit import DrawnExperiment, UnitSettings
from vtcav.evaluation.experiment.evaluate import default_settings, evaluate
from vtcav.evaluation.experiment.methods import ALL_METHODS
from vtcav.evaluation.experiment.network import LAYERS, Training
from vtcav.evaluation.experiment.scenes import draw_scenes, scene_seed, with_tags
from vtcav.evaluation.experiment.store import claim_folder, load_unit, unit_folder

# the package has the function under the module's name
experiment = importlib.import_module("vtcav.evaluation.experiment.evaluate")
network = importlib.import_module("vtcav.evaluation.experiment.network")

METHODS = ("visual_tcav", "visual_tcav_filter", "erasure", "erasure_drop", "erasure_own")
METHODS += ("visual_tcav_generic", "tcav", "true_masks", "true_masks_drop", "design")
TINY = UnitSettings(
    Training(scenes=64, epochs=1),
    examples=6,
    test_images=3,
    methods=METHODS,
    tcav_runs=2,
)
RUN = {"seeds": [1000], "agreements": [0.0, 1.0], "settings": TINY, "progress": False}
TABLES = ("points", "layers", "local", "presence", "opposition", "localisation")
LAYERED = ("visual_tcav", "visual_tcav_filter", "visual_tcav_generic", "tcav")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return evaluate(tmp_path_factory.mktemp("run") / "out", **RUN)


def test_the_summary_has_what_is_promised(finished):
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert sorted(METHODS, key=ALL_METHODS.index) == list(summary["methods"])
    for method in summary["methods"].values():
        for name in ("spearman", "pearson"):
            entry = method[name]
            assert {"best_layer", "median_layer", "per_seed"} <= set(entry)
            assert len(entry["per_seed"]) == 1
            assert {"seed", "best_layer", "median_layer"} <= set(entry["per_seed"][0])
            assert entry["best_layer"] == pytest.approx(entry["per_seed"][0]["best_layer"])
            assert entry["best_layer"] >= entry["median_layer"]
    maps = summary["localisation"]
    assert all(0 <= maps[name] <= 1 for name in ("pointing_game", "soft_iou", "balanced_mse"))
    assert summary["run"]["seeds"] == [1000]
    assert summary["run"]["settings"]["training"]["scenes"] == 64
    assert {"vtcav", "torch", "scikit-learn"} <= set(summary["versions"])


def test_every_missing_number_has_its_reason(finished):
    for name in TABLES:
        table = getattr(finished, name)
        missing = table.drop(columns="note").isna().any(axis=1)
        assert (table.loc[missing, "note"] != "").all(), name
    points = finished.points
    each = 2 * 4 * 2  # q, classes, cues
    assert len(points) == each * (len(LAYERED) * len(LAYERS) + len(METHODS) - len(LAYERED))
    assert set(points.loc[~points["method"].isin(LAYERED), "layer"]) == {"", "layers together"}
    assert (points.groupby(["q", "class_name", "cue"])["share"].nunique(dropna=False) == 1).all()
    assert (
        points.loc[points["share"].isna(), "note"].str.contains("no gap to take a share of").all()
    )


def test_tables_on_disk_are_those_of_the_result(finished):
    for name in TABLES:
        stored = pd.read_parquet(finished.folder / f"{name}.parquet")
        pd.testing.assert_frame_equal(stored, getattr(finished, name))
        assert len(pd.read_csv(finished.folder / f"{name}.csv")) == len(stored)
    assert not list(finished.folder.rglob("*.pkl"))


def test_the_page_is_one_file_that_asks_for_nothing(finished):
    page = finished.page.read_text()
    assert "Visual-TCAV" in page
    assert page.count("data:image/png;base64,") == 11  # 5, and 6 methods that are no controls
    assert "cue and q alone, no network" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page


def test_an_interrupted_run_goes_on_and_gives_the_same_tables(finished, tmp_path, monkeypatch):
    known = [load_unit(unit_folder(finished.folder, 1000, 0.0))]

    def stop_at_the_second(*args, **options):
        if not known:
            raise KeyboardInterrupt
        return known.pop()

    run, computed = DrawnExperiment.run, []
    monkeypatch.setattr(experiment, "write_report", lambda *_: None)
    monkeypatch.setattr(DrawnExperiment, "run", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, **RUN)
    assert load_unit(unit_folder(tmp_path, 1000, 0.0)) is not None
    assert load_unit(unit_folder(tmp_path, 1000, 1.0)) is None
    monkeypatch.setattr(
        DrawnExperiment, "run", lambda *a, **o: computed.append(a[2]) or run(*a, **o)
    )
    again = evaluate(tmp_path, **RUN)
    assert computed == [1.0]
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(finished, name))


def test_a_finished_run_computes_nothing_again(finished, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr(DrawnExperiment, "run", refuse)
    monkeypatch.setattr(experiment, "write_report", lambda *_: None)
    again = evaluate(finished.folder, **RUN)
    pd.testing.assert_frame_equal(again.points, finished.points)
    some = evaluate(finished.folder, **{**RUN, "agreements": [1.0]})
    assert set(some.points["q"]) == {1.0}


def test_a_folder_of_other_settings_is_refused_by_name(finished):
    with pytest.raises(ExplanationError, match=r"settings\.examples was 6, is 80"):
        evaluate(finished.folder, progress=False)
    with pytest.raises(ExplanationError, match="holds a run with other settings"):
        evaluate(finished.folder, quick=True, progress=False)


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ExplanationError, match="other settings"):
        claim_folder(tmp_path, {"settings": 1})
    (tmp_path / "run.json").write_text("not json")
    with pytest.raises(ExplanationError, match="cannot use the run folder"):
        claim_folder(tmp_path, {"settings": 1})


def test_a_damaged_unit_is_named(finished, tmp_path):
    folder = unit_folder(finished.folder, 1000, 0.0)
    table = folder / "maps.parquet"
    whole = table.read_bytes()
    try:
        table.write_bytes(whole[:-1])
        with pytest.raises(
            ExplanationError, match=r"maps.parquet' is missing or was .* delete that folder"
        ):
            load_unit(folder)
    finally:
        table.write_bytes(whole)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": []}, "expected seeds"),
        ({"seeds": [-1]}, "expected seeds"),
        ({"agreements": [1.5]}, "between 0 and 1"),
        ({"agreements": []}, "between 0 and 1"),
        ({"agreements": [0.5, 0.501]}, "differ by 0.01"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, wrong, message):
    with pytest.raises(ExplanationError, match=message):
        evaluate(tmp_path, **wrong)
    assert not any(tmp_path.iterdir())


def test_quick_is_less_of_the_same():
    quick, full = default_settings(quick=True), default_settings()
    assert quick.methods == full.methods
    assert quick.training.epochs * quick.training.scenes < (
        full.training.epochs * full.training.scenes
    )
    assert set(experiment.QUICK_AGREEMENTS) < set(experiment.AGREEMENTS)


def test_the_command_prints_a_table_and_the_page(finished, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        experiment, "evaluate", lambda *a, **o: asked.append(o["seeds"]) or finished
    )
    words = ["evaluate", "-o", "x"]
    arguments = parser().parse_args([*words, "--seeds", "1,2"], Arguments())
    assert arguments.seeds == [1, 2]
    arguments.run(arguments)
    printed = capsys.readouterr().out
    assert "Visual-TCAV" in printed
    assert str(finished.page.resolve()) in printed
    arguments = parser().parse_args([*words, "--json", "--seed", "4"], Arguments())
    arguments.run(arguments)
    assert asked == [[1, 2], [4, 5, 6]]
    assert "visual_tcav" in json.loads(capsys.readouterr().out)["methods"]
    with pytest.raises(SystemExit):
        parser().parse_args([*words, "--seeds", "one"])
    assert "expected comma-separated numbers" in capsys.readouterr().err


def test_ceilings_are_the_effects_of_filling_in_the_true_masks(finished):
    """Literally: the trained weights, the test scenes, the pixels of the mask filled in."""
    from safetensors.torch import load_file

    weights = load_file(unit_folder(finished.folder, 1000, 1.0) / "network.safetensors")
    drawn = DrawnExperiment(TINY)
    model, trial = drawn.restored(1000, weights), drawn.trial(1000)
    whole, mask = torch.from_numpy(trial.pictures).double(), torch.from_numpy(trial.masks["tag"])
    points = finished.points.query("q == 1 and cue == 'tag' and method == 'true_masks_drop'")
    for t in range(4):
        drops = []
        for i in trial.of_class(t):
            # the mean of the pixels outside, weighted by a Gaussian of a tenth of the side
            rows = torch.arange(64).double()
            near = (-0.5 * ((rows[:, None] - rows) / 6.4) ** 2).exp()
            near[(rows[:, None] - rows).abs() > 19] = 0
            keep = (~mask[i]).double()
            fill = near @ (whole[i].permute(2, 0, 1) * keep) @ near / (near @ keep @ near)
            picture = torch.where(mask[i], fill, whole[i].permute(2, 0, 1))
            x = (torch.stack([whole[i].permute(2, 0, 1), picture]).float() / 255 - 0.5) / 0.5
            z = model.logits(x)[:, t]
            drops.append(float(z[0] - z[1]))
        own = points[points["class_index"] == t]
        assert own["value"].item() == pytest.approx(np.mean(drops), abs=2e-3)


def test_what_the_design_says_is_told_beside_the_methods(finished):
    design = finished.points[finished.points["method"] == "design"]
    shares = design.groupby(["q", "cue"])["value"].unique()
    assert shares[0.0, "tag"] == [0]
    assert shares[0.0, "texture"] == [1]
    assert shares[1.0, "tag"] == pytest.approx([1 / 1.9])
    assert finished.summary["methods"]["design"]["control"]


def test_training_tags_share_no_noise_with_test_tags(monkeypatch):
    """In the first design those of epoch 1 had the noise of the test tags."""
    drawn = []

    def with_noted_tags(scenes, letters, seed):
        found = with_tags(scenes, letters, seed)
        drawn.append(found.tags)
        return found

    monkeypatch.setattr(network, "with_tags", with_noted_tags)
    few = UnitSettings(Training(scenes=32, epochs=3))
    DrawnExperiment(few).trained(1000, 1.0, "cpu", lambda: None)
    labels = np.arange(32) % 4
    test = with_tags(
        draw_scenes(labels, scene_seed(1000, "test")), labels, scene_seed(1000, "test")
    ).tags
    assert len(drawn) == 3
    assert max((tags == test).mean() for tags in drawn) < 0.05


# -- the numbers, by hand ----------------------------------------------------------------------


def points(values, shares=(0.0, 0.2, 0.6, 1.0), layer="a", method="m", seed=0, q=0.5):
    table = {"seed": seed, "q": q, "cue": "tag", "method": method, "layer": layer}
    return pd.DataFrame({**table, "value": values, "share": shares})


def test_coefficients_by_layer_and_by_seed():
    table = pd.concat(
        [
            points([0.0, 0.1, 0.2, 0.3]),
            points([0.3, 0.2, 0.1, 0.0], layer="b"),
            points([0.1, 0.0, 0.2, 0.3], layer="c"),
        ]
    )
    layers = by_layer(table)
    assert layers["spearman"].tolist() == pytest.approx([1.0, -1.0, 0.8])
    assert layers["pair_order"].tolist() == pytest.approx([1.0, 0.0, 5 / 6])
    rank = by_seed(layers).set_index("coefficient").loc["spearman"]
    assert (rank["best_layer"], rank["median_layer"]) == pytest.approx((1.0, 0.8))
    assert rank["best_layer_name"] == "a"


def test_a_layer_without_a_coefficient_counts_as_chance():
    table = pd.concat(
        [points([0.0] * 4), points([0.0, 0.1, 0.2, 0.3], layer="b"), points([0.0] * 4, layer="c")]
    )
    layers = by_layer(table)
    assert layers["note"][0].startswith("all estimates are the same; no condition has a coeff")
    assert layers["note"][1] == NO_SIZE
    seeds = by_seed(layers).set_index("coefficient")
    assert seeds.loc["spearman", "median_layer"] == 0.0
    assert seeds.loc["pair_order", "median_layer"] == 0.5
    assert "2 of 3 layers have no coefficient" in seeds.loc["spearman", "note"]


def test_points_without_a_value_are_left_out_and_counted():
    layers = by_layer(points([0.0, math.nan, 0.2, 0.3]))
    assert layers.loc[0, ["n", "lost"]].tolist() == [3, 1]
    assert "1 of 4 points have no value" in layers.loc[0, "note"]


def test_the_summary_over_seeds_has_an_interval():
    table = pd.concat([points([0.0, 0.1, 0.2, 0.3], seed=0), points([0.1, 0.0, 0.2, 0.3], seed=1)])
    one = summarise(by_seed(by_layer(table[table["seed"] == 1])))["m"]["spearman"]
    assert one["best_layer_interval"]["low"] is None
    assert one["best_layer_interval"]["note"] == "one seed: no interval"
    two = summarise(by_seed(by_layer(table)))["m"]["spearman"]
    assert [seed["best_layer"] for seed in two["per_seed"]] == pytest.approx([1.0, 0.8])


def test_single_images_are_compared_inside_a_class_too():
    """Two classes whose levels agree with the truth, while the images inside are reversed."""
    table = pd.DataFrame(
        {
            "seed": 0,
            "method": "m",
            "layer": "a",
            "q": 0.5,
            "cue": "tag",
            "class_index": np.repeat([0, 1], 4),
            "value": [1, 2, 3, 4, 11, 12, 13, 14],
            "share": [0.4, 0.3, 0.2, 0.1, 0.9, 0.8, 0.7, 0.6],
            "effect": [1, 2, 3, 4, 8, 7, 6, 5],
        }
    )
    found = by_image(table).loc[0]
    assert found["within_share"] == pytest.approx(-1.0)
    assert found["within_effect"] == pytest.approx(0.0)
    assert found["spearman"] > 0.4
    assert found[["groups", "undefined"]].tolist() == [2, 0]


@pytest.mark.parametrize("unseen", [math.nan, 0.5])
def test_a_class_whose_images_all_get_the_same_or_nothing_counts_as_zero(unseen):
    """Leaving such groups out would give a method the credit of its good ones alone."""
    table = pd.DataFrame(
        {
            "seed": 0,
            "method": "m",
            "layer": "a",
            "q": 0.5,
            "cue": "tag",
            "class_index": np.repeat([0, 1], 4),
            "value": [1, 2, 3, 4, *[unseen] * 4],
            "share": [0.1, 0.2, 0.3, 0.4] * 2,
            "effect": [1, 2, 3, 4] * 2,
        }
    )
    found = by_image(table).loc[0]
    assert found[["within_share", "within_effect"]].tolist() == pytest.approx([0.5, 0.5])
    assert found[["groups", "undefined"]].tolist() == [2, 1]
    assert "within_share: 1 of 2 groups have no coefficient, counted as 0" in found["note"]


def test_the_weaker_tag_is_told_by_its_share_of_the_truth():
    weak, strong = points([0.1, 0.1], [0.2, 0.3], q=0.25), points([1.0, 1.0], [1.0, 1.0], q=1.0)
    texture = points([5.0, 5.0], [0.5, 0.5], q=0.25).assign(cue="texture")
    [found] = by_layer(pd.concat([weak, strong, texture]), sized=["m"]).to_dict("records")
    assert found["weaker"] == pytest.approx(0.4)
    [none] = by_layer(strong, sized=["m"]).to_dict("records")
    assert math.isnan(none["weaker"])
    assert "no tags with q above 0" in none["note"]


def test_tags_of_other_classes_are_counted_where_the_network_uses_tags():
    key = {"seed": 0, "class_index": 0, "method": "m", "effect": [-2.0, -1.0, -3.0, 1.0]}
    table = pd.DataFrame({**key, "q": 1.0, "value": [-2.0, 0.5, -3.0, math.nan]})
    [found] = by_opposition(pd.concat([table, table.assign(q=0.25)])).to_dict("records")
    assert (found["n"], found["negative"], found["truly_negative"]) == (4, 0.5, 0.75)
    assert "1 of 4 images have no value" in found["note"]


def test_size_and_order_inside_a_condition():
    """Half the size everywhere; networks are in order, and the classes inside them reversed."""
    few, many = [0.2, 0.1, 0.0], [1.0, 0.9, 0.8]
    table = pd.concat([points([0.0, 0.05, 0.1], few, q=0), points([0.4, 0.45, 0.5], many, q=1)])
    [found] = by_layer(table, sized=["m"]).to_dict("records")
    assert found["inside"] == pytest.approx(-1)
    assert found["spearman"] > 0.5
    assert found["error"] == pytest.approx(np.mean([0.2, 0.05, 0.1, 0.6, 0.45, 0.3]))
    assert found["slope"] == pytest.approx(np.polyfit(table["share"], table["value"], 1)[0])
    assert found["kept"] == 1
    assert "no tags with q above 0" in found["note"]
    [unsized] = by_layer(table).to_dict("records")
    assert math.isnan(unsized["error"])
    assert unsized["note"] == NO_SIZE
    assert set(by_seed(by_layer(table))["coefficient"]).isdisjoint({"error", "slope"})
    halves = pd.concat([points([0.0, 0.1, 0.3, 0.5]), points([0.0, 0.2, 0.6, 1.1], layer="b")])
    best = by_seed(by_layer(halves, sized=["m"])).set_index("coefficient")["best_layer_name"]
    assert best[["error", "slope"]].tolist() == ["b", "b"]


def test_a_layer_chosen_on_other_seeds_was_not_chosen_by_its_own_truth():
    good, bad = [0.0, 0.1, 0.2, 0.3], [0.3, 0.0, 0.2, 0.1]
    table = pd.concat(
        [
            points(good, layer="a", seed=0),
            points(bad, layer="b", seed=0),
            points(bad, layer="a", seed=1),
            points(good, layer="b", seed=1),
        ]
    )
    rank = by_seed(by_layer(table)).query("coefficient == 'spearman'")
    assert rank["best_layer"].tolist() == pytest.approx([1.0, 1.0])
    assert rank["chosen_layer_name"].tolist() == ["b", "a"]
    assert rank["chosen_layer"].tolist() == pytest.approx([-0.4, -0.4])


def test_half_of_the_images_without_the_cue():
    """A value that is 1 with the cue and 0 without, one that never changes, and one missing."""
    key = {"seed": 0, "q": 0.5, "class_index": 0, "cue": "tag", "layer": "a"}
    frame = pd.DataFrame({**key, "image": range(6), "effect": [1.0, 2, 3, 4, 5, 6]})
    images = pd.concat(
        [frame.assign(method="good", value=frame["effect"]), frame.assign(method="deaf", value=2.0)]
    )
    absent = images[images["image"] % 2 == 1].drop(columns="effect")
    absent = absent.assign(value=np.where(absent["method"] == "good", 0.0, 2.0))
    found = by_presence(images, absent).set_index("method")
    assert found.loc["good", ["n", "mixed", "presence", "absent"]].tolist() == [6, 1, 1, 0]
    assert found.loc["deaf", ["presence", "absent"]].tolist() == [0.5, 2]
    assert "no group has a coefficient" in found.loc["deaf", "note"]
    unseen = by_presence(images, absent.assign(value=math.nan)).loc[0]
    assert unseen["presence"] == 0.5
    assert math.isnan(unseen["absent"])
    assert by_presence(images.assign(q=0.0), absent.assign(q=0.0)).empty
