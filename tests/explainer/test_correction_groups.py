"""A correction measured with images that come in groups: intervals, tables and tests."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text
from scipy.stats import kruskal
from torch import nn

import vtcav
from tests.helpers.literal_places import red_squares, square_network
from vtcav.errors import ExplanationError, ImageError
from vtcav.explainer.correction.attributions import compared
from vtcav.method.clusters import mean_estimate
from vtcav.report import write_report

RED, NOISE = red_squares()


@pytest.fixture(scope="module")
def explainer():
    net = square_network()
    torch.manual_seed(1)
    nn.init.normal_(net[6].weight)
    model = vtcav.Classifier(net, ["a", "b", "c"], vtcav.Preprocess(32))
    made = vtcav.VisualTCAV(model, ["1", "3"], 2, progress=False, batch_size=8, placebos=0)
    return made.fit({"red": RED}, NOISE, null_cavs=0, bootstraps=0)


@pytest.fixture(scope="module")
def images():
    return np.concatenate([RED[:6], NOISE[:6]])


NAMES = [f"array[{i}]" for i in range(12)]
GROUPS = {name: "xyzxyz"[i % 6] for i, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def fixed(explainer, images):
    return explainer.correct(
        "red", "1", "present", images, ["c"] * 12, anyway=True, attributions=True, groups=GROUPS
    )


def test_numbers_stay_and_intervals_are_over_groups(fixed, explainer, images):
    plain = explainer.correct(
        "red", "1", "present", images, ["c"] * 12, anyway=True, attributions=True
    ).report
    report = fixed.report
    assert report.grouped
    assert not plain.grouped
    assert plain.by_group().empty
    for name in ("accuracy", "effects", "attributions"):
        own, other = getattr(report, name), getattr(plain, name)
        rest = own.columns.difference(["low", "high"])
        pd.testing.assert_frame_equal(own[rest], other[rest])
        if name != "accuracy":
            assert not own["low"].equals(other["low"])
    rows = report.images
    rows = rows[rows["drop"].notna() & (rows["concept"] == "red")]
    change = (rows["drop_after"] - rows["drop"]).to_numpy(float)
    expected = mean_estimate(change, [GROUPS[name] for name in rows["image"]]).interval()
    effect = report.effects.iloc[0]
    assert (effect["low"], effect["high"]) == pytest.approx(expected)


def test_each_group_has_its_changes_and_they_are_tested(fixed):
    report = fixed.report
    table = report.by_group().set_index(["quantity", "group"])
    rows = report.images.drop_duplicates("image")
    own = rows[rows["group"] == "y"]
    right = (own["predicted_after"] == own["true_class"]).mean()
    assert table.loc[("accuracy", "y"), "after"] == right
    assert table.loc[("accuracy", "y"), "n"] == 4
    test = report.group_tests().set_index("quantity").loc["effect"]
    assert report.group_tests()["note"][0] == "all images have the same value"
    known = report.images.dropna(subset=["drop", "drop_after"])
    parts = [(p["drop_after"] - p["drop"]).to_numpy() for _, p in known.groupby("group")]
    parts = [part for part in parts if len(part) > 1]
    assert test["p_value"] == pytest.approx(kruskal(*parts).pvalue)
    assert any("over 3 groups of images" in text for text in report.findings())


def test_they_are_saved_shown_and_read_again(fixed, explainer, tmp_path):
    fixed.save(tmp_path / "correction")
    again = vtcav.CorrectedNetwork.load(tmp_path / "correction", explainer.model.module).report
    pd.testing.assert_frame_equal(again.by_group(), fixed.report.by_group())
    assert again.findings() == fixed.report.findings()
    page = write_report(tmp_path).read_text("utf-8")
    assert "By group" in page
    assert "Whether changes differ between groups" in page
    texts = " ".join(text.get_text() for text in again.plot().findobj(Text))
    assert re.search(r"group x \(n = 4\)", texts)


def test_groups_need_images_and_every_image_one(explainer, images):
    with pytest.raises(ExplanationError, match="groups are of labelled images"):
        explainer.correct("red", "1", anyway=True, groups=GROUPS)
    few = dict.fromkeys(NAMES[:11], "x")
    with pytest.raises(ImageError, match=r"'array\[11\]' has no group"):
        explainer.correct("red", "1", images=images, labels=["c"] * 12, anyway=True, groups=few)


def test_intervals_keep_their_level_where_images_of_a_group_are_alike():
    """An intraclass correlation of 0.5 in 30 groups of 8, over 400 draws."""
    rng, covered = np.random.default_rng(5), []
    names = np.repeat([f"g{i}" for i in range(30)], 8)
    for _ in range(400):
        alike = np.repeat(rng.normal(size=30), 8)
        change = 0.3 + (alike + rng.normal(size=240)) / 2**0.5
        table = pd.DataFrame({"before": 0.0, "after": change, "group": names})
        covered.append([])
        for each in (table, table.drop(columns="group")):
            found = compared(each, "before", "after")
            covered[-1].append(found["low"] <= 0.3 <= found["high"])
    grouped, plain = np.mean(covered, 0)
    assert 0.92 < grouped < 0.98
    assert plain < 0.8
