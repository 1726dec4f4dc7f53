"""Verdicts from measured effects: the kind, the sentence and the order."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from vtcav.results.effect_tables import TOGETHER
from vtcav.results.reading import class_verdicts, misclassified
from vtcav.results.verdicts import image_sentences, verdicts

NAN = float("nan")
USED = {
    "concept": "ruler",
    "n": 50,
    "drop": 3.9,
    "drop_low": 3.5,
    "drop_high": 4.2,
    "fill_low": 3.7,
    "fill_high": 4.0,
    "gap": 5.0,
    "share": 0.78,
    "present": 0.96,
    "area": 0.1,
    "seen": 0.99,
    "placebo_mean": 0.15,
    "q_value": 0.0001,
    "p_apart": NAN,
    "q_apart": NAN,
}
SMALL = {
    "drop": 0.05,
    "drop_low": -0.05,
    "drop_high": 0.15,
    "fill_low": 0.02,
    "fill_high": 0.08,
    "share": 0.01,
    "q_value": 0.4,
}


TINY = {"drop_low": -0.01, "drop_high": 0.05, "fill_low": 0.0, "fill_high": 0.05, "drop": 0.02}


def verdict(**changes):
    [found] = verdicts(pd.DataFrame([USED | changes]), "animal")
    return found


def test_what_is_used_says_how_much_and_beside_what():
    found = verdict()
    assert found.kind == "used"
    assert found.size == 0.78
    assert found.sentence == (
        "Without 'ruler' the score of 'animal' falls by 78 % (70 to 84 %) on average over 50 "
        "images; regions of the same size elsewhere: 3 %."
    )


def test_a_concept_against_the_class_is_used_too():
    changes = {"drop": -2.0, "drop_low": -2.5, "drop_high": -1.5, "share": -0.4}
    found = verdict(**changes, fill_low=-2.2, fill_high=-1.9)
    assert found.kind == "used"
    assert "rises by 40 % (30 to 50 %)" in found.sentence
    assert found.sentence.endswith("It counts against 'animal'.")


def test_what_cannot_be_told_is_ordered_by_what_regions_elsewhere_do_not_do():
    doubtful = {"q_value": 0.3, "drop_low": -0.5, "drop_high": 7.0}
    pebbles = USED | doubtful | {"concept": "pebbles", "share": 0.63, "drop": 3.15}
    stamp = USED | doubtful | {"concept": "stamp", "share": 0.39, "drop": 1.95}
    rows = [pebbles | {"placebo_mean": 2.6}, stamp | {"placebo_mean": 0.8}]
    found = verdicts(pd.DataFrame(rows), "gravel")
    assert [v.kind for v in found] == ["cannot be told"] * 2
    assert [v.concept for v in found] == ["stamp", "pebbles"]
    assert found[0].beyond == pytest.approx(0.23)


def test_without_a_gap_logits_are_told():
    found = verdict(share=NAN, gap=-1.0)
    assert "falls by 3.90 logits (3.50 to 4.20)" in found.sentence
    assert "does not score clearly higher than for the negatives" in found.sentence
    assert found.kind == "used"
    assert "clearly higher" not in verdict().sentence
    assert "elsewhere: 0.00 logits." in verdict(share=NAN, placebo_mean=-0.001).sentence


def test_what_is_seen_and_hardly_used():
    found = verdict(**SMALL)
    assert found.kind == "not used"
    assert "falls by 1 % (-1 to 3 %)" in found.sentence


def test_a_small_effect_of_a_concept_that_is_seldom_found_cannot_be_told():
    """Nothing is erased where nothing was found, which draws the mean to 0."""
    found = verdict(**SMALL, present=0.12)
    assert found.kind == "cannot be told"
    assert "because it is found in only 6 of 50 images, and there it may count" in found.sentence
    # 0.15 of 5 logits is 3 % in all images, and at most 10 % in 0.3 of them
    assert verdict(**SMALL, present=0.29).kind == "cannot be told"
    assert verdict(**SMALL, present=0.31).kind == "not used"


def test_what_is_used_and_seldom_found_says_in_how_many_images():
    assert "It is found in 40 of 50 images." in verdict(present=0.8).sentence
    assert "It is found" not in verdict(present=0.9).sentence
    assert "It is found in 20 of 50 images." in verdict(**SMALL | TINY, present=0.4).sentence
    found = verdict(present=0.4)
    assert found.kind == "used"
    assert found.sentence.endswith("elsewhere: 3 %. It is found in 20 of 50 images.")


def test_what_does_no_more_than_any_region_is_hardly_used():
    rises = {"drop": -0.6, "drop_low": -1.1, "drop_high": 0.0, "share": -0.12}
    rises |= {"fill_low": -0.7, "fill_high": -0.5, "placebo_mean": -0.5, "q_value": 0.6}
    found = verdict(**rises)
    assert found.kind == "not used"
    assert "rises by 12 % (0 to 22 %)" in found.sentence
    assert found.sentence.endswith("regions of the same size elsewhere: 10 %.")
    assert verdict(**rises | {"placebo_mean": 0.5}).kind == "cannot be told"
    assert verdict(**rises | {"drop_low": -1.9}).kind == "cannot be told"


def test_regions_elsewhere_that_do_more_are_no_sign_of_use():
    found = verdict(placebo_mean=4.5)
    assert found.kind == "cannot be told"  # never nothing over a large number
    assert (
        "regions of the same size elsewhere change the score about as much or more"
        in found.sentence
    )
    small = {"drop": 0.3, "drop_low": 0.1, "drop_high": 0.45, "share": 0.06, "placebo_mean": 0.7}
    assert verdict(**SMALL | small | {"q_value": 0.001}).kind == "not used"
    assert verdict(**SMALL | small | {"q_value": NAN}).kind == "cannot be told"


@pytest.mark.parametrize(
    "changes", [{"drop_low": -0.1}, {"fill_low": 0.0}, {"drop": -3.9, "share": -0.78}]
)
def test_an_effect_that_may_be_zero_is_not_used(changes):
    found = verdict(**changes)
    assert found.kind == "cannot be told"
    assert "its effect may be 0" in found.sentence


def test_zero_has_no_sign():
    found = verdict(**SMALL | {"drop": -0.001, "drop_low": -0.002, "drop_high": 0.001})
    assert "-0" not in found.sentence


def test_what_does_not_change_neither_falls_nor_rises():
    nothing = {"drop": -0.001, "drop_low": -0.002, "drop_high": 0.001, "fill_low": -0.001}
    nothing |= {"fill_high": 0.001, "placebo_mean": 0.001, "q_value": 0.6}
    logits = verdict(**nothing, share=NAN, gap=-1.0)
    assert "the score does not change (0.00 logits) on average over 50 images" in logits.sentence
    assert "does not change (0 %) on average" in verdict(**nothing, share=-0.0002).sentence
    between = verdict(**nothing | {"drop_high": 0.11}, share=-0.0002)
    assert "does not change (0 %, -2 to 0 %) on average" in between.sentence
    rising = {"drop": 0.001, "drop_low": -0.11, "drop_high": 0.002}
    assert "change (0 %, 0 to +2 %)" in verdict(**nothing | rising, share=0.0002).sentence
    for found in (logits, between):
        assert "-0.00" not in found.sentence
        assert "by 0" not in found.sentence
    one = USED | nothing | {"share": NAN, "class_name": "animal", "p_value": 0.5}
    one |= {"logit": 1.0, "reference": 2.0}
    [sentence] = image_sentences(pd.DataFrame([one]))
    assert sentence.startswith(
        "Without 'ruler' the score of 'animal' does not change (0.00 logits, whatever the fill) "
        "in this image"
    )
    assert "Chance may explain" not in sentence


def test_a_single_image_is_told_in_the_singular():
    found = verdict(present=0.0, n=1, **SMALL)
    assert "'ruler' is not found in the only image of 'animal': too few" in found.sentence
    assert "falls by 78 % (70 to 84 %) in the only image;" in verdict(n=1, present=1.0).sentence


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"area": 0.7}, "its region covers 70 % of the picture"),
        ({"fill_low": -1.0}, "the answer depends on how its region is filled in"),
        ({"drop_low": -2.0, "q_value": 0.2}, "chance may explain its effect (q = 0.2)"),
        ({"q_value": NAN, "placebo_mean": NAN}, "it was not compared with regions elsewhere"),
    ],
)
def test_what_cannot_be_told_says_why(changes, because):
    found = verdict(**changes)
    assert found.kind == "cannot be told"
    assert because in found.sentence
    assert "Without 'ruler'" in found.sentence  # never nothing over a large number


def test_what_is_not_seen_is_no_statement_about_its_use():
    nothing = dict.fromkeys(("drop", "drop_low", "drop_high", "fill_low", "fill_high"), NAN)
    found = verdict(**nothing, share=NAN, seen=0.57, q_value=NAN, placebo_mean=NAN)
    assert (found.kind, found.size) == ("not seen", None)
    assert "is not seen at these layers (held-out AUC 0.57, below 0.8)" in found.sentence
    assert "cannot be said" in found.sentence


def test_what_hardly_any_image_shows_is_not_judged():
    assert "is found in 2 of 50 images" in verdict(present=0.04).sentence
    found = verdict(present=0.0, **SMALL)
    assert found.kind == "not seen"
    assert "is found in none of 50 images of 'animal'" in found.sentence


def test_what_is_used_comes_first_and_the_largest_of_it():
    rows = [
        USED | SMALL | {"concept": "grass"},
        USED | {"concept": "a", "share": 0.3, "drop": 1.5},
        USED | {"concept": "b"},
        USED | {"concept": "c", "area": 0.9},
    ]
    found = verdicts(pd.DataFrame(rows), "animal")
    assert [v.concept for v in found] == ["b", "a", "c", "grass"]


def test_shares_come_before_logits():
    rows = [
        USED | {"concept": "a", "share": NAN, "drop": 3.9},  # 3.9 logits, and 78 %
        USED | {"concept": "b"},
        USED | {"concept": "c", "drop": NAN},
    ]
    found = verdicts(pd.DataFrame(rows), "animal")
    assert [(v.concept, v.kind, v.in_logits) for v in found] == [
        ("b", "used", False),
        ("a", "used", True),
        ("c", "not seen", False),
    ]


def test_names_are_only_text():
    assert "\n" not in verdict(concept="x\ny").sentence


def overlapping(**shares):
    return {"same_region": json.dumps(shares)}


def test_what_is_found_in_few_images_is_not_cleared():
    found = verdict(**SMALL | TINY, present=0.14)
    assert found.kind == "not seen"
    assert found.sentence == (
        "'ruler' is found in 7 of 50 images of 'animal': too few to say whether its score depends "
        "on it. If more of them show it, give examples in which it looks, and is as large, as "
        "there."
    )
    assert verdict(**SMALL | TINY, present=0.22).kind == "not used"


def test_a_concept_whose_region_overlaps_with_another_says_so():
    end = "its region overlaps with those of 'pore' and 'square', which may have a part in this."
    assert verdict(**overlapping(pore=0.6, square=0.9, hair=0.5)).sentence.endswith(end)
    assert "overlaps" not in verdict(**SMALL, **overlapping(square=0.9)).sentence


def test_most_of_an_effect_is_that_of_no_more_than_regions_elsewhere():
    """9 % without the concept, and 5 % without any region, is 4 % for the concept."""
    small = {"drop": 0.45, "drop_low": 0.35, "drop_high": 0.55, "fill_low": 0.4, "fill_high": 0.5}
    found = verdict(**small, share=0.09, placebo_mean=0.25)
    assert found.kind == "not used"
    assert "falls by 9 % (7 to 11 %) on average over 50 images; regions of" in found.sentence
    assert verdict(**small, share=0.09, placebo_mean=0.15).kind == "used"
    found = verdict(placebo_mean=3.7)
    assert found.kind == "cannot be told"
    assert "elsewhere change the score about as much or more" in found.sentence


def test_regions_elsewhere_that_do_more_come_before_chance():
    """More images would not help: what the fill changes is no matter of chance."""
    changes = {"drop_low": -2.0, "q_value": 0.2}
    found = verdict(**changes, placebo_mean=5.0)
    assert "because regions of the same size elsewhere change the score about as" in found.sentence
    assert "because chance may explain" in verdict(**changes, placebo_mean=-5.0).sentence


def test_a_verdict_takes_five_images():
    assert verdict(n=5).kind == "used"
    for n, what in ((4, "4 images cannot"), (1, "1 image cannot")):
        found = verdict(n=n)
        assert found.kind == "cannot be told"
        assert f"because {what} stand for a class; 5 or more would." in found.sentence


def test_many_images_of_another_predicted_class_are_said_first():
    assert misclassified("a", {"a": 31, "b": 9}) == misclassified("a", {}) == ""
    text = misclassified("a", {"b": 10, "c": 30})
    assert text.startswith(
        "The network predicts 40 of the 40 images of 'a' as another class (30 as 'c', 10 as 'b')."
    )
    many = misclassified("a", {"b": 5, "c": 5, "d": 1, "e": 1, "a": 3})
    assert "(5 as 'b', 5 as 'c', 1 as 'd')" in many
    assert "check the order of the class names, the preprocessing" in text


def test_regions_elsewhere_that_do_the_opposite_are_said_with_a_verb():
    """A percentage with a minus sign reads as a fall, as under the pictures."""
    assert verdict(placebo_mean=-1.0).sentence.endswith(
        "; without regions of the same size elsewhere it rises by 20 %."
    )
    changes = {"drop": -2.0, "drop_low": -2.5, "drop_high": -1.5, "share": NAN}
    changes |= {"fill_low": -2.2, "fill_high": -1.9}
    assert "elsewhere it falls by 1.50 logits." in verdict(**changes, placebo_mean=1.5).sentence
    assert "elsewhere: 1.50 logits." in verdict(**changes, placebo_mean=-1.5).sentence
    nothing = SMALL | {"drop": 0.001, "placebo_mean": 0.1}
    assert verdict(**nothing).sentence.endswith("elsewhere it falls by 2 %.")
    assert "elsewhere: not tried" in verdict(placebo_mean=NAN).sentence


def test_few_groups_ask_for_groups_and_not_for_images():
    changes = {"groups": 3, "drop_low": -15.0, "drop_high": 25.0}
    found = verdict(**changes)
    assert found.kind == "cannot be told"
    assert "because over 3 groups its mean may be 0; more groups would tell." in found.sentence
    assert "on average over 50 images in 3 groups" in found.sentence


class Grouped:
    """A class of three hospitals, with the effects of one concept in each."""

    def __init__(self, whole, parts):
        self.whole, self.parts, self.asked = whole, parts, []
        self.provenance = SimpleNamespace(among_negatives={})

    def class_effects(self, confidence=0.95, *, by_group=False):
        whole = self.whole if isinstance(self.whole, list) else [self.whole]
        rows = self.parts if by_group else whole
        self.asked += [confidence] * by_group
        same = USED | {"layer": TOGETHER}
        return pd.DataFrame([same | {"p_value": row["q_value"]} | row for row in rows])


def test_a_group_that_uses_a_concept_is_named_where_all_together_do_not_tell():
    """A mark that one of three hospitals has: the mean over hospitals may be 0."""
    nothing = SMALL | {"q_value": 0.8, "n": 20, "groups": 0}
    one = {"q_value": 0.001, "n": 20, "groups": 0, "group": "B"}
    whole = {"q_value": 0.001, "groups": 3, "drop_low": -5.0, "drop_high": 9.0}
    parts = [nothing | {"group": "A"}, one, nothing | {"group": "C"}]
    explained = Grouped(whole, parts)
    [found] = class_verdicts(explained, "animal")
    assert found.kind == "used"
    assert found.sentence.startswith(
        "In the group 'B', without 'ruler' the score of 'animal' falls by 78 % "
    )
    assert "over 20 images" in found.sentence
    assert found.sentence.endswith(" Over all groups it cannot be told.")
    assert explained.asked == [pytest.approx(1 - 0.05 / 3)]
    two = [one | {"group": "A", "share": 0.5, "drop": 2.5, "drop_low": 2.0, "drop_high": 3.0}, one]
    [found] = class_verdicts(Grouped(whole, two), "animal")
    assert found.sentence.startswith("In 2 of 2 groups, most in 'B', without 'ruler'")
    hardly = SMALL | {"q_value": 0.001, "groups": 3}
    [found] = class_verdicts(Grouped(hardly, parts), "animal")
    assert found.sentence.endswith(" Over all groups it hardly counts.")


@pytest.mark.parametrize(
    "other",
    [
        {"n": 4},  # images
        {"drop_low": -0.1},
        {"q_value": 0.3, "p_value": 0.3},
        {"area": 0.6},
        {"present": 0.05},
        {"placebo_mean": 3.6},  # which regions elsewhere do in this group
    ],
)
def test_a_group_that_does_not_tell_changes_no_verdict(other):
    whole = {"q_value": 0.3, "groups": 3, "drop_low": -5.0, "drop_high": 9.0}
    one = {"q_value": 0.001, "n": 20, "groups": 0, "group": "B"} | other
    [found] = class_verdicts(Grouped(whole, [one]), "animal")
    assert found.kind == "cannot be told"
    assert "group 'B'" not in found.sentence


def test_concepts_of_a_group_are_judged_together():
    """A grid that no image of the group shows overlaps with the lesion that it uses."""
    whole = {"q_value": 0.001, "groups": 2, "drop_low": -5.0, "drop_high": 9.0}
    own = {"q_value": 0.001, "n": 20, "groups": 0, "group": "A"}
    grid = {"concept": "grid", "share": 0.7, "drop": 3.5}
    lesion = {"concept": "lesion", "same_region": ""}
    same = overlapping(lesion=0.9)
    parts = [own | grid | same, own | lesion, own | grid | same | {"n": 4, "group": "B"}]
    explained = Grouped([whole | grid, whole | lesion], parts)
    found = {verdict.concept: verdict.kind for verdict in class_verdicts(explained, "ill")}
    assert found == {"lesion": "used", "grid": "cannot be told"}


def test_a_single_image_says_with_what_a_region_overlaps():
    one = USED | {"class_name": "a", "p_value": 0.05, "logit": 6.0, "reference": 1.0}
    rows = [
        one | {"same_region": '["pore", "hair", "dust"]'},
        one | {"concept": "pore", "drop": 2.0, "same_region": ""},
        one | {"concept": "hair", "drop": 1.9, "same_region": ""},
        one | {"concept": "dust", "drop": -3.0, "same_region": ""},
    ]
    sentences = {text.split("'")[1]: text for text in image_sentences(pd.DataFrame(rows))}
    assert sentences["ruler"].endswith(" Its region overlaps with that of 'pore'.")
    assert "overlaps" not in sentences["pore"]
    own = "Its region overlaps with that of 'pore'; with only its own part of it erased, the score "
    for drop, said in ((0.5, "falls by 10 %."), (-1.0, "rises by 20 %."), (0.0, "does not change")):
        rows[0]["drop_apart"] = drop
        # less than a third of its effect: the others are read first
        last = image_sentences(pd.DataFrame(rows))[-1]
        assert last.startswith("Without 'ruler'")
        assert own + said in last


def test_in_a_single_image_no_region_elsewhere_is_as_large_as_most_of_it():
    one = USED | {"class_name": "a", "p_value": 0.05, "logit": 6.0, "reference": 1.0, "area": 0.9}
    [sentence] = image_sentences(pd.DataFrame([one]))
    assert "; no region elsewhere is as large. The region covers 90 % of the pict" in sentence
