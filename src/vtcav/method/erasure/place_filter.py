"""Place filters: linear discriminants that find a concept at single locations (erasure 1 and 2).

The CAV and the linear discriminant of `discriminant_map` are learned from pooled activations, so
they also respond to whatever else the examples have in common. A place filter is learned from the
activations at locations. Which locations of an example show the concept is not known: those with
the highest response do, and filter and locations are refined in turn.

Letters and shapes: F [n, C, h, w] feature maps, m- [C] and S [C, C] mean and covariance of the
activations at all locations of the negatives, m+ [C] their mean at the concept's locations, and

    w = (S + l mean(diag S) I)^-1 (m+ - m-)        r = w.(F - m-) / w.(m+ - m-)

so that r is 0 on average over the negatives, and 1 on average at the concept's locations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from vtcav.method.auc import auc_of
from vtcav.method.concept_map import concept_map, response
from vtcav.method.positions import broadcast

__all__ = [
    "REFINEMENTS",
    "SHRINKAGE",
    "TOP",
    "Answers",
    "Background",
    "PlaceFilters",
    "best_step",
    "highest",
    "outer_products",
    "pattern",
    "top_means",
]

TOP = 0.03
"""The share of an example's locations that count as the concept, at least one location."""
REFINEMENTS = 5
BETTER = 0.02
"""How much higher the AUC of an earlier step must be for that step to be kept."""
SHRINKAGE = 0.1
_ROUNDING = 1e-12  # of squares in float32


@dataclass(frozen=True, eq=False)
class Background:
    """Activations at all locations of the negatives.

    Attributes:
        mean: m- [C].
        factor: Cholesky factor of S + l mean(diag S) I [C, C], in double precision.
    """

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(
        cls, count: int, mean: Tensor, outer: Tensor, shrinkage: float = SHRINKAGE
    ) -> Background:
        """Return the background of locations.

        Args:
            count: The number of locations.
            mean: m- [C].
            outer: The sum over locations of the outer products of F - m- with itself [C, C].
            shrinkage: l, above 0.

        Example:
            >>> F = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]]])
            >>> m = F.mean((0, 2, 3))
            >>> Background.of(2, m, outer_products(F, m)).factor
            tensor([[1.4491, 0.0000],
                    [0.0000, 0.3162]], dtype=torch.float64)
        """
        S = outer.double() / max(1, count - 1)
        scale = S.diagonal().mean()
        if scale <= _ROUNDING * mean.double().square().mean():
            # locations that are all alike leave the direction of m+ - m-
            return cls(mean, torch.eye(len(S), dtype=S.dtype, device=S.device))
        ridge = shrinkage * scale * torch.eye(len(S), dtype=S.dtype, device=S.device)
        factor, failed = torch.linalg.cholesky_ex(S + ridge)
        if failed:  # eigenvalues below 0, by rounding
            values, vectors = torch.linalg.eigh(S)
            factor = torch.linalg.cholesky((vectors * values.clamp(min=0)) @ vectors.T + ridge)
        return cls(mean, factor)

    def filters(self, m_pos: Tensor, m_neg: Tensor | None = None) -> Tensor:
        """Return the filters w [K, C] with w.(m+ - m-) = 1.

        A concept whose locations are those of the negatives has a filter of zeros.

        Args:
            m_pos: m+ of K concepts [K, C].
            m_neg: m- of each, from some of the negatives [K, C]; None takes that of all.
        """
        difference = (m_pos - (self.mean if m_neg is None else m_neg)).double()
        w = torch.cholesky_solve(difference.T, self.factor).T
        scale = (w * difference).sum(1, keepdim=True)
        # below, it is the rounding of means that are equal
        least = _ROUNDING * self.mean.double().square().sum()
        differ = (scale > 0) & (difference.square().sum(1, keepdim=True) > least)
        w = torch.where(differ, w / torch.where(differ, scale, 1.0), 0.0)
        return w.to(m_pos.dtype)


def pattern(w: Tensor, difference: Tensor) -> Tensor:
    """Return what concepts add to feature maps [K, C]: m+ - m-, scaled so that w.pattern = 1.

    Args:
        w: Filters, or the directions that refinement begins with [K, C].
        difference: m+ - m- [K, C].

    Example:
        >>> pattern(torch.tensor([[0.5, 0.0]]), torch.tensor([[4.0, 2.0]]))
        tensor([[2., 1.]])
    """
    amount = (w * difference).sum(1, keepdim=True)
    return torch.where(amount > 0, difference / torch.where(amount > 0, amount, 1.0), 0.0)


def outer_products(F: Tensor, mean: Tensor) -> Tensor:
    """Return the sum over locations of the outer products of F - mean with itself [C, C].

    Args:
        F: Feature maps [n, C, h, w].
        mean: About their mean [C]; centring keeps float32 accurate.
    """
    X = (F - broadcast(mean[None], F)).transpose(0, 1).flatten(1)
    return (X @ X.T).double()


def top_means(F: Tensor, w: Tensor, top: float = TOP) -> Tensor:
    """Return the mean activation at the locations that respond most, per image [n, K, C].

    Args:
        F: Feature maps [n, C, h, w].
        w: Filters, or directions to begin with [K, C].
        top: The share of locations, at least one.

    Example:
        >>> F = torch.tensor([[[[1.0, 4.0, 2.0]]]])
        >>> top_means(F, torch.tensor([[1.0], [-1.0]]))
        tensor([[[4.],
                 [1.]]])
    """
    X = F.flatten(2).transpose(1, 2)
    count = max(1, round(top * X.shape[1]))
    best = torch.einsum("kc,npc->nkp", w, X).topk(count, 2).indices
    # of each image a table of its locations, which the highest are taken from
    means = [embedding_bag(own, table, mode="mean") for own, table in zip(best, X, strict=True)]
    return torch.stack(means)


def highest(F: Tensor, w: Tensor, offset: Tensor) -> Tensor:
    """Return the highest response r of each image to each filter [n, K].

    Args:
        F: Feature maps [n, C, h, w].
        w: Filters [K, C].
        offset: w.m- [K].
    """
    return response(F, w, offset).flatten(2).amax(2)


def best_step(responses: Sequence[tuple[Tensor, Tensor]]) -> int:
    """Return the step of the refinement to keep: the last, unless an earlier one is clearly better.

    Args:
        responses: For each step the highest responses of examples [n] and negatives [m], of the
            images that it was learned from.

    Returns:
        The last step, or the one with the highest AUC where that is more than 0.02 higher.

    Example:
        >>> low, high = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
        >>> best_step([(high, low), (low, high)]), best_step([(high, low), (high, low)])
        (0, 1)
    """
    values = [auc_of(high, low) for high, low in responses]
    best = max(range(len(values)), key=values.__getitem__)
    return best if values[best] > values[-1] + BETTER else len(values) - 1


@dataclass(frozen=True, eq=False)
class Answers:
    """What the place filters of a layer answer to each of their concepts.

    Attributes:
        to: Row k, column j is the map of concept j at m- + pattern of concept k, not clipped
            [K, K]: 3 in the row of a letter and the column of a pore says that the filter of the
            pore responds to letters three times as much as to the clearest pores. 0 where low >=
            high.
        rest: The maps at m-, not clipped [K].
    """

    to: Tensor
    rest: Tensor


@dataclass(frozen=True, eq=False)
class PlaceFilters:
    """Place filters of K concepts at a layer, with the range of their maps.

    Attributes:
        w: Filters [K, C].
        offset: w.m- [K].
        low: Medians over the negatives of an image's highest response [K].
        high: The same over the examples [K].
        seen: AUC of the highest response on held-out images [K]: learned on one half of examples
            and negatives and tested on the other, both ways, and averaged.
        pattern: What the concept adds to the feature maps [K, C]: m+ - m-, scaled so that
            w.pattern = 1; 0 for a filter of zeros. None in older files.
    """

    w: Tensor
    offset: Tensor
    low: Tensor
    high: Tensor
    seen: Tensor
    pattern: Tensor | None = None

    @staticmethod
    def joined(parts: list[PlaceFilters]) -> PlaceFilters:
        """Return the filters of several parts in order."""
        named = [part.by_name() for part in parts]
        return PlaceFilters(
            **{name: torch.cat([part[name] for part in named]) for name in named[0]}
        )

    def by_name(self) -> dict[str, Tensor]:
        """Return the tensors by name: those that there are."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def to(self, device: torch.device) -> PlaceFilters:
        """Return the filters on a device."""
        return PlaceFilters(**{name: tensor.to(device) for name, tensor in self.by_name().items()})

    def maps(self, F: Tensor) -> Tensor:
        """Return M = clip((r - low) / (high - low), 0, 1) [n, K, h, w]; 0 where low >= high."""
        here = self.to(F.device)
        return concept_map(response(F, here.w, here.offset), here.high, here.low)

    def heights(self, F: Tensor) -> Tensor:
        """Return the maps before they are clipped [n, K, h, w]; 0 where low >= high."""
        here = self.to(F.device)
        r = response(F, here.w, here.offset)
        return here._scaled(r.movedim(1, -1)).movedim(-1, 1)

    def answers(self) -> Answers | None:
        """Return what each filter answers to each concept; None without patterns."""
        if self.pattern is None:
            return None
        return Answers(self._scaled(self.pattern @ self.w.T), self._scaled(0 * self.low))

    def _scaled(self, r: Tensor) -> Tensor:
        """Return responses [..., K] as maps that are not clipped; 0 where low >= high."""
        scale = self.high - self.low
        return (r - self.low) / torch.where(scale > 0, scale, 1.0) * (scale > 0)

    def highest(self, F: Tensor) -> Tensor:
        """Return the highest response of each image [n, K] in feature maps F [n, C, h, w]."""
        here = self.to(F.device)
        return highest(F, here.w, here.offset)
