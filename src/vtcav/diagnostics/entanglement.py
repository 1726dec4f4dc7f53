"""How much the directions of several concepts are one.

Concepts that are contrasted with one set of negatives share the chance errors of its mean, which
alone makes their cosines positive: two meaningless concepts of n images against the same m
negatives have n / (n + m) on average. What is shared is known, tr S2 / m, and taken off; so is
what the errors add to the lengths.

What the examples of all concepts have in common besides (drawings against photographs, one scanner
against many) is no chance and stays in: there the directions are entangled in truth.

Letters and shapes: v [K, C] directions of K concepts at one layer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtcav.diagnostics.stability import Resamples, direction_noise
from vtcav.results.image_set import SetEvidence

__all__ = ["Entanglement", "entanglement"]


class Entanglement:
    """Cosines between the directions of concepts at one layer, each [K, K].

    Attributes:
        raw: As the directions are; NaN where one of them is 0.
        chance: The part of `raw` that shared negatives put there.
        corrected: Without that part and with lengths free of chance errors: what many images
            would show. NaN where a direction is no longer than its chance errors.
        low: Lower end of the 95 % bootstrap interval of `corrected`.
        high: Upper end.
    """

    def __init__(
        self,
        raw: NDArray[np.float64],
        chance: NDArray[np.float64],
        corrected: NDArray[np.float64],
        low: NDArray[np.float64],
        high: NDArray[np.float64],
    ) -> None:
        self.raw, self.chance, self.corrected = raw, chance, corrected
        self.low, self.high = low, high


def entanglement(
    pairs: list[tuple[SetEvidence, SetEvidence]], resamples: Resamples
) -> Entanglement:
    """Return how the directions of concepts at a layer lie to each other.

    Args:
        pairs: Examples and negatives of each concept, K pairs.
        resamples: Of this layer.
    """
    X = [resamples.centred(examples) for examples, _ in pairs]
    Y = [resamples.centred(negatives) for _, negatives in pairs]
    v = [x.mean(0) - y.mean(0) for x, y in zip(X, Y, strict=True)]
    drawn = [resamples.bootstrap(a) - resamples.bootstrap(b) for a, b in pairs]
    noise = np.array([_shared(pairs, X, Y, a, b) for a in range(len(v)) for b in range(len(v))])
    noise = noise.reshape(len(v), len(v), 2)
    products = np.array([[float(a @ b) for b in v] for a in v])
    # a bootstrap direction has the chance errors of the study and once more those of the draw
    resampled = np.array([[_rows(a, b) for b in drawn] for a in drawn]) - noise.sum(-1)[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        length = np.sqrt(np.diag(products))
        raw = products / np.outer(length, length)
        chance = noise[..., 0] / np.outer(length, length)
        corrected = _cosines((products - noise[..., 0])[..., None])[..., 0]
        draws = _cosines(resampled)
    known = np.isfinite(draws).mean(-1) > 0.9
    low, high = np.nanpercentile(np.where(np.isfinite(draws), draws, 0), (2.5, 97.5), axis=-1)
    return Entanglement(
        raw,
        chance,
        corrected,
        np.where(known, low, np.nan),
        np.where(known, high, np.nan),
    )


def _shared(
    pairs: list[tuple[SetEvidence, SetEvidence]], X: list[Tensor], Y: list[Tensor], a: int, b: int
) -> tuple[float, float]:
    """Return the chance errors that two directions share, and those of a bootstrap draw."""
    shared = [Y[a]] if pairs[a][1] is pairs[b][1] else []
    shared += [X[a]] if a == b else []
    study = [direction_noise(images) if len(images) > 1 else np.nan for images in shared]
    draw = [s * (len(images) - 1) / len(images) for s, images in zip(study, shared, strict=True)]
    return float(sum(study)), float(sum(draw))


def _rows(a: Tensor, b: Tensor) -> NDArray[np.float64]:
    product: NDArray[np.float64] = (a * b).sum(1).numpy()
    return product


def _cosines(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cosines from scalar products [K, K, B]; NaN where a squared length is not above 0."""
    squared = np.einsum("kkb->kb", products)
    length = np.sqrt(np.where(squared > 0, squared, np.nan))
    cosines: NDArray[np.float64] = products / (length[:, None] * length[None])
    return cosines.clip(-1, 1)
