"""The second pass over example images: raw maps, whose values emblems are taken from (step 3).

The value of a raw map is its contraharmonic mean, that of a place filter its highest response.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor

from vtcav.explainer.learning.drawn_cavs import DrawnCavs
from vtcav.explainer.learning.example_passes import LearnedSet, Pass, feature_maps
from vtcav.explainer.learning.rows import Rows
from vtcav.images.concepts import ImageSet
from vtcav.method.concept_map import contraharmonic_mean, raw_map, response
from vtcav.method.positions import axes

_BYTES = 1 << 26  # of raw maps at a time


@dataclass(frozen=True, eq=False)
class RawValues:
    """The values of the raw maps of n images along the directions of J CAVs, at one layer.

    Attributes:
        values: Contraharmonic means, or highest responses [n, J].
        location: The mean over images of the first CAV's raw map, divided by its sum [h, w].
    """

    values: Tensor
    location: Tensor


RawValuesOf: TypeAlias = dict[tuple[str, DrawnCavs, ImageSet], RawValues]
"""Raw values by layer, CAVs and set of images."""


def raw_values(run: Pass, learned: LearnedSet, drawn: Sequence[DrawnCavs]) -> RawValuesOf:
    """Return the raw values of a set of images along the directions of CAVs.

    Args:
        run: How images pass through the network.
        learned: The set after the first pass.
        drawn: The CAVs.
    """
    images, entries = learned.source, learned.entries
    found: RawValuesOf = {}
    missing: dict[tuple[str, DrawnCavs], Rows] = {}
    places: dict[tuple[str, DrawnCavs], Tensor] = {}
    for layer, cavs in product(run.layers, drawn):
        sizes = {"n": len(learned.used), "J": len(cavs.finding(layer))}
        kept = entries.get(*_entry(cavs, layer), sizes) if entries else None
        if kept is None:
            missing[layer, cavs] = Rows(len(learned.used))
        else:
            found[layer, cavs, images] = RawValues(kept["values"], kept["place"])
    if not missing:
        return found
    layers = list(dict.fromkeys(layer for layer, _ in missing))
    with closing(feature_maps(run, learned, layers)) as passing:
        for maps in passing:
            for (layer, cavs), values in missing.items():
                own, place = _values(maps[layer], cavs, layer)
                values.add(own)
                places[layer, cavs] = places.get((layer, cavs), 0.0) + place
    keeps = entries is not None and entries.unchanged()
    for (layer, cavs), values in missing.items():
        raw = RawValues(values.rows, places[layer, cavs] / len(learned.used))
        found[layer, cavs, images] = raw
        if entries and keeps:
            kind, _, V = _entry(cavs, layer)
            entries.keep(kind, {"values": raw.values, "place": raw.location}, layer, V)
    return found


def _entry(cavs: DrawnCavs, layer: str) -> tuple[str, str, Tensor]:
    """Return the kind, layer and key of an entry of the cache."""
    V = cavs.finding(layer)
    if not cavs.offset:
        return "raw", layer, V
    return "response", layer, torch.cat([V, cavs.offset[layer][:, None]], 1)


def _values(F: Tensor, cavs: DrawnCavs, layer: str) -> tuple[Tensor, Tensor]:
    """Return values [N, J], and the sum of the first maps over their sums [h, w]."""
    V = cavs.finding(layer)
    size = max(1, _BYTES // (4 * F[:, 0].numel()))
    values = []
    for i in range(0, len(V), size):
        few = slice(i, i + size)
        if cavs.offset:
            R = response(F, V[few], cavs.offset[layer][few])
            values.append(R.flatten(2).amax(2))
        else:
            R = raw_map(F, V[few])
            values.append(contraharmonic_mean(R, R.ndim - 2))
        if i == 0:
            first = R[:, 0].relu()
            total = first.sum(axes(first, 1), keepdim=True).clamp(min=torch.finfo(R.dtype).tiny)
            location = (first / total).sum(0).cpu()
    return torch.cat(values, 1).cpu(), location
