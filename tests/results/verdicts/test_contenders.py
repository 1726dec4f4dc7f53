"""Which other concept an effect may be that of, where regions overlap."""

import json

import pandas as pd
import pytest

from vtcav.results.rows import joined_names, names_of
from vtcav.results.verdicts import ownership, verdicts
from vtcav.results.verdicts.contenders import contender, counts_by_itself, overlaps, own_part

NAN = float("nan")
LETTER = {
    "concept": "letter",
    "n": 40,
    "drop": 4.0,
    "drop_low": 3.6,
    "drop_high": 4.4,
    "fill_low": 3.8,
    "fill_high": 4.2,
    "gap": 5.0,
    "share": 0.8,
    "present": 1.0,
    "area": 0.1,
    "seen": 0.99,
    "placebo_mean": 0.1,
    "q_value": 0.001,
    "same_region": "",
    "confused_with": "",
}
PORE = LETTER | {"concept": "pore"}


def shared(**shares):
    return {"same_region": json.dumps(shares)}


def of(row, *others):
    found = contender(row, {each["concept"]: each for each in (row, *others)})
    return None if found is None else found["concept"]


def test_an_effect_that_comes_from_where_another_is_may_be_that_of_the_other():
    assert of(LETTER | shared(pore=0.9), PORE) == "pore"
    assert of(LETTER | shared(pore=0.5), PORE) is None
    assert of(LETTER, PORE) is None
    assert of(LETTER | shared(gone=0.9), PORE) is None


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"drop": 2.0}, "pore"),
        ({"drop": 1.9}, None),  # less than half
        ({"drop": 3.5, "area": 0.2}, None),  # a larger region does more anyway
        ({"drop": 3.7, "area": 0.2}, "pore"),
        ({"drop": -4.0}, None),
        ({"q_value": 0.5}, None),
        ({"drop": NAN}, None),
    ],
)
def test_the_other_must_account_for_the_effect(changes, found):
    assert of(LETTER | shared(pore=0.9), PORE | changes) == found


def test_the_one_that_does_most_is_taken():
    rows = LETTER | shared(hair=0.6, pore=0.9), PORE, PORE | {"concept": "hair", "drop": 5.0}
    assert of(*rows) == "hair"


def test_of_two_that_are_always_together_the_one_that_is_not_confused_counts():
    """The filter of a logo that no image shows answers what the letter shows."""
    logo, letter = LETTER | shared(pore=1.0), PORE | shared(letter=0.9)
    assert of(logo, letter) == "pore"
    assert of(letter, logo) == "letter"
    logo["confused_with"] = "pore"
    assert of(logo, letter) == "pore"
    assert of(letter, logo) is None


def test_the_verdict_says_what_it_may_be_and_what_would_tell():
    rows = LETTER | shared(pore=1.0), PORE
    first, second = verdicts(pd.DataFrame(rows), "ill")
    assert (first.concept, first.kind) == ("pore", "used")
    assert (second.concept, second.kind) == ("letter", "cannot be told")
    assert second.sentence == (
        "Whether 'ill' uses 'letter' cannot be told, because most of its effect comes from images "
        "in which its region overlaps with that of 'pore', without which the score falls by 80 % "
        "(72 to 88 %); pictures of 'pore' without 'letter' among the negatives of 'letter' would "
        "tell, unless they are there already; so would pairs of pictures (vtcav evaluate --pairs). "
        "Without 'letter' the score of 'ill' falls by 80 % (72 to 88 %) on average over 40 images; "
        "regions of the same size elsewhere: 2 %."
    )


def test_what_is_among_the_negatives_is_not_advised():
    rows = pd.DataFrame([LETTER | shared(pore=1.0), PORE])
    for among in ({"letter": ("hair",)}, {"pore": ("letter",)}):
        assert "unless they are there already" in verdicts(rows, "ill", among)[1].sentence
    _, found = verdicts(rows, "ill", {"letter": ("pore",)})
    assert "would tell, unless" not in found.sentence
    assert (
        "; examples of 'pore' among the negatives of 'letter' did not suffice; pairs of pictures "
        "(vtcav evaluate --pairs) or a region marked by hand (vtcav explain --erase) would tell."
    ) in found.sentence


def test_what_is_there_may_be_among_the_negatives():
    """The region overlaps with those of concepts that do not account for its effect."""
    small = PORE | {"drop": 0.5, "share": 0.1}
    contested = LETTER | shared(pore=0.9, hair=0.3) | APART | NOTHING | {"told": 0.6}
    rows = pd.DataFrame([contested, small])
    for among in ({}, {"letter": ("pore",)}):
        found = verdicts(rows, "ill", among)[-1]
        assert (found.concept, found.kind) == ("letter", "cannot be told")
        assert "would tell, unless they are there already" in found.sentence
    found = verdicts(rows, "ill", {"letter": ("pore", "hair")})[-1]
    assert "examples of 'pore' and 'hair' among the negatives of 'letter' did not" in found.sentence


def test_a_name_that_looks_like_a_list_is_one_name():
    for names in (['["a"]'], ['["a', "b"], ['["']):
        assert names_of(joined_names(names)) == tuple(names)


def test_rows_of_older_results_overlap_with_nothing():
    row = {name: value for name, value in LETTER.items() if "_" not in name}
    assert overlaps(row) == {}


APART = {
    "told": 0.97,
    "drop_apart": 3.0,
    "drop_apart_low": 2.6,
    "drop_apart_high": 3.4,
    "present_apart": 1.0,
    "q_apart": 0.001,
}
NOTHING = {"drop_apart": 0.05, "drop_apart_low": 0.0, "drop_apart_high": 0.1, "q_apart": 0.6}


def judged(**changes):
    contested = LETTER | shared(pore=0.9) | APART | changes
    rows = verdicts(pd.DataFrame([contested, PORE]), "ill")
    return next(each for each in rows if each.concept == "letter")


def test_an_effect_of_its_own_part_is_that_of_the_concept():
    found = judged()
    assert (found.kind, found.size, found.own_part) == ("used", 0.6, True)
    assert found.sentence == (
        "Without 'letter' the score of 'ill' falls by 60 % (52 to 68 %) on average over 40 images; "
        "regions of the same size elsewhere: 2 %. Its region overlaps with that of 'pore': this is "
        "what its own part of it does, and without all of it, 'pore' included, the score falls by "
        "80 % (72 to 88 %)."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"drop_apart": 1.3},  # less than a third
        {"drop_apart": -3.0},
        {"q_apart": 0.2},
        {"q_apart": NAN},
        {"told": 0.4},  # by chance
        {"drop_apart": NAN},  # nothing tells the concepts apart
    ],
)
def test_too_little_of_its_own_part_settles_nothing(changes):
    assert not counts_by_itself(LETTER | APART | changes)
    found = judged(**changes)
    assert found.kind == "cannot be told"
    assert found.size == 0.8


def test_what_cannot_be_told_says_what_its_own_part_does():
    sentence = judged(drop_apart=1.0, drop_apart_low=0.8, drop_apart_high=1.2).sentence
    assert (
        "; with only its own part of the region erased, it falls by 20 % (16 to 24 %); pictures"
        in sentence
    )


def test_nothing_of_an_own_part_that_is_clearly_told_is_no_use():
    found = judged(**NOTHING)
    assert found.kind == "not used"
    assert found.sentence == (
        "The network sees 'letter' but hardly uses it for 'ill': its region overlaps with that of "
        "'pore', and without its own part of it the score falls by 1 % (-3 to 5 %) on average over "
        "40 images; without all of it, 'pore' included, it falls by 80 % (72 to 88 %)."
    )


@pytest.mark.parametrize("changes", [{"told": 0.85}, {"present_apart": 0.4}, {"told": NAN}])
def test_what_is_not_clearly_told_may_be_missed(changes):
    assert judged(**NOTHING | changes).kind == "cannot be told"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "used"),
        ({"drop_apart": 0.1, "drop_apart_low": 0.0, "drop_apart_high": 0.2}, "not used"),
        ({"drop_apart": 0.1, "drop_apart_low": -2.0, "drop_apart_high": 2.2}, "cannot be told"),
        ({"drop_apart_low": -0.1}, "cannot be told"),
        ({"q_apart": 0.2}, "cannot be told"),
    ],
)
def test_limits_and_differences_go_by_own_parts_where_the_verdict_does(changes, kind):
    row = LETTER | APART | shared(pore=0.9) | {"told": 0.99} | changes
    rows = {each["concept"]: each for each in (row, PORE)}
    [verdict] = [
        v for v in verdicts(pd.DataFrame([*rows.values()]), "ill") if v.concept == "letter"
    ]
    whose = ownership(row, rows)
    assert verdict.kind == kind
    assert whose.own_part == verdict.own_part == (kind != "cannot be told")
    assert bool(whose.doubt) == (kind == "cannot be told")


def test_an_effect_that_is_not_of_what_looks_like_the_concept_cannot_be_told():
    [found] = verdicts(pd.DataFrame([LETTER | APART | NOTHING]), "ill")
    assert found.kind == "cannot be told"
    assert "where its region looks more like another concept; with only its own" in found.sentence
    [found] = verdicts(pd.DataFrame([LETTER | APART | {"drop_apart": 1.4}]), "ill")
    assert found.kind == "used"


def test_the_fills_of_a_region_move_with_its_part():
    own = own_part(LETTER | APART)
    assert own["fill_high"] - own["fill_low"] == pytest.approx(0.4)
    assert own["share"] == 0.6
