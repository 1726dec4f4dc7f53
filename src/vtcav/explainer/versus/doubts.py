"""Doubts: why a difference between two networks says nothing of the concept it is named after.

A verdict on one network is not drawn where a region takes more with it than the concept, or where
regions elsewhere do as much. A difference of two such effects is no evidence either, however sure
the numbers are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, NamedTuple

import numpy as np

from vtcav.results.effect_tables import of_pictures
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.verdicts import LARGE, RARE, ownership
from vtcav.results.words import SIGNIFICANT, count, value

Trainings = Sequence[GlobalExplanation]
_Rows = Sequence[Mapping[Any, Any]]
"""The effects of a concept in all trainings of a network, of `GlobalExplanation.class_effects`."""


class Doubts(NamedTuple):
    """Why differences tell nothing of a concept; empty where there is no reason.

    Attributes:
        attribution: Why one in its attribution does not.
        share: Why one in its share does not.
        own_part: Whether shares are those of the own parts of its regions, as in verdicts.
    """

    attribution: str = ""
    share: str = ""
    own_part: bool = False


def doubts(sides: tuple[Trainings, Trainings], concept: str) -> Doubts:
    """Return why differences in a concept's attribution, and in its share, tell nothing of it.

    Args:
        sides: A class explained by both networks, or by all trainings of each.
        concept: The concept, which all of them have.

    Returns:
        Both reasons, as the end of "cannot be told, because ...".
    """
    rows = [[row for one in side for row in _effects_of(one, concept)] for side in sides]
    if not all(rows):  # without erasure nothing is known of the regions
        return Doubts()
    named = dict(zip("ab", rows, strict=True))
    found = [reason for side, own in named.items() for reason in _of_region(own, side)]
    if found:
        return Doubts(", and ".join(found), ", and ".join(found))
    present = {side: float(np.mean([row["present"] for row in own])) for side, own in named.items()}
    rare = [side for side, share in present.items() if share < RARE]
    if len(rare) == 1:
        text = _rarely(named[rare[0]], rare[0])
        return Doubts(text, text)
    most = max(named, key=lambda side: abs(float(np.mean([row["drop"] for row in named[side]]))))
    own_part = any(row["own_part"] for own in rows for row in own)
    return Doubts("", _of_chance(named[most], most), own_part and _has_own_parts(rows))


def against_erasing(attribution: Mapping[str, Any], share: Mapping[str, Any]) -> str:
    """Return that erasing says the opposite of a difference in attribution; empty otherwise.

    Args:
        attribution: The row of the difference in attribution.
        share: That of the difference in the share that erasing the same concept takes.
    """
    low, high = float(share["low"]), float(share["high"])
    opposite = low * high > 0 and share["difference"] * attribution["difference"] < 0
    if not opposite or share["doubt"]:
        return ""
    numbers = f"{value(share['a'])} in a, {value(share['b'])} in b"
    return f"erasing says the opposite: it takes a share of the logit of {numbers}"


def _has_own_parts(rows: Sequence[_Rows]) -> bool:
    """Whether own parts were erased in all trainings; older files have none."""
    return not any(isnan(row["drop_apart"]) for own in rows for row in own)


def _effects_of(explained: GlobalExplanation, concept: str) -> list[dict[Any, Any]]:
    """Return the effects of a concept, with what they may be those of instead."""
    effects = of_pictures(explained.class_effects())
    rows = {row["concept"]: row for row in effects.to_dict("records")}
    if (row := rows.get(concept)) is None:
        return []
    whose = ownership(row, rows)
    return [row | {"whose": whose.doubt, "own_part": whose.own_part}]


def _of_region(rows: _Rows, side: str) -> list[str]:
    """Return what is wrong with a concept's region in a network."""
    unseen = [float(row["seen"]) for row in rows if isnan(row["drop"])]
    if unseen:
        auc = "" if isnan(unseen[0]) else f" (held-out AUC {unseen[0]:.3f}, 0.8 is needed)"
        return [f"it is not seen in {side}{auc}"]
    faults = []
    area = float(np.mean([row["area"] for row in rows]))
    if area > LARGE:
        faults.append(f"covers {100 * area:.0f} % of the picture")
    others = [row["whose"] for row in rows if row["whose"]]
    if 2 * len(others) >= len(rows):
        faults.append(others[0])
    return [f"in {side} its region {' and '.join(faults)}"] if faults else []


def _rarely(rows: _Rows, side: str) -> str:
    """Return that a network finds a concept in too few of the images."""
    found = sum(round(row["present"] * row["n"]) for row in rows)
    images = sum(int(row["n"]) for row in rows)
    return f"in {side} it is found in {found or 'none'} of {count(images, 'image')}"


def _of_chance(rows: _Rows, side: str) -> str:
    """Return that the larger of both effects is no more than that of regions elsewhere."""
    tested = [row for row in rows if not isnan(row["q_value"])]
    chance = [row for row in tested if row["q_value"] > SIGNIFICANT]
    less = [row for row in tested if row["drop"] * (row["drop"] - row["placebo_mean"]) < 0]
    if not tested or 2 * len([row for row in tested if row in chance or row in less]) < len(tested):
        return ""
    if chance:
        return f"chance may explain its effect in {side} (q = {chance[0]['q_value']:.2g})"
    return f"in {side} regions of the same size elsewhere change the score as much or more"
