"""The passes of example images through the network that CAVs are learned from.

Feature maps of the first pass are set aside in a temporary file up to a budget; images beyond it
pass through the network a second time. In memory stays what is pooled, whatever the number of
images.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from vtcav.errors import ImageError
from vtcav.files.spill import Spilled, SpillFile
from vtcav.images.batches import Batches
from vtcav.images.concepts import ImageSet, check_enough
from vtcav.images.preprocess import to_tensor
from vtcav.images.progress import Progress, progress_bar
from vtcav.images.references import ImageRef, Skipped, UnreadableError, report_skipped
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.results.image_set import PRINT_SIDE, SetEvidence, picture_print

if TYPE_CHECKING:
    from vtcav.explainer.learning.learning_cache import LearnedCache
    from vtcav.images.facts import Fact

__all__ = [
    "KEPT_BYTES",
    "LearnedSet",
    "Pass",
    "feature_maps",
    "first_passes",
    "look_at",
    "looking_at",
]

KEPT_BYTES = 1 << 30  # on disk
THUMBNAILS = 6
THUMBNAIL_SIDE = 96


@dataclass(eq=False)
class LearnedSet:
    """What is known of one set of images after the first pass."""

    source: ImageSet
    used: list[ImageRef] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    pooled: dict[str, Tensor] = field(default_factory=dict)
    aside: list[Spilled] = field(default_factory=list)
    kept: list[dict[str, Tensor]] = field(default_factory=list)  # in memory, instead of aside
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)
    prints: NDArray[np.uint8] = field(
        default_factory=lambda: np.zeros((0, PRINT_SIDE, PRINT_SIDE), np.uint8)
    )
    facts: list[Fact] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def mean(self, layer: str) -> Tensor:
        """Return the mean GAP activation [C], in double precision."""
        return self.sums[layer] / len(self.used)

    def gap(self, layer: str) -> Tensor:
        """Return the GAP activations of all images [n, C]."""
        return self.pooled[layer]

    def evidence(self, layers: Sequence[str]) -> SetEvidence:
        """Return what the bank keeps of the set."""
        digests = dict(zip(self.used, self.digests, strict=False)) | {
            ref: fact.digest for ref, fact in zip(self.source.refs, self.facts, strict=False)
        }
        origins = tuple(ref.origin() for ref in self.used)
        return SetEvidence(
            role=self.source.role,
            names=tuple(ref.name for ref in self.used),
            digests=tuple(digests.get(ref) or ref.digest() for ref in self.used),
            prints=self.prints,
            gap={layer: self.gap(layer).cpu() for layer in layers},
            origins=origins if any(origins) else (),
        )


@dataclass(frozen=True)
class Pass:
    """How images go through the network, where their maps wait, and what is known already.

    Attributes:
        model: The network.
        layers: Layer names.
        batch_size: Images per pass.
        strict: Whether an unreadable image is an error.
        scratch: Takes feature maps until the second pass.
        spare: How many other images room is left for in it.
        cache: Knows what was computed before.
    """

    model: Model
    layers: Sequence[str]
    batch_size: int
    strict: bool
    scratch: SpillFile = field(default_factory=lambda: SpillFile(0))  # keeps nothing
    spare: int = 0
    cache: LearnedCache | None = None


def first_passes(
    run: Pass, sets: Sequence[ImageSet], min_examples: int, progress: Progress
) -> dict[ImageSet, LearnedSet]:
    """Take every set through the network once, or what is not known of it."""
    learned: dict[ImageSet, LearnedSet] = {}
    for images in sets:
        try:
            entry = _first_pass(run, images, progress)
        except ImageError as error:
            raise ImageError(f"{images.role}: {error}") from error
        learned[images] = entry
        check_enough(images.role, len(entry.used), min_examples, skipped=len(entry.skipped))
    return learned


def looking_at(sets: Iterable[ImageSet], shown: bool | None) -> AbstractContextManager[Progress]:
    """Return the progress bar of the first passes of some sets."""
    return progress_bar("looking at images", sum(len(s.refs) for s in sets), shown=shown)


def look_at(run: Pass, images: ImageSet, shown: bool | None) -> SetEvidence:
    """Return the evidence of images that no concept is learned from.

    Raises:
        ImageError: When no image can be read, or one cannot and the pass is strict.
    """
    with looking_at([images], shown) as progress:
        learned = first_passes(run, [images], 1, progress)[images]
    return learned.evidence(run.layers)


def _first_pass(run: Pass, images: ImageSet, progress: Progress) -> LearnedSet:
    """Pool the activations of a set, as far as they are not in the cache."""
    if run.cache is None:
        return _computed(run, images, run.layers, progress)
    facts = run.cache.facts(images.refs)
    known = _recalled(run, images, facts)
    missing = [layer for layer in run.layers if known is None or layer not in known.pooled]
    if known is not None and not missing:
        progress.advance(len(images.refs))
        return known
    found = _computed(run, images, missing, progress)
    if known is not None and found.used != known.used:  # images changed in between
        known, missing = None, list(run.layers)
        found = _computed(run, images, missing, progress)
    if run.cache.unchanged(images.refs, facts):
        found.facts = facts
        _keep(run, found, missing)
    if known is not None:
        found.pooled |= known.pooled
        found.sums |= known.sums
    return found


def _computed(run: Pass, images: ImageSet, layers: Sequence[str], progress: Progress) -> LearnedSet:
    """Pool the activations of a set at layers, and set its feature maps aside."""
    learned = LearnedSet(images)
    wanted = _shown_of(images)
    batches = Batches(
        images.refs,
        run.model.preprocess,
        run.batch_size,
        strict=run.strict,
        progress=progress,
        digests=run.cache is None,  # which has taken them already
    )
    most = len(images.refs)
    prints = np.empty((most, PRINT_SIDE, PRINT_SIDE), np.uint8)
    keeps = True
    for batch in batches:
        maps = run.model.activations(batch.x, layers)
        check_finite(batch.names, maps)
        start, end = len(learned.used), len(learned.used) + len(batch.refs)
        for layer, F in maps.items():
            pooled = F.mean((2, 3))
            if layer not in learned.pooled:
                learned.pooled[layer] = pooled.new_empty((most, pooled.shape[1]))
            learned.pooled[layer][start:end] = pooled
            learned.sums[layer] = learned.sums.get(layer, 0) + pooled.double().sum(0)
        # what is set aside is the beginning of the set, without gaps
        each = sum(F[0].nbytes for F in maps.values())
        aside = run.scratch.add(maps, run.spare * each) if keeps else None
        keeps = aside is not None
        learned.aside += [aside] if aside is not None else []
        learned.used += batch.refs
        learned.digests += batch.digests
        for i, picture in enumerate(batch.pictures):
            prints[start + i] = picture_print(picture)
        for ref, picture in zip(batch.refs, batch.pictures, strict=True):
            if ref in wanted or not learned.thumbnails:
                learned.thumbnails.append(_thumbnail(picture))
    n = len(learned.used)
    learned.skipped = list(batches.skipped)
    learned.thumbnails = learned.thumbnails[:THUMBNAILS]
    learned.prints = prints[:n]
    learned.pooled = {layer: values[:n] for layer, values in learned.pooled.items()}
    return learned


def feature_maps(
    run: Pass, learned: LearnedSet, layers: Sequence[str]
) -> Generator[dict[str, Tensor]]:
    """Yield the feature maps of a set: those set aside, then the others from a second pass."""
    aside = learned.aside
    if any(layer not in aside[0].locations for layer in layers if aside):
        aside = []
    yield from learned.kept
    for place in aside:
        yield run.scratch.read(place, run.model.device)
    n = sum(len(next(iter(maps.values()))) for maps in learned.kept)
    rest = learned.used[n + len(aside) * run.batch_size :]
    if rest:
        for batch in Batches(rest, run.model.preprocess, run.batch_size, strict=True):
            yield run.model.activations(batch.x, layers)


# -- what is known already --------------------------------------------------------------------


def _recalled(run: Pass, images: ImageSet, facts: list[Fact]) -> LearnedSet | None:
    """Return what the cache knows of a set; None where it must be looked at anew."""
    look = run.cache.look(images, facts) if run.cache is not None else None
    if run.cache is None or look is None:
        return None
    used = [images.refs[i] for i in look["used"].tolist()]
    readable = set(used)
    left_out = [ref for ref in images.refs if ref not in readable]
    learned = LearnedSet(images, used, prints=look["prints"].numpy(), facts=facts)
    for ref in left_out:
        reason = _unreadable(run, ref)
        if reason is None:  # the machine can read it by now
            return None
        if run.strict:
            raise UnreadableError(ref.name, reason)
        learned.skipped.append(Skipped(ref.name, reason))
    wanted = _shown_of(images)
    try:
        learned.thumbnails = [
            _thumbnail(ref.load()) for i, ref in enumerate(used) if ref in wanted or i == 0
        ][:THUMBNAILS]
    except ImageError:
        return None
    for layer in run.layers:
        if found := run.cache.gap(images, facts, layer):
            learned.pooled[layer] = found["gap"].to(run.model.device)
            learned.sums[layer] = found["sums"].to(run.model.device)
    if len(learned.pooled) == len(run.layers):  # else the pass tells of them
        report_skipped(len(images.refs), len(used), learned.skipped)
    return learned


def _unreadable(run: Pass, ref: ImageRef) -> str | None:
    """Return why an image cannot be read, or None where it can."""
    try:
        to_tensor(run.model.preprocess, ref.load(), ref.name)
    except UnreadableError as error:
        return str(error.args[1])
    except ImageError as error:
        return str(error)
    return None


def _keep(run: Pass, learned: LearnedSet, layers: Sequence[str]) -> None:
    """Put what a pass found into the cache."""
    if run.cache is None:
        return
    used = set(learned.used)
    positions = [i for i, ref in enumerate(learned.source.refs) if ref in used]
    look = {"used": torch.tensor(positions), "prints": torch.tensor(learned.prints)}
    run.cache.keep_look(learned.facts, look)
    for layer in layers:
        tensors = {"gap": learned.pooled[layer], "sums": learned.sums[layer]}
        run.cache.keep_gap(learned.facts, layer, tensors)


def _shown_of(images: ImageSet) -> set[ImageRef]:
    """Return the images of a set that thumbnails are made of."""
    return {images.refs[i] for i in _spread(len(images.refs), THUMBNAILS)}


def _spread(count: int, wanted: int) -> list[int]:
    """Return positions spread evenly over a list."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def _thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    small = ImageOps.fit(picture, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small)
