"""Learning CAVs from images (steps 1 to 3 of the method) in bounded memory.

The directions need the mean activation of every set of images, the emblems then need the raw
maps of the same images. Feature maps of the first pass are kept up to a budget; images beyond it
pass through the network a second time.
"""

from __future__ import annotations

import platform
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from vtcav.batches import Batches, check_finite
from vtcav.cav import CavBank, ConceptRecord, LayerCavs, describe, emblem
from vtcav.concept_map import contraharmonic_mean, raw_map
from vtcav.concepts import Concept, ImageSet, check_enough
from vtcav.errors import ImageError
from vtcav.images import ImageRef, Skipped
from vtcav.models.base import Model
from vtcav.preprocess import signature
from vtcav.progress import Progress, progress_bar

__all__ = ["learn", "versions"]

KEPT_BYTES = 1 << 30
THUMBNAILS = 6
THUMBNAIL_SIDE = 96


@dataclass(eq=False)
class _Learned:
    """What is known of one set of images after the first pass."""

    source: ImageSet
    used: list[ImageRef] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    kept: list[dict[str, Tensor]] = field(default_factory=list)
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)

    def mean(self, layer: str) -> Tensor:
        """Return the mean GAP activation [C], in double precision."""
        return self.sums[layer] / len(self.used)

    @property
    def not_kept(self) -> list[ImageRef]:
        """The images whose feature maps were not kept."""
        return self.used[sum(len(next(iter(maps.values()))) for maps in self.kept) :]


@dataclass(frozen=True)
class _Pass:
    """How images go through the network."""

    model: Model
    layers: Sequence[str]
    batch_size: int
    strict: bool


def learn(
    model: Model,
    layers: Sequence[str],
    concepts: Sequence[Concept],
    *,
    batch_size: int,
    min_examples: int,
    strict: bool = False,
    settings: dict[str, Any] | None = None,
    shown: bool | None = None,
    kept_bytes: int = KEPT_BYTES,
) -> CavBank:
    """Learn the CAVs of concepts at layers.

    Args:
        model: The network.
        layers: Layer names, in the order of the network.
        concepts: What to learn.
        batch_size: Images per pass.
        min_examples: The fewest readable images a set may have.
        strict: Whether an unreadable image is an error.
        settings: Kept in the bank.
        shown: Whether to show a progress bar; None where someone may be watching.
        kept_bytes: Budget for feature maps kept between the passes.

    Returns:
        The bank.

    Raises:
        ConceptError: When a set has too few readable images.
        ImageError: When `strict` and an image is unreadable, or when no image of a set is.
    """
    sets = list(dict.fromkeys(s for c in concepts for s in (c.examples, c.negatives)))
    run = _Pass(model, layers, batch_size, strict)
    budget = kept_bytes
    learned: dict[ImageSet, _Learned] = {}
    total = sum(len(s.refs) for s in sets)
    with progress_bar("learning concepts", total, shown=shown) as progress:
        for images in sets:
            try:
                entry, budget = _first_pass(run, images, budget, progress)
            except ImageError as error:
                raise ImageError(f"{images.role}: {error}") from error
            learned[images] = entry
            check_enough(images.role, len(entry.used), min_examples, skipped=len(entry.skipped))
    directions = {
        layer: torch.stack(
            [learned[c.examples].mean(layer) - learned[c.negatives].mean(layer) for c in concepts]
        ).float()
        for layer in layers
    }
    emblems = {images: _emblems(run, learned[images], directions) for images in sets}
    return CavBank(
        concepts=tuple(_concept_record(c, learned) for c in concepts),
        layers={
            layer: LayerCavs(
                v=directions[layer].cpu(),
                e_pos=_diagonal([emblems[c.examples][layer] for c in concepts]),
                e_neg=_diagonal([emblems[c.negatives][layer] for c in concepts]),
            )
            for layer in layers
        },
        thumbnails={c.name: np.stack(learned[c.examples].thumbnails) for c in concepts},
        fingerprint=model.fingerprint,
        preprocessing=signature(model.preprocess),
        described=describe(model),
        versions=versions(),
        settings={**(settings or {}), "min_examples": int(min_examples), "strict": strict},
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


def _first_pass(
    run: _Pass, images: ImageSet, budget: int, progress: Progress
) -> tuple[_Learned, int]:
    """Sum the GAP activations of a set and keep what the budget allows of its feature maps."""
    learned = _Learned(images)
    chosen = _spread(len(images.refs), THUMBNAILS)
    wanted = {images.refs[i] for i in chosen}
    batches = Batches(
        images.refs,
        run.model.preprocess,
        run.batch_size,
        strict=run.strict,
        progress=progress,
    )
    for batch in batches:
        maps = run.model.activations(batch.x, run.layers)
        check_finite(batch.names, maps)
        for layer, F in maps.items():
            total = F.mean((2, 3)).double().sum(0)
            learned.sums[layer] = learned.sums.get(layer, 0) + total
        size = sum(F.nbytes for F in maps.values())
        if size <= budget:
            learned.kept.append(maps)
            budget -= size
        else:
            budget = 0  # what is kept is the beginning of the set, without gaps
        learned.used += batch.refs
        for ref, picture in zip(batch.refs, batch.pictures, strict=True):
            if ref in wanted or not learned.thumbnails:
                learned.thumbnails.append(_thumbnail(picture))
    learned.skipped = list(batches.skipped)
    learned.thumbnails = learned.thumbnails[:THUMBNAILS]
    return learned, budget


def _emblems(run: _Pass, learned: _Learned, directions: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return, by layer, the emblem of this set for every direction [K]."""
    values: dict[str, list[Tensor]] = {layer: [] for layer in directions}
    with closing(_feature_maps(run, learned)) as blocks:
        for maps in blocks:
            for layer, F in maps.items():
                values[layer].append(contraharmonic_mean(raw_map(F, directions[layer])))
    learned.kept.clear()
    return {layer: emblem(torch.cat(parts)).cpu() for layer, parts in values.items()}


def _feature_maps(run: _Pass, learned: _Learned) -> Generator[dict[str, Tensor]]:
    """Yield the feature maps of a set: those kept, then the others from a second pass."""
    yield from learned.kept
    rest = learned.not_kept
    if rest:
        for batch in Batches(rest, run.model.preprocess, run.batch_size, strict=True):
            yield run.model.activations(batch.x, run.layers)


def _diagonal(rows: Sequence[Tensor]) -> Tensor:
    """Return entry k of row k."""
    return torch.stack([row[k] for k, row in enumerate(rows)])


def _concept_record(concept: Concept, learned: dict[ImageSet, _Learned]) -> ConceptRecord:
    examples, negatives = learned[concept.examples], learned[concept.negatives]
    return ConceptRecord(
        concept.name,
        tuple(ref.name for ref in examples.used),
        tuple(ref.name for ref in negatives.used),
        tuple(examples.skipped),
        tuple(negatives.skipped),
    )


def _spread(count: int, wanted: int) -> list[int]:
    """Return positions spread evenly over a list."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def _thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    small = ImageOps.fit(picture, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small)
