"""A network without a concept: against a literal projection, what stays, and what is said."""

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn

import vtcav
from tests.explainer.test_errors import red_or_blue
from tests.helpers.colours import patches
from tests.helpers.literal_places import red_squares, square_network
from tests.helpers.tokens import ChannelsLast, Transformer
from vtcav.cli import main
from vtcav.errors import CavError, ExplanationError, ModelError
from vtcav.explainer.correction.attributions import compared_attributions
from vtcav.explainer.correction.projections import ConceptRemoval, Direction
from vtcav.explainer.correction.report import CorrectionReport, Doubt
from vtcav.models.inspection.layout import Layout
from vtcav.report import write_report

RED, NOISE = red_squares()
BLUE = RED[..., ::-1].copy()
OPTIONS = {"progress": False, "batch_size": 8, "placebos": 0}


@pytest.fixture(scope="module")
def explainer():
    net = square_network()
    torch.manual_seed(1)
    nn.init.normal_(net[6].weight)
    model = vtcav.Classifier(net, ["a", "b", "c"], vtcav.Preprocess(32))
    made = vtcav.VisualTCAV(model, ["1", "3"], 2, **OPTIONS)
    return made.fit({"red": RED, "blue": BLUE}, NOISE, null_cavs=0, bootstraps=0)


@pytest.fixture(scope="module")
def labelled():
    return {"a": np.concatenate([RED[:6], NOISE[:5]]), "b": np.concatenate([BLUE[:4], NOISE[5:9]])}


@pytest.fixture(scope="module")
def fixed(explainer, labelled):
    return explainer.correct("red", "1", "present", labelled, anyway=True)


@pytest.fixture(scope="module")
def compared(explainer, labelled):
    own = {"c": labelled["a"], "b": labelled["b"]}  # the reds raise c
    return explainer.correct("red", "1", "present", own, anyway=True, attributions=True)


def inputs(explainer, pictures):
    preprocess = explainer.model.preprocess
    return torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])


def literal(F, direction, when):
    """Take concepts out of maps, location by location."""
    left = F.copy()
    w, offset, P, low, _ = (t.double().numpy() for t in direction)
    for n, i, j in np.ndindex(len(F), *F.shape[2:]):
        r = w @ F[n, :, i, j] - offset
        if when == "always" or (r > low).any():
            left[n, :, i, j] = F[n, :, i, j] - sum(r[k] * P[k] for k in range(len(r)))
    return left


def shows(F, direction):
    w, offset, _, _, level = (t.double().numpy() for t in direction)
    r = np.einsum("kc,nchw->nkhw", w, F) - offset[:, None, None]
    return (r.max((2, 3)) > level).any(1)


@pytest.mark.parametrize("when", ["present", "always"])
@pytest.mark.parametrize("concepts", ["red", ["red", "blue"]])
def test_it_is_the_literal_projection(explainer, when, concepts):
    fixed = explainer.correct(concepts, "1", when, rounds=2, anyway=True)
    network = copy.deepcopy(explainer.model.module).double()
    x = inputs(explainer, np.concatenate([RED[:3], BLUE[:2], NOISE[:3]])).double()
    with torch.no_grad():
        F = network[:2](x).numpy()
        left, shown = F, shows(F, fixed.removal.directions[0])
        for direction in fixed.removal.directions:
            left = literal(left, direction, when)
        left = np.where(shown[:, None, None, None] | (when == "always"), left, F)
        expected = network[2:](torch.from_numpy(left))
        found = fixed.double()(x)
    assert shown.tolist() == [True] * (3 if concepts == "red" else 5) + [False] * (
        len(x) - (3 if concepts == "red" else 5)
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert (found - network(x)).abs().max() > 1e-3


def test_afterwards_no_filter_responds(explainer):
    fixed = explainer.correct(["red", "blue"], "1", "always", rounds=1, anyway=True)
    places = explainer.cavs.layers["1"].places
    F = explainer.model.activations(inputs(explainer, RED[:4]), ["1"])["1"]
    assert places.highest(F).abs().max() > 0.5
    left = fixed.removal(F)
    r = torch.einsum("kc,nchw->nkhw", places.w, left) - places.offset[:, None, None]
    assert r.abs().max() < 1e-4


def test_images_without_the_concept_keep_their_logits_to_the_last_bit(explainer, fixed):
    network = explainer.model.module
    x = inputs(explainer, np.concatenate([NOISE, RED[:5]]))
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        with torch.no_grad():
            before, after = network(given), fixed(given)
        assert torch.equal(before[:31], after[:31])
        assert (before[31:] != after[31:]).any(1).all()


def direction_of(C):
    torch.manual_seed(0)
    w, d = torch.randn(2, C), torch.randn(2, C)
    return Direction(w, torch.zeros(2), d, torch.zeros(2), torch.full((2,), 2.5))


@pytest.mark.parametrize(
    ("net", "layer", "layout"),
    [
        (Transformer(), "blocks.1", "tokens(1+4x4)"),
        (Transformer(prefix=0, pool="mean"), "blocks.1", "tokens(4x4)"),
        (ChannelsLast(), "mlp", "NHWC"),
    ],
    ids=["tokens", "no prefix", "channels last"],
)
def test_layouts(net, layer, layout):
    own = Layout.parse(layout, (16, 16))
    module = net.get_submodule(layer)
    x = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    outputs = []
    with module.register_forward_hook(lambda *given: outputs.append(given[2])):
        net(x)
    F = own.to_maps(outputs[0].detach(), (16, 16))
    direction = direction_of(F.shape[1])
    highest = torch.einsum("kc,nchw->nkhw", direction.w, F).amax((1, 2, 3))
    direction = direction._replace(level=highest.sort()[0][2:4].mean().expand(2))
    shown = torch.from_numpy(shows(F.double().numpy(), direction))
    assert shown.sum() == 3
    removal = ConceptRemoval([direction], "present", own)
    found = removal.corrected(module, (x,), outputs[0].detach())
    changed = own.to_maps(found, (16, 16))
    expected = literal(F.double().numpy(), direction, "present")
    np.testing.assert_allclose(changed[shown], expected[shown], atol=1e-5)
    assert torch.equal(changed[~shown], F[~shown])
    if own.prefix:
        assert torch.equal(found[:, : own.prefix], outputs[0][:, : own.prefix])


def test_half_precision_and_whole_images_alike():
    removal = ConceptRemoval([direction_of(4)], "always", Layout())
    F = torch.randn(3, 4, 2, 2)
    half = removal(F.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), removal(F.bfloat16().float()), atol=0.05, rtol=0.02)


def test_the_network_is_left_as_it_was(explainer, fixed):
    network = explainer.model.module
    assert not any(part._forward_hooks for part in network.modules())
    assert all(
        torch.equal(own, fixed.network.get_parameter(name))
        and own is not fixed.network.get_parameter(name)
        for name, own in network.named_parameters()
    )
    x = inputs(explainer, RED[:2])
    with fixed.uncorrected(), torch.no_grad():
        assert torch.equal(fixed(x), network(x))
    for again in (copy.deepcopy(fixed), pickle.loads(pickle.dumps(fixed))):
        with torch.no_grad():
            assert torch.equal(again(x), fixed(x))
            assert not torch.equal(again(x), network(x))


def test_saved_loaded_and_exported(explainer, fixed, tmp_path):
    network = explainer.model.module
    x = inputs(explainer, np.concatenate([RED[:2], NOISE[:2]]))
    fixed.save(tmp_path / "out")
    for given in (network, explainer.model):
        again = vtcav.CorrectedNetwork.load(tmp_path / "out", given)
        assert torch.equal(again(x), fixed(x))
        assert again.report.to_json() == fixed.report.to_json()
    names = {f"network.{name}" for name in network.state_dict()}
    assert names < set(fixed.state_dict())
    exported = vtcav.CorrectedNetwork.load(tmp_path / "out", network)
    for parameter in exported.parameters():
        nn.init.zeros_(parameter)
    exported.load_state_dict(fixed.state_dict())
    assert torch.equal(exported(x), fixed(x))
    other = square_network()
    with pytest.raises(CavError, match=r"was made for Sequential .* got another network, or other"):
        vtcav.CorrectedNetwork.load(tmp_path / "out", other)
    with pytest.raises(CavError, match="got another network"):
        vtcav.CorrectedNetwork.load(tmp_path / "out", "a name")
    with pytest.raises(ExplanationError, match=r"holds no complete correction: correction\.json"):
        vtcav.CorrectedNetwork.load(tmp_path, network)
    (tmp_path / "out" / "correction.safetensors").write_bytes(b"")
    with pytest.raises(ExplanationError, match=r"correction.safetensors.* was changed"):
        vtcav.CorrectedNetwork.load(tmp_path / "out", network)


def test_the_report_counts_what_changes(explainer, fixed, labelled):
    report, network = fixed.report, explainer.model.module
    rows = report.images.drop_duplicates("image").set_index("image")
    pictures = np.concatenate(list(labelled.values()))
    names = np.array([*"aaaaaaaaaaa", *"bbbbbbbb"])
    x = inputs(explainer, pictures)
    with torch.no_grad():
        before, after = network(x), fixed(x)
    right = [(z.argmax(1).numpy() == (names == "b")) for z in (before, after)]
    assert rows["shows"].tolist() == [True] * 6 + [False] * 13
    assert rows["same"].tolist() == [False] * 6 + [True] * 13
    np.testing.assert_allclose(rows["change"], (before - after).abs().amax(1), atol=1e-5)
    table = report.accuracy.set_index(["class_name", "shown"])
    for group, chosen in (("all", names == names), ("with the concept", np.arange(19) < 6)):
        own = table.loc[("", group)]
        assert own["n"] == chosen.sum()
        means = [own["before"], own["after"]]
        np.testing.assert_allclose(means, [found[chosen].mean() for found in right])
    assert table.loc[("b", "all"), "n"] == 8
    assert report.unchanged == {"images": 13, "same": 13, "other_class": 0, "largest_change": 0}
    effects = report.effects.query("class_name == ''").set_index("concept")
    assert effects.loc["red", "corrected"]
    assert not effects.loc["blue", "corrected"]
    glob = explainer.explain_class("a", RED[:6])
    expected = glob.effects.query("concept == 'red'")["drop"].mean()
    own = report.images.query("concept == 'red' and shows and true_class == 'a'")
    np.testing.assert_allclose(own["drop"].mean(), expected, rtol=1e-4)
    of_class = report.effects.query("class_name == 'a' and concept == 'red'").iloc[0]
    own = report.images.query("concept == 'red' and true_class == 'a'").dropna(subset="drop")
    np.testing.assert_allclose(of_class["after"], own["drop_after"].mean())
    assert of_class["n"] == len(own)
    sentences = " ".join(report.findings())
    assert "Of 13 images without the concept, 13 have the same logits to the last bit" in sentences
    assert "Accuracy on 6 images with the concept" in sentences


def test_attributions_are_those_of_both_networks(explainer, compared, labelled):
    report, model = compared.report, explainer.model
    rows = report.image_attributions.set_index(["layer", "concept"])
    again = vtcav.Classifier(compared, model.class_names, vtcav.Preprocess(32))
    bank = explainer.cavs
    layers = {f"network.{layer}": cavs for layer, cavs in bank.layers.items()}
    sets = tuple(
        replace(one, gap={f"network.{layer}": gap for layer, gap in one.gap.items()})
        for one in bank.sets
    )
    own = {"layers": layers, "sets": sets, "fingerprint": again.fingerprint, "behaviour": {}}
    after = vtcav.VisualTCAV(again, cavs=replace(bank, **own), steps=2, **OPTIONS)
    for name, pictures in (("c", labelled["a"]), ("b", labelled["b"])):
        first = explainer.explain_class(name, pictures).attributions
        second = after.explain_class(name, pictures).attributions
        for column, table, inside in (("before", first, ""), ("after", second, "network.")):
            for layer, concept in (("1", "red"), ("3", "red"), ("3", "blue")):
                expected = table[(table["layer"] == inside + layer) & (table["concept"] == concept)]
                own = rows.loc[(layer, concept)].query("true_class == @name")
                np.testing.assert_allclose(
                    own[column], expected["attribution"], rtol=1e-4, atol=1e-6
                )
    one = rows.loc[("1", "red")]
    assert one["shows"].sum() == 6
    shown = one[one["shows"]]
    assert (shown["before"] > 0.02).all()
    assert (shown["after"] < 0.7 * shown["before"]).all()
    same = rows[~rows["shows"]]
    np.testing.assert_allclose(same["before"], same["after"], rtol=1e-4, atol=1e-6)


def test_the_table_of_attributions_has_means_and_intervals(compared):
    table = compared.report.attributions.set_index(["class_name", "shown", "layer", "concept"])
    table = table.sort_index()
    assert table.loc[("c", "all", "1", "red"), "n"] == 11
    table = table.loc[""]
    rows = compared.report.image_attributions
    own = rows[(rows["layer"] == "3") & (rows["concept"] == "red") & rows["shows"]]
    found = table.loc[("with the concept", "3", "red")]
    change = own["after"] - own["before"]
    half = stats.t.ppf(0.975, 5) * change.std() / 6**0.5
    expected = [own["before"].mean(), own["after"].mean(), change.mean() - half]
    np.testing.assert_allclose(found[["before", "after", "low"]].astype(float), expected, rtol=1e-6)
    assert found["relative"] == pytest.approx(change.mean() / own["before"].mean())
    assert found["corrected"]
    assert found["n"] == 6
    assert table.loc[("all", "3", "red"), "n"] == 19
    assert not table.loc[("all", "3", "blue"), "corrected"]
    said = [text for text in compared.report.findings() if text.startswith("Attribution of 'red'")]
    assert "0.001 before and <0.001 after at layer '3' (6 images, 0 left out)" in said[0]


def test_attributions_are_saved_only_where_they_were_asked_for(
    explainer, fixed, compared, tmp_path, labelled
):
    assert fixed.report.attributions.empty
    assert not fixed.report.summary()["attributed"]
    compared.save(tmp_path / "out")
    again = vtcav.CorrectedNetwork.load(tmp_path / "out", explainer.model).report
    assert again.attributions.equals(compared.report.attributions)
    assert again.to_json() == compared.report.to_json()
    assert "correction_attributions" in again.to_json()
    page = write_report(tmp_path).read_text("utf-8")
    assert "Attribution to the true class</" in page
    fixed.save(tmp_path / "out")
    assert len(pd.read_csv(tmp_path / "out" / "correction_attributions.csv")) == 0
    assert vtcav.CorrectedNetwork.load(tmp_path / "out", explainer.model).report.attributions.empty
    assert "Attribution to the true class</" not in write_report(tmp_path).read_text("utf-8")
    with pytest.raises(ExplanationError, match="attributions are of labelled images"):
        explainer.correct("red", "1", anyway=True, attributions=True)


def test_notes_say_of_which_network_and_of_how_many_images(compared):
    rows = compared.report.image_attributions.query("shows").head(3)
    notes = ["rough; after: not seen", "rough", "not raised"]
    raised = [True, True, False]
    rows = rows.assign(layer="1", concept="red", raised=raised, before=[0.3, 0.1, 0], note=notes)
    row = compared_attributions(rows, ["red"]).to_dict("records")[0]
    assert row["note"] == "rough; not seen (1 of 2 images)"
    assert (row["n"], row["unraised"]) == (2, 1)
    assert row["before"] == pytest.approx(0.2)


def test_images_whose_class_is_not_raised_are_left_out_and_counted(explainer, labelled):
    how = {"rounds": 1, "anyway": True, "attributions": True}
    report = explainer.correct("red", "1", images={"a": labelled["a"]}, **how).report
    row = report.attributions.query("shown == 'with the concept' and layer == '1'").iloc[0]
    assert (row["n"], row["unraised"]) == (0, 6)
    assert np.isnan(row["after"])
    [said] = [text for text in report.findings() if text.startswith("Attribution of 'red'")]
    assert said.endswith(
        "in images with the concept: none at any layer, before or after (6 images left out, whose "
        "class one network does not raise)."
    )


def test_what_cancels_over_classes_is_said(fixed):
    rows = fixed.report.images.query("concept == 'red'").head(4)
    rows = rows.assign(
        true_class=[*"aabb"],
        predicted_class="a",
        predicted_after="b",
        shows=True,
        drop=[2.0, 2, -2, -2],
        drop_after=[1.0, 1, -1, -1],
    )
    own = {name: value for name, value in vars(fixed.report).items() if name != "_rows"}
    report = CorrectionReport(**own, _rows=rows)
    said = report.findings()
    assert (
        "Accuracy on 4 images with the concept: 50.0 % before, 50.0 % after; "
        "for 'a' 100.0 % and 0.0 %, for 'b' 0.0 % and 100.0 %."
    ) in said
    assert (
        "Effect of 'red' in 4 images, for some classes and against others, mean size without the "
        "sign: 2.00 before, 1.00 after; for 'a' 2.00 and 1.00, for 'b' -2.00 and -1.00."
    ) in said
    # a mean that hides nothing is one with its sign
    rows = rows.assign(drop=[2.0, 2, 0.001, -0.004], drop_after=[1.0, 1, -0.001, 0])
    alike = CorrectionReport(**own, _rows=rows)
    assert (
        "Effect of 'red' in 4 images: 1.00 before, 0.50 after; for 'a' 2.00 and 1.00, for 'b' 0.00 "
        "and 0.00."
    ) in alike.findings()
    drawn = [
        [text.get_text() for text in each.plot().axes[0].texts if "taken out" in text.get_text()]
        for each in (report, alike)
    ]
    assert [sum(text.startswith("“red”, taken out") for text in texts) for texts in drawn] == [0, 1]
    assert report.effects.query("class_name == ''")["relative"].isna().all()
    assert report.effects.query("class_name == 'a'")["relative"].iloc[0] == pytest.approx(-0.5)


def test_a_figure_of_many_classes_keeps_those_that_change_most(fixed):
    many = [fixed.report.images.assign(true_class=f"{i:02}", image=f"{i}") for i in range(40)]
    own = {name: value for name, value in vars(fixed.report).items() if name != "_rows"}
    figure = CorrectionReport(**own, _rows=pd.concat(many)).plot()
    texts = [text.get_text().replace("\n", " ") for text in figure.axes[0].texts]
    assert sum(text.startswith("all classes,") for text in texts) >= 2
    assert sum("(n = " in text for text in texts) == 24 + 24
    assert any("rows of accuracy the 24 that change most" in text for text in texts)


def test_figures(fixed, explainer, compared):
    texts = [text.get_text() for text in compared.report.plot().axes[0].texts]
    assert "“red” at layer 3 (n = 6)" in texts
    texts = [text.get_text() for text in fixed.report.plot().axes[0].texts]
    assert any(text.startswith("“red”, taken out (n =") for text in texts)
    assert any(text.startswith("“red” in a, taken out (n =") for text in texts)
    nothing = explainer.correct("red", "1", rounds=1, anyway=True).report
    assert nothing.findings()[-1] == "No labelled images were given, so nothing was measured."
    texts = [text.get_text() for text in nothing.plot().axes[0].texts]
    assert "Nothing was measured: no labelled images were given." in texts


def test_what_is_refused(explainer, tmp_path):
    with pytest.raises(CavError, match="expected concepts of the bank"):
        explainer.correct("green")
    with pytest.raises(CavError, match="not at '5'"):
        explainer.correct("red", "5")
    with pytest.raises(ExplanationError, match="expected when to be 'present' or 'always'"):
        explainer.correct("red", "1", "sometimes")
    other = vtcav.VisualTCAV(explainer.model, ["1", "3"], **OPTIONS)
    other.fit({"red": RED[:5], "none": NOISE[:12]}, NOISE[12:], null_cavs=0, bootstraps=0)
    with pytest.raises(CavError, match=r"diagnostics say of 'none' at layer '1': do not use\. .*"):
        other.correct("none", "1")
    with pytest.raises(CavError, match=r"layer '1' does not see 'none' \(held-out AUC"):
        other.correct("none", "1", anyway=True)
    explainer.cavs.save(tmp_path / "cavs.safetensors")
    loaded = vtcav.VisualTCAV(
        explainer.model, cavs=vtcav.CavBank.load(tmp_path / "cavs.safetensors"), **OPTIONS
    )
    with pytest.raises(CavError, match="the examples of 'red', which saved CAVs do not hold"):
        loaded.correct("red", "1", anyway=True)
    x = inputs(explainer, RED[:2])
    one = [each.correct("red", "1", rounds=1, anyway=True) for each in (loaded, explainer)]
    assert torch.equal(one[0](x), one[1](x))
    plain = vtcav.VisualTCAV(explainer.model, ["1"], fill=None, progress=False)
    plain.fit({"red": RED}, NOISE, null_cavs=0, bootstraps=0)
    with pytest.raises(CavError, match="fit again, with a fill"):
        plain.correct("red", anyway=True)
    fragile = square_network()
    fragile.register_buffer("kept", None)
    fragile.lock = __import__("threading").Lock()
    with pytest.raises(ModelError, match="the network cannot be copied"):
        vtcav.CorrectedNetwork(fragile, "1", one[0].removal, one[0].report)


def test_what_diagnostics_advise_against_is_said(fixed):
    report = fixed.report
    assert [doubt.concept for doubt in report.doubts] == ["red"]
    bad = CorrectionReport(
        **{name: value for name, value in vars(report).items() if name != "doubts"},
        doubts=(Doubt("red", "do not use", "Too few."),),
    )
    assert bad.findings()[0] == "Diagnostics say of 'red': do not use. Too few."


def test_lost_accuracy_is_said_before_anything_else(compared):
    """A correction that takes out more than the concept may destroy the network."""
    own = {name: value for name, value in vars(compared.report).items() if name != "_rows"}
    rows = compared.report.images
    kept = CorrectionReport(**own, _rows=rows.assign(predicted_after=rows["predicted_class"]))
    assert kept.loss == ""
    lost = rows.assign(predicted_class=rows["true_class"], predicted_after="c", shows=True)
    said = CorrectionReport(**own, _rows=lost).findings()
    assert said[0].startswith("Accuracy falls from 100 to 58 %: the network knew little else than ")
    assert "'red' was found in 19 of 19 images; are these the images that show it?" in said[0]


def test_what_is_left_of_an_effect_is_said_first(fixed):
    own = {name: value for name, value in vars(fixed.report).items() if name != "_rows"}
    rows = fixed.report.images.query("concept == 'red'").head(12)

    def findings(when="present", **columns):
        table = rows.assign(**{"true_class": ["a", "b"] * 6, "gap": 6.0} | columns)
        return CorrectionReport(**own | {"when": when}, _rows=table).findings()

    spread = np.linspace(-0.1, 0.1, 12)
    half = {"drop": 5.83 + spread, "drop_after": [2.93, 0.2] * 6 + spread, "gap_after": 3.0}
    assert findings(**half)[0] == (
        "'a' still relies on 'red': its effect fell only from 5.82 to 2.92 logits, and from 97 % "
        "to 97 % of the score. Do not use the corrected network as one without 'red'; try other "
        'layers or when="always".'
    )
    assert "try other layers." in findings("always", **half)[0]
    both = findings(**half | {"drop_after": [2.93, 3.1] * 6 + spread, "gap_after": np.nan})[0]
    assert both.startswith("'b' still relies on 'red': its effect fell only from 5.84 to 3.11 log")
    assert "So do 'a' (from 5.82 to 2.92 logits). " in both
    # a fifth is left, but of a score that fell as far
    few = {**half, "drop_after": 1.1 + spread, "gap_after": 1.2}
    assert "'b' still relies on 'red'" in findings(**few)[0]
    gone = {**half, "drop_after": spread, "gap_after": 3.0}
    assert not any("still relies" in text for text in findings(**gone))
    noise = {**half, "drop_after": [9.0, 9.0, -6.0, -6.0] * 3}
    assert not any("still relies" in text for text in findings(**noise))


def test_shares_of_the_score_are_those_of_an_explained_class(explainer, fixed):
    glob = explainer.explain_class("a", RED[:6])
    expected = glob.class_effects().set_index("concept").loc["red", "gap"]
    own = fixed.report.images.query("concept == 'red' and shows and true_class == 'a'")
    np.testing.assert_allclose(own["gap"].mean(), expected, rtol=1e-4)
    row = fixed.report.effects.query("class_name == 'a' and concept == 'red'").iloc[0]
    known = fixed.report.images.query("concept == 'red' and true_class == 'a'").dropna()
    after = known["gap_after"].mean()
    share = known["drop_after"].mean() / after if after > 0 else np.nan
    np.testing.assert_allclose(row["share_after"], share)


def test_rounds_end_where_the_layer_sees_the_concept_no_more(explainer):
    report = explainer.correct("red", "1", rounds=9, anyway=True).report
    assert 1 <= len(report.seen) < 9
    assert all(seen >= 0.8 for each in report.seen for seen in each.values())
    assert report.layer == "1"


def test_the_layer_that_sees_the_concepts_best(explainer):
    seen = {layer: float(found.seen[0]) for layer, found in explainer.cavs.layers.items()}
    layer = explainer.correct("red", rounds=1, anyway=True).report.layer
    assert seen[layer] == max(seen.values())


def test_the_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "correctnet.py").write_text(
        "from tests.explainer.test_errors import red_or_blue\n\n\n"
        "def build():\n    return red_or_blue()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    red, blue = patches(0, 12, 5)[0], patches(2, 12, 6)[0]
    dark = np.random.default_rng(9).integers(0, 30, (12, 16, 16, 3)).astype(np.uint8)
    sets = {"concepts/red": red, "random": dark, "test/a": red[:5], "test/b": blue[:5]}
    for folder, images in sets.items():
        (tmp_path / folder).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / folder / f"{i}.png")
    command = ["correct", "red", "--images", "test", "--model", "python:correctnet:build"]
    command += ["--layers", "1", "--concepts", "concepts", "--negatives", "random", "--anyway"]
    assert main([*command, "--quiet", "--rounds", "1", "--attributions", "-o", "out"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("'red' taken out at layer '1', where it is present, in 1 round.")
    assert "Effect of 'red'" in said[: said.index("Accuracy class")]
    assert "Attribution to the true class" in said
    fixed = vtcav.CorrectedNetwork.load("out", red_or_blue())
    table = pd.read_csv("out/correction_effects.csv")
    assert table["after"].abs().max() < 0.2 * table["before"].abs().max()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][:2] == fixed.report.findings()[:2]
