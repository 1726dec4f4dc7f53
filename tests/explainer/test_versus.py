"""Two networks side by side: what differs, and that swapping them flips signs alone."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import t as student_t
from scipy.stats import ttest_ind, ttest_rel
from torch import nn

import vtcav
from tests.helpers.colours import colour_net, patches
from vtcav.cli import main
from vtcav.errors import ExplanationError
from vtcav.explainer.versus.differences import ATTRIBUTION, SHARE, differences
from vtcav.explainer.versus.doubts import against_erasing, doubts
from vtcav.explainer.versus.layer_pairs import BY_DEPTH, BY_NAME, LayerPairs, pair_layers
from vtcav.explainer.versus.sentences import found_sentences
from vtcav.explainer.versus.versus import compared
from vtcav.images.listing import collect
from vtcav.method.clusters import mean_estimate, ratio_values
from vtcav.report.sections import section
from vtcav.results.effect_tables import TOGETHER

RED, BLUE = patches(0, 6, 5)[0], patches(2, 6, 6)[0]
BOTH = np.maximum(RED, BLUE)
DARK = np.random.default_rng(9).integers(0, 30, (14, 16, 16, 3)).astype(np.uint8)


def network(red, blue):
    """Scores "a" by so much red and blue, "b" by the blue."""
    net = colour_net()
    with torch.no_grad():
        net[6].weight.copy_(torch.tensor([[red, 0, blue], [0, 0, 0.3]]))
        net[6].bias.zero_()
    return net


def build_red():
    return vtcav.Classifier(network(1.0, 0.2), ["a", "b"], vtcav.Preprocess(16))


def build_blue():
    return vtcav.Classifier(network(0.2, 1.0), ["a", "b"], vtcav.Preprocess(16))


def fitted(model, layers=("1", "3"), bootstraps=5):
    explainer = vtcav.VisualTCAV(model, layers, 2, placebos=0, progress=False)
    examples = {"red": patches(0, 8, 1)[0], "blue": patches(2, 8, 2)[0]}
    return explainer.fit(examples, DARK, null_cavs=0, bootstraps=bootstraps)


@pytest.fixture(scope="module")
def explainers():
    return fitted(build_red()), fitted(build_blue())


@pytest.fixture(scope="module")
def found(explainers):
    return vtcav.versus(*explainers, BOTH, "a")


def test_the_differences_are_paired_and_named(found, explainers):
    table = found.differences
    assert found.layers.how == BY_NAME
    assert set(zip(table["layer_a"], table["layer_b"], strict=True)) == {
        *(("1", "1"), ("3", "3"), (TOGETHER, TOGETHER))
    }
    row = table.query("layer_a == '3' and concept == 'red'").iloc[0]
    globs = [each.explain_class("a", BOTH) for each in explainers]
    values = []
    for glob in globs:
        own = glob.attributions.query("layer == '3' and concept == 'red'")
        values.append(own["attribution"].to_numpy())
    assert row["n"] == len(BOTH)
    np.testing.assert_allclose([row["a"], row["b"]], [own.mean() for own in values])
    np.testing.assert_allclose(row["difference"], values[1].mean() - values[0].mean())
    assert row["difference"] < -0.3
    assert row["q_value"] < 0.05
    share = table.query(f"quantity == '{SHARE}' and concept == 'red'").iloc[0]
    for side, glob in zip("ab", globs, strict=True):
        expected = glob.class_effects().set_index("concept").loc["red", "share"]
        np.testing.assert_allclose(share[side], expected)
    assert any(
        text.startswith("'red' counts less for 'a' in b than in a") for text in found.findings()
    )
    assert found.conclusion == ""


def test_the_interval_is_that_of_the_paired_test_and_of_the_examples(explainers):
    plain = [fitted(each.model, bootstraps=0) for each in explainers]
    row = vtcav.versus(*plain, BOTH, "a", margin=0).differences
    row = row.query("layer_a == '3' and concept == 'blue'").iloc[0]
    values = [
        each.explain_class("a", BOTH)
        .attributions.query("layer == '3' and concept == 'blue'")["attribution"]
        .to_numpy()
        for each in plain
    ]
    expected = ttest_rel(values[1], values[0])
    ends = expected.confidence_interval()
    np.testing.assert_allclose([row["low"], row["high"]], [ends.low, ends.high], rtol=1e-6)
    np.testing.assert_allclose(row["p_value"], expected.pvalue, rtol=1e-6, atol=1e-12)
    wider = vtcav.versus(*explainers, BOTH, "a", margin=0).differences
    wider = wider.query("layer_a == '3' and concept == 'blue'").iloc[0]
    assert wider["high"] - wider["low"] > row["high"] - row["low"]


def mirrored(table):
    """The table as it should be with a and b swapped."""
    swapped = {
        f"{name}{one}": f"{name}{other}"
        for name in ("layer_", "note_")
        for one, other in (("a", "b"), ("b", "a"))
    } | {"a": "b", "b": "a", "low": "high", "high": "low"}
    table = table.rename(columns=swapped)
    table[["difference", "low", "high"]] *= -1
    return table


@pytest.fixture(scope="module")
def explained(explainers):
    """Both classes explained by both networks."""
    return {
        name: tuple(each.explain_class(name, images) for each in explainers)
        for name, images in (("a", BOTH), ("b", BLUE))
    }


def some(glob, chosen):
    """The explanation with some of its images."""
    names = [f"array[{i}]" for i in chosen]
    tables = {"_rows": glob.attributions, "_effects": glob.effects}
    return replace(glob, **{key: t[t["image"].isin(names)] for key, t in tables.items()})


@settings(max_examples=4, deadline=None)
@given(
    chosen=st.lists(st.integers(0, 5), min_size=3, max_size=6, unique=True),
    margin=st.sampled_from([0.0, 0.1, 0.3]),
)
def test_swapping_flips_signs_and_nothing_else(explainers, explained, chosen, margin):
    a, b = explainers
    refs = {"a": collect(BOTH), "b": collect(BLUE)}
    pairs = [[some(glob, chosen) for glob in pair] for pair in explained.values()]
    more = {"margin": margin, "names": ("one", "other")}
    one = compared(([a], [b]), [([first], [second]) for first, second in pairs], refs, **more)
    other = compared(([b], [a]), [([second], [first]) for first, second in pairs], refs, **more)
    keys = ["class_name", "quantity", "layer_a", "layer_b", "concept"]
    expected = mirrored(one.differences).sort_values(keys, ignore_index=True)
    got = other.differences.sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(got, expected[got.columns], check_exact=True)
    assert len(one.shown) == len(other.shown)
    for first, second in zip(one.shown, other.shown, strict=True):
        np.testing.assert_array_equal(first.map_a, second.map_b)
        assert first.image == second.image


def test_one_network_does_not_differ_from_itself(explainers):
    same = vtcav.versus(explainers[0], explainers[0], BOTH, "a")
    tested = same.differences.dropna(subset="p_value")
    assert len(tested) == 6
    assert (tested["difference"] == 0).all()
    assert (tested["p_value"] == 1).all()
    assert same.conclusion.startswith("No difference beyond 0.3 was found: none of 6 comparisons")
    assert same.shown == ()
    assert same.plot().axes


def test_a_region_that_takes_more_than_the_concept_is_no_finding(explainers, tmp_path):
    wide = BOTH.copy()
    wide[:, :10, :, 0], wide[:, 10:, :, 2] = 220, 250
    found = vtcav.versus(*explainers, wide, "a")
    table = found.differences
    blue = table.query(f"quantity == '{SHARE}' and concept == 'blue'").iloc[0]
    assert blue["q_value"] < 0.05
    assert re.match(
        r"in a its region covers \d\d % of the picture( and overlaps with that of 'red', which .*)?"
        r", and in b ",
        blue["doubt"],
    )
    assert found.findings() == []
    assert found.conclusion == (
        "Whether the networks differ cannot be told: 6 comparisons could not tell of the concept "
        "(column doubt)."
    )
    (doubt,) = (text for text in found.doubts() if text.startswith("Whether 'blue'"))
    assert "counts more or less for 'a' in b than in a cannot be told, because in a its" in doubt
    assert re.search(r"; attribution at layer '\d' 0.\d+ in a, 0.\d+ in b \(q < 0.001\)\.$", doubt)
    found.save(tmp_path)
    assert found.sentences()[-1] in (tmp_path / "versus.json").read_text(encoding="utf-8")
    assert section("versus", tmp_path).sentences == found.sentences()
    figure = found.plot()
    texts = [text.get_text() for part in (figure, *figure.axes) for text in part.texts]
    assert any("cannot be told" in text for text in texts)


def test_doubts_are_those_of_either_side(explained):
    pair = explained["a"]

    def with_effects(glob, **columns):
        own = glob.effects["concept"] == "red"
        table = glob.effects.copy()
        table.loc[own, list(columns)] = list(columns.values())
        return replace(glob, _effects=table)

    table = pair[1].effects.copy()
    red, blue = (table["concept"] == name for name in ("red", "blue"))
    measured = table.columns.difference(["image", "concept"])
    table.loc[blue, measured] = table.loc[red, measured].to_numpy()
    table.loc[red, "same_region"] = "blue"
    tested = {"drop": 1.0, "placebos": 20, "placebo_mean": 0.0, "placebo_std": 0.1, "p_value": 0.05}
    table = table.assign(**tested, told=0.8, drop_apart=0.2)
    overlaps = replace(pair[1], _effects=table)
    text = "in b its region overlaps with that of 'blue', which accounts for its effect"
    assert doubts(([pair[0]], [overlaps]), "red")[:2] == (text, text)
    unseen = with_effects(pair[0], drop=np.nan, seen=0.795)
    assert doubts(([unseen], [pair[1]]), "red")[0] == (
        "it is not seen in a (held-out AUC 0.795, 0.8 is needed)"
    )
    rare = with_effects(pair[0], area=0.0)
    assert doubts(([rare], [pair[1]]), "red")[1] == "in a it is found in none of 6 images"
    placebos = {"placebos": 20, "placebo_mean": 0.0, "placebo_std": 9.0, "p_value": 0.5}
    alike = with_effects(pair[0], **placebos)
    attribution, share, _ = doubts(([alike], [pair[1]]), "red")
    assert attribution == ""
    assert share.startswith("chance may explain its effect in a (q = ")
    assert doubts(([pair[0]], [pair[1]]), "red") == ("", "", False)


def test_an_attribution_that_erasing_contradicts_is_no_finding():
    """What takes more of the score when erased does not count less."""
    attribution = {"difference": -0.56}
    share = {"a": 0.55, "b": 1.32, "difference": 0.76, "low": 0.38, "high": 1.15, "doubt": ""}
    assert against_erasing(attribution, share) == (
        "erasing says the opposite: it takes a share of the logit of 0.550 in a, 1.318 in b"
    ).replace("1.318", "1.320")
    assert against_erasing({"difference": 0.56}, share) == ""
    assert against_erasing(attribution, share | {"low": -0.1}) == ""
    assert against_erasing(attribution, share | {"doubt": "chance"}) == ""


def test_own_parts_are_compared_where_a_verdict_is_about_them(explained):
    """Red overlaps with blue in one network, and has half of its effect by its own part."""
    pair = explained["a"]
    table = pair[0].effects.assign(
        placebos=20, placebo_mean=0.0, placebo_std=0.1, p_value=0.01, told=0.9
    )
    red = table["concept"] == "red"
    table.loc[red, ["same_region", "drop", "drop_apart"]] = ["blue", 1.0, 0.5]
    table.loc[~red, ["drop", "drop_apart"]] = [1.2, 1.2]
    table = table.assign(drop_low=table["drop"], drop_high=table["drop"])
    own = replace(pair[0], _effects=table.assign(area=0.1, area_apart=0.1))
    assert {each.concept: each.own_part for each in own.verdicts()}["red"]
    found = differences([([own], [pair[1]])], LayerPairs((("1", "1"),), "by name", ((), ())), 0.1)
    row = found[(found["concept"] == "red") & (found["quantity"] != "attribution")].iloc[0]
    assert row["quantity"] == "own share"
    gap = (own.effects["logit"] - own.effects["reference"])[red].mean()
    assert row["a"] == pytest.approx(0.5 / gap)
    assert "own part of its region takes" in next(
        found_sentences(found.assign(q_value=0.01, doubt=""))
    )


def test_what_cannot_be_told_comes_after_what_can(found):
    table = found._table.assign(q_value=np.linspace(0, 1, len(found._table)), doubt="")
    table.loc[table.index[0], "doubt"] = "chance may explain it"
    assert [*replace(found, _table=table).differences["doubt"]][-1] == "chance may explain it"


def test_what_could_not_be_found_is_not_said_to_be_none(explainers):
    groups = {f"array[{i}]": "north" if i % 2 else "south" for i in range(6)}
    images = BOTH + np.arange(6, dtype=np.uint8)[:, None, None, None]
    found = vtcav.versus(*explainers, images, "a", groups=groups)
    assert not found.findings()
    table = found.differences
    assert set(table["groups"]) == {2}
    wide = table[(table["low"] < -0.3) | (table["high"] > 0.3)]
    assert len(wide)
    assert "it cannot be told" in found.conclusion or "cannot be told: none" in found.conclusion
    assert f"only differences from {wide['detectable'].min():.2g}" in found.conclusion
    assert "more groups than 2 would tell" in found.conclusion
    row = table.dropna(subset="p_value").iloc[0]
    error = (row["high"] - row["low"]) / 2 / student_t.ppf(0.975, 1)
    tests = table["p_value"].notna().sum()
    needed = found.margin + student_t.ppf(1 - 0.05 / tests, 1) * error
    assert row["detectable"] == pytest.approx(needed)


def test_maps_side_by_side(found, explainers, tmp_path):
    assert found.shown
    for one in found.shown:
        n = int(one.image[6:-1])
        np.testing.assert_array_equal(one.picture, BOTH[n])
        for explainer, layer, M in zip(
            explainers, (one.layer_a, one.layer_b), (one.map_a, one.map_b), strict=True
        ):
            expected = explainer.explain(BOTH[n], ["a"]).concept_map(layer, one.concept)
            np.testing.assert_allclose(M, expected, atol=1e-6)
    found.save(tmp_path)
    again = vtcav.Versus.load(tmp_path)
    assert again.to_json() == found.to_json()
    pd.testing.assert_frame_equal(again.differences, found.differences)
    np.testing.assert_array_equal(again.shown[0].map_b, found.shown[0].map_b)
    (tmp_path / "versus_differences.csv").write_text("")
    with pytest.raises(ExplanationError, match="versus_differences"):
        vtcav.Versus.load(tmp_path)


def test_layers_of_other_names_are_paired_by_depth(explainers):
    deeper = nn.Sequential(nn.Identity(), *network(1.0, 1.0), nn.Identity())
    model = vtcav.Classifier(deeper, ["a", "b"], vtcav.Preprocess(16))
    names = [layer.name for layer in model.layers()]
    pairs = pair_layers(explainers[0].model, ["1", "3"], model, ["2", "4"])
    assert pairs.how == BY_DEPTH
    assert pairs.pairs == (("1", "2"), ("3", "4"))
    assert names.index("2") < names.index("4")
    fewer = pair_layers(explainers[0].model, ["1", "3"], model, ["4"])
    assert fewer.pairs == (("3", "4"),)
    assert fewer.left_out == (("1",), ())
    back = pair_layers(model, ["4"], explainers[0].model, ["1", "3"])
    assert back.pairs == (("4", "3"),)
    assert back.left_out == ((), ("1",))


def test_what_does_not_fit(explainers):
    a, b = explainers
    with pytest.raises(ExplanationError, match="got images without class_name"):
        vtcav.versus(a, b, BOTH)
    with pytest.raises(ExplanationError, match="got both"):
        vtcav.versus(a, b, {"a": BOTH}, "a")
    with pytest.raises(ExplanationError, match="margin to be a number from 0 to below 1, got -1"):
        vtcav.versus(a, b, BOTH, "a", margin=-1)
    other = vtcav.VisualTCAV(b.model, ["1"], progress=False)
    other.fit({"green": RED[:5]}, DARK, null_cavs=0, bootstraps=0)
    with pytest.raises(ExplanationError, match=r"concepts of the same names, got \['red', 'blue"):
        vtcav.versus(a, other, BOTH, "a")
    renamed = vtcav.Classifier(b.model.module, ["c", "d"], vtcav.Preprocess(16))
    with pytest.raises(ExplanationError, match="it is 'a' and 'c'"):
        vtcav.versus(a, vtcav.VisualTCAV(renamed, cavs=b.cavs, progress=False), BOTH, 0)


def test_what_is_not_seen_has_no_number(explainers):
    a, b = explainers
    odd = vtcav.VisualTCAV(b.model, ["1", "3"], 2, placebos=0, progress=False)
    odd.fit({"red": DARK[:6], "blue": patches(2, 8, 2)[0]}, DARK[6:], null_cavs=0, bootstraps=0)
    table = vtcav.versus(a, odd, BOTH, "a").differences
    row = table.query(f"quantity == '{SHARE}' and concept == 'red'").iloc[0]
    assert (row["note_a"], row["note_b"]) == ("", "not seen")
    assert row[["b", "p_value", "low"]].isna().all()
    assert row["a"] > 0


def test_groups_widen_what_is_alike_within_them():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 5)
    values = rng.normal(size=12)[groups] + 0.1 * rng.normal(size=60)
    alone, together = mean_estimate(values), mean_estimate(values, groups.tolist())
    assert together.value == alone.value
    assert together.error > 1.5 * alone.error
    means = values.reshape(12, 5).mean(1)
    np.testing.assert_allclose(together.error, means.std(ddof=1) / 12**0.5)
    part, whole = rng.normal(1, 1, 60), rng.normal(5, 1, 60)
    ratio = mean_estimate(ratio_values(part, whole))
    np.testing.assert_allclose(ratio.value, part.mean() / whole.mean())
    draws = rng.integers(0, 60, (4000, 60))
    spread = (part[draws].mean(1) / whole[draws].mean(1)).std()
    np.testing.assert_allclose(ratio.error, spread, rtol=0.05)


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_test_holds_its_level_at_the_margin(margin):
    rng = np.random.default_rng(1)
    p = np.array([mean_estimate(rng.normal(margin, 1, 12)).p_beyond(margin) for _ in range(2000)])
    assert 0.035 < (p <= 0.05).mean() < 0.065
    assert mean_estimate(np.full(3, 0.3)).p_beyond(0.2) == 0
    assert mean_estimate(np.full(3, 0.1)).p_beyond(0.2) == 1
    assert np.isnan(mean_estimate(np.ones(1)).p_beyond())


def test_the_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "versusnet.py").write_text(
        "from tests.explainer.test_versus import network\n\n\n"
        "def build():\n    return network(1.0, 0.2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vtcav.results.figures.page.new_figure", lambda: None)
    monkeypatch.setattr("vtcav.results.figures.page.save_figure", lambda draw, path: None)
    sets = {"concepts/red": patches(0, 8, 1)[0], "concepts/blue": patches(2, 8, 2)[0]}
    for folder, images in (sets | {"random": DARK, "both": BOTH[:5]}).items():
        (tmp_path / folder).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "study.yaml").write_text(
        "model: {name: 'python:versusnet:build', class_names: [a, b], preprocess: {size: 16}}\n"
        "layers: [3]\nconcepts: concepts\nnegatives: random\nclasses: {a: both}\noutput: out\n"
        "options: {steps: 4, null_cavs: 0, bootstraps: 5, placebos: 0}\n"
    )
    torch.save(network(0.2, 1.0).state_dict(), "blue.pt")
    command = ["versus", "python:versusnet:build", "blue.pt", "--study", "study.yaml", "-o", "two"]
    assert main([*command, "--quiet"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    counts = said.index("'red' counts less for 'a' in b than in a")
    assert counts < said.index("layers paired by name: 3")
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["names"] == ["python:versusnet:build", "blue.pt"]
    again = vtcav.Versus.load("two")
    assert data["findings"] == again.findings()
    assert set(again.differences["quantity"]) == {ATTRIBUTION, SHARE}
    torch.save(network(0.3, 0.9).state_dict(), "sky.pt")
    assert main([*command[:2], "blue.pt,sky.pt", *command[3:], "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["trainings"] == [1, 2]
    assert data["names"] == ["python:versusnet:build", "blue.pt, sky.pt"]
    assert (tmp_path / "two" / "b2" / "cavs.safetensors").exists()


# -- several trainings ------------------------------------------------------------------------


def trained(red, blue):
    return fitted(vtcav.Classifier(network(red, blue), ["a", "b"], vtcav.Preprocess(16)))


@pytest.fixture(scope="module")
def trainings():
    """Two recipes that differ, with three trainings of each."""
    first = [trained(1.0, blue) for blue in (0.1, 0.2, 0.3)]
    second = [trained(red, 1.0) for red in (0.1, 0.2, 0.3)]
    return first, second


def test_single_trainings_may_differ_by_more_where_no_margin_is_given(trainings):
    one = vtcav.versus(trainings[0][0], trainings[1][0], BOTH, "a")
    lopsided = vtcav.versus(trainings[0][:1], trainings[1], BOTH, "a")
    several = vtcav.versus(*trainings, BOTH, "a")
    assert (one.margin, lopsided.margin, several.margin) == (0.3, 0.3, 0.15)
    with pytest.raises(ExplanationError, match=r"None takes 0.3, and 0.15 with several trainings"):
        vtcav.versus(*trainings, BOTH, "a", margin=1)


def test_several_trainings_have_the_error_of_their_means_too(trainings):
    found = vtcav.versus(*trainings, BOTH, "a", margin=0)
    assert found.trainings == (3, 3)
    assert "a (a, 3 trainings) and b (b, 3 trainings)" in found.described
    row = found.differences.query("layer_a == '3' and concept == 'red'").iloc[0]
    values, draws = [], []
    for side in trainings:
        globs = [each.explain_class("a", BOTH) for each in side]
        own = [g.attributions.query("layer == '3' and concept == 'red'") for g in globs]
        values.append(np.stack([each["attribution"].to_numpy() for each in own]))
        kept = [g.resampled.query("layer == '3' and concept == 'red'") for g in globs]
        kept = [each[each["kind"] == "bootstrap_cav"]["mean"].to_numpy() for each in kept]
        draws.append(np.mean(kept, 0))
    a, b = values
    assert row["difference"] == pytest.approx(b.mean() - a.mean())
    of_trainings = ttest_ind(b.mean(1), a.mean(1))
    between = (b.mean() - a.mean()) / of_trainings.statistic
    images = mean_estimate(b.mean(0) - a.mean(0))
    parts = np.square([between, images.error])
    freedom = int(parts.sum() ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / images.freedom))
    error = (parts.sum() + np.std(draws[1] - draws[0], ddof=1) ** 2) ** 0.5
    half = student_t.ppf(0.975, freedom) * error
    np.testing.assert_allclose(row["high"] - row["difference"], half, rtol=1e-6)
    assert row["q_value"] < 0.05


def test_a_difference_of_one_training_is_none_of_its_recipe(trainings):
    """The trainings of both sides come from one recipe, and two of them differ by much."""
    recipe = [trained(red, blue) for red, blue in ((1.0, 0.2), (0.2, 1.0), (0.9, 0.3), (0.3, 0.9))]
    single = vtcav.versus(recipe[0], recipe[1], BOTH, "a")
    assert single.findings()
    several = vtcav.versus([recipe[0], recipe[3]], [recipe[2], recipe[1]], BOTH, "a")
    assert not several.findings()


def test_trainings_are_saved_swapped_and_checked(trainings, tmp_path):
    a, b = trainings
    found = vtcav.versus(a[:2], b, BOTH, "a")
    found.save(tmp_path)
    again = vtcav.Versus.load(tmp_path)
    assert again.trainings == (2, 3)
    assert len(again.provenance) == 5
    pd.testing.assert_frame_equal(again.differences, found.differences)
    other = vtcav.versus(b, a[:2], BOTH, "a").differences
    keys = ["class_name", "quantity", "layer_a", "layer_b", "concept"]
    expected = mirrored(found.differences).sort_values(keys, ignore_index=True)
    got = other.sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(got, expected[got.columns], check_exact=False, rtol=1e-9)
    with pytest.raises(ExplanationError, match="several trainings of it, got none"):
        vtcav.versus([], b, BOTH, "a")
    shorter = fitted(build_red(), ("3",))
    with pytest.raises(ExplanationError, match="with the same layers"):
        vtcav.versus([a[0], shorter], b, BOTH, "a")
