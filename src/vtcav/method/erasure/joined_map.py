"""Maps of several layers taken together, by how well each sees the concept (erasure 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vtcav.method.positions import broadcast

SEEN = 0.8
"""The held-out AUC below which a layer does not see a concept."""


def joined_layers(layers: Sequence[str]) -> list[str]:
    """Return the layers whose maps are taken together, of layers in the order of the network.

    Of more than three, the first finds colours and edges, and the last has hardly any place.

    Example:
        >>> joined_layers(["1", "2", "3", "4"]), joined_layers(["1", "2"])
        (['2', '3'], ['1', '2'])
    """
    return list(layers[1:-1] if len(layers) > 3 else layers)


def below_seen(auc: float) -> str:
    """Return that an AUC is below what a layer must reach to see a concept.

    It is never rounded up to the limit itself.

    Example:
        >>> below_seen(0.796)
        'held-out AUC 0.79, below 0.8'
    """
    return f"held-out AUC {min(auc, SEEN - 0.01):.2f}, below {SEEN:g}"


def joined_map(maps: Sequence[Tensor], seen: Sequence[Tensor]) -> Tensor:
    """Return the mean of several layers' maps, weighted by how well each sees the concept.

    Args:
        maps: Concept maps of each layer at one size [n, K, H, W].
        seen: Held-out AUC of each layer [K]; the weight of a layer is max(0, 2 AUC - 1)^2.

    Returns:
        [n, K, H, W] in [0, 1]; 0 for a concept that no layer sees.
    """
    weights = torch.stack([layer_weight(A).to(maps[0]) for A in seen])
    shares = weights / weights.sum(0).clamp(min=1e-6)
    return torch.einsum("lnk...,lk->nk...", torch.stack(list(maps)), shares)


def seen_map(maps: Sequence[Tensor], seen: Sequence[Tensor]) -> Tensor:
    """Return the `joined_map` of concepts that a layer sees, and 0 for the others.

    Args:
        maps: Concept maps of each layer at one size [n, K, H, W].
        seen: Held-out AUC of each layer [K]; one of them must be 0.8 or more.
    """
    known = torch.stack(list(seen)).amax(0) >= SEEN
    return joined_map(maps, seen) * broadcast(known.to(maps[0])[None], maps[0])


def layer_weight(seen: Tensor) -> Tensor:
    """Return the weight of a layer for each concept [K]: max(0, 2 AUC - 1)^2."""
    return (2 * seen - 1).clamp(min=0).square()
