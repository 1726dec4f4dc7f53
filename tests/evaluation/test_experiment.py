"""The controlled experiment from end to end, with settings so small that nothing is learned."""

import importlib
import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from vtcav.cli import parser
from vtcav.cli.options import Arguments
from vtcav.errors import ExplanationError
from vtcav.evaluation.experiment.agreement import by_image, by_layer, by_seed, summarise
from vtcav.evaluation.experiment.drawn_unit import DrawnExperiment, UnitSettings
from vtcav.evaluation.experiment.evaluate import default_settings, evaluate
from vtcav.evaluation.experiment.network import LAYERS, Training
from vtcav.evaluation.experiment.store import claim_folder, load_unit, unit_folder

# the package has the function under the module's name
experiment = importlib.import_module("vtcav.evaluation.experiment.evaluate")

TINY = UnitSettings(
    Training(scenes=64, epochs=1),
    examples=6,
    test_images=3,
    methods=("visual_tcav", "visual_tcav_filter", "tcav"),
    tcav_runs=2,
)
RUN = {"seeds": [1000], "agreements": [0.0, 1.0], "settings": TINY, "progress": False}
TABLES = ("points", "layers", "local", "localisation")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return evaluate(tmp_path_factory.mktemp("run") / "out", **RUN)


def test_the_summary_has_what_is_promised(finished):
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert list(summary["methods"]) == ["visual_tcav", "visual_tcav_filter", "tcav"]
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
    assert len(points) == 3 * 2 * 4 * 2 * len(LAYERS)  # methods, q, classes, cues, layers
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
    assert page.count("data:image/png;base64,") == 8
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page


def test_an_interrupted_run_goes_on_and_gives_the_same_tables(finished, tmp_path, monkeypatch):
    done = []

    def stop_at_the_second(*args, **options):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return run(*args, **options)

    run = DrawnExperiment.run
    monkeypatch.setattr(DrawnExperiment, "run", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, **RUN)
    assert not (tmp_path / "summary.json").exists()
    assert load_unit(unit_folder(tmp_path, 1000, 0.0)) is not None
    assert load_unit(unit_folder(tmp_path, 1000, 1.0)) is None

    computed = []
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
    again = evaluate(finished.folder, **RUN)
    pd.testing.assert_frame_equal(again.points, finished.points)
    some = evaluate(finished.folder, **{**RUN, "agreements": [1.0]})
    assert set(some.points["q"]) == {1.0}
    evaluate(finished.folder, **RUN)


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


# -- the numbers, by hand ----------------------------------------------------------------------


def points(values, shares=(0.0, 0.2, 0.6, 1.0), layer="a", method="m", seed=0):
    return pd.DataFrame(
        {"seed": seed, "method": method, "layer": layer, "value": values, "share": shares}
    )


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
    assert layers["note"].tolist() == ["all estimates are the same", "", layers["note"][2]]
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
        }
    )
    found = by_image(table).loc[0]
    assert found["within"] == pytest.approx(-1.0)
    assert found["spearman"] > 0.4
