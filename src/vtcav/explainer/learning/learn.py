"""Learning CAVs from images (steps 1 to 3 of the method) in bounded memory.

Directions need the mean activation of every set of images (`example_passes`), emblems then need
the raw maps of the same images (`raw_values`). Null and bootstrap CAVs (`drawn_cavs`) are
learned from the same two passes.

Sets that several concepts share, such as negatives, come first. Then each concept is finished by
itself: the feature maps of sets that it alone needs are kept until its own directions are known,
and their space is reused for the next concept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from vtcav.explainer.learning.drawn_cavs import ConceptCavs, DrawnCavs
from vtcav.explainer.learning.example_passes import (
    KEPT_BYTES,
    LearnedSet,
    Pass,
    first_passes,
    passes_shown,
)
from vtcav.explainer.learning.learning_cache import learning_cache
from vtcav.explainer.learning.place_classifiers import ClassifierLearning
from vtcav.explainer.learning.place_filters import PlaceLearning
from vtcav.explainer.learning.raw_values import RawValuesOf, raw_values
from vtcav.explainer.learning.zero_maps import zero_maps
from vtcav.explainer.settings import FitSettings
from vtcav.files.cache import Cache
from vtcav.files.hashing import json_hash
from vtcav.files.spill import SpillFile
from vtcav.images.concepts import Concept, ImageSet
from vtcav.images.progress import Progress
from vtcav.images.signature import signature
from vtcav.method.cav import Cavs, emblems
from vtcav.method.discriminant_map import SHRINKAGE
from vtcav.method.erasure.place_classifier import PlaceClassifier
from vtcav.method.erasure.place_filter import REFINEMENTS, TOP
from vtcav.method.variants import PAPER, PLACES, Variant
from vtcav.models.behaviour import behaviour
from vtcav.models.memory import free_memory
from vtcav.results.bank.cav_bank import CavBank, describe
from vtcav.results.bank.layer_cavs import LayerCavs
from vtcav.results.bank.zero_maps import ZeroMaps
from vtcav.results.image_set import ConceptRecord, ImageSetRecord
from vtcav.results.provenance import versions

CLASSES = 3
"""The classes that `explain` explains by default, whose tests count together."""

_MEMORY = 0.1  # share of a GPU's free memory for feature maps between the passes


def learn(
    run: Pass,
    concepts: Sequence[Concept],
    fit: FitSettings,
    variant: Variant = PAPER,
    *,
    cache: Cache | None = None,
    passes: Mapping[ImageSet, LearnedSet] | None = None,
    kept_bytes: int = KEPT_BYTES,
    shown: bool | None = None,
) -> CavBank:
    """Learn the CAVs of concepts at layers.

    Args:
        run: The network, the layers, and the images per pass.
        concepts: The concepts to learn.
        fit: How to learn them. The images are drawn already, so `fit.limit` is only recorded. The
            number of null CAVs is settled here where it is None.
        variant: How concepts are found: "paper", "filter" or "places".
        cache: The cache of intermediate results; the bank is the same to the last bit without it.
        passes: The results of first passes that have been made already, by set.
        kept_bytes: The most bytes on disk for feature maps between the passes. On a GPU as much is
            kept in its memory first, but at most a tenth of what is free.
        shown: Whether to show a progress bar; None shows it where the output is a terminal.

    Returns:
        The bank.

    Raises:
        ConceptError: When a set has too few readable images.
        ImageError: When `fit.strict` and an image is unreadable, or when no image of a set can be
            read.
        ModelError: When the network gives infinite values or NaN.
    """
    sets = list(dict.fromkeys(s for c in concepts for s in (c.examples, c.negatives)))
    drawn = ConceptCavs(fit, variant, len(run.layers) * len(concepts) * CLASSES)
    learned: dict[ImageSet, LearnedSet] = dict(passes or {})
    known = learning_cache(cache, run.model, run.layers, run.batch_size)
    with (
        SpillFile(kept_bytes, _gpu_bytes(run.model.device, kept_bytes)) as spill,
        passes_shown(sets, False if passes else shown) as progress,
    ):
        examples = dict.fromkeys(c.examples for c in concepts)
        run = replace(run, spill=spill, cache=known, scored=examples)
        raw, places, classifiers = _pass_all(run, concepts, fit, drawn, learned, progress)
        zero = zero_maps(run, [learned[images] for images in examples])
    if known is not None:
        known.cache.trim()
    records = {images: learned[images].record() for images in sets}
    return CavBank(
        concepts=tuple(_concept_record(c, learned, records) for c in concepts),
        layers={
            layer: replace(
                _layer_cavs(layer, drawn, raw, places, zero[layer]),
                classifier=classifiers.get(layer),
            )
            for layer in run.layers
        },
        thumbnails={c.name: np.stack(learned[c.examples].thumbnails) for c in concepts},
        fingerprint=run.model.fingerprint,
        preprocessing=signature(run.model.preprocess),
        described=describe(run.model),
        versions=versions(),
        settings=_settings(drawn.fit, variant) | {"runtime": run.model.runtime},
        sets=tuple(records.values()),
        contrast=tuple((sets.index(c.examples), sets.index(c.negatives)) for c in concepts),
        resampling=drawn.resampling,
        behaviour=behaviour(run.model, run.layers),
        from_cache={} if known is None else known.taken,
    )


def _pass_all(
    run: Pass,
    concepts: Sequence[Concept],
    fit: FitSettings,
    drawn: ConceptCavs,
    learned: dict[ImageSet, LearnedSet],
    progress: Progress,
) -> tuple[RawValuesOf, PlaceLearning | None, dict[str, PlaceClassifier]]:
    """Pass all sets through the network, drawing CAVs and learning place filters on the way.

    Returns:
        The raw values, the place filters, and the place classifiers of several concepts by layer.
    """
    shared, own = _shared_and_own(concepts, learned)
    raw: RawValuesOf = {}
    places = PlaceLearning(run) if run.erasure or drawn.variant == PLACES else None
    between = ClassifierLearning.of(run, concepts)

    def respond(images: ImageSet) -> None:
        raw.update(raw_values(run, learned[images], drawn.of(images)))
        if places is not None:
            places.respond(learned[images])

    reserved = max(sum(len(images.refs) for images in alone) for alone in own)
    learned |= first_passes(replace(run, reserved=reserved), shared, fit, progress)
    for c, alone in zip(concepts, own, strict=True):
        with run.spill.section():
            learned |= first_passes(run, alone, fit, progress)
            pair, finding = (learned[c.examples], learned[c.negatives]), None
            if places is not None:
                w = places.learn(c, *pair)
                if between is not None:
                    between.take(c, *pair, w)
                finding = places.drawn(c, *pair) if drawn.variant == PLACES else None
            drawn.draw(c, *pair, finding)
            for images in alone:
                respond(images)
    for images in learned:
        if not any(images in alone for alone in own):
            respond(images)
    if places is not None:
        places.keep()
    return raw, places, {} if between is None else between.classifiers()


def _settings(fit: FitSettings, variant: Variant) -> dict[str, Any]:
    """Return what the bank says of how it was learned."""
    constants: dict[str, Any] = {} if variant == PAPER else {"shrinkage": SHRINKAGE}
    if variant == PLACES:
        constants |= {"top": TOP, "refinements": REFINEMENTS}
    return {**asdict(fit), "variant": variant, **constants}


def _shared_and_own(
    concepts: Sequence[Concept], known: Container[ImageSet]
) -> tuple[list[ImageSet], list[list[ImageSet]]]:
    """Return the sets that several concepts need, and those that each concept needs alone.

    Known sets are left out.
    """
    needed = [
        [images for images in dict.fromkeys((c.examples, c.negatives)) if images not in known]
        for c in concepts
    ]
    times = Counter(images for sets in needed for images in sets)
    own = [[images for images in sets if times[images] == 1] for sets in needed]
    return [images for images, n in times.items() if n > 1], own


def _gpu_bytes(device: torch.device, most: int) -> int:
    """Return the bytes of a GPU's memory that feature maps may take between the passes.

    On a CPU this is 0: memory must not grow with the images, and the file is hardly slower,
    because the system keeps it in memory while there is space.
    """
    if device.type == "cpu":
        return 0
    return min(most, int(_MEMORY * free_memory(device)))


def _layer_cavs(
    layer: str,
    drawn: ConceptCavs,
    raw: RawValuesOf,
    places: PlaceLearning | None,
    zero: ZeroMaps,
) -> LayerCavs:
    """Return the CAVs of a layer."""
    cavs = {each: _cavs(layer, each, raw) for each in drawn.drawn}
    resampled = Cavs.joined([found.part(each.resampled) for each, found in cavs.items()])
    pos = [raw[layer, each, each.positives] for each in drawn.own]
    neg = [raw[layer, each, each.negatives] for each in drawn.own]
    return LayerCavs(
        **vars(Cavs.joined([cavs[each].part(range(each.own)) for each in drawn.own])),
        # copies, as a bank must not hold on to the values of all draws
        values_pos=tuple(found.values[:, 0].clone() for found in pos),
        values_neg=tuple(found.values[:, 0].clone() for found in neg),
        location_pos=torch.stack([found.location for found in pos]),
        location_neg=torch.stack([found.location for found in neg]),
        resampled=resampled if len(resampled.v) else None,
        places=None if places is None else places.filters(layer),
        zero=zero,
    )


def _cavs(layer: str, drawn: DrawnCavs, raw: RawValuesOf) -> Cavs:
    """Return directions and emblems of draws at a layer, steps 1 and 3."""
    pos, neg = (raw[layer, drawn, images] for images in (drawn.positives, drawn.negatives))
    return Cavs(
        drawn.v[layer].cpu(),
        emblems(pos.values, drawn.draws.positives),
        emblems(neg.values, drawn.draws.negatives),
        *(each[layer].cpu() if each else None for each in (drawn.w, drawn.offset)),
    )


def _concept_record(
    concept: Concept,
    learned: Mapping[ImageSet, LearnedSet],
    records: Mapping[ImageSet, ImageSetRecord],
) -> ConceptRecord:
    examples, negatives = learned[concept.examples], learned[concept.negatives]
    images = [records[images].digests for images in (concept.examples, concept.negatives)]
    given = {layer: v.cpu().tolist() for layer, v in concept.directions.items()}
    return ConceptRecord(
        concept.name,
        tuple(ref.name for ref in examples.used),
        tuple(ref.name for ref in negatives.used),
        tuple(examples.skipped),
        tuple(negatives.skipped),
        concept.origin,
        concept.texts,
        json_hash([*images, given]),
    )
