"""Learning CAVs from images (steps 1 to 3 of the method) in bounded memory.

The directions need the mean activation of every set of images, the emblems then need the raw
maps of the same images (`vtcav.example_passes`). Null and bootstrap CAVs (`vtcav.resampling`) are
learned from the same two passes.
"""

from __future__ import annotations

import platform
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

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
from vtcav.variants import PAPER, Variant

__all__ = ["learn", "versions"]

_RAW_BYTES = 1 << 26  # of raw maps at a time


@dataclass(frozen=True, eq=False)
class _Family:
    """CAVs that are learned alike: J draws from one set against another.

    Attributes:
        positives: The set that plays the concept.
        negatives: The negatives.
        draws: The images of each CAV.
        columns: Where its directions stand among those of a layer.
    """

    positives: ImageSet
    negatives: ImageSet
    draws: Draws
    columns: range


@dataclass(frozen=True, eq=False)
class _Raw:
    """Of the raw maps of a set of images at a layer, what emblems and places need.

    Attributes:
        values: Contraharmonic means [n, j].
        columns: Positions of the j directions among those of the layer [j].
        place: Mean over images of each raw map over its sum, of the concepts among them.
    """

    values: Tensor
    columns: Tensor
    place: Tensor

    def of(self, columns: range) -> Tensor:
        """Return the values [n, len(columns)] of some directions, which lie side by side."""
        first = int((self.columns == columns.start).nonzero()[0])
        return self.values[:, first : first + len(columns)]


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
        kept_bytes: Budget for feature maps kept between the passes.
        variant: What finds the concepts: "paper" or "filter".

    Returns:
        The bank.

    Raises:
        ConceptError: When a set has too few readable images.
        ImageError: When `strict` and an image is unreadable, or when no image of a set is.
    """
    sets = list(dict.fromkeys(s for c in concepts for s in (c.examples, c.negatives)))
    run = Pass(model, layers, batch_size, strict)
    learned = first_passes(run, sets, min_examples, kept_bytes, shown)
    families, resampling = _families(concepts, learned, null_cavs, bootstraps, seed)
    V = {layer: _directions(layer, concepts, families, learned) for layer in layers}
    columns = {images: _columns(images, concepts, families) for images in sets}
    W = (
        None
        if variant == PAPER
        else {layer: _filters(layer, concepts, families, learned) for layer in layers}
    )
    finders = V if W is None else W
    raw = {
        images: _raw(run, learned[images], finders, columns[images], len(concepts))
        for images in sets
    }
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

    def add(positives: ImageSet, negatives: ImageSet, draws: Draws) -> range:
        start = len(concepts) + sum(len(family.draws) for family in families)
        families.append(_Family(positives, negatives, draws, range(start, start + len(draws))))
        return range(start - len(concepts), start - len(concepts) + len(draws))

    for c in concepts:
        n, m = len(learned[c.examples].used), len(learned[c.negatives].used)
        why = too_few(n, m) if null_cavs else "no null CAVs were asked for"
        key = (c.negatives, n)
        if not why and key not in shared:
            draws = null_draws(n, m, null_cavs, _seed("null", seed, n, m))
            shared[key] = add(c.negatives, c.negatives, draws)
        null.append(range(0) if why else shared[key])
        untested.append(why)
        draws = bootstrap_draws(n, m, bootstraps, _seed("bootstrap", seed, n, m, c.name))
        bootstrap.append(add(c.examples, c.negatives, draws) if bootstraps else range(0))
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


def _columns(
    images: ImageSet, concepts: Sequence[Concept], families: Sequence[_Family]
) -> list[int]:
    """Return which directions have to do with a set of images."""
    own = [k for k, c in enumerate(concepts) if images in (c.examples, c.negatives)]
    drawn = [f for f in families if images in (f.positives, f.negatives)]
    return own + [column for family in drawn for column in family.columns]


def _raw(
    run: Pass, learned: LearnedSet, V: Mapping[str, Tensor], columns: list[int], K: int
) -> dict[str, _Raw]:
    """Return, by layer, what emblems and places need of a set's raw maps; frees what was kept."""
    own = sum(column < K for column in columns)
    values: dict[str, list[Tensor]] = {layer: [] for layer in V}
    places: dict[str, Tensor] = {}
    with closing(feature_maps(run, learned)) as blocks:
        for maps in blocks:
            for layer, F in maps.items():
                here = V[layer][columns]
                values[layer].append(_contraharmonic_means(F, here))
                R = raw_map(F, here[:own])
                share = R / R.sum((2, 3), keepdim=True).clamp(min=torch.finfo(R.dtype).tiny)
                places[layer] = places.get(layer, 0) + share.sum(0)
    learned.kept.clear()
    at = torch.tensor(columns)
    n = len(learned.used)
    return {
        layer: _Raw(torch.cat(parts).cpu(), at, (places[layer] / n).cpu())
        for layer, parts in values.items()
    }


def _contraharmonic_means(F: Tensor, V: Tensor) -> Tensor:
    """Return those of the raw maps of many directions V [j, C]: [N, j], a few at a time."""
    size = max(1, _RAW_BYTES // (4 * len(F) * F.shape[2] * F.shape[3]))
    parts = [V[i : i + size] for i in range(0, len(V), size)]
    return torch.cat([contraharmonic_mean(raw_map(F, part)) for part in parts], 1)


def _layer_cavs(
    V: Tensor,
    raw: Mapping[ImageSet, _Raw],
    concepts: Sequence[Concept],
    families: Sequence[_Family],
) -> LayerCavs:
    """Return the CAVs of a layer, of the concepts and resampled."""
    K = len(concepts)
    V = V.cpu()
    pos = [raw[c.examples].of(range(k, k + 1))[:, 0].clone() for k, c in enumerate(concepts)]
    neg = [raw[c.negatives].of(range(k, k + 1))[:, 0].clone() for k, c in enumerate(concepts)]
    resampled = None
    if families:
        e_pos = [
            resampled_emblems(raw[f.positives].of(f.columns), f.draws.positives) for f in families
        ]
        e_neg = [
            resampled_emblems(raw[f.negatives].of(f.columns), f.draws.negatives) for f in families
        ]
        resampled = LayerCavs(V[K:], torch.cat(e_pos), torch.cat(e_neg))
    return LayerCavs(
        v=V[:K],
        e_pos=torch.stack([emblem(values) for values in pos]),
        e_neg=torch.stack([emblem(values) for values in neg]),
        values_pos=tuple(pos),
        values_neg=tuple(neg),
        place_pos=_places([raw[c.examples] for c in concepts]),
        place_neg=_places([raw[c.negatives] for c in concepts]),
        resampled=resampled,
    )


def _places(raw: Sequence[_Raw]) -> Tensor:
    """Return the place of concept k from the set at position k [K, h, w]."""
    at = [int((entry.columns == k).nonzero()[0]) for k, entry in enumerate(raw)]
    return torch.stack([entry.place[i] for entry, i in zip(raw, at, strict=True)])


def _concept_record(concept: Concept, learned: dict[ImageSet, LearnedSet]) -> ConceptRecord:
    examples, negatives = learned[concept.examples], learned[concept.negatives]
    return ConceptRecord(
        concept.name,
        tuple(ref.name for ref in examples.used),
        tuple(ref.name for ref in negatives.used),
        tuple(examples.skipped),
        tuple(negatives.skipped),
    )
