"""Groups of images that are alike: intervals and tests over groups, and tables of them."""

import json
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kruskal

import vtcav
from tests.explainer.test_errors import red_or_blue
from tests.explainer.test_versus import BLUE, BOTH, RED, build_blue, build_red, fitted
from vtcav.errors import ImageError
from vtcav.explainer.groups import groups_of
from vtcav.method.clusters import mean_estimate
from vtcav.method.separation import separation
from vtcav.method.significance import student_interval
from vtcav.report.page import build_report
from vtcav.results.effect_tables import TOGETHER, group_effects
from vtcav.results.error_analysis import compared
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.limits import ConceptLimit, outcomes
from vtcav.results.reading import group_sentences
from vtcav.results.tables import saved_rows
from vtcav.results.tables.image_groups import ImageGroups

BY_NAME = {f"array[{i}]": "xyz"[i // 2] for i in range(6)}


@pytest.fixture(scope="module")
def explainer():
    return fitted(build_red())


@pytest.fixture(scope="module")
def grouped(explainer):
    return explainer.explain_class("a", BOTH, groups=BY_NAME)


def test_groups_come_from_names_tables_and_mappings(tmp_path):
    names = ["s/p1_a.png", "s/p1_b.png", "s/p2_a.png"]
    expected = dict(zip(names, ["p1", "p1", "p2"], strict=True))
    assert groups_of(names, r"(p\d)_") == groups_of(names, r"p\d") == expected
    pd.DataFrame({"file": ["p1_a.png", "p1_b.png", "p2_a.png"], "who": [1, 1, 2]}).to_csv(
        tmp_path / "who.csv", index=False
    )
    found = groups_of(names, f"{tmp_path / 'who.csv'}:who")
    assert found == dict(zip(names, "112", strict=True))
    assert groups_of(names, None) == {}
    with pytest.raises(ImageError, match=r"'s/p1_b.png' has no group: expected '_a' in its name"):
        groups_of(names, "_a")
    with pytest.raises(ImageError, match="has no group: expected one for every image"):
        groups_of(names, {"p1_a.png": "p1"})
    with pytest.raises(ImageError, match=r"'\(' is no regular expression"):
        groups_of(names, "(")
    with pytest.raises(ImageError, match=r"no column 'whom'; it has \['file', 'who'\]"):
        groups_of(names, f"{tmp_path / 'who.csv'}:whom")


def test_intervals_of_a_class_are_over_groups(grouped, explainer):
    plain = explainer.explain_class("a", BOTH)
    pd.testing.assert_frame_equal(grouped.attributions, plain.attributions)
    for name, table, low in (
        ("attribution", "summary", "ci_low"),
        ("drop", "class_effects", "drop_low"),
    ):
        own, other = (getattr(each, table)() for each in (grouped, plain))
        source = grouped.attributions if name == "attribution" else grouped.effects
        for (_, row), (_, before) in zip(own.iterrows(), other.iterrows(), strict=True):
            chosen = (source["layer"] == row["layer"]) & (source["concept"] == row["concept"])
            values = source.loc[chosen, name].to_numpy(float)
            groups = [BY_NAME[image] for image in source.loc[chosen, "image"]]
            expected = mean_estimate(values, groups).interval()[0]
            assert row[low] == pytest.approx(expected, nan_ok=True)
            assert before[low] == pytest.approx(student_interval(values)[1], nan_ok=True)
    own, other = grouped.summary(), plain.summary()
    rest = own.columns.difference(["sem", "ci_low", "ci_high", "drop_low", "drop_high"])
    rest = rest.difference(["share_low", "share_high"])
    pd.testing.assert_frame_equal(own[rest], other[rest])


def test_tables_and_tests_of_groups(grouped, explainer, tmp_path):
    table = grouped.by_group().set_index(["group", "layer", "concept"])
    assert len(table) == 3 * 3 * 2
    rows = grouped.attributions.query("layer == '3' and concept == 'red'")
    values = rows["attribution"].to_numpy()
    row = table.loc[("y", "3", "red")]
    assert (row["n"], row["mean"]) == (2, pytest.approx(values[2:4].mean()))
    assert row["ci_low"] == pytest.approx(student_interval(values[2:4])[1])
    assert ("y", TOGETHER, "blue") in table.index
    tests = grouped.group_tests().set_index(["layer", "concept"])
    row = tests.loc[("3", "red")]
    assert (row["groups"], row["n"]) == (3, 6)
    expected = kruskal(values[:2], values[2:4], values[4:]).pvalue
    assert row["p_value"] == pytest.approx(expected)
    grouped.save(tmp_path)
    again = GlobalExplanation.load(tmp_path)
    assert again.groups == BY_NAME
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "global_group_tests.parquet"), grouped.group_tests()
    )
    assert (tmp_path / "global_groups.png").stat().st_size > 5000
    texts = [text.get_text() for axes in grouped.plot_groups().axes for text in axes.texts]
    assert {"Groups of “a”", "3 groups", "y (n = 2)"} <= set(texts)
    page = build_report(global_=[grouped])
    assert "Groups of “a”</h2>" in page
    assert "No concept is shown to count differently between the groups." in page
    pd.testing.assert_frame_equal(again.summary(), grouped.summary())
    alone = replace(grouped, groups={})
    assert alone.by_group().empty
    assert alone.group_tests().empty
    single = replace(grouped, groups=dict.fromkeys(BY_NAME, "x"))
    assert single.summary()["ci_low"].isna().all()
    assert set(single.group_tests()["note"]) == {"fewer than two groups of at least two images"}


def test_groups_that_differ_are_said_with_their_means_erasing_first(explainer):
    """One hospital's marker: a mean over all hospitals hides it."""
    images = np.concatenate([RED, RED, BLUE, BLUE])
    half = len(images) // 2
    groups = {f"array[{i}]": "A" if i < half else "B" for i in range(len(images))}
    found = explainer.explain_class("a", images, groups=groups)
    said = group_sentences(found.group_tests(), found.by_group(), "a")
    assert re.fullmatch(
        r"Without 'red' the score of 'a' falls by 0\.\d\d logits in 'A' \(12 images\) and does not "
        r"change in 'B' \(12 images\): the groups differ \(q < 0\.001 over 2 groups\)\.",
        said[0],
    )
    assert any(text.startswith("The attribution of 'red' to 'a' at layer '3' is ") for text in said)
    page = build_report(global_=[found])
    assert 0 < page.index("falls by") < page.index("The attribution of")
    assert page.count("the groups differ") == len(said)


@pytest.fixture(scope="module")
def hospitals(explainer):
    images = np.concatenate([RED, BLUE, BLUE])
    groups = {f"array[{i}]": "ABC"[3 * i // len(images)] for i in range(len(images))}
    return explainer.explain_class("a", images, groups=groups)


def test_one_hospital_breaks_a_limit_although_three_say_nothing_of_the_mean(hospitals):
    mean = ConceptLimit(max_attribution=0.1, layer="3", each_group=False)
    limit = replace(mean, each_group=True)
    [said] = outcomes({"red": mean}, hospitals, {})
    assert said.state == "cannot tell"
    [said] = outcomes({"red": limit}, hospitals, {})
    assert (said.state, said.failed, said.groups) == ("broken", True, 3)
    [above] = said.above
    assert (above.group, above.n) == ("A", len(RED))
    table = hospitals.by_group(1 - 0.05 / 3).set_index(["group", "layer", "concept"])
    assert above.found == table.loc[("A", "3", "red"), "mean"]
    assert 0.1 < above.low <= table.loc[("A", "3", "red"), "ci_low"]
    assert f"in the group 'A' ({len(RED)} images): " in said.sentence


def test_effects_of_a_group_are_those_of_its_images_alone(hospitals, explainer):
    effects = hospitals.class_effects(by_group=True).set_index(["group", "layer", "concept"])
    row = effects.loc[("A", TOGETHER, "red")]
    alone = explainer.explain_class("a", RED).class_effects().set_index(["layer", "concept"])
    # which images are filled in all ways depends on how many there are
    own = alone.loc[(TOGETHER, "red")].drop(["q_value", "fill_low", "fill_high"])
    pd.testing.assert_series_equal(row[own.index], own, check_names=False, check_dtype=False)
    assert replace(hospitals, groups={}).class_effects(by_group=True).empty


def test_what_the_fill_changes_is_taken_from_other_groups_where_one_does_not_tell(hospitals):
    rows = hospitals.effects.query("layer == @TOGETHER and concept == 'blue'")
    rows = rows.assign(group=[hospitals.groups[name] for name in rows["image"]])
    rows.loc[rows["group"] == "C", ["drop_low", "drop_high"]] = np.nan
    found = group_effects([((TOGETHER, "blue"), rows)]).set_index("group")
    offsets = found["fill_low"] - found["drop"]
    assert offsets["B"] < 0
    assert offsets["C"] == pytest.approx(offsets["B"])


def test_the_figure_says_how_many_of_many_groups_it_shows(grouped, monkeypatch):
    monkeypatch.setattr("vtcav.results.figures.groups._MOST", 2)
    axes = grouped.plot_groups().axes
    texts = [text.get_text() for each in axes for text in each.texts]
    assert "3 groups, of which 2 are shown: the largest and the smallest" in texts
    means = grouped.by_group().query("layer == '3' and concept == 'red'")["mean"]
    (panel,) = [each for each in axes if each.get_label() == "red attribution at layer 3"]
    upright = [float(line.get_xdata()[0]) for line in panel.lines[:2]]
    assert upright == pytest.approx([0.0, means.mean()])


def test_versus_takes_groups(explainer):
    other = fitted(build_blue())
    one, alone = (
        vtcav.versus(explainer, other, BOTH, "a", groups=groups).differences
        for groups in (BY_NAME, None)
    )
    keys = ["layer_a", "concept"]
    both = one.merge(alone, on=keys, suffixes=("", "_alone"))
    np.testing.assert_array_equal(both["difference"], both["difference_alone"])
    assert (both["low"] != both["low_alone"]).all()


def test_errors_take_groups():
    images, explainer = np.concatenate([RED, BLUE]), fitted(red_or_blue(), bootstraps=0)
    names = {f"array[{i}]": str(i // 3) for i in range(12)}
    found, alone = (
        explainer.errors(images, ["b"] * 12, groups=groups, pictures=0) for groups in (names, None)
    )
    assert alone.table["p_value"].notna().all()
    assert (found.table["p_value"] > alone.table["p_value"]).all()
    with pytest.raises(ImageError, match="has no group"):
        explainer.errors(images, ["b"] * 12, groups="nowhere")


def alike(rng, groups=30, each=8):
    """Values with an intraclass correlation of 0.5."""
    return rng.normal(size=groups).repeat(each) + rng.normal(size=groups * each)


def test_intervals_cover_where_images_of_a_group_are_alike():
    rng, names = np.random.default_rng(0), np.arange(30).repeat(8).tolist()
    inside = np.zeros(2)
    for _ in range(600):
        values = alike(rng)
        low, high = mean_estimate(values, names).interval()
        _, *before = student_interval(values)
        inside += low < 0 < high, before[0] < 0 < before[1]
    assert 0.93 <= inside[0] / 600 <= 0.97
    assert inside[1] / 600 < 0.75


def test_errors_are_not_found_by_chance_where_groups_are_wrong_together():
    rng, names = np.random.default_rng(1), np.arange(30).repeat(8)
    found = []
    for _ in range(250):
        values, wrong = alike(rng), (rng.random(30) < 0.3).repeat(8)
        if not 8 <= wrong.sum() <= 232:
            continue
        groups = names[wrong].tolist(), names[~wrong].tolist()
        pair = values[wrong], values[~wrong]
        found.append([separation(*pair, groups=each).p_value <= 0.05 for each in (groups, None)])
    clustered, before = np.mean(found, 0)
    assert clustered <= 0.1
    assert before > 0.2


def test_separation_of_groups():
    rng = np.random.default_rng(2)
    first, second = rng.normal(0.5, 1, 40), rng.normal(0, 1, 50)
    own = list(range(40)), list(range(40, 90))
    one, plain = separation(first, second, groups=own), separation(first, second)
    assert one.auc == pytest.approx(plain.auc)
    np.testing.assert_allclose(one[1:3], plain[1:3], atol=0.02)
    assert one.low < one.auc < one.high
    apart = separation(np.ones(6), np.zeros(6), groups=(list("aabbcc"), list("ddeeff")))
    assert apart.auc == 1
    assert apart == separation(np.ones(3), np.zeros(3))
    alone = separation(np.ones(3), np.zeros(3), groups=(["a"] * 3, ["a"] * 3))
    assert np.isnan(alone.p_value)


def test_errors_table_by_hand():
    rows = pd.DataFrame({"presence": [0.9, 0.8, 0.7, 0.9, 0.8, 0.1, 0.2, 0.1, 0.75, 0.3]})
    rows = rows.assign(true_class="cat", concept="tag", layer="a", area=rows["presence"], note="")
    rows["predicted_class"], rows["image"] = ["dog"] * 5 + ["cat"] * 5, range(10)
    rows["group"] = list("aabbccddee")
    [row] = compared(rows).to_dict("records")
    own = rows["presence"].to_numpy()
    expected = separation(own[:5], own[5:], groups=(list("aabbc"), list("cddee")))
    assert (row["auc"], row["low"], row["p_value"]) == (
        expected.auc,
        expected.low,
        expected.p_value,
    )


def test_groups_hold_no_names_and_old_files_are_read(grouped, tmp_path, monkeypatch):
    held = ImageGroups(BY_NAME.items())
    assert held["array[3]"] == "y"
    assert "array[6]" not in held
    assert len(held) == 6
    assert not any(isinstance(each, str) and "array" in each for each in vars(held).values())
    assert grouped.images["group"].tolist() == list("xxyyzz")
    grouped.save(tmp_path)
    manifest = json.loads((tmp_path / "global.json").read_text())
    assert "groups" not in manifest
    again = GlobalExplanation.load(tmp_path)
    assert dict(again.groups) == BY_NAME
    pd.testing.assert_frame_equal(again.by_group(), grouped.by_group())
    # as it was saved before
    content = GlobalExplanation._content
    monkeypatch.setattr(
        GlobalExplanation, "_content", lambda self: content(self) | {"groups": dict(self.groups)}
    )
    monkeypatch.setattr(saved_rows, "read_groups", lambda folder: {})
    grouped.save(tmp_path)
    old = GlobalExplanation.load(tmp_path)
    pd.testing.assert_frame_equal(old.by_group(), grouped.by_group())


def test_memory_of_many_groups():
    count = 50_000
    names = (f"/data/hospital/patient{i // 8:06d}/scan_{i:07d}.png" for i in range(count))
    tracemalloc.start()
    held = ImageGroups((name, f"p{i // 800}") for i, name in enumerate(names))
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(held) == count
    assert used < 16 * count  # a dict takes 180 bytes an image
