"""Concept activation vectors: directions and emblems (steps 1 and 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vtcav.method.concept_map import concept_map, raw_map

__all__ = ["LayerCavs", "Resampling", "direction", "emblem"]


def direction(positives: Tensor, negatives: Tensor) -> Tensor:
    """Return v: the mean over examples minus the mean over negatives, step 1.

    Args:
        positives: GAP activations of the concept's examples [n1, C].
        negatives: GAP activations of the negatives [n2, C].

    Returns:
        The direction v [C], not normalised.

    Example:
        >>> import torch
        >>> direction(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([1., 1.])
    """
    return positives.mean(0) - negatives.mean(0)


def emblem(values: Tensor) -> Tensor:
    """Return the true median over images of the raw maps' contraharmonic means, step 3.

    Args:
        values: Contraharmonic means [n] or [n, K].

    Returns:
        One emblem, or K. For an even count the mean of the two middle values.

    Example:
        >>> import torch
        >>> emblem(torch.tensor([1.0, 9.0, 2.0, 4.0]))
        tensor(3.)
    """
    ordered = values.sort(0).values
    n = len(values)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


@dataclass(frozen=True, eq=False)
class LayerCavs:
    """The CAVs of all concepts at one layer.

    Attributes:
        v: Directions [K, C].
        e_pos: Emblems of the examples [K].
        e_neg: Emblems of the negatives [K].
        values_pos: For each concept the contraharmonic means of its examples' raw maps [n_k],
            whose median is e+.
        values_neg: The same of its negatives [m_k].
        place_pos: Where the raw maps of the examples lie on average: each map divided by its sum
            [K, h, w].
        place_neg: The same of the negatives [K, h, w].
        resampled: Null and bootstrap CAVs, J of them; `CavBank.resampling` says which are whose.
        w: Filters [K, C] that find the concepts in place of v (`discriminant_map`); None for the
            paper's definition.
    """

    v: Tensor
    e_pos: Tensor
    e_neg: Tensor
    values_pos: tuple[Tensor, ...] = ()
    values_neg: tuple[Tensor, ...] = ()
    place_pos: Tensor | None = None
    place_neg: Tensor | None = None
    resampled: LayerCavs | None = None
    w: Tensor | None = None

    def to(self, device: torch.device) -> LayerCavs:
        """Return directions and emblems on a device, without what the method does not need."""
        w = None if self.w is None else self.w.to(device)
        return LayerCavs(self.v.to(device), self.e_pos.to(device), self.e_neg.to(device), w=w)

    def part(self, chosen: range) -> LayerCavs:
        """Return the CAVs of a range of positions, without what the method does not need."""
        i = slice(chosen.start, chosen.stop)
        w = None if self.w is None else self.w[i]
        return LayerCavs(self.v[i], self.e_pos[i], self.e_neg[i], w=w)

    def maps(self, F: Tensor) -> Tensor:
        """Return the concept maps M [N, K, h, w] of feature maps F [N, C, h, w], steps 2 to 4."""
        here = self.to(F.device)
        return concept_map(raw_map(F, here.v if here.w is None else here.w), here.e_pos, here.e_neg)

    @property
    def separated(self) -> Tensor:
        """Whether the layer separates each concept from its negatives, e+ > e- [K]."""
        return self.e_pos > self.e_neg


@dataclass(frozen=True)
class Resampling:
    """Which of the J resampled CAVs of every layer belong to which concept.

    Concepts of one size that share their negatives share their null CAVs.

    Attributes:
        null: Positions of each concept's null CAVs; empty where it has none.
        bootstrap: Positions of each concept's bootstrap CAVs.
        untested: Why a concept has no null CAVs; empty where it has.
    """

    null: tuple[range, ...]
    bootstrap: tuple[range, ...]
    untested: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "null": [[r.start, r.stop] for r in self.null],
            "bootstrap": [[r.start, r.stop] for r in self.bootstrap],
            "untested": list(self.untested),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Resampling:
        """Return what `to_dict` made."""
        return cls(
            tuple(range(*pair) for pair in data["null"]),
            tuple(range(*pair) for pair in data["bootstrap"]),
            tuple(data["untested"]),
        )
