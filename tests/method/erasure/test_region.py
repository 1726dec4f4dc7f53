"""Regions of concepts, and their placebos."""

import torch
from torch.nn.functional import max_pool2d, pad

from vtcav.method.erasure.joined_map import joined_map
from vtcav.method.erasure.place_filter import Answers
from vtcav.method.erasure.region import (
    elsewhere,
    grown,
    highest_elsewhere,
    overlapping_regions,
    region,
)


def told(answers):
    """What filters answer to each concept; nothing where none is."""
    to = torch.as_tensor(answers)
    return Answers(to, 0 * to[0])


def test_grown_is_the_square_around_every_pixel():
    H = torch.zeros(1, 1, 9, 9)
    H[0, 0, 4, 4] = 1
    assert grown(H, 2)[0, 0, 2:7, 2:7].all()
    assert grown(H, 2).sum() == 25
    assert torch.equal(grown(H, 0), H)


def test_growing_is_max_pooling():
    H = (torch.rand(2, 3, 17, 12, generator=torch.Generator().manual_seed(0)) > 0.97).float()
    for pixels in (1, 3, 20):
        padded = pad(H, [pixels] * 4)
        assert torch.equal(grown(H, pixels), max_pool2d(padded, 2 * pixels + 1, 1))


def test_layers_that_do_not_see_a_concept_count_for_nothing():
    here, there = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    here[:, :, 0, 0], there[:, :, 3, 3] = 1, 1
    seen = [torch.tensor([1.0, 0.75]), torch.tensor([0.5, 0.75])]
    M = joined_map([here, there], seen)
    assert M[0, 0, 0, 0] == 1
    assert M[0, 0, 3, 3] == 0
    assert M[0, 1, 0, 0] == M[0, 1, 3, 3] == 0.5
    assert not joined_map([here], [torch.tensor([0.5, 0.2])]).any()


def test_a_region_grows_by_a_share_of_the_side():
    M = torch.zeros(1, 1, 40, 60)
    M[0, 0, 20, 30] = 1
    assert region([M], [torch.ones(1)]).sum() == 25


def test_a_concept_that_no_layer_sees_has_no_region():
    M = torch.ones(1, 2, 8, 8)
    H = region([M, M], [torch.tensor([0.79, 0.5]), torch.tensor([0.6, 0.8])])
    assert not H[0, 0].any()
    assert H[0, 1].all()


def two_things(low=0.3):
    """Maps of two layers on which two concepts respond to each other: one tells them apart."""
    fine, coarse = torch.zeros(1, 2, 20, 20), torch.zeros(1, 2, 20, 20)
    fine[0, 0, :4, :4], fine[0, 1, :4, :4] = 1.0, low
    fine[0, 1, 12:16, 12:16], fine[0, 0, 12:16, 12:16] = 1.0, low
    coarse[0, :, :4, :4] = coarse[0, :, 12:16, 12:16] = 1.0
    return [fine, coarse]


def test_a_part_that_is_another_concepts_is_left_out():
    H = region(two_things(), [torch.ones(2), torch.ones(2)], growth=0)
    assert H[0, 0, :4, :4].all()
    assert not H[0, 0, 4:].any()
    assert H[0, 1, 12:16, 12:16].all()
    assert not H[0, 1, :12].any()


def test_concepts_at_one_place_keep_it():
    H = region(two_things(low=0.8), [torch.ones(2), torch.ones(2)], growth=0)
    assert torch.equal(H[0, 0], H[0, 1])


def test_a_concept_that_is_seen_less_takes_nothing_away():
    seen = [torch.tensor([1.0, 0.9]), torch.tensor([1.0, 0.9])]
    H = region(two_things(), seen, growth=0)
    assert H[0, 0, 12:16, 12:16].all()
    assert not H[0, 1, :12].any()


def test_a_layer_on_which_nothing_is_there_has_no_say():
    maps = [*two_things(), torch.zeros(1, 2, 20, 20), torch.zeros(1, 2, 20, 20)]
    H = region(maps, [torch.ones(2)] * 4, growth=0, level=0.1)
    assert not H[0, 0, 4:].any()


def letter_and_pore():
    """A letter and a pore; the filter of the pore responds more to letters than to pores."""
    r = torch.zeros(1, 2, 20, 20)
    r[0, 0, :4, :4], r[0, 1, :4, :4] = 0.8, 3.2
    r[0, 1, 12:16, 12:16] = 0.5
    answers = torch.tensor([[1.0, 4.0], [0.1, 0.8]])
    return [r.clamp(max=1)], [torch.tensor([1.0, 0.99])], answers, [r]


def test_a_filter_that_answers_another_concept_more_than_its_own_takes_nothing_from_it():
    maps, seen, answers, r = letter_and_pore()
    H = region(maps, seen, growth=0, answers=[told(answers)], heights=r)
    assert H[0, 0, :4, :4].all()  # the letter keeps its place
    assert not H[0, 1, :4, :4].any()  # and the pore, which is only an echo there, loses it
    assert H[0, 1, 12:16, 12:16].all()  # where no letter is, a pore is a pore


def test_without_answers_the_higher_map_has_the_part():
    maps, seen, _, _ = letter_and_pore()
    maps[0][0, 0, :4, :4] = 0.6
    for known in ([], [None]):
        H = region(maps, seen, growth=0, answers=known)
        assert not H[0, 0].any()
        assert H[0, 1, :4, :4].all()


def test_an_answer_to_next_to_nothing_of_its_own_counts_by_the_level_of_a_region():
    maps, seen, _, _ = letter_and_pore()
    maps[0][0, 0, :4, :4] = 0.6
    # 0.3 is 3 times 0.1, but hardly more than a region needs: 0.6 < 0.75 * 1 / 1.2
    H = region(maps, seen, growth=0, answers=[told([[1.0, 0.3], [0.0, 0.1]])])
    assert not H[0, 0].any()


def responses(*values):
    """Responses of K filters at a part, and those of the second alone at another one."""
    r = torch.zeros(1, len(values), 20, 20)
    r[0, :, :4, :4] = torch.tensor(values)[:, None, None]
    r[0, 1, 12:16, 12:16] = values[1]
    return r


def found(r, answers):
    seen = [torch.ones(r.shape[1])]
    return region([r.clamp(0, 1)], seen, growth=0, answers=[told(answers)], heights=[r])[0]


def test_what_another_concept_explains_is_not_found():
    answers = [[0.9, 0.4], [3.6, 1.0]]  # a scratch and a logo: scratches like logos best
    H = found(responses(1.0, 0.5), answers)
    assert not H[1, :4, :4].any()
    assert H[1, 12:16, 12:16].all()  # no scratch is there
    assert H[0, :4, :4].all()
    logo = found(responses(2.9, 0.8), answers)  # what a logo makes of both
    assert logo[1, :4, :4].all()


def test_what_a_concepts_own_examples_show_is_never_anothers():
    generator = torch.Generator().manual_seed(0)
    for K in (2, 3, 6):
        answers = torch.rand(K, K, generator=generator) * 4
        answers.diagonal().fill_(1)
        for k in range(K):
            assert found(responses(*answers[k].tolist()), answers)[k, :4, :4].all()


def test_nothing_is_lost_that_no_other_concept_explains():
    r = responses(0.0, 0.6)
    r[0, 1, :2, :4] = -3.0  # a ring: between its lines the filter answers less than anywhere
    H = region([torch.ones_like(r)], [torch.ones(2)], growth=0, heights=[r])
    assert H[0, 1].all()


def test_a_fit_that_does_not_converge_explains_nothing(monkeypatch):
    def fail(*_):
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr("vtcav.method.erasure.rivals.nnls", fail)
    H = found(responses(1.0, 0.5), [[0.9, 0.4], [3.6, 1.0]])
    assert H[1, :4, :4].all()


def test_a_concept_that_the_others_examples_may_show_is_kept():
    answers = [[0.9, 0.8], [3.6, 1.0]]  # stripes, and zebras
    assert found(responses(1.0, 0.8), answers)[1, :4, :4].all()


def test_a_concept_that_is_hardly_there_explains_little():
    answers = [[0.9, 0.7], [0.0, 1.0]]
    assert found(responses(0.2, 0.45), answers)[1, :4, :4].all()
    assert not found(responses(0.5, 0.45), answers)[1, :4, :4].any()


def test_several_concepts_explain_together():
    answers = [[1.0, 0.3, 0.0], [0.0, 1.0, 0.0], [0.0, 0.3, 1.0]]
    assert not found(responses(1.0, 0.8, 1.0), answers)[1, :4, :4].any()
    answers[2][1] = 0.1
    assert found(responses(1.0, 0.8, 1.0), answers)[1, :4, :4].all()


def test_a_tint_everywhere_takes_no_part():
    M = torch.zeros(1, 2, 20, 20)
    M[0, 0], M[0, 1, :4, :4] = 1.0, 0.5
    H = region([M], [torch.ones(2)], growth=0)
    assert H[0, 1, :4, :4].all()
    assert H[0, 0].all()
    M[0, 1] = 0.5  # the other is everywhere, too: gravel, where the ground is grass
    H = region([M], [torch.ones(2)], growth=0)
    assert not H[0, 1].any()
    assert H[0, 0].all()


def test_placebos_have_the_regions_shape_and_avoid_it():
    H = torch.zeros(30, 40)
    H[3:9, 5:15] = 1
    H[3, 5] = 0
    placebos = elsewhere(H, 50, seed=1)
    assert (placebos.sum((1, 2)) == H.sum()).all()
    assert not (placebos * H).any()
    assert len({tuple(p.flatten().tolist()) for p in placebos}) > 40
    assert torch.equal(placebos, elsewhere(H, 50, seed=1))
    assert not torch.equal(placebos, elsewhere(H, 50, seed=2))


def test_the_placebos_of_a_large_region_overlap_as_little_as_they_can():
    H = torch.zeros(20, 20)
    H[:16, :16] = 1
    placebos = elsewhere(H, 10, seed=0)
    assert (placebos.sum((1, 2)) == 256).all()
    assert ((placebos * H).sum((1, 2)) < 256).any()


def test_placebos_avoid_other_regions():
    H, other = torch.zeros(12, 12), torch.zeros(12, 12)
    H[:3, :3] = 1
    other[:, 6:] = 1
    assert not (elsewhere(H, 30, seed=0, avoid=other) * other).any()


def test_placebos_of_random_concepts_lie_where_these_respond_most():
    H, response = torch.zeros(6, 6), torch.arange(36.0).reshape(1, 6, 6)
    H[4:, 4:] = 1
    (placebo,) = highest_elsewhere(H, response, H)
    assert placebo.sum() == 4
    assert not (placebo * H).any()
    assert placebo[5, 2:4].tolist() == [1, 1]  # the highest outside of the region
    other = torch.zeros(6, 6)
    other[5] = 1
    (placebo,) = highest_elsewhere(H, response, other)
    assert placebo[4, :4].sum() == 4
    assert torch.equal(
        highest_elsewhere(H, response, torch.ones(6, 6)), highest_elsewhere(H, response, H)
    )
    H[:] = 1
    assert not highest_elsewhere(H, response, H).any()


def test_an_empty_region_has_empty_placebos():
    assert not elsewhere(torch.zeros(5, 5), 3, seed=0).any()


def test_regions_overlap_where_the_smaller_is_mostly_part_of_the_other():
    H = torch.rand(7, 6, 6, generator=torch.Generator().manual_seed(0)).gt(0.55).float()
    H[5], H[6] = H[4], 0
    expected = []
    for k in range(7):
        area = [max(min(H[k].sum(), H[j].sum()), 1) for j in range(7)]
        shares = {j: float((H[k] * H[j]).sum() / area[j]) for j in range(7) if j != k}
        expected.append(sorted((j for j in shares if shares[j] > 0.5), key=lambda j: -shares[j]))
    found = overlapping_regions(H)
    assert found == expected
    assert found[4][0] == 5
    assert found[6] == []
    assert all((j in found[k]) == (k in found[j]) for j in range(7) for k in range(7))
    assert sum(map(len, found)) < 6 * 5
