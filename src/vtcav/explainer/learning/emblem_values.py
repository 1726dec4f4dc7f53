"""Of the raw maps of example images, what emblems and places need: the second pass (step 3)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.explainer.learning.directions import Directions
from vtcav.explainer.learning.example_passes import LearnedSet, Pass, feature_maps
from vtcav.explainer.learning.resampled_cavs import Block, Family
from vtcav.method.concept_map import contraharmonic_mean, raw_map

__all__ = ["RawValues", "raw_values"]

_BYTES = 1 << 26  # of raw maps at a time


@dataclass(frozen=True, eq=False)
class RawValues:
    """Of the raw maps of a set of images at a layer, what emblems and places need.

    Attributes:
        values: Contraharmonic means [n, j] of each block.
        places: Mean over images of each concept's raw map over its sum [h, w].
    """

    values: dict[Block, Tensor]
    places: dict[int, Tensor]

    def of_concept(self, k: int) -> Tensor:
        """Return the values [n] of a concept's direction."""
        [values] = [values for block, values in self.values.items() if block.concept == k]
        return values[:, 0]

    def of_family(self, family: Family) -> Tensor:
        """Return the values [n, J] of the directions of a family."""
        [values] = [values for block, values in self.values.items() if block.family is family]
        return values[:, values.shape[1] - len(family.draws) :]


def raw_values(
    run: Pass, learned: LearnedSet, directions: Directions, blocks: Sequence[Block]
) -> dict[str, RawValues]:
    """Look at the raw maps of a set of images.

    Args:
        run: How images go through the network.
        learned: What the first pass found of the set.
        directions: Those of the blocks, and perhaps others.
        blocks: What to look at.

    Returns:
        What is found, by layer.
    """
    found = {layer: RawValues({}, {}) for layer in directions.layers}
    missing: dict[str, list[Block]] = {}
    for layer, raw in found.items():
        for block in blocks:
            if not _recall(run, learned, layer, directions.of(layer, block), block, raw):
                missing.setdefault(layer, []).append(block)
    if not missing:
        return found
    n, start = len(learned.used), 0
    with closing(feature_maps(run, learned, list(missing))) as passing:
        for maps in passing:
            for layer, wanted in missing.items():
                for block in wanted:
                    V = directions.of(layer, block)
                    _add(found[layer], maps[layer], V, block, start, n)
            start += len(next(iter(maps.values())))
    keeps = run.cache is not None and run.cache.unchanged(learned.source.refs, learned.facts)
    for layer, wanted in missing.items():
        for block in wanted:
            if block.concept is not None:
                found[layer].places[block.concept] /= n
            if keeps:
                _keep(run, learned, layer, directions.of(layer, block), block, found[layer])
    return found


def _add(raw: RawValues, F: Tensor, V: Tensor, block: Block, start: int, n: int) -> None:
    """Take some feature maps: the images from `start` on, of n."""
    if block not in raw.values:
        raw.values[block] = torch.empty(n, len(V))
    size = max(1, _BYTES // (4 * len(F) * F.shape[2] * F.shape[3]))
    for i in range(0, len(V), size):
        R = raw_map(F, V[i : i + size])
        means = contraharmonic_mean(R).cpu()
        raw.values[block][start : start + len(F), i : i + size] = means
        if i == 0 and block.concept is not None:
            own = R[:, 0]
            share = own / own.sum((1, 2), keepdim=True).clamp(min=torch.finfo(R.dtype).tiny)
            place = raw.places.get(block.concept, 0)
            raw.places[block.concept] = place + share.sum(0).cpu()


def _recall(
    run: Pass, learned: LearnedSet, layer: str, V: Tensor, block: Block, raw: RawValues
) -> bool:
    """Take a block from the cache, where it is there."""
    if run.cache is None:
        return False
    kept = run.cache.raw(learned.source, learned.facts, layer, V)
    if kept is None or (block.concept is not None and "place" not in kept):
        return False
    raw.values[block] = kept["values"]
    if block.concept is not None:
        raw.places[block.concept] = kept["place"]
    return True


def _keep(
    run: Pass, learned: LearnedSet, layer: str, V: Tensor, block: Block, raw: RawValues
) -> None:
    """Put a block into the cache."""
    if run.cache is None:
        return
    tensors = {"values": raw.values[block]}
    if block.concept is not None:
        tensors["place"] = raw.places[block.concept]
    run.cache.keep_raw(learned.facts, layer, V, tensors)
