"""Concept activation vectors: directions and emblems (steps 1 and 3 of the method).

Letters and shapes as everywhere in vtcav: F [N, C, h, w] feature maps, GAP activations [n, C] of a
set of n images, v [K, C] directions, e+ and e- [K] emblems, M [N, K, h, w] concept maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.method.concept_map import concept_map, raw_map, response
from vtcav.method.resampling import Draws

__all__ = [
    "Cavs",
    "direction",
    "directions",
    "draw_means",
    "emblem",
    "emblems",
    "points_along",
]

_CHANNELS, _DRAWS = 256, 64  # at a time, which bounds the memory for copies
_ROUNDING = 1e-4  # of unit vectors: float32, and half precision on the way


def direction(positives: Tensor, negatives: Tensor) -> Tensor:
    """Return v: the mean over examples minus the mean over negatives, step 1.

    Args:
        positives: GAP activations of the concept's examples [n, C].
        negatives: GAP activations of the negatives [m, C].

    Returns:
        The direction v [C], not normalised. It is computed in double precision.

    Example:
        >>> import torch
        >>> direction(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([1., 1.])
    """
    first, second = (G.double().sum(0) / len(G) for G in (positives, negatives))
    return (first - second).to(positives.dtype)


def points_along(v: Tensor, learned: Tensor) -> bool:
    """Return whether two directions are one, up to their length and rounding.

    Nothing but the length of v differs then, which no concept map and no attribution depends on.

    Args:
        v: A direction [C].
        learned: Another [C].

    Example:
        >>> import torch
        >>> v = torch.tensor([3.0, 4.0])
        >>> points_along(2 * v, v), points_along(-v, v)
        (True, False)
    """
    unit, other = (each.double() / each.double().norm() for each in (v, learned.to(v.device)))
    return bool((unit - other).norm() <= _ROUNDING)  # NaN of a vector of zeros is not


def directions(positives: Tensor, negatives: Tensor, draws: Draws) -> Tensor:
    """Return the direction of every draw, step 1, as matrix products.

    Args:
        positives: GAP activations of the set that plays the concept [n, C].
        negatives: GAP activations of the negatives [m, C].
        draws: The images of J CAVs.

    Returns:
        Directions v [J, C]: row j is the `direction` of the images of draw j, up to rounding.

    Example:
        >>> G = torch.tensor([[1.0], [3.0]])
        >>> directions(G, G, Draws(torch.tensor([[0, 0]]), torch.tensor([[1, 0]])))
        tensor([[-1.]])
    """
    v = positives.new_empty(len(draws), positives.shape[1])
    for i in range(0, positives.shape[1], _CHANNELS):  # in double precision
        first, second = (
            draw_means(G[:, i : i + _CHANNELS].double(), positions)
            for G, positions in ((positives, draws.positives), (negatives, draws.negatives))
        )
        v[:, i : i + _CHANNELS] = first - second
    return v


def emblem(values: Tensor) -> Tensor:
    """Return the true median over images of the raw maps' contraharmonic means, step 3.

    Args:
        values: Contraharmonic means [n] or [n, K].

    Returns:
        One emblem, or K. For an even count it is the mean of the two middle values.

    Example:
        >>> import torch
        >>> emblem(torch.tensor([1.0, 9.0, 2.0, 4.0]))
        tensor(3.)
    """
    ordered = values.sort(0).values
    n = len(values)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def emblems(values: Tensor, positions: Tensor) -> Tensor:
    """Return the emblem of every draw, step 3.

    Args:
        values: Contraharmonic means of the raw maps [n, J]: column j under direction j.
        positions: The images of each draw [J, m].

    Returns:
        Emblems [J]: the `emblem` of the images of each draw.

    Example:
        >>> values = torch.tensor([[1.0, 5.0], [2.0, 6.0], [9.0, 7.0]])
        >>> emblems(values, torch.tensor([[0, 1, 2], [0, 0, 2]]))
        tensor([2., 5.])
    """
    few = zip(torch.split(values, _DRAWS, 1), torch.split(positions, _DRAWS), strict=True)
    return torch.cat(
        [emblem(columns.gather(0, rows.T.to(values.device, torch.int64))) for columns, rows in few]
    )


def draw_means(G: Tensor, positions: Tensor) -> Tensor:
    """Return the mean activation of each draw's images [J, C].

    Args:
        G: Activations in double precision [n, C].
        positions: The images of each draw [J, m].
    """
    share = torch.full(positions.shape, 1 / positions.shape[1], dtype=torch.float64)
    weights = torch.zeros(len(positions), len(G), dtype=torch.float64)
    return weights.scatter_add_(1, positions.long(), share).to(G.device) @ G


@dataclass(frozen=True, eq=False)
class Cavs:
    """K CAVs at one layer: what steps 2 to 8 need of them.

    Attributes:
        v: Directions [K, C].
        e_pos: Emblems of the examples [K].
        e_neg: Emblems of the negatives [K].
        w: Linear discriminant directions [K, C], which find the concepts in place of v
            (`discriminant_map`, `place_filter`); None for the paper's definition.
        offset: Mean responses w.m- [K] of place filters, whose emblems are medians of an image's
            highest response; None for the other variants.
    """

    v: Tensor
    e_pos: Tensor
    e_neg: Tensor
    w: Tensor | None = None
    offset: Tensor | None = None

    @staticmethod
    def joined(parts: Sequence[Cavs]) -> Cavs:
        """Return the CAVs of several parts in order, which are all of one variant."""
        named = [part.by_name() for part in parts]
        return Cavs(**{name: torch.cat([part[name] for part in named]) for name in named[0]})

    def by_name(self) -> dict[str, Tensor]:
        """Return directions and emblems by name: those that the variant has."""
        named = ((name, getattr(self, name)) for name in ("v", "e_pos", "e_neg", "w", "offset"))
        return {name: tensor for name, tensor in named if tensor is not None}

    def to(self, device: torch.device) -> Cavs:
        """Return the CAVs on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def part(self, chosen: range) -> Cavs:
        """Return the CAVs at a range of positions."""
        return self._each(lambda tensor: tensor[chosen.start : chosen.stop])

    def maps(self, F: Tensor) -> Tensor:
        """Return the concept maps M [N, K, h, w] of feature maps F [N, C, h, w], steps 2 to 4."""
        here = self.to(F.device)
        w = here.v if here.w is None else here.w
        R = raw_map(F, w) if here.offset is None else response(F, w, here.offset)
        return concept_map(R, here.e_pos, here.e_neg)

    @property
    def separated(self) -> Tensor:
        """Whether the layer separates each concept from its negatives, e+ > e- [K]."""
        return self.e_pos > self.e_neg

    def _each(self, change: Callable[[Tensor], Tensor]) -> Cavs:
        return Cavs(**{name: change(tensor) for name, tensor in self.by_name().items()})
