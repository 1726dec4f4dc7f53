"""Place classifiers: which of several concepts single locations show (erasure 3).

A place filter tells a concept from its negatives, and may answer other concepts that these never
showed. Where the regions of two concepts overlap, a place classifier tells which is where: linear
discriminant analysis of the activations at locations, whose groups are the background and the K
concepts (Hastie, Tibshirani and Friedman, *The Elements of Statistical Learning*, 4.3).

Which locations of an example show its concept is not known. Those that the place filters answer
most are the candidates. All of them are learned from first: the concept is what its examples have
more of than those of the others. Then those that the classifiers of all layers together take for it
are chosen, and classifiers and locations are refined in turn.

Letters and shapes: F [n, C, h, w] feature maps, m_g [C] and S [C, C] the mean of group g and the
mean of the groups' covariances, and

    W = (S + l mean(diag S) I)^-1 m        b = -m.W / 2        log p_g = W_g.F + b_g - log sum exp
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.method.auc import auc_of
from vtcav.method.erasure.place_filter import SHRINKAGE, TOP
from vtcav.method.erasure.region import resized
from vtcav.method.resampling import halves

SIDES = 16
"""The most locations along a side of the grid that candidates are taken from."""
CANDIDATES = 0.25
"""The share of an example's locations that are candidates, at least one."""
STEPS = 3

ByLayer = Mapping[str, Tensor]
"""Activations [..., C] of the same locations by layer."""


@dataclass(frozen=True, eq=False)
class PlaceClassifier:
    """The place classifier of K concepts at a layer.

    Attributes:
        W: Weights of the background and of the concepts [K + 1, C].
        b: Their constants [K + 1].
        told: How well the layers together tell concept k (row) from concept j (column) on held-out
            examples [K, K]: the AUC of how much more likely k is than any other concept, at the
            candidate where it is most.
    """

    W: Tensor
    b: Tensor
    told: Tensor

    def log_p(self, F: Tensor) -> Tensor:
        """Return how likely background and concepts are at every location [n, K + 1, h, w].

        Args:
            F: Feature maps [n, C, h, w].
        """
        scores = torch.einsum("gc,nc...->ng...", self.W.to(F), F)
        b = self.b.to(F).reshape(1, -1, *[1] * (F.ndim - 2))
        return (scores + b).log_softmax(1)

    def of_concepts(self, ks: Sequence[int]) -> PlaceClassifier:
        """Return the classifier of some of the concepts, by their positions."""
        groups, own = torch.tensor([0, *(k + 1 for k in ks)]), torch.tensor(ks)
        return PlaceClassifier(self.W[groups], self.b[groups], self.told[own][:, own])

    def by_name(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return dict(vars(self))


def labels(log_p: Iterable[Tensor], size: Sequence[int]) -> Tensor:
    """Return what is most likely at every pixel [n, H, W]: 0 is the background, k + 1 concept k.

    Args:
        log_p: What the classifiers of several layers say [n, K + 1, h, w].
        size: H and W.

    Example:
        >>> p = torch.tensor([[[[0.9, 0.1]], [[0.1, 0.9]]]])
        >>> labels([p.log()], (1, 2))
        tensor([[[0, 1]]])
    """
    total = sum(resized(each, size) for each in log_p)
    assert isinstance(total, Tensor)
    return total.max(1).indices  # many times faster than argmax, on the CPU


def grid(shapes: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Return the grid of locations that layers have in common: of the finest, at most 16 a side.

    Example:
        >>> grid([(56, 56), (7, 7)]), grid([(7, 7), (4, 4)])
        ((16, 16), (7, 7))
    """
    return tuple(min(SIDES, max(sides)) for sides in zip(*shapes, strict=True))


def locations(F: Tensor, size: Sequence[int]) -> Tensor:
    """Return the activations at the locations of a grid [n, P, C]."""
    return resized(F, size).flatten(2).transpose(1, 2)


def candidates(X: ByLayer, w: ByLayer) -> dict[str, Tensor]:
    """Return the activations at the locations that place filters answer most [n, t, C].

    Args:
        X: Activations at the locations of a grid [n, P, C].
        w: The concept's place filter at each layer [C].

    Returns:
        A quarter of the locations of each image, those that are answered most first.
    """
    responses = torch.stack([X[layer] @ w[layer].to(X[layer]) for layer in X]).sum(0)
    count = max(1, round(CANDIDATES * responses.shape[1]))
    best = responses.topk(count, 1).indices
    return {layer: _taken(own, best) for layer, own in X.items()}


def learned(concepts: Sequence[ByLayer], background: ByLayer) -> dict[str, PlaceClassifier]:
    """Return the place classifiers of concepts by layer.

    Args:
        concepts: For each of K concepts its `candidates`, two or more.
        background: Activations at locations of the negatives [m, t, C].
    """
    told = torch.zeros(len(concepts), len(concepts))
    parts = [halves(len(next(iter(X.values())))) for X in concepts]
    of_background = halves(len(next(iter(background.values()))))
    for fold in range(2):
        first = [_at(X, part[fold]) for X, part in zip(concepts, parts, strict=True)]
        other = [_at(X, part[1 - fold]) for X, part in zip(concepts, parts, strict=True)]
        found = _refined(first, _at(background, of_background[fold]))
        told += _told(other, found) / 2
    whole = _refined(concepts, background)
    return {
        layer: PlaceClassifier(W.float(), b.float(), told.clone())
        for layer, (W, b) in whole.items()
    }


_Weights = dict[str, tuple[Tensor, Tensor]]
"""W and b by layer."""


def _refined(concepts: Sequence[ByLayer], background: ByLayer) -> _Weights:
    """Return weights after a few steps, which begin with all candidates."""
    found = next(iter(concepts[0].values())).shape[1]
    count = max(1, round(TOP / CANDIDATES * found))
    chosen = [dict(own) for own in concepts]
    weights = _discriminants(chosen, background)
    for _ in range(STEPS):
        for k, own in enumerate(concepts):
            likely = _log_p(own, weights)[..., k + 1]
            best = likely.topk(count, 1).indices
            chosen[k] = {layer: _taken(X, best) for layer, X in own.items()}
        weights = _discriminants(chosen, background)
    return weights


def _discriminants(chosen: Sequence[ByLayer], background: ByLayer) -> _Weights:
    return {
        layer: discriminant([X.flatten(0, 1), *(own[layer].flatten(0, 1) for own in chosen)])
        for layer, X in background.items()
    }


def discriminant(groups: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return W [G, C] and b [G] of linear discriminant analysis, with equal priors.

    Args:
        groups: Activations of each group [N_g, C].

    Example:
        >>> groups = [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]])]
        >>> W, b = discriminant(groups)
        >>> (groups[1] @ W.T.float() + b.float()).argmax(1)
        tensor([1, 1])
    """
    means = torch.stack([X.mean(0) for X in groups])
    away = [X - mean for X, mean in zip(groups, means, strict=True)]
    S = torch.stack([(X.T @ X).double() / len(X) for X in away]).mean(0)
    means = means.double()
    scale = S.diagonal().mean()
    if not scale > 0:  # groups of points, such as dead channels
        return torch.zeros_like(means), means.new_zeros(len(means))
    ridge = SHRINKAGE * scale * torch.eye(len(S), dtype=S.dtype, device=S.device)
    W = torch.linalg.solve(S + ridge, means.T).T
    return W, -(W * means).sum(1) / 2


def _log_p(X: ByLayer, weights: _Weights) -> Tensor:
    """Return the sum over layers of log p at locations [n, t, K + 1]."""
    every = [(X[layer] @ W.T.to(X[layer]) + b.to(X[layer])) for layer, (W, b) in weights.items()]
    return torch.stack(every).log_softmax(3).sum(0)


def _told(concepts: Sequence[ByLayer], weights: _Weights) -> Tensor:
    """Return the AUC of every concept against every other [K, K]; 1 for itself."""
    K = len(concepts)
    own = [_log_p(X, weights)[..., 1:] for X in concepts]
    told = torch.ones(K, K)
    for k in range(K):
        rest = [j for j in range(K) if j != k]
        odds = [(p[..., k] - p[..., rest].amax(2)).amax(1) for p in own]
        for j in rest:
            told[k, j] = auc_of(odds[k], odds[j])
    return told


def _at(X: ByLayer, positions: Tensor) -> dict[str, Tensor]:
    return {layer: each[positions] for layer, each in X.items()}


def _taken(X: Tensor, at: Tensor) -> Tensor:
    """Return the rows [n, t, C] of tables [n, P, C] at positions [n, t]."""
    return X.gather(1, at[..., None].expand(-1, -1, X.shape[2]))
