"""Place filters: against a literal reading of their definition, and what they are for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.literal_places import (
    pooled_discriminant,
    red_squares,
    refined,
    square_network,
)
from vtcav.method.auc import auc
from vtcav.method.erasure.place_filter import (
    Background,
    PlaceFilters,
    outer_products,
    top_means,
)
from vtcav.method.resampling import halves


@pytest.fixture(scope="module")
def network():
    return square_network()


@pytest.fixture(scope="module")
def pictures():
    """Noise, and noise with a red square at a random place."""
    examples, negatives = red_squares()
    return {"red": examples, "none": negatives[:8]}, negatives[8:]


def explainer_of(network, **settings):
    model = vtcav.Classifier(network, ["a", "b", "c"], vtcav.Preprocess(32))
    return vtcav.VisualTCAV(model, ["1", "3"], **settings)


def test_filters_are_those_of_the_literal_reading(network, pictures):
    concepts, negatives = pictures
    explainer = explainer_of(network).fit(concepts, negatives)
    for layer in ("1", "3"):
        E, N = (
            explainer.model.activations(
                torch.stack([explainer.model.preprocess(vtcav_picture(p)) for p in images]), [layer]
            )[layer].numpy()
            for images in (concepts["red"], negatives)
        )
        w, offset, _ = refined(E, N, pooled_discriminant(E, N))
        places = explainer.cavs.layers[layer].places
        np.testing.assert_allclose(places.w[0].numpy(), w, rtol=2e-3, atol=2e-4)
        assert float(places.offset[0]) == pytest.approx(offset, rel=2e-3, abs=2e-4)
        r = {name: np.einsum("c,nchw->nhw", w, F) - offset for name, F in (("E", E), ("N", N))}
        low, high = (np.median(r[name].reshape(len(r[name]), -1).max(1)) for name in "NE")
        assert float(places.low[0]) == pytest.approx(low, rel=2e-3)
        assert float(places.high[0]) == pytest.approx(high, rel=2e-3)
        held_out = []
        for half in (0, 1):
            own = [F[halves(len(F))[half].numpy()] for F in (E, N)]
            others = [F[halves(len(F))[1 - half].numpy()] for F in (E, N)]
            w, *_ = refined(*own, pooled_discriminant(*own))
            top = [np.einsum("c,nchw->nhw", w, F).reshape(len(F), -1) for F in others]
            pairs = top[0].max(1)[:, None] - top[1].max(1)
            held_out.append((pairs > 0).mean())
        assert float(places.seen[0]) == pytest.approx(np.mean(held_out), abs=0.02)


def vtcav_picture(array):
    from PIL import Image

    return Image.fromarray(array)


def test_the_map_lies_on_the_concept(network, pictures):
    concepts, negatives = pictures
    explainer = explainer_of(network).fit(concepts, negatives)
    picture = negatives[0].copy()
    picture[4:12, 20:28] = (255, 0, 0)
    H = explainer.explain(picture).region("red")
    assert H[5:11, 21:27].mean() > 0.9
    assert H[20:, :16].mean() < 0.05


def test_noise_is_not_seen(network, pictures):
    explainer = explainer_of(network).fit(*pictures)
    effects = explainer.explain(pictures[1][0]).effects.set_index("concept")
    assert (effects.loc["none", "seen"] < 0.8).all()
    assert (
        effects.loc["none", ["drop", "share", "p_value", "probability_without"]]
        .isna()
        .all(axis=None)
    )
    assert effects.loc["none", "note"].str.contains("not seen at these layers").all()


def test_negatives_that_alternate_between_two_kinds(network):
    """Every second position would leave each half one kind of negatives."""
    examples, negatives = red_squares()
    bright = [np.clip(picture.astype(int) + 90, 0, 255).astype(np.uint8) for picture in examples]
    mixed = [negatives[i] if i % 2 else bright[i] for i in range(min(len(bright), len(negatives)))]
    explainer = explainer_of(network).fit({"red": examples}, mixed)
    assert all(float(found.places.seen) > 0.95 for found in explainer.cavs.layers.values())


def test_what_a_layer_does_not_see_is_flagged_in_every_row(network, pictures):
    explainer = explainer_of(network).fit(*pictures)
    local, glob = explainer.explain(pictures[1][0]), explainer.explain_class("a", pictures[1][:2])
    for table in (local.attributions, glob.attributions, glob.summary()):
        for layer, found in explainer.cavs.layers.items():
            rows = table[table["layer"] == layer].set_index("concept")
            for concept, seen in zip(("red", "none"), found.places.seen.tolist(), strict=True):
                row = rows.loc[[concept]]
                assert (row["seen"] == seen).all()
                assert (row["note"].str.contains("not seen at this layer") == (seen < 0.8)).all()
        assert (table.loc[table["concept"] == "none", "seen"] < 0.8).all()
    plain = explainer_of(network, fill=None).fit(*pictures).explain(pictures[1][0]).attributions
    assert plain["seen"].isna().all()
    assert plain["attribution"].equals(local.attributions["attribution"])


def test_batches_and_the_buffer_change_nothing(network, pictures):
    whole = explainer_of(network).fit(*pictures).cavs.layers["3"].places
    small = explainer_of(network, batch_size=3).fit(*pictures).cavs.layers["3"].places
    for name in ("w", "offset", "low", "high", "seen"):
        torch.testing.assert_close(getattr(whole, name), getattr(small, name), rtol=1e-3, atol=1e-4)


def test_the_cache_gives_the_same_filters(network, pictures, tmp_path):
    fresh = explainer_of(network, cache=tmp_path).fit(*pictures).cavs
    again = explainer_of(network, cache=tmp_path).fit(*pictures).cavs
    assert {tuple(kinds["places"]) for kinds in again.from_cache.values() if "places" in kinds} == {
        (2, 2)
    }
    for layer, cavs in fresh.layers.items():
        for name, tensor in vars(cavs.places).items():
            assert torch.equal(tensor, getattr(again.layers[layer].places, name))


def test_a_file_keeps_the_filters(network, pictures, tmp_path):
    bank = explainer_of(network).fit(*pictures).cavs
    bank.save(tmp_path / "cavs.safetensors")
    loaded = vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    for name, tensor in vars(bank.layers["1"].places).items():
        assert torch.equal(tensor, getattr(loaded.layers["1"].places, name))
    explainer = explainer_of(network)
    explained = vtcav.VisualTCAV(explainer.model, ["1", "3"], cavs=loaded).explain(pictures[1][0])
    assert not explained.effects.empty


def test_locations_that_are_all_alike_give_a_filter_of_the_difference():
    F = torch.ones(2, 3, 4, 4)
    background = Background.of(32, F.mean((0, 2, 3)), outer_products(F, F.mean((0, 2, 3))))
    w = background.filters(torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0]]))
    assert w.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_what_a_filter_answers_to_other_concepts():
    w, pattern = torch.tensor([[1.0, 0.0], [0.5, 1.0]]), torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    low, high = torch.tensor([0.0, 0.5]), torch.tensor([2.0, 1.0])
    filters = PlaceFilters(w, torch.zeros(2), low, high, torch.ones(2), pattern)
    # the second filter answers the first concept (0.5 + 2 - 0.5) / 0.5
    assert filters.answers().to.tolist() == [[0.5, 4.0], [0.0, 1.0]]
    assert replace(filters, pattern=None).answers() is None
    assert not replace(filters, high=low).answers().to.any()


def test_the_highest_locations_are_at_least_one():
    F = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert top_means(F, torch.tensor([[0.0, 1.0]])).tolist() == [[[3.0, 7.0]]]


def test_auc_is_the_share_of_pairs():
    a, b = torch.randn(13), torch.randn(9)
    pairs = [(x > y) + 0.5 * (x == y) for x in a for y in b]
    assert auc(a[:, None] - b) == pytest.approx(float(sum(pairs)) / len(pairs))
