"""Tables too long for memory: on disk, merged, and equal to those in memory to the last bit."""

import json
import os
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

import vtcav
from tests.helpers.small import pictures, small_explainer
from vtcav.explainer.runs import run_folder
from vtcav.explainer.runs.run_folder import DamagedPartWarning
from vtcav.results import explanation
from vtcav.results.figures.global_explanation import plot_global
from vtcav.results.tables import saved_rows, stored_rows

COUNT = 150  # parts of 64, 64 and 22


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i, picture in enumerate(pictures(COUNT, seed=7)):
        Image.fromarray(picture).save(folder / f"{'ab'[i % 3 == 0]}-{i:03d}.png")
    (folder / "a-999.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def explainer():
    return small_explainer(steps=2, progress=False)


def explained(explainer, images, **options):
    with pytest.warns(vtcav.SkippedImageWarning, match=r"1 of 151 images is left out.*a-999"):
        return explainer.explain_class("cat", images, groups="/([ab])-", **options)


@pytest.fixture(scope="module")
def held(explainer, images):
    return explained(explainer, images)


@pytest.fixture
def few(monkeypatch):
    """Few rows are many, and few parts are merged."""
    monkeypatch.setattr(stored_rows, "MOST_IN_MEMORY", 100)
    monkeypatch.setattr(run_folder, "MOST_GROUPS", 2)


def tables(glob):
    return {
        "attributions": glob.attributions,
        "batches": pd.concat(glob.batches(), ignore_index=True),
        "effects": glob.effects,
        "summary": glob.summary(),
        "narrow": glob.summary(0.5),
        "class_effects": glob.class_effects(),
        "by_group": glob.by_group(),
        "group_tests": glob.group_tests(),
        "images": glob.images,
        "resampled": glob.resampled,
        "wide": glob.wide(),
    }


def assert_same(glob, held):
    found = tables(glob)
    for name, expected in tables(held).items():
        pd.testing.assert_frame_equal(found[name], expected, check_exact=True, obj=name)
    assert glob.verdicts() == held.verdicts()
    assert repr(glob) == repr(held)
    assert glob._repr_html_() == held._repr_html_()
    assert [p.numbers() for p in glob.erased] == [p.numbers() for p in held.erased]
    assert (glob.used, glob.predicted) == (held.used, held.predicted)


@pytest.mark.parametrize("in_a_folder", [False, True])
def test_on_disk_and_in_memory(explainer, images, held, few, tmp_path, in_a_folder):
    run = tmp_path / "run" if in_a_folder else None
    glob = explained(explainer, images, run=run)
    assert glob._rows.on_disk
    assert glob._effects.on_disk
    assert held.used == COUNT
    assert held.erased
    assert_same(glob, held)

    glob.save(tmp_path / "many")
    loaded = vtcav.GlobalExplanation.load(tmp_path / "many")
    assert loaded._rows.on_disk
    assert loaded._effects.on_disk
    assert_same(loaded, held)
    held.save(tmp_path / "few")
    sides = [tmp_path / side for side in ("many", "few")]
    for name in ("attributions", "effects", "images", "summary"):
        both = [pd.read_parquet(side / f"global_{name}.parquet") for side in sides]
        pd.testing.assert_frame_equal(*both, check_exact=True)
        one, other = ((side / f"global_{name}.csv").read_text() for side in sides)
        assert one == other
    assert (tmp_path / "many/global.png").read_bytes() == (tmp_path / "few/global.png").read_bytes()


def test_temporary_rows_go_with_the_explanation(explainer, images, few, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    glob = explained(explainer, images)
    assert [path.name[:11] for path in tmp_path.iterdir()] == ["vtcav-rows-"] * 2  # and effects
    del glob
    assert not list(tmp_path.iterdir())


def test_rows_that_are_gone_or_others(explainer, images, few, tmp_path):
    glob = explained(explainer, images, run=tmp_path)
    [first, *_] = sorted(tmp_path.glob("rows-00000-*.parquet"))
    os.utime(first, (1, 1))
    with pytest.raises(vtcav.ExplanationError, match=r"rows-00000-.* has changed since"):
        glob.summary()
    first.unlink()
    with pytest.raises(vtcav.ExplanationError, match=r"cannot read rows .*make the explanation ag"):
        glob.summary()
    assert repr(glob).startswith("GlobalExplanation('cat': 150 images, 1 left out")


# -- merged parts -------------------------------------------------------------------------------


@pytest.fixture
def counted(explainer, monkeypatch):
    """The names of the images that are computed from here on."""
    seen = []
    batch = explainer.attributor.class_rows

    def spy(names, *rest):
        seen.extend(names)
        return batch(names, *rest)

    monkeypatch.setattr(explainer.attributor, "class_rows", spy)
    return seen


def kinds(folder):
    return sorted(path.name.split("-")[0] for path in folder.iterdir())


MERGED = [".lock", *["effects"] * 2, *["merged"] * 2, *["rows"] * 2, "run.json"]


def test_parts_are_merged(explainer, images, held, few, counted, tmp_path):
    explained(explainer, images, run=tmp_path)
    assert kinds(tmp_path) == MERGED
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != ".lock"}
    counted.clear()
    again = explained(explainer, images, run=tmp_path)
    assert not counted
    assert again.attributions.equals(held.attributions)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != ".lock"}
    assert after == before


def test_killed_while_parts_were_merged(
    explainer, images, held, few, counted, tmp_path, monkeypatch
):
    """Before the record of the merged parts is written, and before their own files are gone."""
    from vtcav.explainer.runs.part_files import PartFiles

    tidy = PartFiles._tidy
    monkeypatch.setattr(PartFiles, "_tidy", lambda *_: None)
    explained(explainer, images, run=tmp_path)
    monkeypatch.setattr(PartFiles, "_tidy", tidy)
    assert (tmp_path / "part-00001.json").exists()
    (tmp_path / "merged-00001.json").unlink()
    (tmp_path / ".merged-00001.json-x").write_bytes(b"half")
    (tmp_path / "rows-00000-00000000.parquet").write_bytes(b"of an earlier merge")
    counted.clear()
    again = explained(explainer, images, run=tmp_path)
    assert not counted
    assert kinds(tmp_path) == MERGED
    assert again.attributions.equals(held.attributions)


def test_a_changed_image_among_merged_parts(explainer, few, counted, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i, picture in enumerate(pictures(140, seed=3)):
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    explainer.explain_class("cat", folder, run=tmp_path / "run")
    Image.fromarray(pictures(1, seed=99)[0]).save(folder / "070.png")
    counted.clear()
    with pytest.warns(DamagedPartWarning, match=r"part-00001 .*070\.png' has changed since"):
        again = explainer.explain_class("cat", folder, run=tmp_path / "run")
    assert len(counted) == 64
    assert kinds(tmp_path / "run") == MERGED
    assert again.attributions.equals(explainer.explain_class("cat", folder).attributions)


@pytest.mark.parametrize("kind", ["rows-00000-*.parquet", "effects-00000-*", "merged-00000.json"])
def test_damaged_merged_parts(explainer, images, held, few, counted, tmp_path, kind):
    explained(explainer, images, run=tmp_path)
    [path] = tmp_path.glob(kind)
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    counted.clear()
    with pytest.warns(DamagedPartWarning, match="merged-00000 of the run in .* is computed again"):
        again = explained(explainer, images, run=tmp_path)
    assert len(counted) == 127  # and one that cannot be read
    assert kinds(tmp_path) == MERGED
    assert again.attributions.equals(held.attributions)


# -- written and shown ---------------------------------------------------------------------------


def test_long_tables_are_csv_when_that_is_asked_for(held, monkeypatch, tmp_path):
    monkeypatch.setattr(saved_rows, "MOST_IN_CSV", 400)
    with pytest.warns(UserWarning, match=r"not written as CSV.*attributions \(600 rows\); the"):
        held.save(tmp_path)
    assert not (tmp_path / "global_attributions.csv").exists()
    assert (tmp_path / "global_images.csv").exists()
    assert vtcav.GlobalExplanation.load(tmp_path).attributions.equals(held.attributions)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held.save(tmp_path, csv=True)
        assert len(pd.read_csv(tmp_path / "global_attributions.csv")) == 600
        held.save(tmp_path / "without", csv=False)
    assert not list((tmp_path / "without").glob("global_images.csv"))


def test_rows_on_disk_are_not_put_into_one_text(explainer, images, held, few):
    glob = explained(explainer, images)
    with pytest.raises(vtcav.ExplanationError, match=r"600 attributions are too many.*rows=False"):
        glob.to_json()
    short = json.loads(glob.to_json(rows=False))
    whole = json.loads(held.to_json())
    assert short["summary"] == whole["summary"]
    assert set(whole) - set(short) == {"attributions", "images"}


def test_figures_show_some_of_many_images(held, explainer, images, few, monkeypatch):
    glob = explained(explainer, images)
    monkeypatch.setattr(explanation, "MOST_SHOWN", 40)
    shown = glob.shown_attributions()
    pd.testing.assert_frame_equal(
        shown.reset_index(drop=True), held.shown_attributions().reset_index(drop=True)
    )
    assert len(shown) == 40 * len(glob.layers) * len(glob.concepts)
    whole = glob.attributions.groupby(["layer", "concept"])["attribution"]
    for pair, rows in shown.groupby(["layer", "concept"]):
        assert (rows["attribution"].to_numpy() == whole.get_group(pair).iloc[rows.index]).all()
    figure = plot_global(glob, Figure())
    texts = " ".join(text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))
    assert "Points: 40 of the 150 images, drawn at random." in " ".join(texts.split())
    assert "n = 150 images" in texts
    points = figure.axes[-1].collections
    assert max(len(np.asarray(each.get_offsets())) for each in points) <= 40
