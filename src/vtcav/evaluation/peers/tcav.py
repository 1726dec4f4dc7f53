"""TCAV: the share of a class's images whose score rises towards the concept.

`peers.linear_cav` learns the CAVs, `peers.sensitivity` has the mathematics; here both become rows
of a table.

Source: Kim et al., "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept
Activation Vectors (TCAV)", ICML 2018, arXiv 1711.11279.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vtcav.evaluation.peers.linear_cav import CavDraws
from vtcav.evaluation.peers.sensitivity import score_test, scores

__all__ = ["ConceptScores", "class_scores", "stacked"]

NO_SENSITIVITY = "every sensitivity is 0, so the magnitude is undefined"
ONE_IMAGE = "one image: the sign count of a CAV is 0 or 1"


class ConceptScores(NamedTuple):
    """Scores of a concept for a class, means over the concept's CAVs.

    Attributes:
        concept: Its name.
        sign_count: Share of images whose score rises along the CAV.
        magnitude: Share of all sensitivity that is positive; NaN where every sensitivity is 0.
        p_value: Of the sign count against random CAVs, not corrected.
        p_value_magnitude: Of the magnitude.
        note: The reason of every NaN, and what is doubtful.
    """

    concept: str
    sign_count: float
    magnitude: float
    p_value: float
    p_value_magnitude: float
    note: str


def stacked(cavs: Mapping[str, CavDraws]) -> Tensor:
    """Return all CAVs of a layer: concept by concept, its own then the random ones."""
    return torch.cat([part for draws in cavs.values() for part in (draws.concept, draws.random)])


def class_scores(S: Tensor, cavs: Mapping[str, CavDraws]) -> Iterator[ConceptScores]:
    """Yield the scores of every concept for a class at a layer.

    Args:
        S: Sensitivities of N images to all CAVs, in the order of `stacked`.
        cavs: The layer's CAVs by concept.
    """
    start = 0
    for concept, draws in cavs.items():
        R = len(draws.concept)
        own, random = (scores(S[:, start + k * R : start + (k + 1) * R]) for k in (0, 1))
        start += 2 * R
        count, magnitude = (score_test(own[k], random[k]) for k in (0, 1))
        unknown = int(np.isnan(own.magnitude).sum())
        notes = [draws.note, ONE_IMAGE if len(S) == 1 else "", count.note]
        if unknown:
            some = "" if unknown == R else f"{unknown} of {R} CAVs: "
            notes.append(some + NO_SENSITIVITY)
        if magnitude.note:
            notes.append(f"magnitude: {magnitude.note}")
        yield ConceptScores(
            concept,
            float(own.sign_count.mean()),
            math.nan if unknown == R else float(np.nanmean(own.magnitude)),
            count.p_value,
            magnitude.p_value,
            "; ".join(filter(None, notes)),
        )
