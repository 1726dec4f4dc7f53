"""Null and bootstrap CAVs against CAVs learned literally from the same images; calibration."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.ndimage import gaussian_filter

import vtcav
from tests.helpers.small import pictures, small_model
from vtcav.explainer.learning.drawn_cavs import seed_of
from vtcav.method.cav import emblems
from vtcav.method.erasure.effect import mean_test, placebo_p_value
from vtcav.method.resampling import bootstrap_draws, null_draws
from vtcav.method.significance import (
    ALL_EQUAL,
    PValueCounts,
    bootstrap_interval,
    effect_size,
    enough_null_cavs,
    p_value,
    q_values,
)

BRIGHT, NEGATIVES = pictures(7, seed=1, low=110), pictures(20, seed=3)
IMAGES = pictures(6, seed=5)


def fitted(model=None, concepts=None, negatives=NEGATIVES, **options):
    explainer = vtcav.VisualTCAV(model or small_model(), ["1", "3"], steps=20)
    return explainer.fit(concepts or {"bright": BRIGHT}, negatives, **options)


# ---------------------------------------------------------------- the mathematics, by hand


def test_p_value_counts_ties_and_is_never_zero():
    null = np.array([0.0, 0.1, 0.1, 0.5])
    assert p_value(0.1, null) == pytest.approx(4 / 5)
    assert p_value(0.6, null) == pytest.approx(1 / 5)
    assert p_value(0.0, null) == 1


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_no_strange_number_counts_as_smaller(strange):
    null = np.append(np.linspace(0, 1, 19), strange)
    assert np.isnan(p_value(2.0, null))
    assert np.isnan(p_value(strange, null[:-1]))
    assert np.isnan(placebo_p_value(2.0, null))
    assert np.isnan(mean_test(np.array([1.0, strange]), *np.ones((3, 2)))[1])


def test_effect_size_is_in_standard_deviations_of_the_null():
    assert effect_size(5.0, np.array([1.0, 3.0])) == pytest.approx(3 / np.sqrt(2))
    assert np.isnan(effect_size(5.0, np.array([1.0, 1.0])))
    assert np.isnan(effect_size(5.0, np.array([1.0])))


def benjamini_hochberg(p):
    """Adjusted p-values, literally: min over larger ranks of p m / rank."""
    order = np.argsort(p)
    q = np.empty(len(p))
    for position, index in enumerate(order):
        later = [p[order[r]] * len(p) / (r + 1) for r in range(position, len(p))]
        q[index] = min(1.0, *later)
    return q


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=30), st.integers(0, 5))
def test_q_values_are_benjamini_and_hochbergs(p, untested):
    p = np.array(p)
    q = q_values(np.concatenate([p, np.full(untested, np.nan)]))
    np.testing.assert_allclose(q[: len(p)], benjamini_hochberg(p), rtol=1e-12)
    assert np.isnan(q[len(p) :]).all()


def test_interval_holds_the_value_and_stays_in_range():
    draws = np.array([0.0, 0.2])
    assert bootstrap_interval(0.05, draws) == pytest.approx((0.0, 0.05 + 1.959964 * 0.2 / 2**0.5))
    assert bootstrap_interval(0.99, draws)[1] == 1
    assert np.isnan(bootstrap_interval(0.5, draws[:1])).all()


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 20), st.integers(0, 99))
def test_draws(n, more, count, seed):
    null = null_draws(n, n + more, count, seed)
    assert null.positives.shape == (count, n)
    both = torch.cat([null.positives, null.negatives], 1).sort(1).values
    assert (both == torch.arange(n + more)).all()  # every negative is on one side, once
    again = bootstrap_draws(n, n + more, count, seed)
    assert again.positives.shape == (count, n)
    assert again.negatives.shape == (count, n + more)
    assert int(again.positives.max()) < n
    assert int(again.negatives.max()) < n + more


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_emblems_are_medians(n, J, seed):
    random = np.random.default_rng(seed)
    values, positions = random.random((n, J)), random.integers(0, n, (J, n + 1))
    found = emblems(torch.tensor(values), torch.tensor(positions))
    expected = [np.median(values[positions[j], j]) for j in range(J)]
    np.testing.assert_allclose(found.numpy(), expected)


# ---------------------------------------------------------------- against learning literally


@pytest.mark.parametrize("act", [torch.nn.ReLU, torch.nn.GELU])
def test_resampled_cavs_are_those_learned_from_the_images_drawn(act):
    from tests.helpers.small import small_net

    model = small_model(small_net(act=act))
    explainer = fitted(model, null_cavs=3, bootstraps=2, seed=4)
    local = explainer.explain(IMAGES[0], classes=["cat", "dog"]).attributions
    glob = explainer.explain_class("cat", IMAGES)
    n, m = len(BRIGHT), len(NEGATIVES)
    null = null_draws(n, m, 3, seed_of("null", 4, n, m))
    boot = bootstrap_draws(n, m, 2, seed_of("bootstrap", 4, n, m, "bright"))
    sets = [
        (NEGATIVES[a], NEGATIVES[b]) for a, b in zip(null.positives, null.negatives, strict=True)
    ]
    sets += [(BRIGHT[a], NEGATIVES[b]) for a, b in zip(boot.positives, boot.negatives, strict=True)]
    literal = [fitted(model, {"c": e}, other, null_cavs=0, bootstraps=0) for e, other in sets]
    for layer in explainer.layers:
        resampled = explainer.cavs.layers[layer].resampled
        for j, other in enumerate(literal):
            cavs = other.cavs.layers[layer]
            torch.testing.assert_close(resampled.v[j], cavs.v[0], rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(resampled.e_pos[j], cavs.e_pos[0], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(resampled.e_neg[j], cavs.e_neg[0], rtol=1e-4, atol=1e-6)
    by_layer = glob.resampled.groupby("layer", sort=False)["mean"].apply(list)
    for layer in explainer.layers:
        means = [
            other.explain_class("cat", IMAGES).summary().set_index("layer")["mean"][layer]
            for other in literal
        ]
        np.testing.assert_allclose(by_layer[layer], means, atol=2e-5)
        summary = glob.summary().set_index("layer").loc[layer]
        assert summary["p_value"] == p_value(summary["mean"], np.array(by_layer[layer][:3]))
        assert summary["null_mean"] == pytest.approx(np.mean(means[:3]), abs=2e-5)
    tables = [
        other.explain(IMAGES[0], classes=["cat", "dog"]).attributions for other in literal[:3]
    ]
    for i, row in local.iterrows():
        values = np.array([table.loc[i, "attribution"] for table in tables])
        assert row["null_mean"] == pytest.approx(values.mean(), abs=2e-5)
        testable = row["separated"] and "does not raise" not in row["note"]
        assert (row["p_value"] in (0.25, 0.5, 0.75, 1.0)) == testable
        assert np.isnan(row["p_value"]) != testable


def test_concepts_of_one_size_share_null_cavs_and_not_bootstraps():
    same, larger = pictures(7, seed=8), pictures(9, seed=9)
    explainer = fitted(
        concepts={"a": BRIGHT, "b": same, "c": larger}, null_cavs=4, bootstraps=3, seed=1
    )
    resampling = explainer.cavs.resampling
    assert resampling.null[0] == resampling.null[1] != resampling.null[2]
    assert len(set(resampling.bootstrap)) == 3
    assert len(explainer.cavs.layers["1"].resampled.v) == 2 * 4 + 3 * 3
    alone = fitted(concepts={"c": larger}, null_cavs=4, bootstraps=3, seed=1).cavs
    for kind in ("null", "bootstrap"):
        here, there = getattr(resampling, kind)[2], getattr(alone.resampling, kind)[0]
        ours = explainer.cavs.layers["3"].resampled.part(here)
        theirs = alone.layers["3"].resampled.part(there)
        torch.testing.assert_close(ours.v, theirs.v)
        torch.testing.assert_close(ours.e_pos, theirs.e_pos, rtol=1e-4, atol=1e-6)


def test_negatives_of_each_concept_are_its_own():
    other = pictures(16, seed=11, high=120)
    both = fitted(concepts={"a": BRIGHT, "b": BRIGHT}, negatives={"a": NEGATIVES, "b": other})
    alone = fitted(concepts={"b": BRIGHT}, negatives={"b": other})
    rows = both.explain_class(0, IMAGES).summary().query("concept == 'b'").reset_index(drop=True)
    only = alone.explain_class(0, IMAGES).summary()
    np.testing.assert_allclose(rows["null_mean"], only["null_mean"], atol=1e-6)
    np.testing.assert_allclose(rows["cav_low"], only["cav_low"], atol=1e-5)


def test_a_second_pass_gives_the_same(monkeypatch):
    from vtcav.explainer.learning.example_passes import Pass
    from vtcav.explainer.learning.learn import learn
    from vtcav.explainer.settings import FitSettings
    from vtcav.images.concepts import gather

    model, found = small_model(), gather({"bright": BRIGHT}, NEGATIVES)
    run, fit = Pass(model, ["1", "3"], 4), FitSettings(null_cavs=9, bootstraps=9)
    kept = learn(run, found, fit, shown=False)
    streamed = learn(run, found, fit, shown=False, kept_bytes=0)
    for layer in ("1", "3"):
        ours, theirs = kept.layers[layer], streamed.layers[layer]
        torch.testing.assert_close(ours.resampled.e_pos, theirs.resampled.e_pos)
        torch.testing.assert_close(ours.location_pos, theirs.location_pos)
        torch.testing.assert_close(ours.values_neg[0], theirs.values_neg[0])


def test_seed_and_file(tmp_path):
    first, again, other = (fitted(null_cavs=9, bootstraps=5, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.cavs.layers["1"].resampled.v, again.cavs.layers["1"].resampled.v)
    assert not torch.equal(first.cavs.layers["1"].resampled.v, other.cavs.layers["1"].resampled.v)
    first.cavs.save(tmp_path / "cavs.safetensors")
    bank = vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    assert bank.resampling == first.cavs.resampling
    loaded = vtcav.VisualTCAV(first.model, ["3"], steps=20, cavs=bank)
    direct = first.explain_class(0, IMAGES)
    rows = direct.summary().query("layer == '3'").reset_index(drop=True)
    columns = ["mean", "cav_low", "cav_high", "null_mean", "effect", "p_value"]
    np.testing.assert_allclose(loaded.explain_class(0, IMAGES).summary()[columns], rows[columns])
    direct.save(tmp_path)
    again = vtcav.GlobalExplanation.load(tmp_path)
    np.testing.assert_allclose(again.summary()[columns], direct.summary()[columns])
    examples, negatives = bank.evidence("bright")
    assert (len(examples), len(negatives)) == (7, 20)
    torch.testing.assert_close(
        bank.layers["1"].v[0], examples.gap["1"].mean(0) - negatives.gap["1"].mean(0)
    )


# ---------------------------------------------------------------- what is not tested says so


def test_few_negatives_are_tested_with_as_many_examples_as_they_allow():
    explainer = fitted(negatives=NEGATIVES[:13], null_cavs=9, bootstraps=0)
    resampling = explainer.cavs.resampling
    assert len(resampling.null[0]) == 9
    drawn = explainer.cavs.layers["3"].resampled.part(resampling.subset[0])
    assert len(drawn.v) == 1
    glob = explainer.explain_class(0, IMAGES)
    summary = glob.summary()
    draws = glob.resampled.groupby(["layer", "kind"])["mean"].apply(np.array)
    for row in summary.itertuples():
        (compared,) = draws[row.layer, "subset_cav"]
        assert row.p_value == p_value(compared, draws[row.layer, "null_cav"])
    why = "tested with a CAV of 6 of the 7 examples, as there are 13 negatives"
    assert summary["note"].str.contains(why).all()
    full = fitted(null_cavs=9, bootstraps=0)
    assert not any(full.cavs.resampling.subset)
    assert "subset" not in full.cavs.resampling.to_dict()


def test_one_negative_is_not_tested_and_says_so():
    explainer = fitted(negatives=NEGATIVES[:1], min_examples=1)
    table = explainer.explain(IMAGES[0]).attributions
    assert table["p_value"].isna().all()
    assert table["note"].str.contains("null CAVs need at least 2 negatives, there is 1").all()


def test_none_asked_for():
    table = fitted(null_cavs=0, bootstraps=0).explain(IMAGES[0]).attributions
    assert table[["p_value", "q_value", "effect", "cav_low", "cav_high"]].isna().all(axis=None)
    assert table["note"].str.contains("not tested: no null CAVs were asked for").all()


@pytest.mark.parametrize("name", ["null_cavs", "bootstraps"])
@pytest.mark.parametrize("count", [-1, 2.5, True, "100"])
def test_counts_are_whole_numbers(name, count):
    with pytest.raises(vtcav.ExplanationError, match=f"{name} to be a whole number of at least 0"):
        fitted(**{name: count})


def test_equal_null_attributions_have_no_effect_size_and_say_so():
    flat = np.full((20, 16, 16, 3), 90, np.uint8)
    explainer = fitted(negatives=flat, null_cavs=20)
    table = explainer.explain(BRIGHT[0]).attributions
    raised = table[table["attribution"] > 0]
    assert len(raised)
    assert raised["effect"].isna().all()
    assert raised["note"].str.contains(ALL_EQUAL, regex=False).all()
    assert raised["p_value"].tolist() == pytest.approx([1 / 21] * len(raised))


def test_identical_concept_and_negatives_stand_out_nowhere():
    same = pictures(10, seed=3)
    explainer = fitted(concepts={"same": same}, negatives=np.concatenate([same, same]))
    table = explainer.explain(IMAGES[0]).attributions
    assert (table["attribution"] == 0).all()
    assert table["p_value"].isna().all()  # nothing to test where the layer separates nothing
    assert table["note"].str.contains("not separated").all()


# ---------------------------------------------------------------- the family of tests


class Red(torch.nn.Module):
    """Class 0 is a red image; the other channels look at anything."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act = torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU()
        self.fc = torch.nn.Linear(8, 3)
        with torch.no_grad():
            self.conv.weight[0] = torch.tensor([2.0, -1.0, -1.0])[:, None, None] / 9
            self.conv.bias[0], self.fc.weight[0, 0] = 0, 20

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((2, 3)))


def grey(count, seed):
    return pictures(count, seed).mean(3, keepdims=True).repeat(3, 3).astype(np.uint8)


@pytest.mark.parametrize("irrelevant", [0, 10])
def test_irrelevant_concepts_do_not_hide_a_true_effect(irrelevant):
    """Concepts of noise, each tested at two layers for three classes, beside a true one."""
    red = grey(11, seed=1)
    red[..., 0] = 255 - red[..., 0] // 4
    noise = {f"noise {i}": grey(10, seed=40 + i) for i in range(irrelevant)}
    model = vtcav.Classifier(Red().eval(), None, vtcav.Preprocess(16))
    explainer = vtcav.VisualTCAV(model, ["conv", "act"], 8, progress=False)
    explainer.fit({"red": red[1:]} | noise, grey(40, seed=90), bootstraps=0)
    assert explainer.cavs.null_cavs == enough_null_cavs(2 * 3 * (1 + irrelevant))
    table = explainer.explain(red[0], classes=[0, 1, 2]).attributions
    assert not table["note"].str.contains("q cannot fall").any()
    true = table.query("concept == 'red' and layer == 'act' and class_index == 0")
    assert (true["q_value"] <= 0.05).all()
    assert (true["attribution"] > 0.3).all()


def test_what_cannot_be_significant_says_so():
    explainer = fitted(null_cavs=20)
    table = explainer.explain(BRIGHT[0]).attributions
    tested = table["p_value"].notna()
    assert tested.any()
    assert (table["q_value"].notna() == tested).all()
    said = table["note"].str.contains("q cannot fall below")
    assert (said == tested).all()
    assert table["note"][tested].str.contains("fit with null_cavs=500").all()
    summary = explainer.explain_class(0, BRIGHT[:3]).summary()
    assert summary["note"].str.contains("q cannot fall below").equals(summary["p_value"].notna())


def test_rows_that_cannot_be_tested_leave_the_family():
    explainer = fitted(null_cavs=500)
    table = explainer.explain(BRIGHT[0]).attributions
    untestable = ~table["separated"] | table["note"].str.contains("does not raise")
    assert table["p_value"][untestable].isna().all()
    assert table["q_value"][untestable].isna().all()
    p = table["p_value"].dropna().to_numpy()
    np.testing.assert_allclose(table["q_value"].dropna(), q_values(p))


# ---------------------------------------------------------------- calibration


def textured(random, count):
    """Pictures whose colour, coarseness and contrast vary, [count, 16, 16, 3]."""
    noise = random.normal(size=(count, 16, 16, 3))
    blur = random.uniform(0.3, 2, count)
    smooth = [gaussian_filter(x, (b, b, 0)) * b for x, b in zip(noise, blur, strict=True)]
    colour = random.normal(size=(count, 1, 1, 3)) / 2
    return (128 + 50 * (np.stack(smooth) + colour)).clip(0, 255).astype(np.uint8)


@functools.cache
def nothing(seed):
    """Concepts, negatives and images that are all drawn alike; for every variant the same."""
    random = np.random.default_rng(seed)
    concepts = {f"nothing {i}": textured(random, 20) for i in range(10)}
    return concepts, textured(random, 60), textured(random, 3)


def planted(random, count):
    """The same kind of pictures with a red bar in each, at a random height."""
    made = textured(random, count)
    for picture, y in zip(made, random.integers(0, 13, count), strict=True):
        picture[y : y + 3] = (250, 20, 20)
    return made


def calibration_explainer(variant="paper"):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 12, 5, stride=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(12, 24, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(24, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 4),
    )
    preprocess = vtcav.Preprocess(16, mean=(0.5,) * 3, std=(0.25,) * 3)
    model = vtcav.Classifier(net, list("abcd"), preprocess)
    settings = {"steps": 4, "batch_size": 64, "fill": None, "progress": False}
    return vtcav.VisualTCAV(model, ["3"], variant=variant, **settings)


@pytest.mark.parametrize("variant", ["paper", "filter"])
def test_concepts_drawn_like_the_negatives_are_called_significant_as_often_as_promised(variant):
    explainer = calibration_explainer(variant)
    p_class, p_image = [], []
    for seed in range(105):
        concepts, negatives, images = nothing(seed)
        explainer.fit(concepts, negatives, null_cavs=100, bootstraps=0, seed=seed)
        glob = explainer.explain_class(0, images)
        p_class += glob.summary()["p_value"].tolist()
        p_image += glob.attributions["p_value"].tolist()
    assert len(p_class) >= 1000
    assert 0.03 <= np.mean(np.array(p_class) <= 0.05) <= 0.07
    assert 0.02 <= np.mean(np.array(p_image) <= 0.05) <= 0.07
    # attributions of 0 tie with those of null CAVs at p = 1; below, p-values are uniform
    for level in (0.1, 0.2, 0.4):
        assert np.mean(np.array(p_class) <= level) == pytest.approx(level, abs=0.05)


def test_place_filters_are_called_significant_by_chance_as_often_as_others():
    """Fewer draws than above, as each takes longer; over 1,050 concepts it is 0.057 at 0.05."""
    explainer, p = calibration_explainer("places"), []
    for seed in range(12):
        concepts, negatives, images = nothing(seed)
        explainer.fit(concepts, negatives, null_cavs=100, bootstraps=0, seed=seed)
        p += explainer.explain_class(0, images).summary()["p_value"].tolist()
    for level, most in ((0.05, 0.1), (0.1, 0.18), (0.4, 0.52)):
        assert level / 4 <= np.mean(np.array(p) <= level) <= most


def test_few_negatives_leave_the_test_calibrated():
    explainer, p = calibration_explainer(), []
    for seed in range(60):
        random = np.random.default_rng(seed)
        concepts = {f"nothing {i}": textured(random, 40) for i in range(10)}
        explainer.fit(concepts, textured(random, 60), null_cavs=100, bootstraps=0, seed=seed)
        p += explainer.explain_class(0, textured(random, 3)).summary()["p_value"].tolist()
    for level, low, high in ((0.05, 0.02, 0.07), (0.1, 0.05, 0.13), (0.2, 0.12, 0.24)):
        assert low <= np.mean(np.array(p) <= level) <= high


def bar_explainer(variant="paper"):
    """A network whose first class rises with red places, beside what random channels see."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )
    with torch.no_grad():
        net[0].weight[0] = torch.tensor([1.0, -1.0, -1.0])[:, None, None] / 9
        net[0].bias[0] = -3.0  # silent on the negatives
        net[4].weight[0, 0] = 4.0
    preprocess = vtcav.Preprocess(16, mean=(0.5,) * 3, std=(0.25,) * 3)
    model = vtcav.Classifier(net, list("abcd"), preprocess)
    settings = {"steps": 4, "batch_size": 64, "fill": None, "progress": False}
    return vtcav.VisualTCAV(model, ["1"], variant=variant, **settings)


@pytest.mark.parametrize(("variant", "fits"), [("paper", 40), ("filter", 40), ("places", 8)])
def test_planted_concepts_are_found(variant, fits):
    explainer = bar_explainer(variant)
    found = []
    for seed in range(fits):
        random = np.random.default_rng(1000 + seed)
        concepts = {f"bar {i}": planted(random, 20) for i in range(5)}
        explainer.fit(concepts, textured(random, 60), null_cavs=100, bootstraps=0, seed=seed)
        summary = explainer.explain_class(0, planted(random, 3)).summary()
        found += (summary["p_value"] <= 0.05).tolist()
    assert np.mean(found) >= 0.95


def test_planted_concepts_are_found_with_few_negatives():
    explainer, found = bar_explainer(), []
    for seed in range(20):
        random = np.random.default_rng(1000 + seed)
        concepts = {f"bar {i}": planted(random, 40) for i in range(5)}
        explainer.fit(concepts, textured(random, 60), null_cavs=100, bootstraps=0, seed=seed)
        summary = explainer.explain_class(0, planted(random, 3)).summary()
        found += (summary["p_value"] <= 0.05).tolist()
    assert np.mean(found) >= 0.95


def test_bootstrap_spread_is_that_of_new_examples_and_negatives():
    explainer = bar_explainer()
    random = np.random.default_rng(5)
    images = planted(random, 3)
    means, spreads = [], []
    for seed in range(40):
        explainer.fit({"bar": planted(random, 20)}, textured(random, 60), null_cavs=0, seed=seed)
        glob = explainer.explain_class(0, images)
        means.append(glob.summary()["mean"][0])
        spreads.append(glob.resampled["mean"].std())
    assert 0.7 <= np.mean(spreads) / np.std(means, ddof=1) <= 1.6


def test_order_of_concepts_does_not_matter():
    sets = {"a": BRIGHT, "b": pictures(7, seed=8), "c": pictures(9, seed=9)}
    columns = ["attribution", "cav_low", "cav_high", "p_value", "q_value"]
    found = []
    for order in ("abc", "cab"):
        explainer = fitted(concepts={name: sets[name] for name in order}, null_cavs=9)
        table = explainer.explain(IMAGES[0], classes=[0]).attributions
        found.append(table.set_index(["layer", "concept"])[columns].sort_index())
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


def test_results_are_frozen():
    glob = fitted(null_cavs=3).explain_class(0, IMAGES)
    table = glob.resampled
    table.loc[:, "mean"] = 7.0
    assert (glob.resampled["mean"] <= 1).all()
    with pytest.raises(dataclasses.FrozenInstanceError):
        glob.layers = ()


@pytest.mark.parametrize("null_cavs", [4, 100, 10**9])
def test_q_values_of_p_values_that_come_in_parts(null_cavs):
    """Equal to those of all p-values at once, which are scipy's."""
    rng = np.random.default_rng(null_cavs)
    p = (1 + rng.integers(0, null_cavs + 1, 250_000) ** 2 // (null_cavs + 1)) / (1 + null_cavs)
    p[rng.random(len(p)) < 0.2] = np.nan
    counts = PValueCounts()
    parts = np.array_split(p, 700)
    for part in parts:
        counts.add(part)
    found = np.concatenate([counts.q_values(part) for part in parts])
    np.testing.assert_array_equal(found, q_values(p))
    tested = ~np.isnan(p)
    expected = stats.false_discovery_control(p[tested])
    np.testing.assert_allclose(found[tested], expected, rtol=1e-12)
    assert np.isnan(found[~tested]).all()
    assert np.isnan(counts.q_values(np.array([np.nan]))).all()
    assert not len(PValueCounts().q_values(np.empty(0)))
