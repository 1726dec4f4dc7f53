"""The filter map as an option of VisualTCAV: the same numbers from a literal second path."""

import json

import numpy as np
import pytest
import torch
from matplotlib.text import Text

import vtcav
from tests.helpers.small import pictures, small_model
from vtcav.evaluation.compare.compute import compare
from vtcav.method.attribution import (
    class_share,
    concept_attribution,
    pooled_cav,
    positive_relevance,
)
from vtcav.method.cav import directions
from vtcav.method.concept_map import concept_map, contraharmonic_mean, raw_map
from vtcav.method.discriminant_map import discriminant_directions
from vtcav.method.integral.trapezoid import integrate, trapezoid
from vtcav.method.resampling import Draws, bootstrap_draws, null_draws
from vtcav.method.variants import suffix
from vtcav.report.methods import methods

BRIGHT, NEGATIVES = pictures(7, seed=1, low=110), pictures(20, seed=3)
IMAGES = pictures(3, seed=5)


def fitted(variant="filter", **options):
    explainer = vtcav.VisualTCAV(small_model(), ["1", "3"], steps=20, variant=variant)
    return explainer.fit({"bright": BRIGHT}, NEGATIVES, **options)


def literal(X, Y, shrinkage=0.1):
    """Fisher's discriminant in the channels, one concept, as the formula says."""
    X, Y = X.double(), Y.double()
    inside = torch.cat([X - X.mean(0), Y - Y.mean(0)])
    S = inside.T @ inside / len(inside)
    v = X.mean(0) - Y.mean(0)
    w = torch.linalg.inv(S + shrinkage * S.diagonal().mean() * torch.eye(len(S)).double()) @ v
    return w * v.norm() / w.norm()


def of_all(X, Y):
    return discriminant_directions(X, Y, Draws.whole(len(X), len(Y)))[0]


@pytest.mark.parametrize("channels", [3, 12, 60])
def test_filters_of_draws_are_those_of_the_images_drawn(channels):
    """Fewer images than channels and more, drawn with and without replacement."""
    generator = torch.Generator().manual_seed(channels)
    X = torch.randn(8, channels, generator=generator, dtype=torch.float64) + 1
    Y = torch.randn(24, channels, generator=generator, dtype=torch.float64)
    assert torch.allclose(of_all(X, Y), literal(X, Y), rtol=1e-8)
    for A, draws in ((X, bootstrap_draws(8, 24, 5, 0)), (Y, null_draws(8, 24, 5, 0))):
        W = discriminant_directions(A, Y, draws)
        for j in range(5):
            expected = literal(A[draws.positives[j]], Y[draws.negatives[j]])
            assert torch.allclose(W[j], expected, rtol=1e-8)
        V = directions(A, Y, draws).double()
        assert torch.allclose(W.norm(dim=1), V.norm(dim=1))


def test_filters_are_solved_a_few_at_a_time(monkeypatch):
    X, Y = torch.randn(6, 5), torch.randn(14, 5)
    draws = bootstrap_draws(6, 14, 7, 1)
    whole = discriminant_directions(X, Y, draws)
    monkeypatch.setattr("vtcav.method.discriminant_map._BYTES", 1)
    assert torch.allclose(discriminant_directions(X, Y, draws), whole)


def test_no_difference_and_no_spread_give_zero():
    same = torch.ones(5, 4)
    w = of_all(same, same)
    assert torch.equal(w, torch.zeros(4))
    once = Draws(torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 2, dtype=torch.long))
    assert discriminant_directions(same, same * 2, once).isfinite().all()


def test_the_variant_draws_maps_with_w_and_weighs_channels_with_v():
    explainer = fitted(null_cavs=3, bootstraps=2)
    model = explainer.model
    example, negative, x = (
        torch.stack([model.preprocess(p) for p in map(_image, group)])
        for group in (BRIGHT, NEGATIVES, IMAGES)
    )
    found = explainer.explain_class(2, IMAGES).attributions
    largest = 0.0
    for layer in explainer.layers:
        (F_pos, F_neg, F) = (model.activations(part, [layer])[layer] for part in
                             (example, negative, x))  # fmt: skip
        X, Y = F_pos.mean((2, 3)), F_neg.mean((2, 3))
        w, v = literal(X, Y).float(), X.mean(0) - Y.mean(0)
        e = [contraharmonic_mean(raw_map(part, w[None])).median(0).values for part in (F_pos,)]
        values = contraharmonic_mean(raw_map(F_neg, w[None])).sort(0).values
        M = concept_map(raw_map(F, w[None]), e[0], (values[9] + values[10]) / 2)
        head = model.head(layer)
        with torch.no_grad():
            z, z0 = head(F), head(torch.zeros_like(F[:1]))
        IG = integrate(head, F, torch.full((3, 1), 2), *trapezoid(20), batch_size=16).IG
        a = concept_attribution(
            positive_relevance(IG, F), class_share(z, z0)[:, 2:3], M, pooled_cav(v[None], F, M)
        )[:, 0, 0]
        own = found.loc[found["layer"] == layer, "attribution"].to_numpy()
        np.testing.assert_allclose(own, a.numpy(), atol=2e-6)
        largest = max(largest, float(a.max()))
    assert largest > 1e-3
    paper = fitted("paper").explain_class(2, IMAGES).attributions
    assert np.abs(paper["attribution"] - found["attribution"]).max() > 1e-3


def _image(array):
    from PIL import Image

    return Image.fromarray(array)


def test_resampled_cavs_have_filters_of_their_own():
    explainer = fitted(null_cavs=6, bootstraps=4)
    for layer, cavs in explainer.cavs.layers.items():
        again = cavs.resampled
        assert cavs.w.shape == cavs.v.shape
        assert again.w.shape == again.v.shape == (10, cavs.v.shape[1])
        gap = [part.gap[layer] for part in explainer.cavs.evidence("bright")]
        assert torch.allclose(cavs.w[0], of_all(*gap), rtol=1e-5)
    plain = fitted("paper", null_cavs=6, bootstraps=4).cavs
    for layer, cavs in plain.layers.items():
        assert cavs.w is None
        assert cavs.resampled.w is None
        assert torch.equal(cavs.v, explainer.cavs.layers[layer].v)
        # the draws do not depend on the variant
        assert torch.equal(cavs.resampled.v, explainer.cavs.layers[layer].resampled.v)


def test_a_bank_keeps_its_variant_and_refuses_another(tmp_path):
    explainer = fitted(null_cavs=4, bootstraps=3)
    explainer.cavs.save(tmp_path / "cavs.safetensors")
    bank = vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    assert bank.variant == "filter"
    assert "variant='filter'" in repr(bank)
    model = explainer.model
    taken = vtcav.VisualTCAV(model, steps=20, cavs=bank)
    assert taken.variant == "filter"
    expected = explainer.explain(IMAGES[0], classes=[1]).attributions
    found = taken.explain(IMAGES[0], classes=[1]).attributions
    np.testing.assert_array_equal(found["attribution"], expected["attribution"])
    np.testing.assert_array_equal(found["p_value"], expected["p_value"])
    for asked, there in (("paper", bank), ("filter", fitted("paper").cavs)):
        with pytest.raises(vtcav.CavError, match=f"'{asked}' was requested"):
            vtcav.VisualTCAV(model, cavs=there, variant=asked)


def test_an_unknown_variant_is_refused():
    with pytest.raises(vtcav.ExplanationError, match="'filter' or 'places', got 'pattern'"):
        vtcav.VisualTCAV(small_model(), ["1"], variant="pattern")


def test_results_say_which_variant_they_are(tmp_path):
    texts = {}
    for variant in ("paper", "filter", "places"):
        explainer = fitted(variant, null_cavs=4, bootstraps=3)
        local = explainer.explain(IMAGES[0], classes=[1])
        glob = explainer.explain_class(1, IMAGES)
        assert local.provenance.variant == glob.provenance.variant == variant
        glob.save(tmp_path / variant)
        stored = json.loads((tmp_path / variant / "global.json").read_text())
        assert stored["provenance"]["settings"]["fit"]["variant"] == variant
        assert ("shrinkage" in stored["provenance"]["settings"]["fit"]) == (variant != "paper")
        assert vtcav.GlobalExplanation.load(tmp_path / variant).provenance.variant == variant
        drawn = [
            text.get_text()
            for figure in (local.plot(), glob.plot())
            for text in figure.findobj(Text)
        ]
        for name, title in (("filter", "filter map"), ("places", "place map")):
            assert any(title in text for text in drawn) == (variant == name)
        texts[variant] = " ".join(methods([glob.provenance], [], 0, []))
    assert "Fisher's linear discriminant" in texts["filter"]
    assert "Fisher" not in texts["paper"]
    assert "single locations" in texts["places"]
    assert suffix("paper") == ""


def test_a_cache_does_not_mix_variants(tmp_path):
    """The same images learned with one variant after the other, from one cache."""
    for variant in ("paper", "filter", "places", "paper", "filter", "places"):
        cached = vtcav.VisualTCAV(
            small_model(), ["1", "3"], steps=20, variant=variant, cache=tmp_path / "cache"
        ).fit({"bright": BRIGHT}, NEGATIVES, null_cavs=4, bootstraps=3)
        plain = fitted(variant, null_cavs=4, bootstraps=3)
        for layer, cavs in plain.cavs.layers.items():
            found = cached.cavs.layers[layer]
            assert torch.allclose(found.e_pos, cavs.e_pos)
            assert torch.allclose(found.resampled.e_neg, cavs.resampled.e_neg)


def test_a_comparison_names_the_variant():
    explainer = fitted(null_cavs=0, bootstraps=0)
    found = compare(explainer, {1: IMAGES}, methods=["visual_tcav", "grad_cam"], progress=False)
    assert found.methods == ("visual_tcav_filter", "grad_cam")
    ours = found.table[found.table["method"] == "visual_tcav_filter"]
    expected = explainer.explain_class(1, IMAGES).attributions["attribution"]
    np.testing.assert_allclose(ours["value"], expected, atol=1e-7)
    assert found.plot().axes
    assert set(found.ranks()["note"]) != {""}


def test_runs_of_two_variants_are_not_mixed(tmp_path):
    fitted("paper").explain_class(1, IMAGES, run=tmp_path / "run")
    with pytest.raises(vtcav.ExplanationError, match="other"):
        fitted("filter").explain_class(1, IMAGES, run=tmp_path / "run")
