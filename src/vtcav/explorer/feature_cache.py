"""Feature maps of examples and negatives, kept so that a new patch costs one small pass."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from vtcav.errors import ImageError
from vtcav.explainer.learning.example_passes import THUMBNAIL_SIDE, THUMBNAILS, LearnedSet
from vtcav.images.concepts import ImageSet
from vtcav.images.preprocess import to_tensor
from vtcav.images.references import ImageRef, Skipped, UnreadableError, read
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.results.image_set import picture_print

__all__ = ["FeatureMemory"]


@dataclass(eq=False)
class _Entry:
    """What is known of one image."""

    thumbnail: NDArray[np.uint8]
    print: NDArray[np.uint8]
    pooled: dict[str, Tensor] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)


class FeatureMemory:
    """The feature maps of images, up to a budget, and their means without one.

    Args:
        model: The network.
        budget: Bytes of feature maps.
        pinned: Images that others make no room for: the negatives of all concepts.
    """

    _MOST = 3000

    def __init__(self, model: Model, budget: int, pinned: Iterable[ImageRef] = ()) -> None:
        self._model = model
        self._budget = budget
        self._held = 0
        self._lock = threading.RLock()
        self._entries: OrderedDict[ImageRef, _Entry] = OrderedDict()
        self._pinned = frozenset(pinned)
        self._unreadable: dict[ImageRef, Skipped] = {}
        self._shape: tuple[int, ...] | None = None

    def missing(self, refs: Sequence[ImageRef], layers: Sequence[str]) -> list[ImageRef]:
        """Return the images that have not been looked at, at one of the layers."""
        with self._lock:
            return [ref for ref in refs if not self._knows(ref, layers)]

    def skipped(self, refs: Sequence[ImageRef]) -> list[Skipped]:
        """Return which of the images could not be read, with reasons."""
        return [self._unreadable[ref] for ref in refs if ref in self._unreadable]

    def readable(self, refs: Sequence[ImageRef]) -> list[ImageRef]:
        """Return those that could be read, of images that were looked at."""
        return [ref for ref in refs if ref not in self._unreadable]

    def look(self, refs: Sequence[ImageRef], layers: Sequence[str]) -> None:
        """Take a few images through the network; whoever calls has the turn.

        Raises:
            ModelError: When the network gives infinite values or NaN.
            ImageError: When the inputs of the network are not of one shape.
        """
        pictures: dict[ImageRef, Image.Image] = {}
        inputs: list[Tensor] = []
        for ref in refs:
            try:
                picture = read(ref)
                inputs.append(self._input(picture, ref.name))
                pictures[ref] = picture
            except UnreadableError as error:
                self._unreadable[ref] = Skipped(*error.args)
        if not pictures:
            return
        maps = self._model.activations(torch.stack(inputs), layers)
        check_finite([ref.name for ref in pictures], maps)
        with self._lock:
            for n, (ref, picture) in enumerate(pictures.items()):
                entry = self._entries.setdefault(ref, _entry(picture))
                for layer, F in maps.items():
                    entry.pooled[layer] = F[n].mean((1, 2))
                    self._keep(ref, layer, F[n], layers)
            self._forget_oldest()

    def learned(self, images: ImageSet, layers: Sequence[str]) -> LearnedSet:
        """Return what a first pass of a set would have found, all of which was looked at."""
        with self._lock:
            used = [ref for ref in images.refs if ref in self._entries]
            for ref in used:
                self._entries.move_to_end(ref)
            entries = [self._entries[ref] for ref in used]
            if not used:
                return LearnedSet(images, skipped=self.skipped(images.refs))
            pooled = {layer: torch.stack([e.pooled[layer] for e in entries]) for layer in layers}
            beginning = []
            for entry in entries:
                if any(layer not in entry.maps for layer in layers):
                    break
                beginning.append(entry)
            kept = []
            if beginning:
                kept = [{la: torch.stack([e.maps[la] for e in beginning]) for la in layers}]
        return LearnedSet(
            source=images,
            used=used,
            skipped=self.skipped(images.refs),
            sums={layer: G.double().sum(0) for layer, G in pooled.items()},
            pooled=pooled,
            kept=kept,
            thumbnails=[entry.thumbnail for entry in entries[:THUMBNAILS]],
            prints=np.stack([entry.print for entry in entries]),
        )

    def forget(self, refs: Iterable[ImageRef]) -> None:
        """Forget images altogether."""
        with self._lock:
            for ref in refs:
                self._unreadable.pop(ref, None)
                if entry := self._entries.pop(ref, None):
                    self._drop(entry, list(entry.maps))

    # -- inside -------------------------------------------------------------------------------

    def _knows(self, ref: ImageRef, layers: Sequence[str]) -> bool:
        if ref in self._unreadable:
            return True
        entry = self._entries.get(ref)
        return entry is not None and all(layer in entry.pooled for layer in layers)

    def _input(self, picture: Image.Image, name: str) -> Tensor:
        x = to_tensor(self._model.preprocess, picture, name)
        self._shape = self._shape or tuple(x.shape)
        if tuple(x.shape) != self._shape:
            raise ImageError(
                f"expected inputs of one shape, got {tuple(x.shape)} for {name!r} after "
                f"{self._shape}; give the model a preprocess with a size"
            )
        return x

    def _keep(self, ref: ImageRef, layer: str, F: Tensor, layers: Sequence[str]) -> None:
        """Keep the maps of an image at a layer where there is room, or can be made."""
        entry = self._entries[ref]
        if layer in entry.maps:
            return
        if self._held + F.nbytes > self._budget:
            self._make_room(F.nbytes, layers)
        if self._held + F.nbytes <= self._budget:
            entry.maps[layer] = F.clone()
            self._held += F.nbytes

    def _make_room(self, size: int, layers: Sequence[str]) -> None:
        """Let go of the maps of layers not in use, then of those of the oldest images."""
        for entry in self._entries.values():
            self._drop(entry, [layer for layer in entry.maps if layer not in layers])
        for ref, entry in self._entries.items():
            if self._held + size <= self._budget:
                return
            if ref not in self._pinned:
                self._drop(entry, list(entry.maps))

    def _forget_oldest(self) -> None:
        """Forget images altogether when there are too many."""
        loose = [ref for ref in self._entries if ref not in self._pinned]
        self.forget(loose[: max(0, len(loose) - self._MOST)])

    def _drop(self, entry: _Entry, layers: Sequence[str]) -> None:
        for layer in layers:
            self._held -= entry.maps.pop(layer).nbytes


def _entry(picture: Image.Image) -> _Entry:
    small = ImageOps.fit(picture, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    return _Entry(np.asarray(small), picture_print(picture))
