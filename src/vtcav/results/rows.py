"""Rows of the tables of attributions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One number of an explanation: a concept's attribution to a class, at a layer."""

    image: str
    layer: str
    concept: str
    class_index: int
    class_name: str
    attribution: float
    error: float
    evaluations: int
    separated: bool
    seen: float
    raised: bool
    presence: float
    cav_low: float
    cav_high: float
    null_mean: float
    effect: float
    p_value: float
    q_value: float
    note: str


class EffectRow(NamedTuple):
    """One number of erasure: how far a class's score falls without a concept's region."""

    image: str
    layer: str
    concept: str
    class_index: int
    class_name: str
    logit: float
    without: float
    drop: float
    drop_low: float
    drop_high: float
    reference: float
    reference_std: float
    share: float
    probability: float
    probability_without: float
    area: float
    same_region: str
    confused_with: str
    told: float
    drop_apart: float
    area_apart: float
    seen: float
    placebos: int
    placebo_mean: float
    placebo_std: float
    effect: float
    p_value: float
    q_value: float
    note: str


class RankedRow(NamedTuple):
    """One image of a ranking: how strongly it shows a concept at a layer."""

    image: str
    layer: str
    concept: str
    presence: float
    area: float
    predicted_class: str
    probability: float
    note: str


def joined_names(names: Sequence[str]) -> str:
    """Return names as one text: a single one as it is, several as a JSON list.

    Example:
        >>> joined_names([]), joined_names(["ring"]), joined_names(["ring", "bar"])
        ('', 'ring', '["ring", "bar"]')
    """
    plain = "".join(names)
    several = len(names) > 1 or plain.startswith('["')
    return json.dumps(list(names), ensure_ascii=False) if several else plain


def names_of(text: str) -> tuple[str, ...]:
    """Return the names in a text of `joined_names`.

    Example:
        >>> names_of(""), names_of("ring"), names_of('["ring", "bar"]')
        ((), ('ring',), ('ring', 'bar'))
    """
    if not text.startswith('["'):
        return (text,) if text else ()
    try:
        return tuple(map(str, json.loads(text)))
    except ValueError:  # a concept of that name
        return (text,)
