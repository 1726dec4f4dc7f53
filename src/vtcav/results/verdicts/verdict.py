"""Verdicts: what the measured effects of a class say about each concept, in a sentence.

A verdict is drawn from evidence in this order: whether the network sees the concept at all, how
far the class's score falls without it (over images and ways to fill), and whether regions of the
same size elsewhere do as much.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vtcav.results.effect_tables import of_pictures
from vtcav.results.verdicts.changes import (
    elsewhere_does,
    interval,
    scale_of,
    score_change,
    size_of,
    that_of,
    why_in_logits,
    why_not_seen,
)
from vtcav.results.verdicts.contenders import (
    MOST,
    beyond_chance,
    clearly_told,
    contender,
    counts_by_itself,
    hardly_by_itself,
    mostly_of_others,
    overlaps,
    own_part,
)
from vtcav.results.words import SIGNIFICANT, clear, count, listed

if TYPE_CHECKING:
    import pandas as pd


VerdictKind: TypeAlias = Literal["used", "not used", "not seen", "cannot be told"]

SMALL = 0.05
"""The share of the score below which a concept counts as not used, whatever its p-value."""
SMALL_LOGITS = 0.1
LARGE = 0.5
"""The share of the picture beyond which more than the concept goes with its region."""
FEWEST = 5
"""The images that a verdict takes at least."""
RARE = 0.1
"""The share of images that must show the concept."""
SELDOM = 0.2
"""The share of images that must show the concept for it to be not used."""
OFTEN = 0.5
"""The share of images below which a mean over all may hide an effect in few."""
NEARLY_ALL = 0.9
"""The share of images below which a sentence says in how many the concept was found."""
_PAIRS = "pairs of pictures (vtcav evaluate --pairs)"
_AS_MUCH = "regions of the same size elsewhere change the score about as much or more"
_ORDER: tuple[VerdictKind, ...] = ("used", "cannot be told", "not used", "not seen")


@dataclass(frozen=True)
class Verdict:
    """What can be said about one concept and a class.

    Attributes:
        concept: The concept.
        kind: "used", "not used" (seen, but the class hardly depends on it), "not seen" or "cannot
            be told".
        sentence: The verdict as a sentence.
        size: The share of the score that goes with the concept, in logits where there is no
            share; None where nothing was measured.
        in_logits: Whether the size is in logits.
        beyond: How much of it regions elsewhere do not explain; None where nothing was compared.
        own_part: Whether it is about the own parts of regions that others overlap with.
    """

    concept: str
    kind: VerdictKind
    sentence: str
    size: float | None
    in_logits: bool = False
    beyond: float | None = None
    own_part: bool = False

    @property
    def rank(self) -> tuple[int, bool, float]:
        """The place among others: what is used first, shares before logits, the largest first.

        What cannot be told is ordered by how much more it does than regions elsewhere: a large
        drop that any region causes is no reason to read it first.
        """
        told = self.kind != "cannot be told" or self.beyond is None
        size = self.size if told else self.beyond
        return _ORDER.index(self.kind), self.in_logits, -abs(size or 0.0)


def verdicts(
    effects: pd.DataFrame, class_name: str, among: Mapping[str, Collection[str]] | None = None
) -> list[Verdict]:
    """Return a verdict for each concept, those that are used most first.

    Args:
        effects: The table of `GlobalExplanation.class_effects`.
        class_name: The class.
        among: By concept, the others whose examples are among its negatives
            (`Provenance.among_negatives`), which need not be advised; None where it is not known.

    Example:
        >>> import pandas as pd
        >>> row = dict(concept="ruler", n=50, drop=3.9, drop_low=3.5, drop_high=4.2, fill_low=3.7,
        ...     fill_high=4.0, gap=5.0, share=0.78, share_low=0.7, share_high=0.84, present=0.96,
        ...     area=0.1, seen=0.99, placebo_mean=0.15, p_value=0.0001, q_value=0.0001)
        >>> verdicts(pd.DataFrame([row]), "animal")[0].sentence[:62]
        "Without 'ruler' the score of 'animal' falls by 78 % (70 to 84 "
    """
    effects = of_pictures(effects) if "layer" in effects else effects
    rows = {row["concept"]: row for row in effects.to_dict("records")}
    found = [
        _verdict(row, class_name, rows, (among or {}).get(row["concept"], ()))
        for row in rows.values()
    ]
    return sorted(found, key=lambda verdict: verdict.rank)


def _verdict(
    row: dict[Any, Any],
    class_name: str,
    rows: Mapping[Any, dict[Any, Any]],
    among: Collection[str],
) -> Verdict:
    concept, target = repr(clear(row["concept"])), repr(clear(class_name))
    if isnan(row["drop"]):
        return Verdict(row["concept"], "not seen", why_not_seen(row, concept, target), None)
    if row["present"] < RARE:
        return _too_few(row, concept, target)
    size, change, in_logits = size_of(row), score_change(row), isnan(row["share"])
    small = SMALL_LOGITS if in_logits else SMALL
    used = _is_used(row, small)
    doubt = _doubt(row, small) or ("" if used else _seldom_found(row, small))
    if used and not doubt:
        if other := contender(row, rows):
            if (settled := _by_its_own_part(row, other, small, target)) is not None:
                return settled
            doubt = _may_be(other, row, among)
        elif mostly_of_others(row):
            doubt = _of_another_part(row, among)
    effect = (
        f"Without {concept} the score of {target} {change} {_over(row)}; {elsewhere_does(row)}."
    )
    if used and row["present"] < NEARLY_ALL:
        effect += f" It is {_found(row)}."
    more = why_in_logits(row, target)
    if doubt:
        sentence = f"Whether {target} uses {concept} cannot be told, because {doubt}. {effect}"
        further = (row["drop"] - row["placebo_mean"]) / scale_of(row)
        further = None if isnan(further) else further
        return Verdict(row["concept"], "cannot be told", sentence + more, size, in_logits, further)
    if not used and row["present"] < SELDOM:
        return _too_few(row, concept, target)
    if not used:
        found = f" It is {_found(row)}." if row["present"] < NEARLY_ALL else ""
        sentence = (
            f"The network sees {concept} but hardly uses it for {target}: without it the score "
            f"{change} {_over(row)}; {elsewhere_does(row)}.{found}{more}"
        )
        return Verdict(row["concept"], "not used", sentence, size, in_logits)
    against = "" if row["drop"] > 0 else f" It counts against {target}."
    sentence = effect + against + _overlapping(row) + more
    return Verdict(row["concept"], "used", sentence, size, in_logits)


def _too_few(row: dict[Any, Any], concept: str, target: str) -> Verdict:
    """Return that a concept was found in too few images of a class."""
    sentence = (
        f"{concept} is {_found(row)} of {target}: too few to say whether its score depends on it. "
        "If more of them show it, give examples in which it looks, and is as large, as there."
    )
    return Verdict(row["concept"], "not seen", sentence, None)


def _is_used(row: dict[Any, Any], small: float) -> bool:
    """Return whether an effect is large enough, and further than chance and regions elsewhere."""
    beyond = abs(row["drop"] - row["placebo_mean"]) / scale_of(row)
    return min(abs(size_of(row)), beyond) >= small and beyond_chance(row)


def _by_its_own_part(
    row: dict[Any, Any], other: dict[Any, Any], small: float, target: str
) -> Verdict | None:
    """Return the verdict that the part of its region gives that is told to be the concept's own.

    Args:
        row: The concept's row.
        other: That of the concept that its effect may be that of.
        small: The size below which a concept counts as not used.
        target: The class, in quotes.

    Returns:
        None where the part settles nothing.
    """
    own, concept, name = own_part(row), repr(clear(row["concept"])), repr(clear(other["concept"]))
    kind = own_part_says(row, small)
    if kind is None:
        return None
    size, in_logits, more = size_of(own), isnan(own["share"]), why_in_logits(row, target)
    if kind == "used":
        sentence = (
            f"Without {concept} the score of {target} {score_change(own)} {_over(row)}; "
            f"{elsewhere_does(own)}. Its region overlaps with that of {name}: this is what its own "
            f"part of it does, and without all of it, {name} included, the score "
            f"{score_change(row)}."
        )
        against = "" if own["drop"] > 0 else f" It counts against {target}."
        sentence += against + more
        return Verdict(row["concept"], "used", sentence, size, in_logits, own_part=True)
    sentence = (
        f"The network sees {concept} but hardly uses it for {target}: its region overlaps with "
        f"that of {name}, and without its own part of it the score {score_change(own)} "
        f"{_over(row)}; without all of it, {name} included, it {score_change(row)}.{more}"
    )
    return Verdict(row["concept"], "not used", sentence, size, in_logits, own_part=True)


def own_part_says(row: dict[Any, Any], small: float) -> Literal["used", "not used"] | None:
    """Return what a concept's own part of its region says of it; None where it settles nothing.

    Args:
        row: The concept's row of `GlobalExplanation.class_effects`.
        small: The size below which a concept counts as not used.
    """
    own = own_part(row)
    if isnan(own["drop"]):
        return None
    if counts_by_itself(row) and _is_used(own, small) and not _doubt(own, small):
        return "used"
    low, high = interval(own)
    nothing = max(abs(low), abs(high)) / scale_of(own) <= 2 * small and abs(size_of(own)) < small
    return "not used" if nothing and hardly_by_itself(row) and clearly_told(row) else None


def _may_be(other: dict[Any, Any], row: dict[Any, Any], among: Collection[str]) -> str:
    """Return why the effect of a region may be that of another concept."""
    name, concept = (repr(clear(each["concept"])) for each in (other, row))
    there = other["concept"] in among
    return (
        f"most of its effect comes from images in which its region overlaps with that of {name}, "
        f"without which the score {score_change(other)}{_own_part_does(row)}; "
        f"{_did_not_suffice([name], concept) if there else _would_tell(name, concept)}"
    )


def _of_another_part(row: dict[Any, Any], among: Collection[str]) -> str:
    """Return that the effect is not that of what is told to be the concept."""
    concept, others = repr(clear(row["concept"])), overlaps(row)
    there = [repr(clear(name)) for name in others if name in among]
    all_there = bool(others) and len(there) == len(others)
    advice = (
        _did_not_suffice(there, concept) if all_there else _would_tell("what is there", concept)
    )
    return (
        "most of the effect comes from where its region looks more like another concept"
        f"{_own_part_does(row)}; look at what was erased: {advice}"
    )


def _would_tell(what: str, concept: str) -> str:
    """Return what to add to negatives. Pictures that are no examples may be among them already."""
    return (
        f"pictures of {what} without {concept} among the negatives of {concept} would tell, unless "
        f"they are there already; so would {_PAIRS}"
    )


def _did_not_suffice(names: list[str], concept: str) -> str:
    """Return what would tell where examples of other concepts, in quotes, are negatives already."""
    return (
        f"examples of {listed(names)} among the negatives of {concept} did not suffice; {_PAIRS} "
        "or a region marked by hand (vtcav explain --erase) would tell"
    )


def _own_part_does(row: dict[Any, Any]) -> str:
    """Return what the part that is told to be the concept's does; empty where it is not known."""
    if isnan(row.get("drop_apart", nan)):
        return ""
    return f"; with only its own part of the region erased, it {score_change(own_part(row))}"


def _overlapping(row: dict[Any, Any]) -> str:
    """Return with which concepts' regions that of a concept overlaps; empty for none."""
    names = [repr(clear(name)) for name, share in overlaps(row).items() if share > MOST]
    if not names:
        return ""
    part = "which may have a part in this"
    return f" Where it counts, its region overlaps with {that_of(names)}, {part}."


def _found(row: dict[Any, Any], only: str = "") -> str:
    """Return in how many images the concept was found, in words."""
    found, n = round(row["present"] * row["n"]), int(row["n"])
    if n == 1:
        return f"{'' if found else 'not '}found in the only image"
    return f"found in {only}{found or 'none'} of {count(n, 'image')}"


def _over(row: dict[Any, Any]) -> str:
    """Return over which images a change was averaged."""
    if (n := int(row["n"])) == 1:
        return "in the only image"
    groups = int(row.get("groups", 0))
    return f"on average over {n:,} images" + (f" in {count(groups, 'group')}" if groups else "")


def _seldom_found(row: dict[Any, Any], small: float) -> str:
    """Return why a small effect may be that of few regions; empty where it is not.

    Images in which nothing was found, and nothing erased, draw the mean to 0. Where there are many,
    the interval is taken relative to the share of the others.
    """
    largest = max(map(abs, interval(row))) / scale_of(row)
    if row["present"] >= OFTEN or largest <= 2 * small * row["present"]:
        return ""
    return (
        f"it is {_found(row, 'only ')}, and there it may count; look at what was erased: "
        "examples more like these images would tell"
    )


def _doubt(row: dict[Any, Any], small: float) -> str:
    """Return why an effect does not support a verdict; empty where it does."""
    scale = scale_of(row)
    low, high = interval(row)
    if row["n"] < FEWEST:
        return f"{count(int(row['n']), 'image')} cannot stand for a class; {FEWEST} or more would"
    if row["area"] > LARGE:
        area = f"{row['area'] * 100:.0f} %"
        return (
            f"its region covers {area} of the picture, and more than the concept goes with it; "
            "earlier layers, or pairs of pictures with and without it (vtcav evaluate --pairs), "
            "would tell"
        )
    widest = max(abs(row["fill_low"]), abs(row["fill_high"]))
    if row["fill_low"] < 0 < row["fill_high"] and widest > 2 * small * scale:
        return "the answer depends on how its region is filled in"
    largest = max(abs(low), abs(high)) / scale
    if beyond_chance(row):
        if abs(size_of(row)) >= small and low <= 0 <= high:
            if groups := int(row.get("groups", 0)):
                return f"over {count(groups, 'group')} its mean may be 0; more groups would tell"
            return "its effect may be 0, as the interval shows; more images would tell"
        beyond = abs(row["drop"] - row["placebo_mean"]) / scale
        return _AS_MUCH if abs(size_of(row)) >= 2 * small and beyond < small else ""
    if isnan(row["q_value"]):
        compared = "it was not compared with regions elsewhere; placebos would tell"
        return compared if abs(row["drop"]) >= small * scale or largest > 2 * small else ""
    if largest <= 2 * small:
        return ""
    beyond = abs(row["drop"] - row["placebo_mean"]) / scale
    if beyond <= 2 * small and largest <= 5 * small:  # it does what any region does
        return ""
    if row["q_value"] <= SIGNIFICANT or _elsewhere_does_as_much(row):
        return _AS_MUCH
    return (
        f"chance may explain its effect (q = {row['q_value']:.2g}), which the images do not rule "
        "out; more images would tell"
    )


def _elsewhere_does_as_much(row: dict[Any, Any]) -> bool:
    """Whether regions elsewhere change the score in the same direction, and no less."""
    drop, placebo = row["drop"], row["placebo_mean"]
    return bool(drop * placebo > 0 and abs(placebo) >= abs(drop))
