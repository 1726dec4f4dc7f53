"""Limits on how much a concept may count: broken, kept, and what cannot be told."""

from dataclasses import dataclass, field
from xml.etree import ElementTree

import pandas as pd
import pytest

from vtcav.errors import VtcavError
from vtcav.results.limits import ConceptLimit, outcomes
from vtcav.study.junit import junit_xml

NAN = float("nan")
SUMMARY = {
    "layer": "a",
    "concept": "tag",
    "mean": 0.30,
    "ci_low": 0.25,
    "ci_high": 0.35,
    "cav_low": 0.2,
    "cav_high": 0.32,
    "separated": True,
    "seen": 0.95,
    "raised": 1.0,
    "note": "",
}
EFFECTS = {
    "layer": "layers together",
    "concept": "tag",
    "drop": 2.5,
    "drop_low": 2.2,
    "drop_high": 2.8,
    "placebo_mean": 0.2,
    "share": 0.5,
    "share_low": 0.45,
    "share_high": 0.55,
    "fill_low": 2.0,
    "fill_high": 2.6,
    "gap": 5.0,
    "present": 1.0,
    "area": 0.1,
    "n": 20,
    "p_value": 0.001,
    "q_value": 0.001,
    "note": "",
}


@dataclass
class Explained:
    """The explanation of a class with one concept."""

    numbers: dict = field(default_factory=dict)
    erased: dict = field(default_factory=dict)
    class_name: str = "zebra"
    best_layers: dict = field(default_factory=lambda: {"tag": "a"})
    parts: dict = field(default_factory=dict)  # by group: what differs from both tables
    asked: list = field(default_factory=list)  # confidences
    predicted: dict = None  # all as this class
    beside: list = field(default_factory=list)  # the effects of other concepts

    def __post_init__(self):
        self.predicted = self.predicted or {self.class_name: 20}

    @property
    def groups(self):
        return {f"{name}.png": name for name in self.parts}

    def summary(self, confidence=0.95):
        other = SUMMARY | {"layer": "b", "mean": 9.0, "ci_low": 8.0, "ci_high": 10.0}
        return pd.DataFrame([SUMMARY | self.numbers, other])

    def by_group(self, confidence=0.95):
        self.asked.append(confidence)
        about = {"layer": "a", "concept": "tag", "n": 20, "mean": 0.3}
        about |= {"ci_low": 0.25, "ci_high": 0.35}
        return pd.DataFrame([{"group": name} | about | part for name, part in self.parts.items()])

    def class_effects(self, confidence=0.95, *, by_group=False):
        if not by_group:
            return pd.DataFrame([EFFECTS | self.erased, *self.beside])
        return pd.DataFrame([{"group": name} | EFFECTS | part for name, part in self.parts.items()])


def outcome(limit, trust=None, **given):
    [found] = outcomes({"tag": limit}, Explained(**given), trust or {})
    return found


@pytest.mark.parametrize(
    ("most", "state"),
    [(0.19, "broken"), (0.2, "cannot tell"), (0.3, "cannot tell"), (0.35, "kept"), (1, "kept")],
)
def test_the_widest_interval_of_an_attribution_is_compared(most, state):
    found = outcome(ConceptLimit(max_attribution=most))
    assert (found.low, found.high, found.layer) == (0.2, 0.35, "a")
    assert found.state == state
    assert found.failed == (state == "broken")


@pytest.mark.parametrize(
    ("most", "state"), [(0.39, "broken"), (0.5, "cannot tell"), (0.55, "kept")]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_share_counts_in_both_directions_and_over_all_fills(most, state, sign):
    erased = {"share": sign * 0.5, "share_low": min(sign * 0.45, sign * 0.55)}
    erased |= {"share_high": max(sign * 0.45, sign * 0.55)}
    erased |= {"fill_low": min(sign * 2.0, sign * 2.6), "fill_high": max(sign * 2.0, sign * 2.6)}
    found = outcome(ConceptLimit(max_share=most), erased=erased)
    assert (found.low, found.high) == pytest.approx((0.4, 0.55))
    assert found.state == state


def test_what_would_tell_is_more_of_what_the_interval_is_over():
    none = "; no group of at least 5 images is plainly above it"
    for parts, what, more in (
        ({}, "images", ""),
        ({"x": {"n": 4}}, "groups", ""),
        ({"x": {}}, "groups", none),
    ):
        for limit in (ConceptLimit(max_share=0.5), ConceptLimit(max_attribution=0.3)):
            found = outcome(limit, parts=parts)
            assert found.reason.endswith(f"both sides of it: more {what} would tell{more}")


FEW = {"share_low": -0.4, "share_high": 1.0}  # over three groups an interval may hold anything
HIGH = {"share": 0.8, "share_low": 0.7, "share_high": 0.9, "fill_low": 3.8, "fill_high": 4.2}
NONE = {"share": 0.0, "share_low": 0.0, "share_high": 0.01, "fill_low": 0.0, "fill_high": 0.0}


def test_one_group_far_above_breaks_a_limit_and_is_named():
    parts = {"A": NONE, "B": HIGH, "C": NONE}
    found = outcome(ConceptLimit(max_share=0.6), erased=FEW, parts=parts)
    assert (found.state, found.failed, found.groups) == ("broken", True, 3)
    assert [one.group for one in found.above] == ["B"]
    assert found.sentence == (
        "what erasing 'tag' changes of the score of 'zebra' breaks the limit of 60 % in the group "
        "'B' (20 images): 80 % (70 % to 90 %); over all images: 50 % (0 % to 100 %)"
    )
    assert found.sentence in junit_xml([found]).replace("&apos;", "'")
    # above it, but not plainly; the limit is of the mean alone; or too few images
    low = outcome(ConceptLimit(max_share=0.75), erased=FEW, parts=parts)
    assert (low.state, low.above) == ("cannot tell", ())
    mean = outcome(ConceptLimit(max_share=0.6, each_group=False), erased=FEW, parts=parts)
    assert (mean.state, mean.groups) == ("cannot tell", 0)
    few = outcome(ConceptLimit(max_share=0.6), erased=FEW, parts=parts | {"B": HIGH | {"n": 4}})
    assert (few.state, few.groups) == ("cannot tell", 2)


def test_a_group_breaks_a_limit_that_the_mean_keeps_to_and_where_there_is_no_interval():
    parts = {"A": NONE, "B": HIGH, "C": HIGH | {"share": 0.9, "n": 7}}
    found = outcome(ConceptLimit(max_share=0.6), parts=parts)
    assert found.state == "broken"
    assert found.sentence.endswith(
        "in 2 of 3 groups, most in 'C' (7 images): 90 % (70 % to 90 %); over all images: 50 % "
        "(40 % to 55 %), which keeps to it"
    )
    single = {"share_low": NAN, "share_high": NAN}
    found = outcome(ConceptLimit(max_share=0.6), erased=single, parts={"B": HIGH})
    assert (found.state, found.groups) == ("broken", 1)
    assert found.sentence.endswith("; over all images: 50 %")
    rare = {"present": 0.05}
    found = outcome(ConceptLimit(max_share=0.6), erased=rare, parts={"A": NONE | rare, "B": HIGH})
    assert (found.state, found.sentence[-17:]) == ("broken", "80 % (70 % to 90 %)"[-17:])


def test_the_more_groups_the_surer_each_has_to_be():
    limit = ConceptLimit(max_share=0.6)
    parts = {name: {} for name in "ACDE"} | {"B": HIGH | {"p_value": 0.012}, "F": {"n": 4}}
    explained = Explained(erased=FEW | {"p_value": 0.06}, parts=parts)
    [found] = outcomes({"tag": limit}, explained, {})
    assert explained.asked[-1] == pytest.approx(0.99)  # five groups of at least five images
    assert found.state == "cannot tell"  # 0.06 for five groups: chance may explain it
    assert found.reason.endswith("would tell; no group of at least 5 images is plainly above it")
    assert outcome(limit, erased=FEW | {"p_value": 0.04}, parts=parts).state == "broken"
    parts["B"]["p_value"] = NAN  # none of its images was compared with regions elsewhere
    assert outcome(limit, erased=FEW | {"p_value": 0.06}, parts=parts).state == "cannot tell"
    assert outcome(limit, erased=FEW | {"p_value": 0.04}, parts=parts).state == "broken"
    parts["B"]["p_value"] = 0.012
    parts["B"]["placebo_mean"] = 2.3  # regions elsewhere do as much in it
    assert outcome(limit, erased=FEW | {"p_value": 0.04}, parts=parts).state == "cannot tell"
    parts["B"]["p_value"] = 0.009
    assert outcome(limit, erased=FEW | {"p_value": 0.06}, parts=parts).state == "broken"


def test_the_attribution_of_a_group_varies_with_the_examples_as_that_of_all():
    wide = {"numbers": {"ci_low": -0.5, "ci_high": 1.0, "cav_low": 0.15, "cav_high": 0.36}}
    parts = {"A": {}, "B": {"mean": 0.8, "ci_low": 0.7, "ci_high": 0.9}}
    found = outcome(ConceptLimit(max_attribution=0.39), **wide, parts=parts)
    assert found.state == "broken"
    assert (found.above[0].low, found.above[0].high) == pytest.approx((0.4, 0.96))
    assert found.sentence.endswith(
        "0.800 (0.400 to 0.960) at layer 'a'; over all images: 0.300 (-0.500 to 1.000)"
    )
    assert outcome(ConceptLimit(max_attribution=0.4), **wide, parts=parts).state == "cannot tell"
    unseen = {"numbers": wide["numbers"] | {"seen": 0.7}}
    found = outcome(ConceptLimit(max_attribution=0.1), **unseen, parts=parts)
    assert (found.state, found.reason) == ("cannot tell", "the layer does not see the concept")


def test_a_concept_that_the_images_do_not_show_tells_nothing():
    erased = {"present": 0.05, "n": 20, "share": 0.0, "share_low": 0.0, "share_high": 0.0}
    found = outcome(ConceptLimit(max_share=0.5), erased=erased | {"fill_low": 0, "fill_high": 0})
    assert (found.state, found.failed) == ("cannot tell", False)
    assert found.reason == "the concept is found in 1 of 20 images: give images that show it"


@pytest.mark.parametrize(("p", "state"), [(0.04, "broken"), (0.2, "cannot tell"), (NAN, "broken")])
def test_what_any_region_of_its_size_changes_breaks_no_limit(p, state):
    found = outcome(ConceptLimit(max_share=0.1), erased={"p_value": p})
    assert found.state == state
    assert ("chance may explain it" in found.reason) == (state == "cannot tell")
    assert outcome(ConceptLimit(max_share=0.6), erased={"p_value": p}).state == "kept"


def test_a_share_around_zero_breaks_no_limit():
    erased = {"share": 0.01, "share_low": -0.1, "share_high": 0.1, "fill_low": 0, "fill_high": 0.1}
    assert outcome(ConceptLimit(max_share=0.05), erased=erased).state == "cannot tell"
    assert outcome(ConceptLimit(max_share=0.1), erased=erased).state == "kept"


SHARED = {"same_region": '{"logo": 0.9}', "told": 0.8, "present_apart": 1.0, "q_apart": 0.001}
APART = SHARED | {"p_apart": 0.001, "drop_apart_low": 0.8, "drop_apart_high": 1.2}
LOGO = EFFECTS | {"concept": "logo", "drop": 2.6, "same_region": ""}


def test_an_effect_that_may_be_that_of_another_concept_breaks_no_limit():
    """The verdict is that it cannot be told, and a limit says no more."""
    for parts in ({}, {"A": SHARED, "B": SHARED}):
        beside = {"erased": SHARED, "beside": [LOGO], "parts": parts}
        found = outcome(ConceptLimit(max_share=0.1), **beside)
        assert found.state == "cannot tell"
        assert found.reason.startswith(
            "its region overlaps with that of 'logo', which accounts for its effect"
        )
        assert outcome(ConceptLimit(max_share=0.6), **beside).state == "kept"


@pytest.mark.parametrize(("most", "state"), [(0.05, "broken"), (0.2, "cannot tell"), (0.3, "kept")])
def test_an_own_part_is_what_a_limit_is_about_where_the_verdict_is(most, state):
    """Without all of the region the score falls by 50 %, without the concept's part by 20 %."""
    erased = APART | {"drop_apart": 1.0}
    for parts in ({}, {"A": erased, "B": erased}):
        found = outcome(ConceptLimit(max_share=most), erased=erased, beside=[LOGO], parts=parts)
        assert found.state == state
        assert found.found == pytest.approx(0.2)


def test_an_effect_of_what_looks_like_another_concept_or_of_most_of_a_picture_breaks_no_limit():
    found = outcome(ConceptLimit(max_share=0.1), erased={"drop_apart": 0.2})
    assert found.reason == "its region mostly counts where it looks more like another concept"
    found = outcome(ConceptLimit(max_share=0.1), erased={"area": 0.6})
    assert found.reason == "its region covers 60 % of the picture"


DOUBTS = {
    "negatives": {"numbers": {"separated": False}},
    "does not see": {"numbers": {"seen": 0.7}},
    "no image raises the class": {"numbers": {"raised": 0.0, "mean": 0.0}},
    "one image": {"numbers": {"ci_low": NAN, "note": "one image"}},
    "no interval": {"numbers": {"mean": NAN}},
    "no layer is known": {"best_layers": {}},
}


@pytest.mark.parametrize("reason", DOUBTS)
@pytest.mark.parametrize("strict", [False, True])
def test_what_cannot_be_told_is_a_failure_only_if_strict(reason, strict):
    found = outcome(ConceptLimit(max_attribution=0.01, strict=strict), **DOUBTS[reason])
    assert found.state == "cannot tell"
    assert found.failed == strict
    assert reason in found.reason
    assert found.sentence.startswith("cannot tell whether the attribution of 'tag' to 'zebra'")


def test_concepts_that_must_not_be_used_and_shares_without_a_number():
    found = outcome(ConceptLimit(max_attribution=9), {("a", "tag"): "do not use"})
    assert (found.state, found.reason) == ("cannot tell", "do not use")
    found = outcome(ConceptLimit(max_share=9), erased={"share": NAN, "note": "not seen"})
    assert (found.state, found.reason) == ("cannot tell", "not seen")


def test_images_that_do_not_raise_the_class_do_not_hide_the_others():
    few = {
        "numbers": {"raised": 0.25}
    }  # 0.2 to 0.35 over all images: the others have four times that
    assert outcome(ConceptLimit(max_attribution=0.35), **few).state == "cannot tell"
    assert outcome(ConceptLimit(max_attribution=1.4), **few).state == "kept"
    assert outcome(ConceptLimit(max_attribution=0.19), **few).state == "broken"


def test_sentences():
    assert outcome(ConceptLimit(max_attribution=0.05)).sentence == (
        "the attribution of 'tag' to 'zebra' breaks the limit of 0.05: 0.300 (0.200 to 0.350) at "
        "layer 'a'"
    )
    assert outcome(ConceptLimit(max_share=0.6)).sentence == (
        "what erasing 'tag' changes of the score of 'zebra' keeps to the limit of 60 %: 50 % "
        "(40 % to 55 %)"
    )


@pytest.mark.parametrize("wrong", [{"max_share": -1}, {"max_attribution": "x"}, {"classes": []}])
def test_limits_are_checked(wrong):
    with pytest.raises(VtcavError, match="expected"):
        ConceptLimit(**wrong)


def test_junit():
    limits = [ConceptLimit(max_attribution=most) for most in (0.05, 0.3, 1)]
    limits.append(ConceptLimit(max_attribution=0.3, strict=True))
    names = Explained(class_name='<z> & "b"\x00')
    found = [outcomes({"tag": limit}, names, {})[0] for limit in limits]
    [suite] = ElementTree.fromstring(junit_xml(found))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "2", "1")
    kinds = [[part.tag for part in case] for case in suite]
    assert kinds == [["failure"], ["skipped"], [], ["failure"]]
    assert suite[0].get("classname") == '<z> & "b"\\x00'
    assert "breaks the limit" in suite[0][0].get("message")


def test_a_class_that_the_network_does_not_recognise_keeps_no_limit():
    """Nothing is used of a class that is predicted as another: a gate may not go green there."""
    limit = ConceptLimit(max_share=0.8)
    assert outcome(limit, predicted={"zebra": 11, "horse": 9}).state == "kept"
    found = outcome(limit, predicted={"zebra": 9, "horse": 11})
    assert (found.state, found.failed) == ("cannot tell", False)
    assert "the network predicts 11 of its 20 images as another class" in found.sentence
    assert outcome(ConceptLimit(max_share=0.8, strict=True), predicted={"horse": 20}).failed
    assert outcome(ConceptLimit(max_share=0.1), predicted={"horse": 20}).state == "broken"
