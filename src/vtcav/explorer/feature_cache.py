"""Feature maps of examples and negatives, kept so that a new patch costs one small pass."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from cachetools import LRUCache
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

_Maps = LRUCache[tuple[ImageRef, str], Tensor]


@dataclass(eq=False)
class _Entry:
    """The data of one image that is kept whatever the budget."""

    thumbnail: NDArray[np.uint8]
    hash: NDArray[np.uint8]
    pooled: dict[str, Tensor] = field(default_factory=dict)


class FeatureCache:
    """Feature maps of images up to a budget, and their means whatever the budget.

    Args:
        model: The network.
        budget: Bytes of feature maps.
        pinned: Images that are not dropped for others: the negatives of all concepts.
    """

    def __init__(self, model: Model, budget: int, pinned: Iterable[ImageRef] = ()) -> None:
        self._model = model
        self._budget = budget
        self._lock = threading.RLock()
        self._pinned = frozenset(pinned)
        self._entries: LRUCache[ImageRef, _Entry] = LRUCache(_MOST + len(self._pinned))
        self._maps, self._pinned_maps = _maps(), _maps()
        self._unreadable: dict[ImageRef, Skipped] = {}
        self._first: tuple[tuple[int, ...], str] | None = None

    @property
    def held(self) -> int:
        """Bytes of feature maps that are kept."""
        return int(self._maps.currsize + self._pinned_maps.currsize)

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
                small = _Entry(thumbnail(picture), perceptual_hash(picture))
                entry = self._entries.setdefault(ref, small)
                for layer, F in maps.items():
                    entry.pooled[layer] = F[n].mean((1, 2))
                    self._keep(ref, layer, F[n], layers)

    def learned(self, images: ImageSet, layers: Sequence[str]) -> LearnedSet:
        """Return what a first pass of a set would give, from images that `look` has taken."""
        skipped = self.skipped(images.refs)
        with self._lock:
            entries = {ref: self._entries[ref] for ref in images.refs if ref in self._entries}
            if not entries:
                return LearnedSet(images, skipped=skipped)
            # the beginning of the set, without gaps
            kept: dict[str, list[Tensor]] = {layer: [] for layer in layers}
            for ref in entries:
                maps = self._maps_of(ref)
                if any((ref, layer) not in maps for layer in layers):
                    break
                for layer in layers:
                    kept[layer].append(maps[ref, layer])
        gap = {la: torch.stack([e.pooled[la] for e in entries.values()]) for la in layers}
        return LearnedSet(
            source=images,
            used=list(entries),
            skipped=skipped,
            gap=gap,
            hashes=[entry.hash for entry in entries.values()],
            maps=[Spilled({la: torch.stack(kept[la]) for la in layers})] if kept[layers[0]] else [],
            thumbnails=[entry.thumbnail for entry in entries.values()][:THUMBNAILS],
        )

    def forget(self, refs: Iterable[ImageRef]) -> None:
        """Forget images altogether."""
        with self._lock:
            for ref in refs:
                self._unreadable.pop(ref, None)
                self._entries.pop(ref, None)
                maps = self._maps_of(ref)
                for key in [key for key in maps if key[0] is ref]:
                    del maps[key]

    # -- inside -------------------------------------------------------------------------------

    def _knows(self, ref: ImageRef, layers: Sequence[str]) -> bool:
        if ref in self._unreadable:
            return True
        entry = self._entries.get(ref)
        return entry is not None and all(layer in entry.pooled for layer in layers)

    def _maps_of(self, ref: ImageRef) -> _Maps:
        return self._pinned_maps if ref in self._pinned else self._maps

    def _keep(self, ref: ImageRef, layer: str, F: Tensor, layers: Sequence[str]) -> None:
        """Keep the maps of an image at a layer, if the budget allows it after dropping others."""
        maps = self._maps_of(ref)
        if (ref, layer) in maps:
            return
        limit = self._budget - F.nbytes
        if self.held > limit:
            self._drop_other_layers(layers)
        while self.held > limit and self._maps:
            self._maps.popitem()
        if self.held <= limit:
            maps[ref, layer] = F.clone()

    def _drop_other_layers(self, layers: Sequence[str]) -> None:
        for maps in (self._maps, self._pinned_maps):
            for key in [key for key in maps if key[1] not in layers]:
                del maps[key]


def _maps() -> _Maps:
    return LRUCache(math.inf, getsizeof=lambda F: F.nbytes)
