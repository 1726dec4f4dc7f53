"""The place filter as a variant of the map: against a literal reading, CAV and draws alike."""

import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.literal_places import (
    pooled_discriminant,
    red_squares,
    refine,
    refined,
    ridge,
    square_network,
)
from vtcav.explainer.learning.drawn_cavs import seed_of
from vtcav.method import resampling
from vtcav.method.attribution import (
    class_share,
    concept_attribution,
    pooled_cav,
    positive_relevance,
)
from vtcav.method.integral.trapezoid import integrate, trapezoid

RED, NOISE = red_squares()
NEGATIVES, IMAGES = NOISE[3:], np.concatenate([RED[:2], NOISE[:1]])
LAYERS = ["1", "3"]


def fitted(**options):
    model = vtcav.Classifier(square_network(), ["a", "b", "c"], vtcav.Preprocess(32))
    explainer = vtcav.VisualTCAV(model, LAYERS, 20, variant="places", **options)
    return explainer.fit({"red": RED}, NEGATIVES, null_cavs=4, bootstraps=3)


@pytest.fixture(scope="module")
def explainer():
    return fitted()


def maps_of(explainer, images):
    x = torch.stack([explainer.model.preprocess(vtcav_picture(p)) for p in images])
    return {k: F.numpy() for k, F in explainer.model.activations(x, LAYERS).items()}


def vtcav_picture(array):
    from PIL import Image

    return Image.fromarray(array)


def highest(F, w):
    return np.einsum("c,nchw->nhw", w, F).reshape(len(F), -1).max(1)


def test_maps_and_attributions_are_those_of_the_literal_reading(explainer):
    E, N, X = (maps_of(explainer, part) for part in (RED, NEGATIVES, IMAGES))
    found = explainer.explain_class(2, IMAGES).attributions
    for layer in LAYERS:
        w, offset, _ = refined(E[layer], N[layer], pooled_discriminant(E[layer], N[layer]))
        low, high = (np.median(highest(F[layer], w)) - offset for F in (N, E))
        cavs, F = explainer.cavs.layers[layer], torch.tensor(X[layer])
        assert high > low
        np.testing.assert_allclose(
            [float(cavs.e_neg), float(cavs.e_pos)], [low, high], rtol=2e-3, atol=2e-4
        )
        M = ((np.einsum("c,nchw->nhw", w, X[layer]) - offset - low) / (high - low)).clip(0, 1)
        M = torch.tensor(M, dtype=torch.float32)[:, None]
        np.testing.assert_allclose(cavs.maps(F).numpy(), M.numpy(), atol=5e-3)
        head, v = explainer.model.head(layer), cavs.v
        pooled = [G[layer].mean((0, 2, 3)) for G in (E, N)]
        np.testing.assert_allclose(v[0].numpy(), pooled[0] - pooled[1], atol=1e-5)
        with torch.no_grad():
            z, z0 = head(F), head(torch.zeros_like(F[:1]))
        IG = integrate(head, F, torch.full((3, 1), 2), *trapezoid(20), batch_size=16).IG
        a = concept_attribution(
            positive_relevance(IG, F), class_share(z, z0)[:, 2:3], M, pooled_cav(v, F, M)
        )[:, 0, 0]
        own = found.loc[found["layer"] == layer, "attribution"].to_numpy()
        np.testing.assert_allclose(own, a.numpy(), atol=2e-3)


def test_draws_are_refined_as_the_concept_is(explainer):
    """Null and bootstrap CAVs, one after the other: S of all negatives, the rest of each draw."""
    E, N = (maps_of(explainer, part) for part in (RED, NEGATIVES))
    n, m = len(RED), len(NEGATIVES)
    n1 = resampling.tested_examples(n, m)
    null = resampling.null_draws(n1, m, 4, seed_of("null", 0, n1, m))
    again = resampling.bootstrap_draws(n, m, 3, seed_of("bootstrap", 0, n, m, "red"))
    places = explainer.cavs.resampling
    for layer in LAYERS:
        drawn, A = explainer.cavs.layers[layer].resampled, ridge(N[layer])
        step = refined(E[layer], N[layer], pooled_discriminant(E[layer], N[layer]))[2]
        for draws, source, where in (
            (null, N[layer], places.null[0]),
            (again, E[layer], places.bootstrap[0]),
        ):
            for j, position in enumerate(where):
                pair = source[draws.positives[j]], N[layer][draws.negatives[j]]
                steps, m_neg = refine(*pair, pooled_discriminant(*pair), step, A)
                w, offset = steps[-1], steps[-1] @ m_neg
                np.testing.assert_allclose(drawn.w[position].numpy(), w, rtol=5e-3, atol=5e-4)
                low, high = (np.median(highest(F, w)) - offset for F in pair[::-1])
                found = [float(e[position]) for e in (drawn.e_neg, drawn.e_pos)]
                np.testing.assert_allclose(found, [low, high], rtol=5e-3, atol=5e-4)


def test_the_own_filter_is_the_one_that_erasure_uses(explainer):
    for cavs in explainer.cavs.layers.values():
        for name, other in (("w", "w"), ("offset", "offset"), ("e_neg", "low"), ("e_pos", "high")):
            torch.testing.assert_close(getattr(cavs, name), getattr(cavs.places, other))
    without = fitted(fill=None)
    for layer, cavs in explainer.cavs.layers.items():
        assert torch.equal(cavs.w, without.cavs.layers[layer].w)
    assert without.explain(IMAGES[0]).effects.empty


def test_files_and_the_cache_keep_the_variant(explainer, tmp_path):
    explainer.cavs.save(tmp_path / "cavs.safetensors")
    bank = vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    assert bank.variant == "places"
    assert bank.settings["refinements"] == 5
    banks = [bank, *(fitted(cache=tmp_path / "cache").cavs for _ in range(2))]
    for layer, cavs in explainer.cavs.layers.items():
        for other in banks:
            for name, tensor in cavs.by_name().items():
                assert torch.equal(other.layers[layer].by_name()[name], tensor)
                assert torch.equal(
                    other.layers[layer].resampled.by_name()[name], cavs.resampled.by_name()[name]
                )
    kinds = banks[-1].from_cache.values()
    assert all(found == needed for taken in kinds for found, needed in taken.values())


def test_layers_together_are_a_map(explainer, tmp_path):
    local = explainer.explain(RED[0], classes=1)
    M, H = local.concept_map("layers together", "red"), local.region("red")
    assert M.shape == H.shape
    assert H[M > 0.25].all()
    assert 0 <= M.min() <= M.max() <= 1
    local.save(tmp_path)
    loaded = vtcav.LocalExplanation.load(tmp_path)
    np.testing.assert_array_equal(loaded.concept_map("layers together", "red"), M)
    without = vtcav.VisualTCAV(explainer.model, cavs=explainer.cavs, fill=None).explain(RED[0])
    with pytest.raises(vtcav.ExplanationError, match="no layer 'layers together'"):
        without.concept_map("layers together", "red")
