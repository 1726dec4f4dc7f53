"""Feature maps of examples and negatives, kept so that a new patch costs one small pass."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtcav.explainer.learning.example_passes import THUMBNAILS, LearnedSet, thumbnail
from vtcav.files.spill import Spilled
from vtcav.images.batches import check_same_shape, prepared
from vtcav.images.concepts import ImageSet
from vtcav.images.references import ImageRef, Skipped, UnreadableError
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.results.image_set import perceptual_hash

__all__ = ["FeatureCache"]

_MOST = 3000  # images whose pooled activations are kept, beside the pinned ones


@dataclass(eq=False)
class _Entry:
    """One image: what is kept whatever the budget, and its feature maps by layer."""

    thumbnail: NDArray[np.uint8]
    hash: NDArray[np.uint8]
    pinned: bool
    pooled: dict[str, Tensor] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)


class FeatureCache:
    """Feature maps of images up to a budget, and their means whatever the budget.

    Args:
        model: The network.
        budget: Bytes of feature maps.
        pinned: Images that are not dropped for others: the negatives of all concepts.

    Attributes:
        held: Bytes of feature maps that are kept.
    """

    def __init__(self, model: Model, budget: int, pinned: Iterable[ImageRef] = ()) -> None:
        self._model = model
        self._budget = budget
        self._lock = threading.RLock()
        self._pinned = frozenset(pinned)
        self._entries: OrderedDict[ImageRef, _Entry] = OrderedDict()  # the newest is the last
        self.held = 0
        self._unreadable: dict[ImageRef, Skipped] = {}
        self._first: tuple[tuple[int, ...], str] | None = None

    def missing(self, refs: Sequence[ImageRef], layers: Sequence[str]) -> list[ImageRef]:
        """Return the images that have not passed through the network yet, at one of the layers."""
        with self._lock:
            return [ref for ref in refs if not self._knows(ref, layers)]

    def skipped(self, refs: Sequence[ImageRef]) -> list[Skipped]:
        """Return which of the images could not be read, with reasons."""
        return [self._unreadable[ref] for ref in refs if ref in self._unreadable]

    def look(self, refs: Sequence[ImageRef], layers: Sequence[str]) -> None:
        """Pass a few images through the network. The caller holds the lock of the network.

        Raises:
            ModelError: When the network gives infinite values or NaN.
            ImageError: When the inputs of the network are not of one shape.
        """
        pictures: dict[ImageRef, Image.Image] = {}
        inputs: list[Tensor] = []
        for ref in refs:
            try:
                picture, x = prepared(self._model.preprocess, ref)
            except UnreadableError as error:
                self._unreadable[ref] = Skipped(*error.args)
                continue
            self._first = self._first or (tuple(x.shape), ref.name)
            check_same_shape(x.shape, ref.name, *self._first)
            pictures[ref] = picture
            inputs.append(x)
        if not pictures:
            return
        maps = self._model.activations(torch.stack(inputs), layers)
        check_finite([ref.name for ref in pictures], maps)
        with self._lock:
            for n, (ref, picture) in enumerate(pictures.items()):
                if ref not in self._entries:
                    small = thumbnail(picture), perceptual_hash(picture)
                    self._entries[ref] = _Entry(*small, ref in self._pinned)
                entry = self._entries[ref]
                for layer, F in maps.items():
                    entry.pooled[layer] = F[n].mean((1, 2))
                    self._keep(entry, layer, F[n], layers)
            while len(self._entries) > _MOST + len(self._pinned):
                self._drop(self._entries.popitem(last=False)[1])

    def learned(self, images: ImageSet, layers: Sequence[str]) -> LearnedSet:
        """Return what a first pass of a set would give, from images that `look` has taken."""
        skipped = self.skipped(images.refs)
        with self._lock:
            entries = {ref: self._entries[ref] for ref in images.refs if ref in self._entries}
            if not entries:
                return LearnedSet(images, skipped=skipped)
            for ref in entries:
                self._entries.move_to_end(ref)
            # the beginning of the set, without gaps
            whole = takewhile(lambda entry: entry.maps.keys() >= set(layers), entries.values())
            kept = [[entry.maps[layer] for layer in layers] for entry in whole]
        gap = {la: torch.stack([e.pooled[la] for e in entries.values()]) for la in layers}
        maps = {la: torch.stack(F) for la, F in zip(layers, zip(*kept, strict=True), strict=False)}
        return LearnedSet(
            source=images,
            used=list(entries),
            skipped=skipped,
            gap=gap,
            hashes=[entry.hash for entry in entries.values()],
            maps=[Spilled(maps)] if kept else [],
            thumbnails=[entry.thumbnail for entry in entries.values()][:THUMBNAILS],
        )

    def forget(self, refs: Iterable[ImageRef]) -> None:
        """Forget images altogether."""
        with self._lock:
            for ref in refs:
                self._unreadable.pop(ref, None)
                if (entry := self._entries.pop(ref, None)) is not None:
                    self._drop(entry)

    # -- inside -------------------------------------------------------------------------------

    def _knows(self, ref: ImageRef, layers: Sequence[str]) -> bool:
        if ref in self._unreadable:
            return True
        entry = self._entries.get(ref)
        return entry is not None and all(layer in entry.pooled for layer in layers)

    def _keep(self, entry: _Entry, layer: str, F: Tensor, layers: Sequence[str]) -> None:
        """Keep the maps of an image at a layer, if the budget allows it after dropping others."""
        if layer in entry.maps:
            return
        limit = self._budget - F.nbytes
        if self.held > limit:
            for other in self._entries.values():
                self._drop(other, besides=layers)
        loose = (other for other in self._entries.values() if not other.pinned)
        while self.held > limit and (oldest := next(loose, None)) is not None:
            self._drop(oldest)
        if self.held <= limit:
            entry.maps[layer] = F.clone()
            self.held += F.nbytes

    def _drop(self, entry: _Entry, besides: Iterable[str] = ()) -> None:
        """Drop the maps of an image, but for some layers."""
        for layer in entry.maps.keys() - set(besides):
            self.held -= entry.maps.pop(layer).nbytes
