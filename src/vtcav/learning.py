"""Learning CAVs from images (steps 1 to 3 of the method) in bounded memory.

The directions need the mean activation of every set of images, the emblems then need the raw
maps of the same images (`vtcav.example_passes`). Null and bootstrap CAVs (`vtcav.resampling`) are
learned from the same two passes.
"""

from __future__ import annotations

import platform
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import torch
from torch import Tensor

from vtcav.budget import free_memory
from vtcav.cav import CavBank, ConceptRecord, LayerCavs, Resampling, describe, emblem
from vtcav.concept_map import contraharmonic_mean, raw_map
from vtcav.concepts import Concept, ImageSet
from vtcav.example_passes import KEPT_BYTES, LearnedSet, Pass, feature_maps, first_passes
from vtcav.filter_map import SHRINKAGE, filter_direction, filter_directions
from vtcav.models.base import Model
from vtcav.preprocess import signature
from vtcav.resampling import (
    Draws,
    bootstrap_draws,
    directions,
    null_draws,
    resampled_emblems,
    too_few,
)
from vtcav.scratch import Scratch
from vtcav.variants import PAPER, Variant

if TYPE_CHECKING:
    from vtcav.cache.learned import LearnedCache
    from vtcav.cache.store import Cache

__all__ = ["learn", "versions"]

_RAW_BYTES = 1 << 26  # of raw maps at a time
_MEMORY = 0.1  # of a GPU's that is free, for feature maps between the passes


@dataclass(frozen=True, eq=False)
class _Family:
    """CAVs that are learned alike: J draws from one set against another.

    Attributes:
        positives: The set that plays the concept.
        negatives: The negatives.
        draws: The images of each CAV.
        columns: Where its directions stand among those of a layer.
        concept: Position of the concept whose bootstrap CAVs they are; None for null CAVs.
    """

    positives: ImageSet
    negatives: ImageSet
    draws: Draws
    columns: range
    concept: int | None


@dataclass(frozen=True, eq=False)
class _Block:
    """Directions whose raw maps are looked at together on a set of images.

    What is computed of a block depends on no other, to the last bit, so that one more concept
    leaves the others as they are.

    Attributes:
        concept: Position of the concept whose direction comes first; None for null CAVs.
        drawn: Where the resampled directions stand among those of a layer.
    """

    concept: int | None
    drawn: range

    @property
    def columns(self) -> list[int]:
        """Positions of the directions among those of a layer [j]."""
        return [*([] if self.concept is None else [self.concept]), *self.drawn]


@dataclass(frozen=True, eq=False)
class _Raw:
    """Of the raw maps of a set of images at a layer, what emblems and places need.

    Attributes:
        values: Contraharmonic means [n, j] of each block.
        places: Mean over images of each concept's raw map over its sum [h, w].
    """

    values: dict[_Block, Tensor]
    places: dict[int, Tensor]

    def of_concept(self, k: int) -> Tensor:
        """Return the values [n] of a concept's direction."""
        [values] = [values for block, values in self.values.items() if block.concept == k]
        return values[:, 0]

    def of_drawn(self, columns: range) -> Tensor:
        """Return the values [n, len(columns)] of the directions of a family."""
        [values] = [values for block, values in self.values.items() if block.drawn == columns]
        return values[:, values.shape[1] - len(columns) :]


def learn(
    model: Model,
    layers: Sequence[str],
    concepts: Sequence[Concept],
    *,
    batch_size: int,
    min_examples: int,
    null_cavs: int = 0,
    bootstraps: int = 0,
    seed: int = 0,
    strict: bool = False,
    settings: dict[str, Any] | None = None,
    shown: bool | None = None,
    kept_bytes: int = KEPT_BYTES,
    variant: Variant = PAPER,
    cache: Cache | None = None,
    passes: Mapping[ImageSet, LearnedSet] | None = None,
) -> CavBank:
    """Learn the CAVs of concepts at layers.

    Args:
        model: The network.
        layers: Layer names, in the order of the network.
        concepts: What to learn.
        batch_size: Images per pass.
        min_examples: The fewest readable images a set may have.
        null_cavs: Null CAVs of each concept, which significance is tested against.
        bootstraps: Bootstrap CAVs of each concept, which intervals come from.
        seed: Seeds their draws.
        strict: Whether an unreadable image is an error.
        settings: Kept in the bank.
        shown: Whether to show a progress bar; None where someone may be watching.
        kept_bytes: Budget of disk for feature maps kept between the passes; on a GPU as much is
            kept in its memory before, but a tenth of what is free at most.
        variant: What finds the concepts: "paper" or "filter".
        cache: Knows what was computed of the same images before; the bank is the same to the
            last bit without.
        passes: What the first pass found of every set, where that is known already.

    Returns:
        The bank.

    Raises:
        ConceptError: When a set has too few readable images.
        ImageError: When `strict` and an image is unreadable, or when no image of a set is.
    """
    sets = list(dict.fromkeys(s for c in concepts for s in (c.examples, c.negatives)))
    known = _known(cache, model, layers, batch_size)
    with Scratch(kept_bytes, _in_memory(model.device, kept_bytes)) as scratch:
        run = Pass(model, layers, batch_size, strict, scratch, known)
        learned = passes or first_passes(run, sets, min_examples, shown)
        families, resampling = _families(concepts, learned, null_cavs, bootstraps, seed)
        V = {layer: _directions(layer, concepts, families, learned) for layer in layers}
        blocks = {images: _blocks(images, concepts, families) for images in sets}
        W = (
            None
            if variant == PAPER
            else {layer: _filters(layer, concepts, families, learned) for layer in layers}
        )
        finders = V if W is None else W
        raw = {images: _raw(run, learned[images], finders, blocks[images]) for images in sets}
    if known is not None:
        known.end()
    return CavBank(
        concepts=tuple(_concept_record(c, learned) for c in concepts),
        layers={
            layer: _with_filters(
                _layer_cavs(
                    V[layer], {images: raw[images][layer] for images in sets}, concepts, families
                ),
                None if W is None else W[layer].cpu(),
            )
            for layer in layers
        },
        thumbnails={c.name: np.stack(learned[c.examples].thumbnails) for c in concepts},
        fingerprint=model.fingerprint,
        preprocessing=signature(model.preprocess),
        described=describe(model),
        versions=versions(),
        settings={
            **(settings or {}),
            "min_examples": int(min_examples),
            "strict": strict,
            "null_cavs": int(null_cavs),
            "bootstraps": int(bootstraps),
            "variant": variant,
            **({} if variant == PAPER else {"shrinkage": SHRINKAGE}),
        },
        sets=tuple(learned[images].evidence(layers) for images in sets),
        contrast=tuple((sets.index(c.examples), sets.index(c.negatives)) for c in concepts),
        resampling=resampling,
        from_cache={} if known is None else known.taken,
    )


def versions() -> dict[str, str]:
    """Return the versions that numbers may depend on."""
    from vtcav import __version__

    return {
        "vtcav": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }


def _families(
    concepts: Sequence[Concept],
    learned: Mapping[ImageSet, LearnedSet],
    null_cavs: int,
    bootstraps: int,
    seed: int,
) -> tuple[list[_Family], Resampling]:
    """Draw the resampled CAVs; concepts of one size that share negatives share null CAVs."""
    families: list[_Family] = []
    shared: dict[tuple[ImageSet, int], range] = {}
    null, bootstrap, untested = [], [], []

    def add(
        positives: ImageSet, negatives: ImageSet, draws: Draws, concept: int | None = None
    ) -> range:
        start = len(concepts) + sum(len(family.draws) for family in families)
        columns = range(start, start + len(draws))
        families.append(_Family(positives, negatives, draws, columns, concept))
        return range(start - len(concepts), start - len(concepts) + len(draws))

    for k, c in enumerate(concepts):
        n, m = len(learned[c.examples].used), len(learned[c.negatives].used)
        why = too_few(n, m) if null_cavs else "no null CAVs were asked for"
        key = (c.negatives, n)
        if not why and key not in shared:
            draws = null_draws(n, m, null_cavs, _seed("null", seed, n, m))
            shared[key] = add(c.negatives, c.negatives, draws)
        null.append(range(0) if why else shared[key])
        untested.append(why)
        draws = bootstrap_draws(n, m, bootstraps, _seed("bootstrap", seed, n, m, c.name))
        bootstrap.append(add(c.examples, c.negatives, draws, k) if bootstraps else range(0))
    return families, Resampling(tuple(null), tuple(bootstrap), tuple(untested))


def _seed(*parts: object) -> int:
    """Return a seed that depends on nothing but these, so that concepts do not share draws."""
    return zlib.crc32(" ".join(map(str, parts)).encode())


def _directions(
    layer: str,
    concepts: Sequence[Concept],
    families: Sequence[_Family],
    learned: Mapping[ImageSet, LearnedSet],
) -> Tensor:
    """Return the directions of all concepts, then of all resampled CAVs [K + J, C]."""
    own = [learned[c.examples].mean(layer) - learned[c.negatives].mean(layer) for c in concepts]
    again = [
        directions(learned[f.positives].gap(layer), learned[f.negatives].gap(layer), f.draws)
        for f in families
    ]
    return torch.cat([torch.stack(own).float(), *again])


def _filters(
    layer: str,
    concepts: Sequence[Concept],
    families: Sequence[_Family],
    learned: Mapping[ImageSet, LearnedSet],
) -> Tensor:
    """Return the filters of all concepts, then of all resampled CAVs [K + J, C]."""
    own = [
        filter_direction(learned[c.examples].gap(layer), learned[c.negatives].gap(layer))
        for c in concepts
    ]
    again = [
        filter_directions(learned[f.positives].gap(layer), learned[f.negatives].gap(layer), f.draws)
        for f in families
    ]
    return torch.cat([torch.stack(own), *again]).float()


def _with_filters(cavs: LayerCavs, W: Tensor | None) -> LayerCavs:
    """Return the CAVs of a layer with the filters [K + J, C] that find them."""
    if W is None:
        return cavs
    K, resampled = len(cavs.v), cavs.resampled
    return replace(cavs, w=W[:K], resampled=resampled and replace(resampled, w=W[K:]))


def _in_memory(device: torch.device, most: int) -> int:
    """Return the bytes of a GPU's memory that feature maps may take between the passes.

    The memory of the processor stays free: it must not grow with the images, and the file is hardly
    slower, for the system keeps it in memory as long as there is room.
    """
    if device.type == "cpu":
        return 0
    return min(most, int(_MEMORY * free_memory(device)))


def _known(
    cache: Cache | None, model: Model, layers: Sequence[str], batch_size: int
) -> LearnedCache | None:
    if cache is None:
        return None
    from vtcav.cache.learned import LearnedCache, preprocess_key
    from vtcav.cache.store import CacheWarning

    if not preprocess_key(model.preprocess):
        if not cache.asked:
            return None
        warnings.warn(
            f"nothing is cached: nobody can know what the preprocessing {model.preprocess!r} "
            "depends on; use a vtcav.Preprocess, or give it an attribute cache_key, a text that "
            "changes whenever it does",
            CacheWarning,
            stacklevel=4,
        )
        return None
    return LearnedCache(cache, model, layers, batch_size, versions())


def _blocks(
    images: ImageSet, concepts: Sequence[Concept], families: Sequence[_Family]
) -> list[_Block]:
    """Return the directions that have to do with a set of images."""
    blocks = []
    drawn = {f.concept: f.columns for f in families if f.concept is not None}
    for k, c in enumerate(concepts):
        if images in (c.examples, c.negatives):
            blocks.append(_Block(k, drawn.get(k, range(0))))
    null = [f.columns for f in families if f.concept is None and f.negatives is images]
    return blocks + [_Block(None, columns) for columns in null]


def _raw(
    run: Pass, learned: LearnedSet, V: Mapping[str, Tensor], blocks: Sequence[_Block]
) -> dict[str, _Raw]:
    """Return, by layer, what emblems and places need of a set's raw maps."""
    found = {layer: _Raw({}, {}) for layer in V}
    missing: dict[str, list[_Block]] = {}
    for layer, raw in found.items():
        for block in blocks:
            if not _recall(run, learned, layer, V[layer], block, raw):
                missing.setdefault(layer, []).append(block)
    if not missing:
        return found
    n, start = len(learned.used), 0
    with closing(feature_maps(run, learned, list(missing))) as passing:
        for maps in passing:
            for layer, wanted in missing.items():
                for block in wanted:
                    _add(found[layer], maps[layer], V[layer], block, start, n)
            start += len(next(iter(maps.values())))
    keeps = run.cache is not None and run.cache.unchanged(learned.source.refs, learned.facts)
    for layer, wanted in missing.items():
        for block in wanted:
            if block.concept is not None:
                found[layer].places[block.concept] /= n
            if keeps:
                _keep(run, learned, layer, V[layer], block, found[layer])
    return found


def _add(raw: _Raw, F: Tensor, V: Tensor, block: _Block, start: int, n: int) -> None:
    """Take some feature maps: the images from `start` on, of n."""
    here = V[block.columns]
    if block not in raw.values:
        raw.values[block] = torch.empty(n, len(here))
    size = max(1, _RAW_BYTES // (4 * len(F) * F.shape[2] * F.shape[3]))
    for i in range(0, len(here), size):
        R = raw_map(F, here[i : i + size])
        means = contraharmonic_mean(R).cpu()
        raw.values[block][start : start + len(F), i : i + size] = means
        if i == 0 and block.concept is not None:
            own = R[:, 0]
            share = own / own.sum((1, 2), keepdim=True).clamp(min=torch.finfo(R.dtype).tiny)
            place = raw.places.get(block.concept, 0)
            raw.places[block.concept] = place + share.sum(0).cpu()


def _recall(
    run: Pass, learned: LearnedSet, layer: str, V: Tensor, block: _Block, raw: _Raw
) -> bool:
    """Take a block from the cache, where it is there."""
    if run.cache is None:
        return False
    kept = run.cache.raw(learned.source, learned.facts, layer, V[block.columns])
    if kept is None or (block.concept is not None and "place" not in kept):
        return False
    raw.values[block] = kept["values"]
    if block.concept is not None:
        raw.places[block.concept] = kept["place"]
    return True


def _keep(run: Pass, learned: LearnedSet, layer: str, V: Tensor, block: _Block, raw: _Raw) -> None:
    """Put a block into the cache."""
    if run.cache is None:
        return
    tensors = {"values": raw.values[block]}
    if block.concept is not None:
        tensors["place"] = raw.places[block.concept]
    run.cache.keep_raw(learned.facts, layer, V[block.columns], tensors)


def _layer_cavs(
    V: Tensor,
    raw: Mapping[ImageSet, _Raw],
    concepts: Sequence[Concept],
    families: Sequence[_Family],
) -> LayerCavs:
    """Return the CAVs of a layer, of the concepts and resampled."""
    K = len(concepts)
    V = V.cpu()
    pos = [raw[c.examples].of_concept(k).clone() for k, c in enumerate(concepts)]
    neg = [raw[c.negatives].of_concept(k).clone() for k, c in enumerate(concepts)]
    resampled = None
    if families:
        e_pos = [
            resampled_emblems(raw[f.positives].of_drawn(f.columns), f.draws.positives)
            for f in families
        ]
        e_neg = [
            resampled_emblems(raw[f.negatives].of_drawn(f.columns), f.draws.negatives)
            for f in families
        ]
        resampled = LayerCavs(V[K:], torch.cat(e_pos), torch.cat(e_neg))
    return LayerCavs(
        v=V[:K],
        e_pos=torch.stack([emblem(values) for values in pos]),
        e_neg=torch.stack([emblem(values) for values in neg]),
        values_pos=tuple(pos),
        values_neg=tuple(neg),
        place_pos=torch.stack([raw[c.examples].places[k] for k, c in enumerate(concepts)]),
        place_neg=torch.stack([raw[c.negatives].places[k] for k, c in enumerate(concepts)]),
        resampled=resampled,
    )


def _concept_record(concept: Concept, learned: Mapping[ImageSet, LearnedSet]) -> ConceptRecord:
    examples, negatives = learned[concept.examples], learned[concept.negatives]
    return ConceptRecord(
        concept.name,
        tuple(ref.name for ref in examples.used),
        tuple(ref.name for ref in negatives.used),
        tuple(examples.skipped),
        tuple(negatives.skipped),
    )
