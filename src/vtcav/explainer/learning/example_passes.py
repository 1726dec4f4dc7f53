"""The passes of example images through the network that CAVs are learned from.

Feature maps of the first pass are kept in a temporary file up to a budget; the other images pass
through the network a second time. What stays in memory is pooled, whatever the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from vtcav.errors import ImageError
from vtcav.explainer.learning.rows import Rows
from vtcav.explainer.settings import FitSettings
from vtcav.files.spill import Spilled, SpillFile
from vtcav.images.batches import Batches, prepared
from vtcav.images.concepts import ImageSet, check_enough
from vtcav.images.input_box import viewed
from vtcav.images.progress import Progress, progress_bar
from vtcav.images.references import ImageRef, Skipped, UnreadableError, report_skipped
from vtcav.images.volumes import takes_volumes
from vtcav.method.positions import axes
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.models.foreign_errors import network_errors
from vtcav.results.image_set import HASH_SIDE, ImageSetRecord, perceptual_hash

if TYPE_CHECKING:
    from vtcav.explainer.learning.learning_cache import LearningCache, SetEntries


KEPT_BYTES = 1 << 30  # on disk
THUMBNAILS = 6
SCORED = 12
"""The images of a set whose logits are kept."""

THUMBNAIL_SIDE = 96
# Slices of scans of one organ are alike, so that near copies are found of pictures alone.
_NO_HASH = np.zeros((HASH_SIDE, HASH_SIDE), np.uint8)


@dataclass(eq=False)
class LearnedSet:
    """A set of images after the first pass.

    Attributes:
        source: The set.
        used: The n readable images.
        skipped: The others, with reasons.
        gap: GAP activations [n, C] by layer.
        logits: The mean of the logits over the images [T].
        logits_std: Their standard deviation over the images [T].
        some_logits: Those of up to `SCORED` images [m, T]; empty where no pass was whole.
        hashes: Perceptual hashes [16, 16] of the n images.
        thumbnails: A few of the images.
        digests: Digests of the images, as far as they are known.
        maps: The feature maps of the first images, batch by batch, in memory or in a file.
        entries: The set's entries in the cache; None without a cache, or if images have changed
            since the pass began.
    """

    source: ImageSet
    used: list[ImageRef] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    gap: dict[str, Tensor] = field(default_factory=dict)
    logits: Tensor = field(default_factory=lambda: torch.zeros(0))
    logits_std: Tensor = field(default_factory=lambda: torch.zeros(0))
    some_logits: Tensor = field(default_factory=lambda: torch.zeros(0))
    hashes: list[NDArray[np.uint8]] = field(default_factory=list)
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)
    digests: dict[ImageRef, str] = field(default_factory=dict)
    maps: list[Spilled] = field(default_factory=list)
    entries: SetEntries | None = None

    def record(self) -> ImageSetRecord:
        """Return the record that the bank keeps of the set."""
        origins = tuple(ref.origin() for ref in self.used)
        return ImageSetRecord(
            role=self.source.role,
            names=tuple(ref.name for ref in self.used),
            digests=tuple(self.digests.get(ref) or ref.digest() for ref in self.used),
            perceptual_hashes=np.stack(self.hashes),
            gap={layer: gap.cpu() for layer, gap in self.gap.items()},
            origins=origins if any(origins) else (),
            logits=self.logits.cpu(),
            logits_std=self.logits_std.cpu(),
        )


@dataclass(frozen=True)
class Pass:
    """How images pass through the network, and where their feature maps wait.

    Attributes:
        model: The network.
        layers: Layer names, in the order of the network.
        batch_size: Images per pass.
        spill: The buffer of feature maps between the passes.
        reserved: The number of other images whose feature maps it must still have space for.
        cache: The cache of earlier passes.
        erasure: Whether to learn what erasure needs: place filters, and the logits of the images.
        scored: The sets whose logits are needed in any case.
        turn: Held while the network runs, where others use it at the same time.
    """

    model: Model
    layers: Sequence[str]
    batch_size: int
    spill: SpillFile = field(default_factory=lambda: SpillFile(0))  # keeps nothing
    reserved: int = 0
    cache: LearningCache | None = None
    erasure: bool = False
    scored: Container[ImageSet] = ()
    turn: Callable[[], AbstractContextManager[object]] = nullcontext

    def is_whole(self, images: ImageSet) -> bool:
        """Return whether a set passes through the whole network, for its logits."""
        return self.erasure or images in self.scored


def first_passes(
    run: Pass, sets: Sequence[ImageSet], fit: FitSettings, progress: Progress
) -> dict[ImageSet, LearnedSet]:
    """Pass every set through the network once, except for what the cache has.

    Raises:
        ConceptError: When a set has fewer than `fit.min_examples` readable images.
        ImageError: When no image of a set can be read, or one cannot and `fit.strict` is set.
        ModelError: When the network gives infinite values or NaN.
    """
    learned: dict[ImageSet, LearnedSet] = {}
    for images in sets:
        try:
            entry = _first_pass(run, images, progress, strict=fit.strict)
        except ImageError as error:
            raise ImageError(f"{images.role}: {error}") from error
        learned[images] = entry
        check_enough(images.role, len(entry.used), fit.min_examples, skipped=len(entry.skipped))
    return learned


def passes_shown(sets: Iterable[ImageSet], shown: bool | None) -> AbstractContextManager[Progress]:
    """Return the progress bar of the first passes of some sets."""
    return progress_bar("passing images", sum(len(s.refs) for s in sets), shown=shown)


def look_at(run: Pass, images: ImageSet, shown: bool | None) -> ImageSetRecord:
    """Return the record of images that no concept is learned from.

    Raises:
        ImageError: When no image can be read.
    """
    with passes_shown([images], shown) as progress:
        learned = first_passes(run, [images], FitSettings(min_examples=1), progress)
    return learned[images].record()


def _first_pass(run: Pass, images: ImageSet, progress: Progress, *, strict: bool) -> LearnedSet:
    """Pool the activations of a set, except for those in the cache."""
    entries = run.cache.entries(images) if run.cache is not None else None
    known = _recalled(run, entries, strict=strict) if entries is not None else None
    missing = [layer for layer in run.layers if known is None or layer not in known.gap]
    if known is not None and run.is_whole(images) and not len(known.some_logits):
        known, missing = None, list(run.layers)
    if known is not None and not missing:
        progress.advance(len(images.refs))
        return known
    batches = Batches(
        images.refs,
        run.model.preprocess,
        run.batch_size,
        strict=strict,
        progress=progress,
        digests=entries is None,
    )
    learned = _computed(run, images, batches, missing)
    if known is not None and learned.used != known.used:  # images changed in between
        known, missing = None, list(run.layers)
        learned = _computed(run, images, batches, missing)
    if entries is not None and entries.unchanged():
        learned.entries, learned.digests = entries, entries.digests
        _keep(entries, learned, missing)
    if known is not None:
        learned.gap |= known.gap
    return learned


def _computed(run: Pass, images: ImageSet, batches: Batches, layers: Sequence[str]) -> LearnedSet:
    """Pool the activations of a set at layers, and keep its first feature maps."""
    learned = LearnedSet(images)
    wanted, scored = _spread(images, THUMBNAILS), _spread(images, SCORED)
    count = len(images.refs)
    pooled = {layer: Rows(count) for layer in layers}
    logits = Rows(count)
    some: list[Tensor] = []
    spills = True
    volumes = takes_volumes(run.model.preprocess)
    for batch in batches:
        with network_errors(f"for examples such as {batch.names[0]!r}"):
            if run.is_whole(images):
                maps, z = run.model.activations_and_logits(batch.x, layers)
                logits.add(z.double())
                some += [z[i] for i, ref in enumerate(batch.refs) if ref in scored]
                some = some or [z[0]]
            else:
                maps, z = run.model.activations(batch.x, layers), None
        check_finite(batch.names, maps, z)
        for layer, F in maps.items():
            pooled[layer].add(F.mean(axes(F, 2)))
        # the maps that are kept are the first of the set, without gaps
        each = sum(F[0].nbytes for F in maps.values())
        spilled = run.spill.add(maps, run.reserved * each) if spills else None
        spills = spilled is not None
        learned.maps += [spilled] if spilled is not None else []
        learned.used += batch.refs
        learned.digests |= dict(zip(batch.refs, batch.digests, strict=False))
        for ref, picture in zip(batch.refs, batch.pictures, strict=True):
            learned.hashes.append(_NO_HASH if volumes else perceptual_hash(picture))
            if ref in wanted or not learned.thumbnails:
                learned.thumbnails.append(thumbnail(picture))
    learned.skipped = list(batches.skipped)
    learned.thumbnails = learned.thumbnails[:THUMBNAILS]
    learned.gap = {layer: pooled.pop(layer).rows for layer in layers}
    if run.is_whole(images):
        z = logits.rows
        learned.logits, learned.logits_std = z.mean(0).float(), z.std(0, correction=0).float()
        learned.some_logits = torch.stack(some[:SCORED])
    return learned


def feature_maps(
    run: Pass, learned: LearnedSet, layers: Sequence[str]
) -> Generator[dict[str, Tensor]]:
    """Yield the feature maps of a set: those that are kept, then the others from a second pass."""
    done = 0
    for spilled in learned.maps:
        if any(layer not in spilled.locations for layer in layers):
            break
        maps = run.spill.read(spilled, run.model.device)
        done += len(maps[layers[0]])
        yield maps
    if rest := learned.used[done:]:
        for batch in Batches(rest, run.model.preprocess, run.batch_size, strict=True):
            # as in the first pass, so that every bit is the same
            with run.turn():
                if run.is_whole(learned.source):
                    maps, _ = run.model.activations_and_logits(batch.x, layers)
                else:
                    maps = run.model.activations(batch.x, layers)
            yield maps


# -- the cache --------------------------------------------------------------------------------


def _recalled(run: Pass, entries: SetEntries, *, strict: bool) -> LearnedSet | None:
    """Return a set from the cache, or None if its images have to be decoded again."""
    images, look = entries.images, entries.get("look")
    if look is None:
        return None
    positions = look["used"].tolist()
    if positions != sorted(set(positions) & set(range(len(images.refs)))) or not positions:
        return None
    learned = LearnedSet(images, [images.refs[i] for i in positions])
    learned.hashes = list(look["prints"].numpy())
    learned.digests, learned.entries = entries.digests, entries
    readable = set(learned.used)
    for ref in (ref for ref in images.refs if ref not in readable):
        reason = _unreadable(run, ref)
        if reason is None:  # it can be read by now
            return None
        if strict:
            raise UnreadableError(ref.name, reason)
        learned.skipped.append(Skipped(ref.name, reason))
    wanted = _spread(images, THUMBNAILS)
    shown = [ref for i, ref in enumerate(learned.used) if ref in wanted or i == 0]
    try:
        pictures = (viewed(run.model.preprocess, ref.load()) for ref in shown[:THUMBNAILS])
        learned.thumbnails = list(map(thumbnail, pictures))
    except ImageError:
        return None
    for layer in run.layers:
        if found := entries.get("gap", layer, None, {"n": len(positions)}):
            learned.gap[layer] = found["gap"].to(run.model.device)
    if run.is_whole(images) and (found := entries.get("logits")):
        learned.logits, learned.logits_std = found["logits"], found["std"]
        if found := entries.get("scored"):
            learned.some_logits = found["logits"]
    if len(learned.gap) == len(run.layers):  # otherwise the pass reports them
        report_skipped(len(images.refs), len(learned.used), learned.skipped)
    return learned


def _unreadable(run: Pass, ref: ImageRef) -> str | None:
    """Return why an image cannot be read, or None if it can."""
    try:
        prepared(run.model.preprocess, ref)
    except UnreadableError as error:
        return str(error.args[1])
    return None


def _keep(entries: SetEntries, learned: LearnedSet, layers: Sequence[str]) -> None:
    """Put the results of a pass into the cache."""
    used = set(learned.used)
    positions = [i for i, ref in enumerate(learned.source.refs) if ref in used]
    prints = torch.tensor(np.stack(learned.hashes))
    entries.keep("look", {"used": torch.tensor(positions), "prints": prints})
    if len(learned.logits):
        entries.keep("logits", {"logits": learned.logits, "std": learned.logits_std})
        entries.keep("scored", {"logits": learned.some_logits})
    for layer in layers:
        entries.keep("gap", {"gap": learned.gap[layer]}, layer)


def _spread(images: ImageSet, most: int) -> set[ImageRef]:
    """Return at most so many images of a set, spread evenly over it."""
    count = len(images.refs)
    spread = np.linspace(0, count - 1, min(count, most))
    return {images.refs[round(i)] for i in spread}


def thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a square picture of 96 pixels on a side, uint8 [96, 96, 3]."""
    small = ImageOps.fit(picture, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small)
