"""Learning CAVs from images (steps 1 to 3 of the method) in bounded memory.

The directions need the mean activation of every set of images (`example_passes`), the emblems
then need the raw maps of the same images (`emblem_values`). Null and bootstrap CAVs
(`vtcav.method.resampling`) are learned from the same two passes.

Sets that several concepts share, such as negatives, go first. Then each concept is finished by
itself: the feature maps of sets that it alone needs wait for its own directions, and their room is
there for the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vtcav.errors import warn
from vtcav.explainer.learning.directions import Directions
from vtcav.explainer.learning.emblem_values import RawValues, raw_values
from vtcav.explainer.learning.example_passes import (
    KEPT_BYTES,
    LearnedSet,
    Pass,
    first_passes,
    looking_at,
)
from vtcav.explainer.learning.resampled_cavs import Families
from vtcav.files.spill import SpillFile
from vtcav.images.concepts import Concept, ImageSet
from vtcav.images.preprocess import signature
from vtcav.method.cav import LayerCavs, emblem
from vtcav.method.discriminant_map import SHRINKAGE
from vtcav.method.resampling import resampled_emblems
from vtcav.method.variants import PAPER, Variant
from vtcav.models.base import Model
from vtcav.models.heads.batch_size import free_memory
from vtcav.results.bank import CavBank, ConceptRecord, describe
from vtcav.results.provenance import versions

if TYPE_CHECKING:
    from vtcav.explainer.learning.learning_cache import LearnedCache
    from vtcav.files.cache import Cache

__all__ = ["learn"]

_MEMORY = 0.1  # of a GPU's that is free, for feature maps between the passes


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
    families = Families(concepts, null_cavs, bootstraps, seed)
    directions = Directions(layers, variant)
    learned: dict[ImageSet, LearnedSet] = dict(passes or {})
    shared, own = _apart(concepts, learned)
    raw: dict[ImageSet, dict[str, RawValues]] = {}
    with (
        SpillFile(kept_bytes, _in_memory(model.device, kept_bytes)) as scratch,
        looking_at(sets, False if passes else shown) as progress,
    ):
        run = Pass(model, layers, batch_size, strict, scratch, cache=known)
        spare = max(sum(len(images.refs) for images in alone) for alone in own)
        learned |= first_passes(replace(run, spare=spare), shared, min_examples, progress)
        for k, (c, alone) in enumerate(zip(concepts, own, strict=True)):
            with scratch.section():
                learned |= first_passes(run, alone, min_examples, progress)
                sizes = {images: len(learned[images].used) for images in (c.examples, c.negatives)}
                directions.learn(k, c, families.draw(sizes), learned)
                for images in alone:
                    blocks = families.blocks(images)
                    raw[images] = raw_values(run, learned[images], directions, blocks)
        for images in (images for images in sets if images not in raw):
            raw[images] = raw_values(run, learned[images], directions, families.blocks(images))
    if known is not None:
        known.end()
    return CavBank(
        concepts=tuple(_concept_record(c, learned) for c in concepts),
        layers={layer: _layer_cavs(layer, raw, concepts, families, directions) for layer in layers},
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
        resampling=families.resampling,
        from_cache={} if known is None else known.taken,
    )


def _apart(
    concepts: Sequence[Concept], known: Container[ImageSet]
) -> tuple[list[ImageSet], list[list[ImageSet]]]:
    """Return the sets that several concepts need, and those that each concept needs alone.

    Without those that are known.
    """
    needed = [
        [images for images in dict.fromkeys((c.examples, c.negatives)) if images not in known]
        for c in concepts
    ]
    times = Counter(images for sets in needed for images in sets)
    own = [[images for images in sets if times[images] == 1] for sets in needed]
    return [images for images, n in times.items() if n > 1], own


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
    from vtcav.explainer.learning.learning_cache import LearnedCache, preprocess_key
    from vtcav.files.cache import CacheWarning

    if not preprocess_key(model.preprocess):
        if not cache.asked:
            return None
        warn(
            f"nothing is cached: nobody can know what the preprocessing {model.preprocess!r} "
            "depends on; use a vtcav.Preprocess, or give it an attribute cache_key, a text that "
            "changes whenever it does",
            CacheWarning,
        )
        return None
    return LearnedCache(cache, model, layers, batch_size, versions())


def _layer_cavs(
    layer: str,
    raw: Mapping[ImageSet, Mapping[str, RawValues]],
    concepts: Sequence[Concept],
    families: Families,
    directions: Directions,
) -> LayerCavs:
    """Return the CAVs of a layer, of the concepts and resampled."""
    K, drawn = len(concepts), list(families)
    v, w = directions.all(layer, K, drawn), directions.filters(layer, K, drawn)
    here = {images: found[layer] for images, found in raw.items()}
    pos = [here[c.examples].of_concept(k).clone() for k, c in enumerate(concepts)]
    neg = [here[c.negatives].of_concept(k).clone() for k, c in enumerate(concepts)]
    resampled = None
    if drawn:
        e_pos = [
            resampled_emblems(here[f.positives].of_family(f), f.draws.positives) for f in drawn
        ]
        e_neg = [
            resampled_emblems(here[f.negatives].of_family(f), f.draws.negatives) for f in drawn
        ]
        resampled = LayerCavs(
            v[K:], torch.cat(e_pos), torch.cat(e_neg), w=None if w is None else w[K:]
        )
    return LayerCavs(
        v=v[:K],
        w=None if w is None else w[:K],
        e_pos=torch.stack([emblem(values) for values in pos]),
        e_neg=torch.stack([emblem(values) for values in neg]),
        values_pos=tuple(pos),
        values_neg=tuple(neg),
        place_pos=torch.stack([here[c.examples].places[k] for k, c in enumerate(concepts)]),
        place_neg=torch.stack([here[c.negatives].places[k] for k, c in enumerate(concepts)]),
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
