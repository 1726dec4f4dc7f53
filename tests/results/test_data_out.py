"""What leaves vtcav: JSON, wide tables and maps."""

import json

import numpy as np
import pytest

from tests.helpers.small import (
    pictures,
    small_explainer,
    small_model,
    small_net,
)


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


def test_classes_and_images_of_one_name_stay_apart():
    explainer = small_explainer(small_model(small_net(), ["crane", "crane", "layer"]))
    explained = explainer.explain(pictures(1, 5)[0], classes=[0, 1, 2])
    wide = explained.wide()
    assert list(wide.columns) == ["layer", "concept", "crane", "crane [2]", "layer [2]"]
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


def test_arrays_of_maps_are_read_without_vtcav(local, tmp_path):
    local.save(tmp_path)
    with np.load(tmp_path / "local_maps.npz", allow_pickle=False) as arrays:
        assert (arrays["map/3"] == local.maps["3"]).all()
