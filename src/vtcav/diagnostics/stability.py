"""Stability: how much a direction depends on the images that it was learned from.

The direction is a difference of two means, so its sampling covariance has a closed form,
Cov = S1 / n1 + S2 / n2. Resampling gives the same without a formula, and also the effect of other
negatives.

One number holds all of this together: the **replication cosine**, the cosine to be expected between
the directions of two studies of this size, each with images of its own. With d the true direction
it is |d|^2 / (|d|^2 + tr Cov): 0 when the direction is noise, 1/2 when noise and direction are of
one size.

Letters and shapes: X [n, C] and Y [m, C] the GAP activations of examples and negatives, v [C].
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from vtcav.errors import CavError
from vtcav.method.cav import direction
from vtcav.results.image_set import ImageSetRecord

ROUNDING = 1e-6
"""A direction shorter than this share of the activations is rounding (float32 has 6e-8)."""


def direction_noise(images: Tensor) -> float:
    """Return the share of one set in tr Cov: the sampling variance of its mean activation.

    Args:
        images: GAP activations [n, C], n at least 2.

    Example:
        >>> direction_noise(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
        1.0
    """
    return float(images.double().var(0, correction=1).sum() / len(images))


def is_zero(v: Tensor, images: Tensor) -> bool:
    """Whether a direction is 0 up to rounding, compared with the activations [n, C]."""
    scale = images.double().square().sum(1).mean().sqrt()
    return bool(v.double().norm() <= ROUNDING * scale)


def replication(positives: Tensor, negatives: Tensor) -> tuple[float, float]:
    """Return the replication cosine and the relative standard error, both in closed form.

    Args:
        positives: GAP activations of the concept's examples [n1, C], n1 at least 2.
        negatives: GAP activations of the negatives [n2, C], n2 at least 2.

    Returns:
        1 - tr Cov / |v|^2, no less than 0, and sqrt(tr Cov) / |v|. The first is the
        replication cosine because |v|^2 is |d|^2 + tr Cov on average.

    Raises:
        CavError: For fewer than 2 of either, or a direction of 0.

    Example:
        >>> X, Y = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [0.0]])
        >>> replication(X, Y)  # v = 2, variance 1
        (0.75, 0.5)
    """
    if len(positives) < 2 or len(negatives) < 2:
        raise CavError(
            "expected at least 2 examples and 2 negatives to see a spread, got "
            f"{len(positives)} and {len(negatives)}"
        )
    v = direction(positives.double(), negatives.double())
    squared = float(v.square().sum())
    if squared == 0:
        raise CavError("the direction is 0: examples and negatives have the same mean activation")
    share = (direction_noise(positives) + direction_noise(negatives)) / squared
    return max(0.0, 1 - share), share**0.5


def spearman_brown(stability: float, factor: float) -> float:
    """Return the replication cosine of `factor` times as many images.

    With factor k, k r / (1 + (k - 1) r) (Spearman 1910, Brown 1910). It is exact on average here,
    because k times as many images divide tr Cov by k. At least 0.

    Example:
        >>> spearman_brown(0.5, 2)
        0.6666666666666666
    """
    r = max(0.0, stability)
    return factor * r / (1 + (factor - 1) * r)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosines of pairs of directions [..., C]; NaN where one of them is 0."""
    cosines: Tensor = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return cosines


def curve_sizes(n: int, points: int = 6) -> list[int]:
    """Return the numbers of examples at which stability is measured, up to n / 2.

    Example:
        >>> curve_sizes(40), curve_sizes(5), curve_sizes(1)
        ([2, 3, 5, 8, 13, 20], [2], [])
    """
    half = n // 2
    if half < 1:
        return []
    sizes = np.geomspace(min(2, half), half, points).round().astype(int)
    return [int(size) for size in np.unique(sizes)]


class Resamples:
    """The mean activations of resampled sets of images at one layer.

    A set's draws depend on its images and the seed alone, not on the other sets; concepts that
    share their negatives share their draws.

    Args:
        origin: A point near the activations [C], subtracted from all of them to keep precision.
        layer: The layer.
        seed: Seeds the draws.
        count: The number of draws of each kind, B.
    """

    def __init__(self, origin: Tensor, layer: str, seed: int, count: int) -> None:
        self._origin = origin.double()
        self._layer = layer
        self._seed = seed
        self._count = count
        self._bootstraps: dict[int, Tensor] = {}
        self._halves: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def centred(self, images: ImageSetRecord) -> Tensor:
        """Return the activations of a set relative to the origin [n, C]."""
        return images.gap[self._layer].double() - self._origin

    def bootstrap(self, images: ImageSetRecord) -> Tensor:
        """Return the means of as many images, drawn with replacement [B, C]."""
        if id(images) not in self._bootstraps:
            n = len(images)
            rng = self._rng(images, "bootstrap", n)
            drawn = rng.multinomial(n, np.full(n, 1 / n), self._count)
            self._bootstraps[id(images)] = torch.tensor(drawn / n) @ self.centred(images)
        return self._bootstraps[id(images)]

    def halves(
        self, images: ImageSetRecord, size: int, *, keep: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the means of two disjoint draws of `size` images each [B, C].

        Args:
            images: The set.
            size: At most half of them.
            keep: Whether to keep the means for the next concept, as for shared negatives.
        """
        key = id(images), size
        if key in self._halves:
            return self._halves[key]
        rng = self._rng(images, "halves", size)
        order = rng.permuted(np.tile(np.arange(len(images)), (self._count, 1)), axis=1)
        weights = np.zeros((2, *order.shape))
        for part in (0, 1):
            np.put_along_axis(weights[part], order[:, part * size : (part + 1) * size], 1 / size, 1)
        first, second = (torch.tensor(part) @ self.centred(images) for part in weights)
        if keep:
            self._halves[key] = first, second
        return first, second

    def _rng(self, images: ImageSetRecord, kind: str, size: int) -> Generator:
        name = zlib.crc32("".join((images.role, kind, *images.digests)).encode())
        return np.random.default_rng([self._seed, name, size])
