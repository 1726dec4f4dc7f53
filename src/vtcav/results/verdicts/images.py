"""Sentences on single images, which are no verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING, Any

from vtcav.results.rows import names_of
from vtcav.results.verdicts.changes import (
    change_by_fill,
    elsewhere_does,
    no_change,
    size_change,
    that_of,
    why_in_logits,
    why_not_seen,
)
from vtcav.results.verdicts.contenders import HALF, mostly_of_others, own_part
from vtcav.results.verdicts.verdict import LARGE
from vtcav.results.words import SIGNIFICANT, clear, listed

if TYPE_CHECKING:
    import pandas as pd


def image_sentences(effects: pd.DataFrame, what: str = "", only: str | None = None) -> list[str]:
    """Return what erasing each concept from one image says about one class.

    The largest change comes first, what is mostly another concept's after the rest; concepts that
    are nowhere in the image share a sentence. An image is too little for a verdict.

    Args:
        effects: Rows of `LocalExplanation.effects` of one class.
        what: What was erased, in words, where it is no concept.
        only: The concept that is spoken of; None for all.

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
    seen.sort(key=reading_place)
    drops = {row["concept"]: row["drop"] for row in seen if row["area"]}
    rows, seen = ([row for row in some if only in (None, row["concept"])] for some in (rows, seen))
    nowhere = [repr(clear(row["concept"])) for row in seen if not row["area"]]
    found = [row for row in seen if row["area"]]
    sentences = [_image_sentence(row, what) + _overlapping_here(row, drops) for row in found]
    if nowhere:
        verb = "is" if len(nowhere) == 1 else "are"
        sentences.append(f"{listed(nowhere)} {verb} nowhere in this image: nothing was erased.")
    for row in rows:
        if isnan(row["drop"]):
            names = what or repr(clear(row["concept"])), repr(clear(row["class_name"]))
            sentences.append(why_not_seen(row, *names))
    return sentences


def reading_place(row: Mapping[Any, Any]) -> tuple[bool, float]:
    """Return the place of an effect among those of other concepts in the same image.

    The largest change comes first, and what is mostly another concept's after all others.

    Args:
        row: Has drop and drop_apart.
    """
    return mostly_of_others(row), -abs(row["drop"])


def stands_out(row: Mapping[Any, Any]) -> bool:
    """Tell whether what a concept's region does in an image is neither chance nor another's.

    Args:
        row: Has drop, drop_apart, area and p_value.
    """
    # no region elsewhere is as large as more than half of the picture
    compared = row["area"] <= LARGE and row["p_value"] <= SIGNIFICANT
    erased = not isnan(row["drop"]) and bool(row["area"])
    return erased and bool(compared) and not mostly_of_others(row)


def _image_sentence(row: dict[Any, Any], what: str) -> str:
    concept, target = what or repr(clear(row["concept"])), repr(clear(row["class_name"]))
    sentence = f"Without {concept} the score of {target} {change_by_fill(row)} in this image"
    if row["area"] > LARGE:
        sentence += "; no region elsewhere is as large."
    elif isnan(row["p_value"]):
        sentence += "; it was not compared with regions elsewhere."
    else:
        sentence += f"; {elsewhere_does(row)} (p = {row['p_value']:.2g})."
        if row["p_value"] > SIGNIFICANT and not no_change(row):
            sentence += " Chance may explain it."
    if row["area"] > LARGE:
        sentence += f" The region covers {row['area'] * 100:.0f} % of the picture."
    return sentence + why_in_logits(row, target)


def _overlapping_here(row: dict[Any, Any], drops: Mapping[Any, float]) -> str:
    """Return with which regions that of a concept overlaps that do half as much or more.

    Where it is known, it says what the concept's own part does, too.
    """
    least = HALF * abs(row["drop"])
    names = [
        repr(clear(name))
        for name in names_of(row.get("same_region") or "")
        if drops.get(name, 0.0) * row["drop"] > 0 and abs(drops[name]) >= least
    ]
    if not names:
        return ""
    text = f" Its region overlaps with {that_of(names)}"
    if not isnan((own := own_part(row))["drop"]):
        text += f"; with only its own part of it erased, the score {size_change(own)}"
    return f"{text}."
