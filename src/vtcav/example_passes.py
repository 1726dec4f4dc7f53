"""The passes of example images through the network that CAVs are learned from.

Feature maps of the first pass are kept up to a budget; images beyond it pass through the network
a second time.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from vtcav.batches import Batches, check_finite
from vtcav.concepts import ImageSet, check_enough
from vtcav.errors import ImageError
from vtcav.evidence import SetEvidence, picture_print
from vtcav.images import ImageRef, Skipped
from vtcav.models.base import Model
from vtcav.progress import Progress, progress_bar

__all__ = ["KEPT_BYTES", "LearnedSet", "Pass", "feature_maps", "first_passes", "look_at"]

KEPT_BYTES = 1 << 30
THUMBNAILS = 6
THUMBNAIL_SIDE = 96


@dataclass(eq=False)
class LearnedSet:
    """What is known of one set of images after the first pass."""

    source: ImageSet
    used: list[ImageRef] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    pooled: dict[str, list[Tensor]] = field(default_factory=dict)
    kept: list[dict[str, Tensor]] = field(default_factory=list)
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)
    prints: list[NDArray[np.uint8]] = field(default_factory=list)

    def mean(self, layer: str) -> Tensor:
        """Return the mean GAP activation [C], in double precision."""
        return self.sums[layer] / len(self.used)

    def gap(self, layer: str) -> Tensor:
        """Return the GAP activations of all images [n, C]."""
        return torch.cat(self.pooled[layer])

    @property
    def not_kept(self) -> list[ImageRef]:
        """The images whose feature maps were not kept."""
        return self.used[sum(len(next(iter(maps.values()))) for maps in self.kept) :]

    def evidence(self, layers: Sequence[str]) -> SetEvidence:
        """Return what the bank keeps of the set."""
        origins = tuple(ref.origin() for ref in self.used)
        return SetEvidence(
            role=self.source.role,
            names=tuple(ref.name for ref in self.used),
            digests=tuple(ref.digest() for ref in self.used),
            prints=np.stack(self.prints),
            gap={layer: self.gap(layer).cpu() for layer in layers},
            origins=origins if any(origins) else (),
        )


@dataclass(frozen=True)
class Pass:
    """How images go through the network."""

    model: Model
    layers: Sequence[str]
    batch_size: int
    strict: bool


def first_passes(
    run: Pass, sets: Sequence[ImageSet], min_examples: int, budget: int, shown: bool | None
) -> dict[ImageSet, LearnedSet]:
    """Take every set through the network once."""
    learned: dict[ImageSet, LearnedSet] = {}
    total = sum(len(s.refs) for s in sets)
    with progress_bar("looking at images", total, shown=shown) as progress:
        for images in sets:
            try:
                entry, budget = _first_pass(run, images, budget, progress)
            except ImageError as error:
                raise ImageError(f"{images.role}: {error}") from error
            learned[images] = entry
            check_enough(images.role, len(entry.used), min_examples, skipped=len(entry.skipped))
    return learned


def look_at(run: Pass, images: ImageSet, shown: bool | None) -> SetEvidence:
    """Return the evidence of images that no concept is learned from.

    Raises:
        ImageError: When no image can be read, or one cannot and the pass is strict.
    """
    learned = first_passes(run, [images], 1, 0, shown)[images]
    return learned.evidence(run.layers)


def _first_pass(
    run: Pass, images: ImageSet, budget: int, progress: Progress
) -> tuple[LearnedSet, int]:
    """Sum the GAP activations of a set and keep what the budget allows of its feature maps."""
    learned = LearnedSet(images)
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
            pooled = F.mean((2, 3))
            learned.pooled.setdefault(layer, []).append(pooled)
            learned.sums[layer] = learned.sums.get(layer, 0) + pooled.double().sum(0)
        size = sum(F.nbytes for F in maps.values())
        if size <= budget:
            learned.kept.append(maps)
            budget -= size
        else:
            budget = 0  # what is kept is the beginning of the set, without gaps
        learned.used += batch.refs
        learned.prints += map(picture_print, batch.pictures)
        for ref, picture in zip(batch.refs, batch.pictures, strict=True):
            if ref in wanted or not learned.thumbnails:
                learned.thumbnails.append(_thumbnail(picture))
    learned.skipped = list(batches.skipped)
    learned.thumbnails = learned.thumbnails[:THUMBNAILS]
    return learned, budget


def feature_maps(run: Pass, learned: LearnedSet) -> Generator[dict[str, Tensor]]:
    """Yield the feature maps of a set: those kept, then the others from a second pass."""
    yield from learned.kept
    rest = learned.not_kept
    if rest:
        for batch in Batches(rest, run.model.preprocess, run.batch_size, strict=True):
            yield run.model.activations(batch.x, run.layers)


def _spread(count: int, wanted: int) -> list[int]:
    """Return positions spread evenly over a list."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def _thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    small = ImageOps.fit(picture, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small)
