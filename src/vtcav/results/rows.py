"""Rows of the tables of attributions."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Row"]


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
    cav_low: float
    cav_high: float
    null_mean: float
    effect: float
    p_value: float
    q_value: float
    note: str
