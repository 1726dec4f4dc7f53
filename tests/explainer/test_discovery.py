"""Concepts that nobody named: found, judged, saved, named."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.marked import SIDE, net, scenes
from tests.helpers.small import pictures, small_explainer, small_model
from vtcav.errors import CavError, ExplanationError, ExtraError, ImageError
from vtcav.explainer.discovery import discover as discovering
from vtcav.explainer.discovery.sampling import NOISE_IMAGES
from vtcav.method.concept_map import contraharmonic_mean, raw_map
from vtcav.report.discovery import write_discovery


def explainer(activation=None, **options):
    model = small_model(net(activation or nn.ReLU()), preprocess=vtcav.Preprocess(SIDE))
    return vtcav.VisualTCAV(model, ["1"], **options)


@pytest.fixture(scope="module")
def found():
    return explainer().discover(scenes()[0], k=4)


def test_a_mark_is_found_and_its_map_is_where_the_mark_is(found):
    shown, corners = scenes(seed=9, marked=1.0)
    best = 0.0
    for concept in range(len(found)):
        hits = 0
        for picture, (y, x) in zip(shown[:20], corners, strict=False):
            M = found.concept_map(concept, picture)
            row, column = np.unravel_index(M.argmax(), M.shape)
            hits += y - 2 <= 2 * row <= y + 10 and x - 2 <= 2 * column <= x + 10 and M.max() > 0
        best = max(best, hits / 20)
    assert best >= 0.9


def test_what_no_image_responds_to_is_not_fine():
    table = explainer().discover(scenes(32)[0], k=4).concepts
    empty = table[~table["separated"]]
    assert empty["stability"].max() >= 0.8  # found again, and of no use
    assert empty["level"].tolist() == ["do not use"] * len(empty)
    assert empty["note"].str.contains("no map: no image responds more").all()


def test_numbers_are_those_of_the_definition(found):
    table, shown = found.concepts, scenes()[0]
    model = explainer().model
    x = torch.stack([model.preprocess(picture) for picture in as_pil(shown)])
    F = model.activations(x, ["1"])["1"]
    for number in range(len(found)):
        row, one = table.iloc[number], found[number]
        R = raw_map(F, torch.tensor(one.v)[None])[:, 0]
        values = contraharmonic_mean(R[:, None])[:, 0]
        order = values.argsort(descending=True, stable=True).tolist()
        assert [key.name for key in one.examples] == [f"array[{i}]" for i in order[:7]]
        least = {f"array[{i}]" for i in order[30:]}
        assert {key.name for key in one.negatives} == least
        e_pos, e_neg = (
            float(np.median([float(values[int(key.name[6:-1])]) for key in keys]))
            for keys in (one.examples, one.negatives)
        )
        assert row["e_pos"] == pytest.approx(e_pos, rel=1e-5)
        assert row["e_neg"] == pytest.approx(e_neg, rel=1e-5, abs=1e-7)
        M = ((R.clamp(e_neg, e_pos) - e_neg) / (e_pos - e_neg)) if e_pos > e_neg else 0 * R
        share = float((M.flatten(1).amax(1) > 0.5).double().mean())
        assert row["prevalence"] == pytest.approx(share)
        assert row["stability"] == min(row["seeds"], row["halves"])


def as_pil(shown):
    from PIL import Image

    return [Image.fromarray(picture) for picture in shown]


def test_patches_are_of_several_images_and_show_the_concept(found):
    for number in range(len(found)):
        one = found[number]
        assert one.patches.shape == (7, 96, 96, 3)
        assert len({key.name for key in one.examples}) == len(one.examples)
    # the red mark fills the patches of the concept that its channel has
    red = [found[n].patches[..., 0].mean() - found[n].patches[..., 2].mean() for n in range(4)]
    assert max(red) > 30


def test_parts_of_noise_are_flagged():
    noise = np.random.default_rng(0).integers(0, 256, (80, SIDE, SIDE, 3)).astype(np.uint8)
    table = explainer().discover(noise, k="auto").concepts
    assert (table["level"] != "fine").all()
    assert table["note"].ne("").all()


@pytest.mark.parametrize("activation", [nn.GELU(), nn.Identity()])
def test_negative_maps_are_factorised_on_both_sides_of_their_mean(activation):
    result = explainer(activation).discover(scenes(30)[0], k=3)
    assert result.summary["factorisation"].tolist() == ["split NMF"]
    assert np.isfinite(result.concepts["stability"]).all()


def test_auto_tries_numbers_up_to_a_third_of_the_channels(found):
    result = explainer().discover(scenes(30)[0])
    assert result.tried["k"].tolist() == [4]
    assert len(result) == result.summary["k"].iloc[0] == 4


def test_the_same_seed_gives_the_same_numbers_whatever_the_batches(found):
    again = explainer(batch_size=7).discover(scenes()[0], k=4)
    left = again.concepts.drop(columns="note")
    for name in left.select_dtypes("number"):
        np.testing.assert_allclose(left[name], found.concepts[name], rtol=2e-3, atol=2e-3)
    other = explainer().discover(scenes()[0], k=4, seed=1)
    assert not np.allclose(other[0].v, found[0].v)


def test_saved_and_loaded_it_is_the_same(found, tmp_path):
    found.save(tmp_path)
    assert (tmp_path / "discovery.png").stat().st_size > 10_000
    loaded = vtcav.Discovery.load(tmp_path)
    assert repr(loaded) == repr(found)
    assert loaded.concepts.equals(found.concepts)
    assert loaded.summary.equals(found.summary)
    assert loaded.provenance.to_dict() == found.provenance.to_dict()
    for one, other in zip(
        map(loaded.__getitem__, range(4)), map(found.__getitem__, range(4)), strict=True
    ):
        assert one.to_dict() == other.to_dict()
        np.testing.assert_array_equal(one.patches, other.patches)
        np.testing.assert_array_equal(one.v, other.v)
    with pytest.raises(CavError, match="load it with its explainer and images"):
        loaded.name(0, "mark")


def test_a_named_concept_is_like_any_other(found, tmp_path):
    found.save(tmp_path)
    own = explainer()
    loaded = vtcav.Discovery.load(tmp_path, own, scenes()[0])
    bank = loaded.name(2, "mark")
    cavs = own.cavs.layers["1"]
    torch.testing.assert_close(cavs.v[0], torch.tensor(found[2].v))
    # emblems of the bank are those of the discovery
    assert float(cavs.e_pos[0]) == pytest.approx(found[2].e_pos, rel=1e-5)
    assert float(cavs.e_neg[0]) == pytest.approx(found[2].e_neg, rel=1e-5, abs=1e-7)
    assert bank.table()["direction"].tolist() == ["found in images (concept 2 at layer 1)"]
    picture = scenes(seed=4)[0][0]
    local = own.explain(picture, classes=2)
    assert np.isfinite(local.attributions["p_value"].dropna()).all()
    np.testing.assert_allclose(
        local.concept_map("1", "mark"), loaded.concept_map(2, picture), atol=1e-5
    )
    bank.save(tmp_path / "cavs.safetensors")
    assert vtcav.CavBank.load(tmp_path / "cavs.safetensors").names == ("mark",)


def test_naming_joins_the_concepts_that_are_learned_at_all_their_layers():
    own = small_explainer()
    images = np.concatenate([pictures(20, seed=1, low=150), pictures(20, seed=3)])
    result = own.discover(images, layers=["3"], k=2)
    nearest = result.concepts.iloc[0]
    assert nearest["nearest"] in ("bright", "cold")
    assert -1 <= nearest["cosine"] <= 1
    assert 0 <= nearest["auc"] <= 1
    bank = result.name(0, "new")
    assert bank.names == ("bright", "cold", "new")
    assert list(bank.layers) == ["1", "3"]
    examples, absent = bank.evidence("new")
    expected = examples.gap["1"].mean(0) - absent.gap["1"].mean(0)
    torch.testing.assert_close(bank.layers["1"].v[2], expected, rtol=1e-4, atol=1e-5)


def test_wrong_uses_are_refused(found, tmp_path, monkeypatch):
    own = explainer()
    with pytest.raises(ImageError, match="at least 10 readable images"):
        own.discover(scenes(6)[0])
    with pytest.raises(ExplanationError, match="expected at most 12 concepts"):
        own.discover(scenes(20)[0], k=13)
    with pytest.raises(ExplanationError, match="'auto' or a whole number"):
        own.discover(scenes(20)[0], k=1)
    with pytest.raises(ExplanationError, match="numbered from 0 to 3"):
        found[4]
    with pytest.raises(ExplanationError, match="nothing was found at layer 'x'"):
        found.plot("x")
    found.save(tmp_path)
    with pytest.raises(CavError, match="found in another network"):
        vtcav.Discovery.load(tmp_path, small_explainer(), scenes()[0])
    with pytest.raises(CavError, match="are missing or have changed"):
        vtcav.Discovery.load(tmp_path, own, scenes(20)[0]).name(0, "mark")
    with pytest.raises(CavError, match="come from the images that it was found in"):
        vtcav.Discovery.load(tmp_path, own).name(0, "mark")
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(ExtraError, match=r"pip install 'vtcav\[discover\]'"):
        own.discover(scenes(20)[0])


@pytest.mark.parametrize(("kept", "passes"), [(1 << 30, 1), (0, 2)])
def test_images_pass_at_most_twice(kept, passes, monkeypatch):
    monkeypatch.setattr(discovering, "KEPT_BYTES", kept)
    own, seen = explainer(), []
    plain = own.model.activations

    def counted(x, layers):
        seen.append(len(x))
        return plain(x, layers)

    monkeypatch.setattr(own.model, "activations", counted)
    own.discover(scenes(30)[0], k=2)
    assert sum(seen) == passes * 30 + NOISE_IMAGES


def test_the_network_is_left_as_it_was():
    own = explainer()
    own.model.module.train()
    before = {name: t.clone() for name, t in own.model.module.state_dict().items()}
    own.discover(scenes(20)[0], k=2)
    assert own.model.module.training
    for name, t in own.model.module.state_dict().items():
        assert torch.equal(t, before[name])


def test_attributions_are_those_of_the_named_concept(found, tmp_path):
    result = found.attributed(images=8, null_cavs=20)
    table = result.attributions
    assert table["n"].groupby(table["concept"]).sum().tolist() == [8] * 4
    tested = table.dropna(subset="p_value")
    assert len(tested) >= 2
    assert tested["p_value"].between(1 / 21, 1).all()
    assert (tested["q_value"] >= tested["p_value"]).all()
    # the same concept, named, on the same images
    own = explainer(fill=None)
    rng = np.random.default_rng(0).permutation(60)[:8]
    shown = [scenes()[0][i] for i in sorted(rng.tolist())]
    first = tested[tested["attribution"] > 0].iloc[0]
    predicted = [
        own.model.probabilities(own.model.logits(own.model.preprocess(picture)[None])).argmax()
        for picture in as_pil(shown)
    ]
    mine = [p for p, c in zip(shown, predicted, strict=True) if int(c) == first["class_index"]]
    home = result.__class__.load(result.save(tmp_path), own, scenes()[0])
    assert home.attributions.equals(table)
    home.name(int(first["concept"]), "one")
    expected = own.explain_class(int(first["class_index"]), np.stack(mine)).summary()
    assert first["attribution"] == pytest.approx(expected["mean"].iloc[0], rel=1e-4, abs=1e-6)


def erased(weight):
    """A discovery with verdicts, in a network whose only class reads how red it is, or nothing."""
    module = net(nn.ReLU())
    with torch.no_grad():
        module[4].weight.zero_()
        module[4].weight[0, :2] = weight
        module[4].bias[0] = 3.0
    model = small_model(module, preprocess=vtcav.Preprocess(SIDE))
    result = vtcav.VisualTCAV(model, ["1"]).discover(scenes()[0], k=4)
    return result.attributed(images=20, null_cavs=20, erased=True)


def test_a_verdict_says_whether_a_class_uses_what_is_found(tmp_path):
    using, blind = erased(1.0), erased(0.0)
    red = max(range(4), key=lambda i: using[i].v[:2].sum())
    np.testing.assert_allclose(using[red].v, blind[red].v)
    told, other = (each.attributions.set_index("concept").loc[red] for each in (using, blind))
    assert (told["verdict"], other["verdict"]) == ("used", "not used")
    assert told["share"] > 0.5
    assert told["sentence"].startswith(f"Without 'concept {red}' the score of 'cat' falls by")
    assert other["sentence"].startswith(f"The network sees 'concept {red}' but hardly uses it")
    # attributions are what they are without
    plain = using.attributed(images=20, null_cavs=20).attributions
    assert (plain["verdict"] == "").all()
    pd.testing.assert_frame_equal(
        plain.drop(columns=["note", "share", "verdict", "sentence"]),
        using.attributions.drop(columns=["note", "share", "verdict", "sentence"]),
    )
    using.save(tmp_path)
    pd.testing.assert_frame_equal(
        vtcav.Discovery.load(tmp_path).attributions, using.attributions, check_dtype=False
    )
    page = write_discovery(using, tmp_path / "page.html").read_text("utf-8")
    assert "<td>used</td>" in page
    assert "the score of &#39;cat&#39; falls by" in page


def test_parts_that_overlap_are_erased_one_at_a_time():
    table = erased(1.0).attributions
    # two of the parts are the red mark
    assert table["verdict"].value_counts()["used"] >= 2


def test_discoveries_of_older_versions_have_no_verdicts(found, tmp_path):
    result = found.attributed(images=8, null_cavs=20)
    old = result.attributions.drop(columns=["share", "verdict", "sentence"])
    replace(result, _attributions=old).save(tmp_path)
    loaded = vtcav.Discovery.load(tmp_path)
    assert (loaded.attributions["verdict"] == "").all()


def shown_most(result, tmp_path):
    """The image of each class with the most that is not covered, also on the page."""
    shown = result.most_uncovered()
    assert [one.class_name for one in shown] == result.coverage["class_name"].tolist()
    for one in shown:
        rows = result._coverage[result._coverage["class_name"] == one.class_name]
        left = rows["attribution"] - rows["covered"]
        assert one.map.sum() == pytest.approx(left.max(), abs=1e-5)
        assert one.share == pytest.approx((left / rows["attribution"])[left.idxmax()])
        np.testing.assert_array_equal(one.picture, scenes()[0][int(one.image[6:-1])])
    loaded = vtcav.Discovery.load(tmp_path).most_uncovered()
    np.testing.assert_array_equal(loaded[0].picture, shown[0].picture)
    page = write_discovery(result, tmp_path / "page.html").read_text("utf-8")
    assert f"Uncovered attribution to {shown[0].class_name} at layer 1" in page


def test_coverage_with_one_concept_is_its_concept_attribution(found, tmp_path):
    own = explainer(fill=None)
    home = vtcav.Discovery.load(found.save(tmp_path), own, scenes()[0])
    home.name(0, "one")
    result = home.attributed(images=6, null_cavs=20)
    table = result.coverage
    assert table["uncovered"].between(0, 1).all()
    row = table.iloc[0]
    rows = result._coverage[result._coverage["class_index"] == row["class_index"]]
    expected = []
    for name in rows["image"]:
        picture = scenes()[0][int(name[6:-1])]
        local = own.explain(picture, classes=[int(row["class_index"])])
        expected.append(local.attributions["attribution"].iloc[0])
        left = result.uncovered_map("1", name)
        one = rows[rows["image"] == name].iloc[0]
        assert left.sum() == pytest.approx(one["attribution"] - one["covered"], abs=1e-5)
    np.testing.assert_allclose(rows["covered"], expected, rtol=2e-3, atol=1e-5)
    assert row["uncovered"] == pytest.approx(
        1 - sum(expected) / rows["attribution"].sum(), abs=1e-3
    )
    result.save(tmp_path)
    assert vtcav.Discovery.load(tmp_path).coverage.equals(table)
    shown_most(result, tmp_path)
    with pytest.raises(ExplanationError, match="no map of what is uncovered"):
        result.uncovered_map("1", "nowhere")
    assert found.coverage.empty
