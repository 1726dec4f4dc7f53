"""The drawn scenes, their parts and masks, the cues, and the causal effects measured on them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtcav.errors import ExplanationError
from vtcav.evaluation.experiment.concept_sets import draw_concept_sets
from vtcav.evaluation.experiment.effects import causal_effects
from vtcav.evaluation.experiment.network import LAYERS, build, draw_cue, logits, to_input
from vtcav.evaluation.experiment.scenes import CLASSES, draw_scenes, scene_seed, with_tags
from vtcav.evaluation.experiment.tags import TAG
from vtcav.method.discriminant_map import discriminant_directions
from vtcav.method.resampling import Draws

LABELS = np.arange(24) % 4


@pytest.fixture(scope="module")
def scenes():
    return with_tags(draw_scenes(LABELS, 7), np.where(LABELS == 3, -1, LABELS), 7)


def test_a_cue_is_where_its_mask_says_and_nowhere_else(scenes):
    whole = scenes.images()
    for mask, other in (
        (scenes.tag_mask, scenes.images(tag=False)),
        (scenes.texture_mask, scenes.images(texture=False)),
    ):
        changed = (whole != other).any(3)
        # grain may by chance leave single pixels as they are
        assert not changed[~mask].any()
        assert changed[mask].mean() > 0.95
    neither = scenes.images(tag=False, texture=False)
    outside = ~(scenes.tag_mask | scenes.texture_mask)
    assert (neither == scenes.plain).all()
    assert (neither[outside] == whole[outside]).all()


def test_tags_have_their_size_and_lie_beside_the_object(scenes):
    area = scenes.tag_mask.sum((1, 2))
    assert (area[LABELS != 3] == TAG**2).all()
    assert (area[LABELS == 3] == 0).all()
    many = with_tags(draw_scenes(np.zeros(500, np.intp), 8), np.zeros(500, np.intp), 8)
    assert (many.tag_mask & many.texture_mask).any((1, 2)).mean() < 0.02
    assert many.images().max() <= 255


def test_scenes_of_one_seed_differ_in_their_stripes_alone():
    level, upright = (draw_scenes(np.full(6, k), 5) for k in (0, 1))
    assert (level.plain == upright.plain).all()
    assert (level.texture_mask == upright.texture_mask).all()
    differ = (level.textured != upright.textured).any(3)
    assert differ.any((1, 2)).all()
    assert not differ[~level.texture_mask].any()


def test_stripes_have_the_direction_of_their_class():
    for index, axis in ((0, 2), (1, 1)):
        scenes = draw_scenes(np.full(40, index), 3)
        inside = scenes.texture_mask[:, 1:, 1:]
        grey = scenes.textured.astype(float).mean(3)
        along = np.abs(np.diff(grey, axis=axis))[:, : inside.shape[1], : inside.shape[2]]
        across = np.abs(np.diff(grey, axis=3 - axis))[:, : inside.shape[1], : inside.shape[2]]
        assert across[inside].mean() > 1.5 * along[inside].mean()


def test_the_background_says_nothing_of_the_class():
    pictures = draw_scenes(np.arange(2000) % 4, 11).images(tag=False, texture=False)
    colours = pictures.reshape(2000, -1, 3).mean(1)
    means = np.stack([colours[np.arange(2000) % 4 == k].mean(0) for k in range(4)])
    standard_error = colours.std(0) / 500**0.5
    assert (np.ptp(means, axis=0) < 5 * standard_error).all()


def test_the_drawing_follows_its_seed():
    first, again, other = (draw_scenes(LABELS, seed).images() for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert len({scene_seed(s, p) for s in (0, 1) for p in ("train", "test", "concepts")}) == 6


@settings(max_examples=40, deadline=None)
@given(q=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_cue_agrees_in_its_share_and_is_otherwise_absent_or_random(q, seed):
    labels = np.arange(2000) % 4
    drawn = draw_cue(labels, q, 4, np.random.default_rng(seed))
    rest = 1 - q
    assert (drawn == labels).mean() == pytest.approx(q + rest / 8, abs=0.03)
    assert (drawn == -1).mean() == pytest.approx(rest / 2, abs=0.05)


def test_a_cue_that_always_agrees_is_the_label_and_one_that_never_does_says_nothing():
    labels = np.arange(40_000) % 4
    assert (draw_cue(labels, 1.0, 4, np.random.default_rng(0)) == labels).all()
    drawn = draw_cue(labels, 0.0, 4, np.random.default_rng(0))
    table = np.stack([np.bincount(drawn[labels == k] + 1, minlength=5) for k in range(4)])
    assert np.ptp(table, axis=0).max() < 250  # of about 1250 (5000 without)


def test_negatives_are_the_examples_scenes_without_the_concept():
    sets = draw_concept_sets(8, seed=1000)
    assert list(sets.examples) == [f"tag {x}" for x in "XLOT"] + [f"texture {c}" for c in CLASSES]
    for k, (name, examples) in enumerate(sets.examples.items()):
        negatives = sets.negatives[name]
        assert examples.shape == negatives.shape == (8, 64, 64, 3)
        scenes = draw_scenes(np.zeros(8, np.intp), scene_seed(1000, "concepts") + k)
        scenes = with_tags(scenes, np.zeros(8, np.intp), scene_seed(1000, "concepts") + k)
        own = scenes.tag_mask if name.startswith("tag") else scenes.texture_mask
        other = scenes.texture_mask if name.startswith("tag") else scenes.tag_mask
        differ = (examples != negatives).any(3)
        # the concept itself everywhere, the other cue in about half, the background nowhere
        assert all(differ[i][own[i]].any() for i in range(8))
        assert 2 <= sum(differ[i][other[i] & ~own[i]].any() for i in range(8)) <= 6
        assert not differ[~(own | other)].any()


def test_effects_on_a_network_made_by_hand():
    """The logit of class 0 is the mean of the red channel: an effect is a difference of means."""
    labels = np.zeros(5, np.intp)
    scenes = with_tags(draw_scenes(labels, 2), labels, 2)
    net = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2, bias=False)
    )
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 0]]))
    z = {
        (tag, texture): logits(net, scenes.images(tag=tag, texture=texture))
        for tag in (True, False)
        for texture in (True, False)
    }
    found = causal_effects(
        z[True, True],
        {"tag": z[False, True], "texture": z[True, False]},
        z[False, False],
        labels,
    )
    red = scenes.images()[..., 0].astype(float)
    without = scenes.images(tag=False)[..., 0].astype(float)
    expected = (red - without).mean((1, 2)) / 127.5
    assert found["tag"].effect == pytest.approx(expected, abs=1e-5)
    # the other logit is 0, so the centred one is half of the raw one
    assert found["tag"].centred == pytest.approx(expected / 2, abs=1e-5)
    total = found["tag"].effect + found["texture"].effect
    apart = ~(scenes.tag_mask & scenes.texture_mask).any((1, 2))
    assert total[apart] == pytest.approx(found["tag"].gap[apart], abs=1e-5)


def test_shares_of_a_class_are_ratios_of_means_and_missing_without_a_gap():
    whole = np.array([[4.0, 0.0], [8.0, 0.0], [1.0, 0.0]])
    without = {"tag": np.array([[3.0, 0.0], [2.0, 0.0], [0.0, 0.0]])}
    neither = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    found = causal_effects(whole, without, neither, np.zeros(3, np.intp))["tag"]
    assert found.share(np.array([True, True, False])) == pytest.approx(7 / 12)
    assert found.shares[:2] == pytest.approx([0.25, 0.75])
    assert np.isnan(found.shares[2])
    assert np.isnan(found.share(np.array([False, False, True])))
    with pytest.raises(ExplanationError, match=r"expected logits \[3, 2\] .* got \[2, 2\]"):
        causal_effects(whole, without, neither[:2], np.zeros(3, np.intp))


def test_the_network_has_the_layers_it_says_and_keeps_the_generator():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    net, again, other = build(4, 0), build(4, 0), build(4, 1)
    assert (torch.get_rng_state() == before).all()
    assert all((a == b).all() for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(net.parameters()), next(other.parameters()))
    assert [name for name, _ in net.named_children()][: len(LAYERS)] == list(LAYERS)
    x = to_input(draw_scenes(LABELS[:2], 0).images())
    assert x.shape == (2, 3, 64, 64)
    assert -1 <= x.min() < x.max() <= 1
    assert net.eval()(x).shape == (2, 4)


def test_generic_sets_are_not_pairs_of_the_same_scenes():
    """Examples and negatives share no scene, as those of matched sets do."""
    sets = draw_concept_sets(60, 5, generic=True)
    assert list(sets.examples) == list(draw_concept_sets(2, 5).examples)
    matched = draw_concept_sets(60, 5)
    for name, examples in sets.examples.items():
        negatives = sets.negatives[name]
        assert examples.shape == negatives.shape == (60, 64, 64, 3)
        # no scene is shared: corners, which hardly ever show a cue, differ
        shared = (examples[:, :2, :2] == negatives[:, :2, :2]).all((1, 2, 3))
        assert shared.mean() < 0.1
        paired = matched.examples[name][:, :2, :2] == matched.negatives[name][:, :2, :2]
        assert paired.all((1, 2, 3)).mean() > 0.5


def test_a_filter_leaves_out_what_varies_and_a_pattern_does_not():
    """Channel 0 is the concept and a nuisance together, channel 1 the nuisance alone."""
    rng = np.random.default_rng(0)
    nuisance = torch.from_numpy(rng.normal(0, 3, (400, 1)))
    concept = torch.ones(200, 1, dtype=torch.float64)
    examples = torch.cat([concept + nuisance[:200], nuisance[:200]], 1)
    negatives = torch.cat([nuisance[200:], nuisance[200:]], 1)
    [w] = discriminant_directions(examples, negatives, Draws.whole(200, 200), shrinkage=1e-4)
    assert float(w[1] / w[0]) == pytest.approx(-1, abs=0.05)
    v = examples.mean(0) - negatives.mean(0)
    [strong] = discriminant_directions(examples, negatives, Draws.whole(200, 200), shrinkage=1e6)
    assert torch.allclose(strong / strong.norm(), v / v.norm(), atol=1e-4)
