"""Localisation metrics: hand-computed cases, other libraries, pixels, and what is undefined."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vtcav import ExplanationError, evaluation
from vtcav.evaluation import metrics
from vtcav.evaluation.metrics import (
    METRICS,
    at_resolution,
    balanced_mse,
    cell_auc,
    covered,
    energy_inside,
    localise,
    pointing_game,
    soft_iou,
)

# the mask's cells hold 1.0, 0.5 and 0.0; those outside 0.5, 0.25 and 0.75
M = np.array([[1.0, 0.5, 0.0], [0.5, 0.25, 0.75]])
G = np.array([[True, True, True], [False, False, False]])


def test_by_hand():
    assert pointing_game(M, G) == 1.0
    assert energy_inside(M, G) == pytest.approx(1.5 / 3.0)
    assert soft_iou(M, G) == pytest.approx(1.5 / (3.0 + 3.0 - 1.5))
    inside = (0.0 + 0.25 + 1.0) / 3
    outside = (0.25 + 0.0625 + 0.5625) / 3
    assert balanced_mse(M, G) == pytest.approx((inside + outside) / 2)
    # of nine pairs 1.0 wins three, 0.5 wins one and ties one, 0.0 wins none
    assert cell_auc(M, G) == pytest.approx((3 + 1.5) / 9)


def test_localise_holds_the_same_numbers():
    found = localise(M, G).to_dict()
    for name in METRICS:
        assert found[name] == getattr(metrics, name)(M, G)
    assert found["area"] == 0.5
    assert found["note"] == ""
    assert list(found) == [*METRICS, "area", "note"]


def test_the_best_and_the_worst_map():
    best, worst = localise(G.astype(float), G), localise(~G, G)
    assert [getattr(best, name) for name in METRICS] == [1, 1, 1, 0, 1]
    assert [getattr(worst, name) for name in METRICS] == [0, 0, 0, 1, 0]


def test_pointing_shares_a_tie_and_misses():
    ties = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    assert pointing_game(ties, G) == 0.75
    assert pointing_game(np.array([[0.9, 0.9, 0.9], [0.0, 0.0, 1.0]]), G) == 0.0


def test_a_cell_half_covered_counts_for_pointing():
    shares = np.array([[0.4, 0.2, 0.19, 0.0]])
    assert covered(shares).tolist() == [[True, True, False, False]]
    assert pointing_game([[0.0, 1.0, 0.0, 0.0]], shares) == 1.0
    assert pointing_game([[0.0, 0.0, 1.0, 0.0]], shares) == 0.0
    assert not covered(np.zeros((2, 2))).any()
    assert covered([[0.1 + 0.2, 0.15 - 1e-16, 0.1]]).tolist() == [[True, True, False]]


def test_the_package_gives_its_names_and_loads_nothing_heavy():
    code = (
        "import sys, vtcav.evaluation as e; from vtcav.evaluation import localise; "
        "heavy = {'torch', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules); "
        "assert not heavy, heavy; missing = [n for n in e.__all__ if not callable(getattr(e, n))]; "
        "assert not missing, missing; assert dir(e) == sorted(e.__all__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    with pytest.raises(AttributeError, match=r"'vtcav\.evaluation' has no attribute 'nothing'"):
        evaluation.__getattr__("nothing")


# -- other libraries ---------------------------------------------------------------------------

maps = hnp.arrays(np.float64, (3, 4), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]))
masks = hnp.arrays(np.bool_, (3, 4))


@settings(max_examples=60, deadline=None)
@given(maps, masks)
def test_auc_is_scikit_learns(M, G):
    from sklearn.metrics import roc_auc_score

    if G.all() or not G.any():
        assert math.isnan(cell_auc(M, G))
    else:
        assert cell_auc(M, G) == pytest.approx(roc_auc_score(G.ravel(), M.ravel()))


@settings(max_examples=60, deadline=None)
@given(maps, hnp.arrays(np.float64, (3, 4), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_auc_of_shares_is_scikit_learns_with_weights(M, G):
    from sklearn.metrics import roc_auc_score

    if not G.any() or (G == 1).all():
        return
    labels = np.repeat([1, 0], G.size)
    weights = np.concatenate([G.ravel(), 1 - G.ravel()])
    expected = roc_auc_score(labels, np.tile(M.ravel(), 2), sample_weight=weights)
    assert cell_auc(M, G) == pytest.approx(expected)


@pytest.fixture(scope="module")
def quantus():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus")


def scores(metric, M, G):
    """What a metric of Quantus says about maps and masks [N, h, w]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = metric(abs=False, normalise=False, disable_warnings=True)
        images = np.zeros((len(M), 1, *M.shape[1:]))
        return made.evaluate_batch(x_batch=images, a_batch=M[:, None], s_batch=G[:, None])


def examples():
    """Maps without ties, and masks with an inside and an outside."""
    random = np.random.default_rng(0)
    M = random.permutation(25 * 40).reshape(40, 5, 5) / 1000
    G = random.random((40, 5, 5)) < 0.3
    G[:, 0, 0], G[:, 0, 1] = True, False
    return M, G


def test_pointing_energy_and_auc_are_those_of_quantus(quantus):
    M, G = examples()
    pairs = {
        pointing_game: quantus.PointingGame,
        energy_inside: quantus.RelevanceMassAccuracy,
        cell_auc: quantus.AUC,
    }
    for ours, theirs in pairs.items():
        mine = [ours(m, g) for m, g in zip(M, G, strict=True)]
        assert len(set(mine)) > 1
        np.testing.assert_allclose(mine, np.asarray(scores(theirs, M, G), float), atol=1e-12)


def test_energy_is_attribution_localisation_of_quantus(quantus):
    M, G = examples()
    mine = [energy_inside(m, g) for m, g in zip(M, G, strict=True)]
    # it adds 1e-9 to the denominator
    np.testing.assert_allclose(mine, scores(quantus.AttributionLocalisation, M, G), atol=1e-8)


def test_a_constant_map_is_no_hit_unlike_in_quantus(quantus):
    M, G = np.ones((1, 2, 2)), np.array([[[True, False], [False, False]]])
    assert scores(quantus.PointingGame, M, G)[0]
    assert pointing_game(M[0], G[0]) == 0.25


# -- cells and pixels --------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(maps, hnp.arrays(np.bool_, (6, 12)))
def test_shares_give_what_pixels_give(M, pixels):
    G = at_resolution(pixels, M.shape)
    blown_up = M.repeat(2, 0).repeat(3, 1)
    for metric in (energy_inside, soft_iou, balanced_mse, cell_auc):
        assert metric(M, G) == pytest.approx(metric(blown_up, pixels), nan_ok=True), metric


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_area_is_kept_at_any_resolution(mask, shape):
    G = at_resolution(mask, shape)
    assert G.shape == shape
    assert G.mean() == pytest.approx(mask.mean())
    assert ((G >= 0) & (G <= 1)).all()
    assert G.any() == mask.any()
    assert (G == 1).all() == mask.all()


def test_cells_that_share_a_pixel():
    G = at_resolution([[True, False, False], [False, False, True]], (1, 2))
    np.testing.assert_allclose(G, [[1 / 3, 1 / 3]])
    np.testing.assert_allclose(at_resolution([[False, True]], (2, 3)), [[0, 0.5, 1]] * 2)


def test_a_box_that_crops_and_one_that_pads():
    mask = np.zeros((4, 8), bool)
    mask[:, 4:6] = True
    np.testing.assert_array_equal(at_resolution(mask, (1, 2), (0.25, 0, 0.75, 1)), [[0, 1]])
    padded = at_resolution(mask, (4, 4), (0, -0.5, 1, 1.5))
    np.testing.assert_array_equal(padded, [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    assert not at_resolution(mask, (3, 3), (0.0, 0.0, 0.5, 1.0)).any()
    with pytest.raises(ExplanationError, match="box of left, top, right and bottom with an area"):
        at_resolution(mask, (1, 1), (0.5, 0, 0.5, 1))


# -- stated results ----------------------------------------------------------------------------


def found(M, G):
    result = localise(M, G)
    return [getattr(result, name) for name in METRICS], result.note


def test_empty_mask():
    numbers, note = found(M, np.zeros_like(G))
    assert np.isnan(numbers).all()
    assert note == metrics.EMPTY_MASK


def test_full_mask():
    numbers, note = found(M, np.ones_like(G))
    assert np.isnan(numbers).tolist() == [True, True, False, True, True]
    assert numbers[2] == M.mean()
    assert note == metrics.FULL_MASK


def test_empty_map():
    numbers, note = found(np.zeros_like(M), G)
    np.testing.assert_array_equal(numbers, [np.nan, np.nan, 0.0, 0.5, 0.5])
    assert note == metrics.EMPTY_MAP


def test_constant_map():
    numbers, note = found(np.full_like(M, 0.5), G)
    np.testing.assert_allclose(numbers, [0.5, 0.5, 1.5 / 4.5, 0.25, 0.5])
    assert note == metrics.CONSTANT_MAP


def test_both_empty_gives_both_reasons():
    numbers, note = found(np.zeros_like(M), np.zeros_like(G))
    assert np.isnan(numbers).all()
    assert note == f"{metrics.EMPTY_MASK}; {metrics.EMPTY_MAP}"


@settings(max_examples=100, deadline=None)
@given(maps, hnp.arrays(np.float64, (3, 4), elements=st.sampled_from([0.0, 0.3, 1.0])))
def test_no_number_is_missing_without_a_reason(M, G):
    numbers, note = found(M, G)
    if np.isnan(numbers).any():
        assert note
    assert all(-1e-12 <= number <= 1 + 1e-12 for number in numbers if not math.isnan(number))


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("M", "G", "message"),
    [
        (np.ones((2, 2)), np.ones((4, 4), bool), r"one shape, got \[2, 2\] and \[4, 4\].*at_resol"),
        (np.full((2, 2), 2.0), np.ones((2, 2)), "map with values from 0 to 1, got 2 to 2; divide"),
        (np.ones((2, 2)), np.full((2, 2), 255, np.uint8), "mask with values .* 255 to 255; compar"),
        (np.full((2, 2), np.nan), np.ones((2, 2)), "map with values from 0 to 1, got nan"),
        (np.ones((1, 2, 2)), np.ones((2, 2)), r"map \[h, w\] of numbers, got float64 of shape \[1"),
        (np.ones((0, 2)), np.ones((0, 2)), r"map \[h, w\] of numbers"),
        (np.array([["a"]]), np.ones((1, 1)), r"map \[h, w\] of numbers, got <U1"),
    ],
)
def test_refused(M, G, message):
    for name in METRICS:
        with pytest.raises(ExplanationError, match=message):
            getattr(metrics, name)(M, G)
    with pytest.raises(ExplanationError, match=message):
        localise(M, G)


def test_a_mask_keeps_its_area_in_any_part_of_it():
    rng = np.random.default_rng(0)
    mask = rng.random((30, 40)) < 0.5
    whole = at_resolution(mask[5:20, 10:30], (4, 7))
    box = (10 / 40, 5 / 30, 30 / 40, 20 / 30)
    np.testing.assert_allclose(at_resolution(mask, (4, 7), box), whole, atol=1e-12)


@pytest.mark.parametrize("shape", [(0, 2), (2,), (1.5, 2)])
def test_a_resolution_that_is_none(shape):
    with pytest.raises(ExplanationError, match=r"expected the \(height, width\) of a map, got"):
        at_resolution(G, shape)
