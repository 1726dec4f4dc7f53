"""What leaves vtcav: JSON, wide tables, maps, and TensorBoard's event files."""

import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest

import vtcav
from tests.helpers.small import (
    concepts,
    negatives,
    pictures,
    small_explainer,
    small_model,
    small_net,
)
from vtcav.report import tensorboard


@pytest.fixture(scope="module")
def explainer():
    return small_explainer()


@pytest.fixture(scope="module")
def local(explainer):
    return explainer.explain(pictures(1, 5)[0])


@pytest.fixture(scope="module")
def global_(explainer):
    return explainer.explain_class("cat", pictures(4, 6))


# ---------------------------------------------------------------- tables, JSON, maps


def test_wide_tables_hold_the_attributions(local, global_):
    wide = local.wide()
    assert set(wide.columns) == {"layer", "concept", "cat", "dog", "fox"}
    assert list(zip(wide["layer"], wide["concept"], strict=True)) == [
        ("1", "bright"),
        ("1", "cold"),
        ("3", "bright"),
        ("3", "cold"),
    ]
    for row in local.attributions.to_dict("records"):
        here = wide[(wide["layer"] == row["layer"]) & (wide["concept"] == row["concept"])]
        assert here[row["class_name"]].item() == row["attribution"]
    images = global_.wide()
    assert images.shape == (4, 4)
    for row in global_.attributions.to_dict("records"):
        assert images.loc[row["image"], (row["layer"], row["concept"])] == row["attribution"]


def test_classes_and_images_of_one_name_stay_apart(logged):
    explainer = small_explainer(small_model(small_net(), ["crane", "crane", "layer"]))
    explained = explainer.explain(pictures(1, 5)[0], classes=[0, 1, 2])
    wide = explained.wide()
    assert list(wide.columns) == ["layer", "concept", "crane", "crane [2]", "layer [2]"]
    tags = logged(tensorboard.log_explanation, explained, figure=False).Tags()["scalars"]
    assert "vtcav/attribution/3/cold/crane [2]" in tags
    twice = [pictures(1, 6)[0]] * 2
    found = explainer.explain_class(0, twice)
    assert len(found.wide()) == 2


def test_json_is_strict_and_whole(explainer, local, global_):
    content = json.loads(local.to_json())
    assert len(content["attributions"]) == len(local.attributions)
    assert content["attributions"][0]["attribution"] == pytest.approx(
        local.attributions["attribution"][0], abs=1e-15
    )
    content = json.loads(global_.to_json())
    assert len(content["attributions"]) == 16
    assert len(content["summary"]) == 4
    assert content["provenance"]["settings"]["class"] == 0
    found = explainer.diagnostics(resamples=20)
    content = json.loads(found.to_json())
    assert len(content["findings"]) == len(found.table)
    for text in (local.to_json(), global_.to_json(), found.to_json()):
        assert "NaN" not in text


def test_maps_are_copies(local):
    maps = local.maps
    assert {layer: M.shape for layer, M in maps.items()} == {"1": (2, 8, 8), "3": (2, 4, 4)}
    for layer in local.layers:
        for k, concept in enumerate(local.concepts):
            assert (maps[layer][k] == local.concept_map(layer, concept)).all()
    maps["1"][:] = -1
    assert local.concept_map("1", "cold").min() >= 0


# ---------------------------------------------------------------- TensorBoard


@pytest.fixture(scope="module")
def board():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter, EventAccumulator


@pytest.fixture
def logged(board, tmp_path):
    """Logs with a writer, and reads the event file back."""
    summary_writer, accumulator = board

    def logged(log, *results, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with summary_writer(str(tmp_path)) as writer:
                for step, result in enumerate(results):
                    log(writer, result, step, **options)
            events = accumulator(str(tmp_path), size_guidance={"images": 0, "tensors": 0})
            events.Reload()
        return events

    return logged


def test_an_explained_image_in_tensorboard(logged, local, explainer):
    other = explainer.explain(pictures(1, 9)[0], classes=["cat", "dog", "fox"])
    events = logged(tensorboard.log_explanation, local, other)
    tags = events.Tags()
    assert len(tags["scalars"]) == 12
    for explained, step in ((local, 0), (other, 1)):
        for row in explained.attributions.to_dict("records"):
            tag = f"vtcav/attribution/{row['layer']}/{row['concept']}/{row['class_name']}"
            event = events.Scalars(tag)[step]
            assert (event.step, event.value) == (step, pytest.approx(row["attribution"], abs=1e-7))
    first = events.Images("vtcav/image")[0]
    assert first.encoded_image_string.startswith(b"\x89PNG")
    assert min(first.width, first.height) > 200
    text = events.Tensors("vtcav/image/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.count("\n") == len(local.attributions) + 1


def test_an_explained_class_in_tensorboard(logged, global_):
    events = logged(tensorboard.log_explanation, global_, tag="audit", figure=False)
    tags = events.Tags()
    assert not tags["images"]
    for row in global_.summary().to_dict("records"):
        for kind in ("mean", "ci_low", "ci_high"):
            (event,) = events.Scalars(f"audit/{kind}/cat/{row['layer']}/{row['concept']}")
            assert event.value == pytest.approx(row[kind], abs=1e-6)


def test_diagnostics_in_tensorboard(logged, explainer):
    found = explainer.diagnostics(resamples=20)
    events = logged(tensorboard.log_diagnostics, found)
    numbers = found.table["value"].notna().sum()
    assert 0 < len(events.Tags()["scalars"]) <= numbers
    row = found.table.dropna(subset="value").iloc[0]
    (event, *_) = events.Scalars(
        f"vtcav/diagnostics/{row['check']}/{row['layer']}/{row['concept']}"
    )
    assert event.value == pytest.approx(row["value"], rel=1e-5)
    assert events.Tags()["images"] == ["vtcav/diagnostics"]


def test_names_do_not_make_groups_or_markup(logged):
    names = dict(zip(["a/b | c", "<script>"], concepts().values(), strict=True))
    explainer = vtcav.VisualTCAV(small_model(), ["3"])
    explainer.fit(names, negatives(), null_cavs=0, bootstraps=0)
    explained = explainer.explain(pictures(1, 5)[0], classes=["cat"])
    events = logged(tensorboard.log_explanation, explained, figure=False)
    assert "vtcav/attribution/3/a%2Fb | c/cat" in events.Tags()["scalars"]
    text = events.Tensors("vtcav/image/text_summary")[0].tensor_proto.string_val[0].decode()
    assert r"a/b \| c" in text
    assert "<script>" not in text


def test_missing_numbers_are_not_logged(logged, local):
    rows = local.attributions.assign(image="x")
    rows.loc[0, "attribution"] = math.nan
    from dataclasses import replace

    events = logged(tensorboard.log_explanation, replace(local, _rows=rows), figure=False)
    assert len(events.Tags()["scalars"]) == 11


def test_other_things_are_refused(board, local, tmp_path):
    with pytest.raises(vtcav.ExplanationError, match=r"expected a torch\.utils\.tensorboard"):
        tensorboard.log_explanation(tmp_path, local)
    refused = pytest.raises(vtcav.ExplanationError, match="got DataFrame; diagnostics go to")
    with board[0](str(tmp_path)) as writer, refused:
        tensorboard.log_explanation(writer, pd.DataFrame())


def test_arrays_of_maps_are_read_without_vtcav(local, tmp_path):
    local.save(tmp_path)
    with np.load(tmp_path / "local_maps.npz", allow_pickle=False) as arrays:
        assert (arrays["map/3"] == local.maps["3"]).all()
