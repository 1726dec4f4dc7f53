"""Doubts: why a difference between two networks says nothing of the concept it is named after.

A verdict on one network is not drawn where a region takes more with it than the concept, or where
regions elsewhere do as much. A difference of two such effects is no evidence either, however sure
the numbers are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np

from vtcav.results.effect_tables import of_pictures
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.verdicts import LARGE, RARE, contender, counts_by_itself
from vtcav.results.words import SIGNIFICANT, clear, count

Trainings = Sequence[GlobalExplanation]
_Rows = Sequence[Mapping[Any, Any]]
"""The effects of a concept in all trainings of a network, of `GlobalExplanation.class_effects`."""


def doubts(sides: tuple[Trainings, Trainings], concept: str) -> tuple[str, str]:
    """Return why differences in a concept's attribution, and in its share, tell nothing of it.

    Args:
        sides: A class explained by both networks, or by all trainings of each.
        concept: The concept, which all of them have.

    Returns:
        Both reasons, as the end of "cannot be told, because ..."; empty where there is none.
    """
    rows = [[row for one in side for row in _effects_of(one, concept)] for side in sides]
    if not all(rows):  # without erasure nothing is known of the regions
        return "", ""
    named = dict(zip("ab", rows, strict=True))
    found = [reason for side, own in named.items() for reason in _of_region(own, side)]
    if found:
        return ", and ".join(found), ", and ".join(found)
    present = {side: float(np.mean([row["present"] for row in own])) for side, own in named.items()}
    rare = [side for side, share in present.items() if share < RARE]
    if len(rare) == 1:
        text = _rarely(named[rare[0]], rare[0])
        return text, text
    most = max(named, key=lambda side: abs(float(np.mean([row["drop"] for row in named[side]]))))
    return "", _of_chance(named[most], most)


def _effects_of(explained: GlobalExplanation, concept: str) -> list[dict[Any, Any]]:
    """Return the effects of a concept, with the concept that they may be those of."""
    effects = of_pictures(explained.class_effects())
    rows = {row["concept"]: row for row in effects.to_dict("records")}
    if (row := rows.get(concept)) is None:
        return []
    other = None if isnan(row["drop"]) or counts_by_itself(row) else contender(row, rows)
    return [row | {"contender": "" if other is None else other["concept"]}]


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
    others = [row["contender"] for row in rows if row["contender"]]
    if 2 * len(others) >= len(rows):
        faults.append(f"overlaps with that of {clear(others[0])!r}, which accounts for its effect")
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
