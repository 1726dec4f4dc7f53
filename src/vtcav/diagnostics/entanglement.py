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

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtcav.diagnostics.stability import Resamples, direction_noise
from vtcav.method.cav import direction
from vtcav.results.image_set import ImageSetRecord


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
    pairs: list[tuple[ImageSetRecord, ImageSetRecord]],
    resamples: Resamples,
    given: Sequence[Tensor | None] = (),
) -> Entanglement:
    """Return the cosines between the directions of concepts at a layer.

    Args:
        pairs: Examples and negatives of each concept, K pairs.
        resamples: Of this layer.
        given: For each concept its direction [C], if it was not learned from the images, so that
            it has none of their chance errors. Empty where all were learned.
    """
    X, Y = ([resamples.centred(images) for images in sets] for sets in zip(*pairs, strict=True))
    v = [direction(x, y) for x, y in zip(X, Y, strict=True)]
    drawn = [resamples.bootstrap(a) - resamples.bootstrap(b) for a, b in pairs]
    fixed = np.array([False] * len(pairs))
    for k, known in enumerate(given):
        if known is not None:
            v[k] = known.double()
            drawn[k], fixed[k] = v[k].expand_as(drawn[k]), True
    shared = np.array([[a is b for _, b in pairs] for _, a in pairs])
    shared &= ~(fixed[:, None] | fixed)
    (own, own_draw), (common, common_draw) = _noise(X), _noise(Y)
    own, own_draw = np.where(fixed, 0, own), np.where(fixed, 0, own_draw)
    noise = np.where(shared, common, 0) + np.diag(own)
    # a bootstrap direction has the chance errors of the study and once more those of the draw
    noise_of_draws = noise + (np.where(shared, common_draw, 0) + np.diag(own_draw))
    products = np.array([[float(a @ b) for b in v] for a in v])
    resampled = np.array([[(a * b).sum(1).numpy() for b in drawn] for a in drawn])
    with np.errstate(invalid="ignore", divide="ignore"):
        length = np.sqrt(np.diag(products))
        raw = products / np.outer(length, length)
        chance = noise / np.outer(length, length)
        corrected = _cosines((products - noise)[..., None])[..., 0]
        draws = _cosines(resampled - noise_of_draws[..., None])
    ends = np.percentile(np.nan_to_num(draws), (2.5, 97.5), axis=-1)
    low, high = np.where(np.isfinite(draws).mean(-1) > 0.9, ends, np.nan)
    return Entanglement(raw, chance, corrected, low, high)


def _noise(sets: list[Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the chance errors of each set's mean, and of a bootstrap draw from it, each [K]."""
    n = np.array([len(images) for images in sets])
    study = np.array([direction_noise(images) if len(images) > 1 else np.nan for images in sets])
    return study, study * (n - 1) / n


def _cosines(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cosines from scalar products [K, K, B]; NaN where a squared length is not above 0."""
    squared = np.einsum("kkb->kb", products)
    length = np.sqrt(np.where(squared > 0, squared, np.nan))
    cosines: NDArray[np.float64] = products / (length[:, None] * length[None])
    return cosines.clip(-1, 1)
