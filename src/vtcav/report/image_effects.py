"""Effects of erasing in single images, for overviews: they are measured, so they come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from vtcav.results.effect_tables import of_pictures
from vtcav.results.explanation import LocalExplanation
from vtcav.results.verdicts import LARGE, mostly_of_others, reading_place, stands_out
from vtcav.results.words import SIGNIFICANT, clear, count, distinct_names, short_names

_FEW = 5
"""The most images whose own sentences stand in the overview."""
_MOST = 20
_COLUMNS = "class_name", "concept", "drop", "drop_apart", "area", "p_value"


@dataclass(frozen=True)
class ImageEffects:
    """What erasing does in one image.

    Attributes:
        name: The image's name.
        sentences: What it says of the first class, the largest change first.
        rows: The effects of all classes explained, in numbers.
    """

    name: str
    sentences: tuple[str, ...]
    rows: tuple[Mapping[Any, Any], ...]


def effects_of(explained: LocalExplanation, name: str = "") -> ImageEffects:
    """Return what erasing does in an explained image, under a name or its own."""
    rows = of_pictures(explained.effects)[list(_COLUMNS)].to_dict("records")
    return ImageEffects(name or explained.image, tuple(explained.sentences()), tuple(rows))


@dataclass(frozen=True)
class Measured:
    """What erasing a concept says.

    Attributes:
        text: A sentence.
        sure: Whether regions elsewhere do less.
    """

    text: str
    sure: bool


def measured(images: Sequence[ImageEffects], *, named: bool = False) -> list[Measured]:
    """Return what erasing says of single images: of few each sentence, of many counts.

    Args:
        images: The effects in each.
        named: Whether a single image is named, as several are.
    """
    if not images:
        return []
    found = (
        _each(images, named=named or len(images) > 1) if len(images) <= _FEW else _counted(images)
    )
    if (more := len(found) - _MOST) > 0:
        return [*found[:_MOST], Measured(f"{count(more, 'more')} with the images.", sure=False)]
    return found


def doubt(images: Sequence[ImageEffects], class_name: str, concept: str) -> str:
    """Return what erasing a concept says against an attribution; empty for nothing.

    Args:
        images: Those in which the attribution is significant.
        class_name: The class.
        concept: The concept.
    """
    rows = [
        row
        for image in images
        for row in image.rows
        if (row["class_name"], row["concept"]) == (class_name, concept)
    ]
    if not rows:
        return ""
    compared = [row for row in rows if not isnan(row["p_value"])]
    if not any(map(_erased, rows)):
        return "But no region of it was found to erase."
    if not compared or any(map(stands_out, compared)):
        return ""
    beyond = [row for row in compared if row["p_value"] <= SIGNIFICANT]
    if any(map(mostly_of_others, beyond)):
        return "But what changes without its region is mostly another concept's."
    if beyond:
        return f"But its region covers more than {100 * LARGE:.0f} % of the picture."
    return "But without it the score changes by no more than chance explains."


def _each(images: Sequence[ImageEffects], *, named: bool) -> list[Measured]:
    names = distinct_names(short_names([image.name for image in images]))
    shared = set(images[0].sentences).intersection(*(image.sentences for image in images))
    found, once = [], []
    for name, image in zip(names, images, strict=True):
        first = image.rows[0]["class_name"] if image.rows else ""
        rows = [row for row in image.rows if row["class_name"] == first and _erased(row)]
        rows.sort(key=reading_place)  # the order of the sentences
        sure = [*map(stands_out, rows), *[False] * len(image.sentences)]
        for text, each in zip(image.sentences, sure, strict=False):
            if len(images) == 1 or text not in shared:
                whose = f"{clear(name)}: " if named else ""
                found.append(Measured(whose + text, each))
            elif image is images[0]:  # as of a concept that no layer sees
                once.append(Measured(text, each))
    return found + once


def _counted(images: Sequence[ImageEffects]) -> list[Measured]:
    by_pair: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for image in images:
        for row in image.rows:
            by_pair.setdefault((row["class_name"], row["concept"]), []).append(row)
    ordered = sorted(by_pair.items(), key=lambda pair: -sum(map(stands_out, pair[1])))
    found = [_count(*pair, rows) for pair, rows in ordered]
    return list(dict.fromkeys(found))  # a concept found nowhere has one sentence for all classes


def _count(class_name: str, concept: str, rows: Sequence[Mapping[str, Any]]) -> Measured:
    """Return in how many images a concept's effect is beyond that of regions elsewhere."""
    name, number = clear(concept), count(len(rows), "image")
    if not any(map(_erased, rows)):
        return Measured(f"In none of {number} was a region of “{name}” found to erase.", sure=False)
    compared = any(not isnan(row["p_value"]) for row in rows)
    told = [row for row in rows if (stands_out(row) if compared else _erased(row))]
    falls = sum(row["drop"] > 0 for row in told)
    rises = sum(row["drop"] < 0 for row in told)
    ways = [f"{verb} in {n}" for verb, n in (("falls", falls), ("rises", rises)) if n]
    how = "by more than with regions elsewhere (p ≤ 0.05, each image on its own)"
    text = (
        f"Without “{name}” the score of “{clear(class_name)}” "
        f"{' and '.join(ways) or 'changes in none'} of {number}"
        f"{f' {how}' if compared else ', not compared with regions elsewhere'}."
    )
    return Measured(text, compared and 2 * max(falls, rises) >= len(rows))


def _erased(row: Mapping[str, Any]) -> bool:
    return not isnan(row["drop"]) and bool(row["area"])
