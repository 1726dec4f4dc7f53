"""Results: tables, intervals, notes, and files that are all or nothing."""

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from packaging.version import Version
from PIL import Image
from scipy import stats

import vtcav
from tests.helpers.small import concepts, negatives, pictures, small_explainer, small_model
from vtcav.files.atomic import replace_files
from vtcav.files.manifest import write_table
from vtcav.results.effect_tables import TOGETHER, effect_table, read_effects
from vtcav.results.figures import page as plotting
from vtcav.results.rows import EffectRow, Row
from vtcav.results.tables.shapes import read_attributions

IMAGES = pictures(6, seed=11)


@pytest.fixture(scope="module")
def explainer():
    return small_explainer()


@pytest.fixture(scope="module")
def local(explainer):
    return explainer.explain(IMAGES[0], classes=["fox", "cat"])


@pytest.fixture(scope="module")
def glob(explainer):
    return explainer.explain_class("fox", IMAGES)


def test_local_table(local):
    table = local.attributions
    assert list(table.columns) == [
        *("layer", "concept", "class_name", "class_index", "note"),
        *("error", "evaluations", "separated", "seen", "raised", "presence"),
        *("cav_low", "cav_high", "null_mean", "effect", "p_value", "q_value", "attribution"),
    ]
    assert len(table) == 2 * 2 * 2
    assert table["class_name"].unique().tolist() == ["fox", "cat"]
    assert table["class_index"].unique().tolist() == [2, 0]
    assert table["attribution"].between(0, 1).all()
    assert table["separated"].dtype == bool
    predictions = local.predictions["probability"]
    assert predictions.is_monotonic_decreasing
    assert predictions.sum() == pytest.approx(1)


@pytest.mark.parametrize("table", ["attributions", "of_class", "summary", "found", "findings"])
def test_tables_show_their_numbers_at_80_columns(explainer, local, glob, table):
    found = explainer.diagnostics()
    made, number = {
        "attributions": (local.attributions, "attribution"),
        "of_class": (glob.attributions, "attribution"),
        "summary": (glob.summary(), "mean"),
        "found": (found.summary(), "level"),
        "findings": (found.table, "level"),
    }[table]
    for column in {"note", "meaning"} & set(made):
        made[column] = "the image does not raise this class above zero feature maps"
    with pd.option_context("display.width", 80, "display.max_columns", 0, "display.precision", 4):
        lines = str(made).splitlines()
    # pandas 2 does not count the dots in place of what it hides
    assert max(map(len, lines)) <= (80 if Version(pd.__version__) >= Version("3") else 85)
    assert lines[0].split()[-1] == number
    assert {"layer", "concept"} <= set(lines[0].split())
    for line, value in zip(lines[1:], made[number], strict=False):
        assert line.endswith(str(value) if isinstance(value, str) else f" {value:.4f}")


def test_global_summary_is_students_interval(glob):
    rows = glob.attributions
    assert len(rows) == 6 * 2 * 2
    for confidence in (0.95, 0.5):
        for row in glob.summary(confidence).itertuples():
            mine = rows[(rows["layer"] == row.layer) & (rows["concept"] == row.concept)]
            values = mine["attribution"].to_numpy()
            sem = stats.sem(values)
            assert row.n == 6
            assert row.mean == pytest.approx(values.mean(), abs=1e-12)
            assert row.std == pytest.approx(values.std(ddof=1), abs=1e-12)
            assert row.sem == pytest.approx(sem, abs=1e-12)
            assert sem > 0.01
            low, high = stats.t.interval(confidence, 5, loc=values.mean(), scale=sem)
            assert (row.ci_low, row.ci_high) == pytest.approx((low, high), abs=1e-9)
    with pytest.raises(vtcav.ExplanationError, match=r"confidence .* between 0 and 1, got 95"):
        glob.summary(95)


def test_one_image_has_no_interval_and_says_so(explainer):
    summary = explainer.explain_class("dog", IMAGES[:1]).summary()
    assert summary[["std", "sem", "ci_low", "ci_high"]].isna().all(axis=None)
    assert summary["note"].str.startswith("one image: no spread, no interval").all()


def test_notes_are_counted_one_by_one(glob):
    rows = glob.attributions
    rows["note"] = ["A; B", "B", "", "B", "A; B", "B"] * 4
    changed = dataclasses.replace(glob, _rows=rows)
    note = changed.summary()["note"][0]
    assert "A" in note
    assert "of 6 images: B" in note


def test_a_concept_that_is_not_separated_is_flagged_everywhere(tmp_path):
    explainer = vtcav.VisualTCAV(small_model(), ["3"])
    explainer.fit({"same": negatives()} | concepts(), negatives())
    local = explainer.explain(IMAGES[0])
    mine = local.attributions.query("concept == 'same'")
    assert not mine["separated"].any()
    assert (mine["attribution"] == 0).all()
    assert mine["note"].str.startswith("not separated: e+ <= e-").all()
    assert mine["presence"].isna().all()
    assert local.attributions.query("concept != 'same'")["presence"].notna().all()
    assert (local.concept_map("3", "same") == 0).all()
    summary = explainer.explain_class("cat", IMAGES).summary().set_index("concept")
    assert summary.loc["same", "note"].startswith("not separated")
    assert not summary.loc["same", "separated"]
    local.save(tmp_path)
    saved = pd.read_csv(tmp_path / "local_attributions.csv").query("concept == 'same'")
    assert saved["note"].str.startswith("not separated").all()


def test_presence_is_the_peak_of_the_map(explainer, local, glob):
    for row in local.attributions.itertuples():
        M = local.concept_map(row.layer, row.concept).astype(float)
        assert row.presence == pytest.approx((M**2).sum() / M.sum(), abs=1e-6)
        assert 0 < row.presence < 1
    keys = ["layer", "concept"]
    means = glob.attributions.groupby(keys, sort=False)["presence"].mean()
    np.testing.assert_allclose(glob.summary().set_index(keys)["presence"], means)
    black = explainer.explain(np.zeros((16, 16, 3), np.uint8)).attributions
    assert (black.query("concept == 'bright'")["presence"] == 0).all()


def test_older_tables_have_no_presence(glob, tmp_path):
    write_table(tmp_path / "old", glob.attributions.drop(columns="presence"))
    names = {"layer": glob.layers, "concept": glob.concepts}
    rows = read_attributions(tmp_path, "old", Row._fields, names)
    assert rows["presence"].isna().all()
    assert list(rows)[list(rows).index("raised") + 1] == "presence"
    assert dataclasses.replace(glob, _rows=rows).summary()["presence"].isna().all()


def test_a_class_that_does_not_rise_says_so():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )
    with torch.no_grad():
        net[0].weight.fill_(0.1)
        net[4].weight.copy_(torch.tensor([[1.0] * 4, [-1.0] * 4]))
    explainer = vtcav.VisualTCAV(small_model(net, ("up", "down")), ["1"])
    explainer.fit({"bright": pictures(6, low=180)}, pictures(12, seed=3, high=120))
    table = explainer.explain(IMAGES[0], ["up", "down"]).attributions.set_index("class_name")
    assert table.loc["up", "note"] == ""
    assert table.loc["up", "attribution"] > 0
    assert "does not raise this class" in table.loc["down", "note"]
    assert table.loc["down", "attribution"] == 0


def test_results_cannot_be_changed(local, glob):
    for result in (local, glob):
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.concepts = ()
        table = result.attributions
        table.loc[:, "attribution"] = 7.0
        assert (result.attributions["attribution"] <= 1).all()
    M = local.concept_map("3", "cold")
    M += 5
    assert local.concept_map("3", "cold").max() <= 1


def test_unknown_layers_and_concepts_of_a_result(local):
    with pytest.raises(vtcav.ExplanationError, match="no layer '9'; it has '1', '3'"):
        local.concept_map("9", "cold")
    with pytest.raises(vtcav.ExplanationError, match="no concept 'warm'; it has 'bright', 'cold'"):
        local.concept_map("3", "warm")


def test_saved_and_loaded_local(local, tmp_path):
    assert local.save(tmp_path / "deep" / "out") == tmp_path / "deep" / "out"
    again = vtcav.LocalExplanation.load(tmp_path / "deep" / "out")
    assert again.attributions.equals(local.attributions)
    assert again.predictions.equals(local.predictions)
    for layer in local.layers:
        for concept in local.concepts:
            np.testing.assert_array_equal(
                again.concept_map(layer, concept), local.concept_map(layer, concept)
            )
    np.testing.assert_array_equal(again.picture, local.picture)
    assert again.box == local.box
    assert again.provenance.concepts == local.provenance.concepts
    assert json.dumps(again.provenance.to_dict()) == json.dumps(local.provenance.to_dict())


def test_saved_and_loaded_global(glob, tmp_path):
    glob.save(tmp_path)
    again = vtcav.GlobalExplanation.load(tmp_path)
    assert again.attributions.equals(glob.attributions)
    assert again.summary().equals(glob.summary())
    assert again.images.equals(glob.images)
    assert (again.class_index, again.class_name) == (2, "fox")
    kinds = set(pd.read_csv(tmp_path / "global_resampled.csv")["kind"])
    assert kinds == {"null_cav", "bootstrap_cav", "subset_cav"}  # pandas reads "null" as missing


def test_every_file_tells_the_same(local, glob, tmp_path):
    local.save(tmp_path)
    glob.save(tmp_path)  # beside each other
    vtcav.LocalExplanation.load(tmp_path)
    vtcav.GlobalExplanation.load(tmp_path)
    exact = {"attribution": float}  # some versions of pandas read the last digit otherwise
    csv = pd.read_csv(tmp_path / "local_attributions.csv", keep_default_na=False, converters=exact)
    parquet = pd.read_parquet(tmp_path / "local_attributions.parquet")
    np.testing.assert_array_equal(csv["attribution"], parquet["attribution"])
    strict = json.loads((tmp_path / "local.json").read_text(), parse_constant=pytest.fail)
    ours = [row["attribution"] for row in strict["attributions"]]
    np.testing.assert_allclose(ours, local.attributions["attribution"], atol=1e-14)
    with np.load(tmp_path / "local_maps.npz") as arrays:
        np.testing.assert_array_equal(arrays["map/3"][0], local.concept_map("3", "bright"))
    summary = pd.read_csv(tmp_path / "global_summary.csv", keep_default_na=False)
    np.testing.assert_allclose(summary["mean"], glob.summary()["mean"], atol=1e-14)
    for name in ("local.png", "global.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("steps", [5, "adaptive"])
def test_json_is_strict_also_without_an_interval_or_error(steps, tmp_path):
    explainer = small_explainer(steps=steps)
    explainer.explain_class("dog", IMAGES[:1]).save(tmp_path)
    explainer.explain(IMAGES[0], [np.int64(1), "cat"]).save(tmp_path)
    for kind in ("local", "global"):
        json.loads((tmp_path / f"{kind}.json").read_text(), parse_constant=pytest.fail)


def contents(folder):
    return {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (plotting, "save_figure", KeyboardInterrupt()),
        (plotting, "save_figure", OSError("disk full")),
        (np, "savez_compressed", OSError("disk full")),
        (pd.DataFrame, "to_parquet", OSError("disk full")),
        (Path, "write_text", OSError("disk full")),
    ],
)
def test_a_save_that_fails_leaves_the_old_result(
    local, glob, tmp_path, monkeypatch, owner, name, error
):
    def fail(*_arguments, **_options):
        raise error

    local.save(tmp_path)
    glob.save(tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(owner, name, fail)
    expected = vtcav.ExplanationError if isinstance(error, OSError) else KeyboardInterrupt
    for result in (local, glob):
        for folder in (tmp_path, tmp_path / "new"):
            with pytest.raises(expected, match=r"disk full; nothing was changed there|^$"):
                result.save(folder)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [OSError("file in use"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("moves", range(5))
def test_files_that_cannot_all_move_in_are_put_back(tmp_path, monkeypatch, moves, error):
    for name in ("a", "b", "manifest"):
        (tmp_path / name).write_text(f"old {name}")
    before = contents(tmp_path)
    done = []
    move = Path.replace

    def fail_once(path, target):
        done.append(path)
        if len(done) == moves + 1:
            raise error
        return move(path, target)

    def save():
        with replace_files(tmp_path, "manifest") as staging:
            for name in ("a", "c", "manifest"):  # two files out, three in
                (staging / name).write_text(f"new {name}")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail_once)
        with pytest.raises(type(error)):
            save()
    assert contents(tmp_path) == before
    save()
    assert contents(tmp_path) == {
        "a": b"new a",
        "b": b"old b",
        "c": b"new c",
        "manifest": b"new manifest",
    }


def test_a_folder_in_the_place_of_a_file_is_kept(local, tmp_path):
    (tmp_path / "local.png").mkdir()
    (tmp_path / "local.png" / "mine").write_text("keep")
    with pytest.raises(vtcav.ExplanationError, match=r"local.png.*nothing was changed there"):
        local.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["local.png"]
    assert (tmp_path / "local.png" / "mine").read_text() == "keep"


def test_what_else_is_in_the_folder_stays(local, explainer, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    local.save(tmp_path)
    explainer.explain(IMAGES[1], classes=["dog"]).save(tmp_path)
    assert vtcav.LocalExplanation.load(tmp_path).attributions["class_name"].unique() == ["dog"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_damaged_results_are_named(local, tmp_path):
    with pytest.raises(vtcav.ExplanationError, match=r"no complete local explanation: local\.js"):
        vtcav.LocalExplanation.load(tmp_path)
    local.save(tmp_path)
    table = tmp_path / "local_attributions.csv"
    table.write_text(table.read_text().replace("fox", "dog"))
    with pytest.raises(vtcav.ExplanationError, match=r"local_attributions.csv' is missing or was"):
        vtcav.LocalExplanation.load(tmp_path)
    local.save(tmp_path)
    (tmp_path / "local_maps.npz").unlink()
    with pytest.raises(vtcav.ExplanationError, match=r"local_maps.npz' is missing or was"):
        vtcav.LocalExplanation.load(tmp_path)
    local.save(tmp_path)
    text = (tmp_path / "local.json").read_text()
    (tmp_path / "local.json").write_text(json.dumps(json.loads(text)))  # without line breaks
    vtcav.LocalExplanation.load(tmp_path)
    for edited in (text.replace('"fox"', '"dog"'), '{"format": 2}', '{"format": 2, "files": {}}'):
        (tmp_path / "local.json").write_text(edited)
        with pytest.raises(vtcav.ExplanationError, match=r"local.json' was changed after"):
            vtcav.LocalExplanation.load(tmp_path)
    (tmp_path / "global.json").write_text(text)
    with pytest.raises(vtcav.ExplanationError, match=r"global.json' was changed after"):
        vtcav.GlobalExplanation.load(tmp_path)
    (tmp_path / "local.json").write_text('{"format": 99}')
    with pytest.raises(vtcav.ExplanationError, match="format 99, expected 2"):
        vtcav.LocalExplanation.load(tmp_path)
    (tmp_path / "local.json").write_text("{")
    with pytest.raises(vtcav.ExplanationError, match="cannot read"):
        vtcav.LocalExplanation.load(tmp_path)


def test_a_folder_that_cannot_be_written(local, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(vtcav.ExplanationError, match="cannot save the local explanation"):
        local.save(tmp_path / "file")


def test_hostile_names_are_only_text(tmp_path):
    names = ("<script>alert(1)</script>", "quo\"te's,\n=1+1 \u732b", "../x $a_b$")
    explainer = vtcav.VisualTCAV(small_model(classes=names), ["3"])
    explainer.fit({"../x": pictures(6, low=150), "a/b <i>": pictures(6, seed=4)}, negatives())
    path = tmp_path / "odd 'name' <b>\n\u732b.png"
    Image.fromarray(IMAGES[0]).save(path)
    for result in (explainer.explain(path), explainer.explain_class(names[1], [path, path])):
        result.save(tmp_path / "out")
        again = type(result).load(tmp_path / "out")
        assert again.attributions.equals(result.attributions)
        assert again.concepts == ("../x", "a/b <i>")
        assert list(again.thumbnails) == ["../x", "a/b <i>"]
    csv = pd.read_csv(tmp_path / "out" / "local_attributions.csv")
    assert set(csv["class_name"]) == set(names)
    assert set(csv["image"]) == {str(path)}
    assert {p.name for p in tmp_path.iterdir()} == {"out", path.name}
    for archive in (tmp_path / "out").glob("*.npz"):
        assert not any(".." in name for name in zipfile.ZipFile(archive).namelist())


def test_images_are_listed_with_what_became_of_them(explainer, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"")
    listed = [Image.fromarray(IMAGES[0]), path, Image.fromarray(IMAGES[1])]
    with pytest.warns(vtcav.SkippedImageWarning):
        glob = explainer.explain_class("fox", listed)
    assert list(glob.images.columns) == [
        *("image", "used", "reason", "probability", "predicted_class")
    ]
    assert glob.images["used"].tolist() == [True, True, False]
    assert glob.images["reason"].tolist() == ["", "", "the file is empty"]
    for i in range(2):
        predictions = explainer.explain(IMAGES[i]).predictions.set_index("class_name")
        row = glob.images.iloc[i]
        assert row["probability"] == pytest.approx(predictions["probability"]["fox"], abs=1e-6)
        assert row["predicted_class"] == predictions.index[0]
    glob.save(tmp_path / "out")
    again = vtcav.GlobalExplanation.load(tmp_path / "out")
    assert again.images.equals(glob.images)
    assert again.skipped == glob.skipped
    manifest = json.loads((tmp_path / "out" / "global.json").read_text())
    assert manifest["skipped"] == [{"name": str(path), "reason": "the file is empty"}]


def test_a_loaded_result_is_frozen_too(local, tmp_path):
    again = vtcav.LocalExplanation.load(local.save(tmp_path))
    for array in (again.picture, *again.thumbnails.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    again.save(tmp_path / "again")
    assert vtcav.LocalExplanation.load(tmp_path / "again").attributions.equals(local.attributions)


def test_provenance_tells_what_the_numbers_depend_on(explainer, local):
    found = local.provenance
    assert found.versions["vtcav"] == vtcav.__version__
    assert found.model["fingerprint"] == explainer.model.fingerprint
    assert [layer["name"] for layer in found.layers] == ["1", "3"]
    assert all(layer["resume"] in ("single", "expanded", "replay") for layer in found.layers)
    assert [len(concept.examples) for concept in found.concepts] == [7, 8]
    assert found.settings["steps"] == "adaptive"
    assert found.settings["fit"]["seed"] == 0


def test_plot_returns_a_figure(local, glob):
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    plt.switch_backend("agg")
    assert isinstance(local.plot(smooth=True), Figure)
    assert isinstance(glob.plot(), Figure)
    plt.close("all")


def test_effects_that_do_not_fit_each_other_are_refused(tmp_path):
    """A share of an unknown score, or a concept without a row, would end in figures only."""
    ones = dict.fromkeys(EffectRow._fields, 1.0) | {"layer": TOGETHER, "class_index": 0}
    ones |= {"image": "a.png", "class_name": "a", "same_region": "", "placebos": 0}
    ones |= {"confused_with": "", "note": ""}
    table = effect_table([EffectRow(**ones | {"concept": name}) for name in ("bright", "dark")])
    names = {"layer": ("1",), "concept": ("bright", "dark")}

    def read(changed):
        write_table(tmp_path / "effects", changed)
        return read_effects(tmp_path, "effects", names)

    assert len(read(table)) == 2
    for column, message in (("reference", "wherever share has"), ("logit", "wherever drop has")):
        with pytest.raises(ValueError, match=message):
            read(table.assign(**{column: [1.0, float("nan")]}))
    with pytest.raises(ValueError, match="found none of 'dark'"):
        read(table[:1])
