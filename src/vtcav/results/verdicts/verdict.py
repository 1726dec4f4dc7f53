"""Verdicts: what the measured effects of a class say about each concept, in a sentence.

A verdict is drawn from evidence in this order: whether the network sees the concept at all, how
far the class's score falls without it (over images and ways to fill), and whether regions of the
same size elsewhere do as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vtcav.method.erasure.joined_map import below_seen
from vtcav.results.effect_tables import of_pictures
from vtcav.results.rows import names_of
from vtcav.results.verdicts.contenders import HALF, MOST, beyond_chance, contender, overlaps
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
OFTEN = 0.5
"""The share of images below which a mean over all may hide an effect in few."""
NEARLY_ALL = 0.9
"""The share of images below which a sentence says in how many the concept was found."""
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
    """

    concept: str
    kind: VerdictKind
    sentence: str
    size: float | None
    in_logits: bool = False
    beyond: float | None = None

    @property
    def rank(self) -> tuple[int, bool, float]:
        """The place among others: what is used first, shares before logits, the largest first.

        What cannot be told is ordered by how much more it does than regions elsewhere: a large
        drop that any region causes is no reason to read it first.
        """
        told = self.kind != "cannot be told" or self.beyond is None
        size = self.size if told else self.beyond
        return _ORDER.index(self.kind), self.in_logits, -abs(size or 0.0)


def verdicts(effects: pd.DataFrame, class_name: str) -> list[Verdict]:
    """Return a verdict for each concept, those that are used most first.

    Args:
        effects: The table of `GlobalExplanation.class_effects`.
        class_name: The class.

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
    found = [_verdict(row, class_name, rows) for row in rows.values()]
    return sorted(found, key=lambda verdict: verdict.rank)


def in_turn(effects: pd.DataFrame, concepts: tuple[str, str], class_name: str) -> str:
    """Return what erasing each of two concepts in turn does; empty where it was not measured.

    Args:
        effects: The table of `GlobalExplanation.class_effects`.
        concepts: The two concepts.
        class_name: The class.
    """
    rows = {row["concept"]: row for row in effects.to_dict("records") if not isnan(row["drop"])}
    if not rows.keys() >= set(concepts):
        return ""
    parts = [f"{_change(rows[name])} without {clear(name)!r}" for name in concepts]
    text = f"Erasing each in turn, the score of {clear(class_name)!r} {' and '.join(parts)}."
    one, other = concepts
    shares = overlaps(rows[one]).get(other, 0.0), overlaps(rows[other]).get(one, 0.0)
    if max(shares) > MOST:
        text += " Their regions overlap, so this does not tell them apart either."
    return text


def image_sentences(effects: pd.DataFrame, what: str = "") -> list[str]:
    """Return what erasing each concept from one image says about one class.

    The largest change comes first; concepts that are nowhere in the image share a sentence. An
    image is too little for a verdict.

    Args:
        effects: Rows of `LocalExplanation.effects` of one class.
        what: What was erased, in words, where it is no concept.

    Example:
        >>> import pandas as pd
        >>> row = dict(concept="ruler", class_name="animal", logit=6.0, reference=1.0, drop=3.9,
        ...     drop_low=3.7, drop_high=4.0, share=0.78, area=0.1, seen=0.99, placebo_mean=0.15,
        ...     p_value=0.048)
        >>> image_sentences(pd.DataFrame([row]))[0][:75]
        "Without 'ruler' the score of 'animal' falls by 78 % (74 to 80 %, depending "
    """
    rows = [
        {
            **row,
            "gap": row["logit"] - row["reference"],
            "fill_low": row["drop_low"],
            "fill_high": row["drop_high"],
        }
        for row in effects.to_dict("records")
    ]
    seen = [row for row in rows if not isnan(row["drop"])]
    seen.sort(key=lambda row: -abs(row["drop"]))
    nowhere = [repr(clear(row["concept"])) for row in seen if not row["area"]]
    found = [row for row in seen if row["area"]]
    drops = {row["concept"]: row["drop"] for row in found}
    sentences = [_image_sentence(row, what) + _overlapping_here(row, drops) for row in found]
    if nowhere:
        verb = "is" if len(nowhere) == 1 else "are"
        sentences.append(f"{listed(nowhere)} {verb} nowhere in this image: nothing was erased.")
    for row in rows:
        if isnan(row["drop"]):
            names = what or repr(clear(row["concept"])), repr(clear(row["class_name"]))
            sentences.append(_not_seen(row, *names))
    return sentences


def _image_sentence(row: dict[Any, Any], what: str) -> str:
    concept, target = what or repr(clear(row["concept"])), repr(clear(row["class_name"]))
    sentence = f"Without {concept} the score of {target} {_change_by_fill(row)} in this image"
    if row["area"] > LARGE:
        sentence += "; no region elsewhere is as large."
    elif isnan(row["p_value"]):
        sentence += "; it was not compared with regions elsewhere."
    else:
        sentence += f"; {_elsewhere(row)} (p = {row['p_value']:.2g})."
        if row["p_value"] > SIGNIFICANT and not _is_zero(row):
            sentence += " Chance may explain it."
    if row["area"] > LARGE:
        sentence += f" The region covers {row['area'] * 100:.0f} % of the picture."
    return sentence + _in_logits(row, target)


def _overlapping_here(row: dict[Any, Any], drops: Mapping[Any, float]) -> str:
    """Return with which regions that of a concept overlaps that do half as much or more."""
    least = HALF * abs(row["drop"])
    names = [
        repr(clear(name))
        for name in names_of(row.get("same_region") or "")
        if drops.get(name, 0.0) * row["drop"] > 0 and abs(drops[name]) >= least
    ]
    return f" Its region overlaps with {_that_of(names)}." if names else ""


def _not_seen(row: dict[Any, Any], concept: str, target: str) -> str:
    return (
        f"{concept} is not seen at these layers ({below_seen(row['seen'])}). Whether {target} "
        "depends on it cannot be said; other negatives or layers, or more varied examples, would "
        "tell."
    )


def _verdict(row: dict[Any, Any], class_name: str, rows: Mapping[Any, dict[Any, Any]]) -> Verdict:
    concept, target = repr(clear(row["concept"])), repr(clear(class_name))
    if isnan(row["drop"]):
        return Verdict(row["concept"], "not seen", _not_seen(row, concept, target), None)
    if row["present"] < RARE:
        sentence = f"{concept} is {_found(row)} of {target}: too few to say whether its "
        return Verdict(row["concept"], "not seen", f"{sentence}score depends on it.", None)
    size, change, in_logits = _size(row), _change(row), isnan(row["share"])
    small = SMALL_LOGITS if in_logits else SMALL
    beyond = abs(row["drop"] - row["placebo_mean"]) / _scale(row)
    used = min(abs(size), beyond) >= small and beyond_chance(row)
    doubt = _doubt(row, small) or ("" if used else _seldom_found(row, small))
    if used and not doubt and (other := contender(row, rows)):
        doubt = _may_be(other, concept)
    effect = f"Without {concept} the score of {target} {change} {_over(row)}; {_elsewhere(row)}."
    if used and row["present"] < NEARLY_ALL:
        effect += f" It is {_found(row)}."
    more = _in_logits(row, target)
    if doubt:
        sentence = f"Whether {target} uses {concept} cannot be told, because {doubt}. {effect}"
        further = (row["drop"] - row["placebo_mean"]) / _scale(row)
        further = None if isnan(further) else further
        return Verdict(row["concept"], "cannot be told", sentence + more, size, in_logits, further)
    if not used:
        sentence = (
            f"The network sees {concept} but hardly uses it for {target}: without it the score "
            f"{change} {_over(row)}; {_elsewhere(row)}.{more}"
        )
        return Verdict(row["concept"], "not used", sentence, size, in_logits)
    against = "" if row["drop"] > 0 else f" It counts against {target}."
    sentence = effect + against + _overlapping(row) + more
    return Verdict(row["concept"], "used", sentence, size, in_logits)


def _may_be(other: dict[Any, Any], concept: str) -> str:
    """Return why the effect of a region may be that of another concept."""
    name = repr(clear(other["concept"]))
    return (
        f"most of its effect comes from images in which its region overlaps with that of {name}, "
        f"without which the score {_change(other)}; examples of {name} among the negatives of "
        f"{concept} would tell, or pairs of pictures (vtcav evaluate --pairs)"
    )


def _overlapping(row: dict[Any, Any]) -> str:
    """Return with which concepts' regions that of a concept overlaps; empty for none."""
    names = [repr(clear(name)) for name, share in overlaps(row).items() if share > MOST]
    return f" Where it counts, its region overlaps with {_that_of(names)}." if names else ""


def _that_of(names: list[str]) -> str:
    return f"{'that' if len(names) == 1 else 'those'} of {listed(names)}"


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
    largest = max(map(abs, _ends(row))) / _scale(row)
    if row["present"] >= OFTEN or largest <= 2 * small * row["present"]:
        return ""
    return (
        f"it is {_found(row, 'only ')}, and there it may count; look at what was erased: "
        "examples more like these images would tell"
    )


def _in_logits(row: dict[Any, Any], target: str) -> str:
    """Return why there is no share; empty where there is one, and where no negatives are known."""
    if not isnan(row["share"]) or isnan(row["gap"]):
        return ""
    return f" In logits, because {target} does not score clearly higher than for the negatives."


def _doubt(row: dict[Any, Any], small: float) -> str:
    """Return why an effect does not support a verdict; empty where it does."""
    scale = _scale(row)
    low, high = _ends(row)
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
        if abs(_size(row)) >= small and low <= 0 <= high:
            if groups := int(row.get("groups", 0)):
                return f"over {count(groups, 'group')} its mean may be 0; more groups would tell"
            return "its effect may be 0, as the interval shows; more images would tell"
        beyond = abs(row["drop"] - row["placebo_mean"]) / scale
        return _AS_MUCH if abs(_size(row)) >= 2 * small and beyond < small else ""
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


def _scale(row: dict[Any, Any]) -> float:
    """Return the logits that make a share of 1; 1 where there is no share."""
    return 1.0 if isnan(row["share"]) else float(row["gap"])


def _size(row: dict[Any, Any]) -> float:
    return float(row["drop"] if isnan(row["share"]) else row["share"])


def _ends(row: dict[Any, Any]) -> tuple[float, float]:
    """Return the interval of the mean drop over images and ways to fill, in logits."""
    ends = [row[name] for name in ("drop_low", "drop_high", "fill_low", "fill_high", "drop")]
    known = [float(end) for end in ends if not isnan(end)]
    return min(known), max(known)


def _change(row: dict[Any, Any]) -> str:
    """Return how the score changes, with its interval, as a share or in logits."""
    size, low, high, unit = _numbers(row)
    ends = f"{low} to {high}{' %' if unit == '%' else ''}"
    if _is_zero(row):
        return f"does not change ({size} {unit}{'' if low == high else f', {_signed(row)}'})"
    return f"{_verb(row)} by {size} {unit} ({ends})"


def _change_by_fill(row: dict[Any, Any]) -> str:
    """Return how the score changes in one image, with its interval over the ways to fill."""
    size, low, high, unit = _numbers(row)
    ends = f"{low} to {high}{' %' if unit == '%' else ''}, depending on the fill"
    if _is_zero(row):
        ends = "whatever the fill" if low == high else f"{_signed(row)}, depending on the fill"
        return f"does not change ({size} {unit}, {ends})"
    if low == high:
        return f"{_verb(row)} by {size} {unit}, whatever the fill,"
    return f"{_verb(row)} by {size} {unit} ({ends})"


def _signed(row: dict[Any, Any]) -> str:
    """Return the ends of a change that is 0 as shown, with signs: a fall is below 0."""
    _, low, high, unit = _numbers(row)
    ends = sorted((1 if row["drop"] <= 0 else -1) * float(end) for end in (low, high))
    form = ".0f" if unit == "%" else ".2f"
    low, high = (f"{end:+z{form}}" if end else f"{0:{form}}" for end in ends)
    return f"{low} to {high}{' %' if unit == '%' else ''}"


def _verb(row: dict[Any, Any]) -> str:
    return "falls" if row["drop"] > 0 else "rises"


def _is_zero(row: dict[Any, Any]) -> bool:
    """Whether nothing changes at the precision that is shown."""
    return float(_numbers(row)[0]) == 0


def _numbers(row: dict[Any, Any]) -> tuple[str, str, str, str]:
    """Return the size of a change, the ends of its interval, and their unit, as texts."""
    sign, ends = (1 if row["drop"] > 0 else -1), _ends(row)
    low, high = sorted(sign * end for end in ends)
    values = abs(row["drop"]), low, high
    if isnan(row["share"]):
        size, least, most = (f"{x:z.2f}" for x in values)
        return size, least, most, "logits"
    size, least, most = (_percent(x / _scale(row)) for x in values)
    return size, least, most, "%"


def _elsewhere(row: dict[Any, Any]) -> str:
    """Return what regions elsewhere do; with a verb where the concept does not do likewise."""
    if isnan(drop := row["placebo_mean"]):
        return "regions of the same size elsewhere: not tried"
    size = f"{abs(drop):.2f}" if isnan(row["share"]) else _percent(abs(drop) / _scale(row))
    amount = f"{size} {_numbers(row)[3]}"
    if not float(size) or (drop * row["drop"] > 0 and not _is_zero(row)):
        return f"regions of the same size elsewhere: {amount}"
    return f"without regions of the same size elsewhere it {_verb({'drop': drop})} by {amount}"


def _percent(share: float) -> str:
    """Return a share in percent, and 0 without a sign."""
    return f"{round(100 * share) + 0:d}"
