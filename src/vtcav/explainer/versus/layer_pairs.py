"""Which layers of two networks are compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vtcav.models.base import Model

BY_NAME, BY_DEPTH = "by name", "by relative depth"


@dataclass(frozen=True)
class LayerPairs:
    """Layers of two networks that are compared with each other.

    Attributes:
        pairs: A layer of the first and one of the second network, in order.
        how: "by name" or "by relative depth".
        left_out: Layers of the first and of the second network that have no partner.
    """

    pairs: tuple[tuple[str, str], ...]
    how: str
    left_out: tuple[tuple[str, ...], tuple[str, ...]]


def pair_layers(
    first: Model, own: Sequence[str], second: Model, others: Sequence[str]
) -> LayerPairs:
    """Pair the explained layers of two networks.

    Layers of one name belong together. Where no layer has the name of another, those whose
    relative depth (position among the usable layers, from 0 to 1) is closest do: each layer of the
    network with fewer gets a partner, and the order is kept.

    Args:
        first: The first network.
        own: Its explained layers.
        second: The second network.
        others: Its explained layers.
    """
    both = [(name, name) for name in own if name in others]
    if both:
        return _with_rest(both, BY_NAME, own, others)
    from scipy.optimize import linear_sum_assignment

    depths = [
        np.array(list(_depths(model, names))) for model, names in ((first, own), (second, others))
    ]
    # squared distances: an assignment of least cost keeps the order
    rows, columns = linear_sum_assignment((depths[0][:, None] - depths[1]) ** 2)
    pairs = [(own[int(i)], others[int(j)]) for i, j in zip(rows, columns, strict=True)]
    return _with_rest(pairs, BY_DEPTH, own, others)


def _depths(model: Model, names: Sequence[str]) -> list[float]:
    order = [layer.name for layer in model.layers()]
    return [order.index(name) / max(1, len(order) - 1) for name in names]


def _with_rest(
    pairs: Sequence[tuple[str, str]], how: str, own: Sequence[str], others: Sequence[str]
) -> LayerPairs:
    taken = [{pair[side] for pair in pairs} for side in (0, 1)]
    rest = [
        tuple(name for name in names if name not in used)
        for names, used in zip((own, others), taken, strict=True)
    ]
    return LayerPairs(tuple(pairs), how, (rest[0], rest[1]))
