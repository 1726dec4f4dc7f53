"""Alignment of a layer with the space of an image-text model, and the direction of a text.

Letters and shapes: G [n, C] the GAP activations of n probe images at a layer, E [n, D] their
embeddings in the joint space, t [D] a text's embedding less that of neutral texts, s = E.t [n] how
similar the images are to the text, s^ [n] the part of it that the layer knows linearly.

Ridge regression predicts E from G; of images that were held out it tells how well (R2). The
direction is the pattern of the predicted similarity, v = cov(G, s^): what the layer does as
an image becomes more like the text. That is step 1 of the method with similarities in place of
examples: for s of ones (examples) and zeros (negatives), v is the difference of means, up to its
length. (The weights of the regression are a filter, which depends on the penalty and has little in
common with that difference; Haufe et al. 2014, NeuroImage 87:96-110.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "R2_FINE",
    "R2_USABLE",
    "Ridge",
    "held_out",
    "r2",
    "r2_interval",
    "redrawn_directions",
    "text_direction",
    "text_level",
]

R2_FINE, R2_USABLE = 0.5, 0.2
"""The R2 of a text on held-out images (lower end) from which it is fine, and may be looked at."""

FOLDS = 5
_PENALTIES = 10.0 ** torch.arange(-8, 2, dtype=torch.float64)
"""Penalties to choose from, as shares of the largest squared singular value."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """Ridge regression of E on G, with the penalty that leave-one-out residuals choose.

    Attributes:
        centre: The mean of G [C].
        mean: The mean of E [D].
        V: Principal axes of G [C, r].
        shrinkage: How much of each axis is kept, S^2 / (S^2 + penalty) [r].
        weights: The weights [C, D].
        penalty: The penalty, as a share of the largest squared singular value.
    """

    centre: Tensor
    mean: Tensor
    V: Tensor
    shrinkage: Tensor
    weights: Tensor
    penalty: float

    @classmethod
    def fit(cls, G: Tensor, E: Tensor) -> Ridge:
        """Fit E to G.

        Args:
            G: GAP activations [n, C].
            E: Embeddings [n, D].

        Example:
            >>> G = torch.eye(8, dtype=torch.float64)[:, :4]
            >>> found = Ridge.fit(G, 2 * G[:, :1])
            >>> torch.allclose(found.predict(G), 2 * G[:, :1], atol=1e-6)
            True
        """
        G, E = G.double(), E.double()
        centre, mean = G.mean(0), E.mean(0)
        U, S, Vt = torch.linalg.svd(G - centre, full_matrices=False)
        squared = S.square()
        kept = squared > squared[0] * torch.finfo(torch.float64).eps * len(G)
        U, S, V, squared = U[:, kept], S[kept], Vt[kept].T, squared[kept]
        along = U.T @ (E - mean)  # [r, D]
        penalties = _PENALTIES * (squared[0] if len(squared) else 1.0)
        errors = [_left_out(U, squared / (squared + each), along, E - mean) for each in penalties]
        best = int(torch.stack(errors).argmin())
        shrinkage = squared / (squared + penalties[best])
        weights = V @ ((shrinkage / S)[:, None] * along)
        return cls(centre, mean, V, shrinkage, weights, float(_PENALTIES[best]))

    def predict(self, G: Tensor) -> Tensor:
        """Return the predicted embeddings [n, D] of activations [n, C]."""
        return (G.double() - self.centre) @ self.weights + self.mean

    def known(self, v: Tensor) -> Tensor:
        """Return the part of covariances with E [..., C] that is that with predictions."""
        return ((v @ self.V) * self.shrinkage) @ self.V.T


def _left_out(U: Tensor, shrinkage: Tensor, along: Tensor, E: Tensor) -> Tensor:
    """Return the mean squared leave-one-out residual, in closed form."""
    leverage = 1 / len(U) + U.square() @ shrinkage
    residual = E - (U * shrinkage) @ along
    return (residual / (1 - leverage).clamp(min=1e-12)[:, None]).square().mean()


def held_out(G: Tensor, E: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return predictions of images that the regression did not see, and the means without them.

    Args:
        G: GAP activations [n, C].
        E: Embeddings [n, D].
        seed: Seeds the division into five folds.

    Returns:
        Predicted embeddings [n, D], and for each image the mean embedding of the other folds
        [n, D], which a regression that knows nothing would predict.
    """
    predicted, mean = torch.empty_like(E, dtype=torch.float64), torch.empty_like(E).double()
    for out, rest in _folds(len(G), seed):
        ridge = Ridge.fit(G[rest], E[rest])
        predicted[out], mean[out] = ridge.predict(G[out]), ridge.mean
    return predicted, mean


def _folds(n: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for fold in range(FOLDS):
        out = order[fold::FOLDS]
        rest = torch.ones(n, dtype=torch.bool)
        rest[out] = False
        yield out, rest.nonzero()[:, 0]


def r2(Y: Tensor, predicted: Tensor, mean: Tensor) -> float:
    """Return 1 - sum (Y - predicted)^2 / sum (Y - mean)^2 over images and columns.

    Args:
        Y: True values [n] or [n, D].
        predicted: What the regression says of images it did not see.
        mean: What is said without it.

    Returns:
        1 for a perfect prediction, 0 or less for one that is no better than the mean.

    Example:
        >>> r2(torch.tensor([1.0, 3.0]), torch.tensor([1.5, 2.5]), torch.tensor([2.0, 2.0]))
        0.75
    """
    total = (Y - mean).square().sum()
    return float(1 - (Y - predicted).square().sum() / total) if total > 0 else 0.0


def r2_interval(
    Y: Tensor, predicted: Tensor, mean: Tensor, seed: int = 0, draws: int = 1000
) -> tuple[float, float]:
    """Return the 95 % interval of `r2` over the choice of images, by bootstrap.

    Args:
        Y: True values [n].
        predicted: As for `r2` [n].
        mean: As for `r2` [n].
        seed: Seeds the draws.
        draws: Their number.
    """
    errors = torch.stack([(Y - predicted).square(), (Y - mean).square()])
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(Y), (draws, len(Y)), generator=generator)
    left, total = errors[:, rows].sum(2)
    values = 1 - left / total.clamp(min=torch.finfo(torch.float64).tiny)
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high


def text_direction(G: Tensor, s: Tensor, ridge: Ridge | None) -> Tensor:
    """Return v = cov(G, s^) [C], the direction of a text.

    Args:
        G: GAP activations [n, C].
        s: Similarities to the text [n].
        ridge: The regression that says how much of s the layer knows; None where s is the
            network's own score, all of which it knows.

    Example:
        >>> G = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> text_direction(G, torch.tensor([1.0, 1.0, 0.0, 0.0]), None)  # (means - means) / 4
        tensor([ 0.5000, -0.2500], dtype=torch.float64)
    """
    G, s = G.double(), s.double()
    v = (G - G.mean(0)).T @ (s - s.mean()) / len(G)
    return v if ridge is None else ridge.known(v)


def redrawn_directions(G: Tensor, s: Tensor, ridge: Ridge | None, count: int, seed: int) -> Tensor:
    """Return the directions of a text from images drawn again with replacement [count, C].

    Args:
        G: GAP activations [n, C].
        s: Similarities to the text [n].
        ridge: As for `text_direction`; its penalty and axes stay.
        count: The number of draws.
        seed: Seeds the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    n = len(G)
    share = torch.full((count, n), 1 / n, dtype=torch.float64)
    rows = torch.randint(n, (count, n), generator=generator)
    weights = torch.zeros(count, n, dtype=torch.float64).scatter_add_(1, rows, share)
    G, s = G.double(), s.double()
    v = (weights * s) @ G - (weights @ s)[:, None] * (weights @ G)
    return v if ridge is None else ridge.known(v)


def text_level(low: float) -> str:
    """Return how far a text may be relied on, by the lower end of its R2; empty for NaN.

    Example:
        >>> [text_level(low) for low in (0.7, 0.3, 0.1, float("nan"))]
        ['fine', 'look', 'do not use', '']
    """
    if low >= R2_FINE:
        return "fine"
    if low > R2_USABLE:
        return "look"
    return "do not use" if low <= R2_USABLE else ""
