"""Entanglement: how much the directions of several concepts have in common.

Concepts that are contrasted with one set of negatives share the chance errors of its mean, which
alone makes their cosines positive: two meaningless concepts of n images against the same m
negatives have n / (n + m) on average. The shared part is known, tr S2 / m, and subtracted; so is
what the errors add to the lengths.

Anything else that the examples of all concepts have in common (drawings against photographs, one
scanner against many) is no chance and stays: there the directions really are entangled.

Letters and shapes: v [K, C] directions of K concepts at one layer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtcav.diagnostics.stability import Resamples, direction_noise
from vtcav.method.cav import direction
from vtcav.results.image_set import ImageSetRecord

__all__ = ["Entanglement", "entanglement"]


class Entanglement(NamedTuple):
    """Cosines between the directions of concepts at one layer, each [K, K].

    Attributes:
        raw: Of the directions as they are; NaN where one of them is 0.
        chance: The part of `raw` that is due to shared negatives.
        corrected: Without that part and with lengths free of chance errors: the cosines to expect
            from many images. NaN where a direction is no longer than its chance errors.
        low: Lower end of the 95 % bootstrap interval of `corrected`.
        high: Upper end.
    """

    raw: NDArray[np.float64]
    chance: NDArray[np.float64]
    corrected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def entanglement(
    pairs: list[tuple[ImageSetRecord, ImageSetRecord]], resamples: Resamples
) -> Entanglement:
    """Return the cosines between the directions of concepts at a layer.

    Args:
        pairs: Examples and negatives of each concept, K pairs.
        resamples: Of this layer.
    """
    X = [resamples.centred(examples) for examples, _ in pairs]
    Y = [resamples.centred(negatives) for _, negatives in pairs]
    v = [direction(x, y) for x, y in zip(X, Y, strict=True)]
    drawn = [resamples.bootstrap(a) - resamples.bootstrap(b) for a, b in pairs]
    noise = np.array([_shared(pairs, X, Y, a, b) for a in range(len(v)) for b in range(len(v))])
    noise = noise.reshape(len(v), len(v), 2)
    products = np.array([[float(a @ b) for b in v] for a in v])
    # a bootstrap direction has the chance errors of the study and once more those of the draw
    resampled = np.array([[(a * b).sum(1).numpy() for b in drawn] for a in drawn])
    resampled -= noise.sum(-1)[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        length = np.sqrt(np.diag(products))
        raw = products / np.outer(length, length)
        chance = noise[..., 0] / np.outer(length, length)
        corrected = _cosines((products - noise[..., 0])[..., None])[..., 0]
        draws = _cosines(resampled)
    ends = np.percentile(np.nan_to_num(draws), (2.5, 97.5), axis=-1)
    low, high = np.where(np.isfinite(draws).mean(-1) > 0.9, ends, np.nan)
    return Entanglement(raw, chance, corrected, low, high)


def _shared(
    pairs: list[tuple[ImageSetRecord, ImageSetRecord]],
    X: list[Tensor],
    Y: list[Tensor],
    a: int,
    b: int,
) -> tuple[float, float]:
    """Return the chance errors that two directions share, and those of a bootstrap draw."""
    shared = [Y[a]] if pairs[a][1] is pairs[b][1] else []
    shared += [X[a]] if a == b else []
    study = [direction_noise(images) if len(images) > 1 else np.nan for images in shared]
    draw = [s * (len(images) - 1) / len(images) for s, images in zip(study, shared, strict=True)]
    return float(sum(study)), float(sum(draw))


def _cosines(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cosines from scalar products [K, K, B]; NaN where a squared length is not above 0."""
    squared = np.einsum("kkb->kb", products)
    length = np.sqrt(np.where(squared > 0, squared, np.nan))
    cosines: NDArray[np.float64] = products / (length[:, None] * length[None])
    return cosines.clip(-1, 1)
