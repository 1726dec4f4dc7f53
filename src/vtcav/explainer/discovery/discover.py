"""Discovery in order: places, parts, responses, and what is told of each found concept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from vtcav.diagnostics.levels import BAD, FINE, LIMITS, LOOK
from vtcav.explainer.discovery.nearest import nearest
from vtcav.explainer.discovery.parts import STARTS, LayerParts, find_parts
from vtcav.explainer.discovery.patches import PATCHES, patches
from vtcav.explainer.discovery.responses import Responses, respond
from vtcav.explainer.discovery.sampling import NOISE_IMAGES, Sample, noise_places, sample_places
from vtcav.explainer.learning.example_passes import KEPT_BYTES, Pass
from vtcav.explainer.settings import DiscoverySettings
from vtcav.files.spill import SpillFile
from vtcav.images.progress import progress_bar
from vtcav.images.references import ImageRef
from vtcav.method.discovery.factorisation import check_installed
from vtcav.method.discovery.stability import STABLE
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.discovery.discovery import Discovery, no_attributions
from vtcav.results.discovery.found import FoundConcept, ImageKey
from vtcav.results.provenance import Provenance, versions

_NEAREST_NONE: dict[str, Any] = {"nearest": "", "cosine": math.nan, "auc": math.nan}


@dataclass(frozen=True, eq=False)
class _Layer:
    """All that is known of a layer.

    Attributes:
        name: The layer.
        parts: The parts of its feature maps.
        responses: What the images respond to each part.
        first: The number of the first of its concepts.
    """

    name: str
    parts: LayerParts
    responses: Responses
    first: int


def discover(
    run: Pass,
    refs: Sequence[ImageRef],
    settings: DiscoverySettings,
    bank: CavBank | None,
    shown: bool | None,
    check: Callable[[], None] = lambda: None,
) -> Discovery:
    """Find concepts that nobody named in images.

    Args:
        run: The network, the layers, and the images per pass.
        refs: The images.
        settings: How many concepts are looked for, and the seed.
        bank: The named concepts, among which the nearest is looked for; None for none.
        shown: Whether to show a progress bar; None shows it where the output is a terminal.
        check: Called before every factorisation; raises when the discovery is not wanted any more.

    Returns:
        The discovery, without a home.

    Raises:
        ExplanationError: For more concepts than a layer has channels.
        ExtraError: Without scikit-learn.
        ImageError: When no image can be read, or one cannot and `settings.strict` is set.
        ModelError: When the network gives infinite values or NaN.
    """
    check_installed()
    seed = settings.seed
    with (
        SpillFile(KEPT_BYTES) as spill,
        progress_bar("passing images", len(refs), shown=shown) as progress,
    ):
        run = replace(run, spill=spill)
        sample = sample_places(run, refs, seed, progress, strict=settings.strict)
        noise = noise_places(run, sample, seed)
        parts = {
            layer: find_parts(sample, layer, noise[layer], settings.k, seed, check)
            for layer in run.layers
        }
        responses = respond(run, sample.learned, {layer: own.v for layer, own in parts.items()})
    layers: list[_Layer] = []
    for layer in run.layers:
        first = sum(len(before.parts.v) for before in layers)
        layers.append(_Layer(layer, parts[layer], responses[layer], first))
    found = [concept for layer in layers for concept in _found(run, sample, layer, seed)]
    rows = [row for layer in layers for row in _rows(layer, bank, seed)]
    fine = Counter(row["layer"] for row in rows if row["level"] == FINE)
    return Discovery(
        layers=tuple(run.layers),
        images=len(sample.learned.used),
        skipped=tuple(sample.learned.skipped),
        provenance=_provenance(run, refs, settings),
        _concepts=pd.DataFrame(rows),
        _layers=pd.DataFrame([_summary(layer, sample, fine[layer.name]) for layer in layers]),
        _tried=pd.DataFrame([row for layer in layers for row in _tried(layer)]),
        _found=tuple(found),
        _attributions=no_attributions(),
    )


def _found(run: Pass, sample: Sample, layer: _Layer, seed: int) -> Iterator[FoundConcept]:
    """Yield the concepts of a layer, with the images that stand for them."""
    used, responses = sample.learned.used, layer.responses
    keys: dict[int, ImageKey] = {}

    def known(images: Sequence[int]) -> tuple[ImageKey, ...]:
        for i in images:
            keys[i] = keys.get(i) or ImageKey(used[i].name, used[i].digest())
        return tuple(keys[i] for i in images)

    for j, v in enumerate(layer.parts.v):
        examples = responses.examples(j)
        sheet = examples[:PATCHES]
        cells = responses.cells[sheet, j].tolist()
        e_pos, e_neg = responses.emblems(j, seed)
        yield FoundConcept(
            number=layer.first + j,
            layer=layer.name,
            v=v.copy(),
            e_pos=e_pos,
            e_neg=e_neg,
            examples=known(examples),
            negatives=known(responses.negatives(j, seed)),
            patches=patches(run.model, [used[i] for i in sheet], cells, sample.maps[layer.name]),
        )


def _rows(layer: _Layer, bank: CavBank | None, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what the table says of each concept of a layer."""
    parts, responses = layer.parts, layer.responses
    for j, stability in enumerate(parts.stability.lower.tolist()):
        e_pos, e_neg = responses.emblems(j, seed)
        level, note = judged(stability, float(parts.noise[j]), separated=e_pos > e_neg)
        yield {
            "concept": layer.first + j,
            "layer": layer.name,
            "examples": len(responses.examples(j)),
            "negatives": len(responses.negatives(j, seed)),
            "e_pos": e_pos,
            "e_neg": e_neg,
            "separated": e_pos > e_neg,
            "seeds": float(parts.stability.seeds[j]),
            "halves": float(parts.stability.halves[j]),
            "noise": float(parts.noise[j]),
            **_nearest(bank, layer, j),
            "note": note,
            "stability": stability,
            "prevalence": responses.prevalence(j, seed),
            "level": level,
        }


def judged(stability: float, noise: float, *, separated: bool = True) -> tuple[str, str]:
    """Return the level of a found concept, and why it is not fine.

    Args:
        stability: The lower of both matched cosines.
        noise: The highest cosine with a direction that is found in noise.
        separated: Whether the images that show it most respond more than others, e+ > e-.

    Example:
        >>> judged(0.9, 0.1), judged(0.9, 0.85)[0], judged(0.3, 0.1)[0]
        (('fine', ''), 'look', 'do not use')
    """
    level, notes = LIMITS.replication.level(stability), []
    if level != FINE:
        notes.append(
            f"unstable: {stability:z.2f}, below {STABLE:g}: another start, or half of the images, "
            "gives another direction"
        )
    if noise >= STABLE:
        level = LOOK if level == FINE else level
        notes.append(
            f"found in noise too (cosine {noise:z.2f}): it may be the network's own, and say "
            "nothing of these images"
        )
    if not separated:
        level = BAD
        notes.append(
            "no map: no image responds more than the others (e+ <= e-); it may stand for what is "
            "missing"
        )
    return level, "; ".join(notes)


def _nearest(bank: CavBank | None, layer: _Layer, j: int) -> dict[str, Any]:
    """Return the named concept whose direction is the closest, where the bank has this layer."""
    if bank is None or layer.name not in bank.layers:
        return _NEAREST_NONE
    found = nearest(layer.parts.v[j], bank, layer.name)
    return {"nearest": found.name, "cosine": found.cosine, "auc": found.auc}


def _summary(layer: _Layer, sample: Sample, fine: int) -> dict[str, Any]:
    parts, X = layer.parts, sample.all(layer.name)
    lower = parts.stability.lower
    return {
        "layer": layer.name,
        "factorisation": parts.method,
        "channels": X.shape[1],
        "places": len(X),
        "per_image": sample.per_image(layer.name),
        "k": len(lower),
        "fine": fine,
        "median": float(np.median(lower)),
        "error": parts.error,
        "seconds": parts.seconds,
    }


def _tried(layer: _Layer) -> Iterator[dict[str, Any]]:
    for k, lower in layer.parts.tried.items():
        stable = sum(value >= STABLE for value in lower)
        yield {"layer": layer.name, "k": k, "stable": stable, "median": float(np.median(lower))}


def _provenance(run: Pass, refs: Sequence[ImageRef], settings: DiscoverySettings) -> Provenance:
    said: Mapping[str, Any] = {
        **vars(settings),
        "images": len(refs),
        "starts": STARTS,
        "noise_images": NOISE_IMAGES,
    }
    made = Provenance.of(run.model, run.model.check_layers(list(run.layers)), None, said)
    return replace(made, versions=versions("scikit-learn"))
