"""Parts of a layer's feature maps: how many there are, and how far each is found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExplanationError
from vtcav.explainer.discovery.sampling import Sample
from vtcav.method.discovery.factorisation import Factorisation, factorise, method_of
from vtcav.method.discovery.stability import Stability, choose_k, cosines

CANDIDATES = 4, 6, 8, 12, 16
"""The numbers of parts that "auto" chooses from: at most a third of the layer's channels.

With as many parts as channels every channel is a part of its own, which is always found again.
"""
STARTS = 3
"""Factorisations of the same places from other random starts; the best of them is kept."""

Array = NDArray[np.float32]
Check = Callable[[], None]


@dataclass(frozen=True, eq=False)
class LayerParts:
    """The parts of a layer's feature maps.

    Attributes:
        method: How feature maps are factorised.
        v: Directions [k, C].
        stability: How far each part is found again.
        noise: The highest cosine of each direction with one that is found in noise [k].
        error: The share of the places that k parts do not explain (`Factorisation.error`).
        tried: By k, the stability of its parts, for every k that was tried.
        seconds: How long it took.
    """

    method: str
    v: Array
    stability: Stability
    noise: NDArray[np.float64]
    error: float
    tried: dict[int, list[float]]
    seconds: float


def find_parts(
    sample: Sample, layer: str, noise: Array, k: int | str, seed: int, check: Check = lambda: None
) -> LayerParts:
    """Find the parts of a layer's feature maps.

    Args:
        sample: The places of the images.
        layer: The layer.
        noise: Feature maps at places of noise [n, C].
        k: The number of parts, or "auto".
        seed: Seeds the starts.
        check: Called before every factorisation; raises when the parts are not wanted any more.

    Raises:
        ExplanationError: For more parts than places or channels.
    """
    begun = perf_counter()
    X = sample.all(layer)
    found: dict[int, tuple[Factorisation, Stability]] = {}
    for count in _counts(k, layer, *X.shape):
        found[count] = _tested(X, sample.halves(layer), count, seed, check)
    chosen = choose_k({count: stability.lower for count, (_, stability) in found.items()})
    best, stability = found[chosen]
    return LayerParts(
        method=method_of(X),
        v=best.v,
        stability=stability,
        noise=cosines(best.v, factorise(noise, chosen, seed).v).max(1),
        error=best.error,
        tried={count: tested.lower.tolist() for count, (_, tested) in found.items()},
        seconds=perf_counter() - begun,
    )


def _tested(
    X: Array, halves: tuple[Array, Array], k: int, seed: int, check: Check
) -> tuple[Factorisation, Stability]:
    """Return the best of several factorisations, and how far its parts are found again."""

    def found(places: Array, start: int) -> Factorisation:
        check()
        return factorise(places, k, start)

    starts = [found(X, seed + i) for i in range(STARTS)]
    best = min(starts, key=lambda start: start.error)
    others = [start.v for start in starts if start is not best]
    return best, Stability.of(best.v, others, [found(half, seed).v for half in halves])


def _counts(k: int | str, layer: str, places: int, channels: int) -> list[int]:
    """Return the numbers of parts to try."""
    if isinstance(k, str):
        fitting = [count for count in CANDIDATES if count <= min(channels // 3, places // 4)]
        return fitting or [min(2, channels, places)]
    if k > min(channels, places // 2):
        raise ExplanationError(
            f"expected at most {min(channels, places // 2)} concepts at layer {layer!r}, which has "
            f"{channels} channels and {places} places in these images, got k={k}; take fewer, or "
            "k='auto'"
        )
    return [k]
