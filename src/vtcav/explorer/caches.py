"""Caches of what was computed from pictures, so that a new patch costs one small pass.

`FeatureCache` keeps the feature maps of examples and negatives. `IntegralCache` keeps the
integrated gradients of pictures, which depend on no concept. They come from the trapezoid rule with
a fixed number of steps: the adaptive rule stops when the attributions of the concepts at hand
converge, so it would start again with every patch. The rule with half the steps, whose points are
among those of the whole rule, shows how exact it is.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Generic, TypeVar

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtcav.explainer.learning.example_passes import SCORED, THUMBNAILS, LearnedSet, thumbnail
from vtcav.explorer.scheduling import PriorityLock
from vtcav.files.spill import Spilled
from vtcav.images.batches import check_same_shape, prepared
from vtcav.images.concepts import ImageSet
from vtcav.images.references import ImageRef, Skipped, UnreadableError
from vtcav.method.integral.trapezoid import Integral, integrate, trapezoid
from vtcav.models.base import Head, Model
from vtcav.models.finite import check_finite
from vtcav.results.image_set import perceptual_hash

K = TypeVar("K")
V = TypeVar("V")


class RecentlyUsed(Generic[K, V]):
    """Values by key, for several threads; those used least recently are dropped.

    The newest values stay even if they alone exceed the budget, which `LRUCache` would refuse.

    Args:
        budget: The largest total size.
        size: Returns the size of a value; each counts 1 by default.

    Example:
        >>> kept = RecentlyUsed(7, size=len)
        >>> for key, value in (("a", "12"), ("b", "345"), ("c", "6789")):
        ...     kept.put({key: value})
        >>> kept.get("a"), kept.get("b")
        (None, '345')
    """

    def __init__(self, budget: float, size: Callable[[V], int] = lambda value: 1) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._values: LRUCache[K, V] = LRUCache(math.inf, getsizeof=size)

    def get(self, key: K) -> V | None:
        """Return a value; None if it is not kept."""
        with self._lock:
            return self._values.get(key)

    def put(self, values: Mapping[K, V]) -> None:
        """Keep values, and drop others until the budget is met."""
        with self._lock:
            self._values.update(values)
            while self._values.currsize > self._budget and len(self._values) > len(values):
                self._values.popitem()

    def forget(self, belongs: Callable[[K], bool] = lambda key: True) -> list[V]:
        """Drop the values of all keys, or of some, and return them."""
        with self._lock:
            return [self._values.pop(key) for key in list(self._values) if belongs(key)]


_MOST = 3000  # images whose pooled activations are kept, beside the pinned ones


@dataclass(eq=False)
class _Entry:
    """An image's data that is always kept, and its feature maps by layer."""

    thumbnail: NDArray[np.uint8]
    hash: NDArray[np.uint8]
    pinned: bool
    logits: Tensor | None = None
    pooled: dict[str, Tensor] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)


class FeatureCache:
    """Feature maps of images up to a budget; their means are always kept.

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

    def missing(
        self, refs: Sequence[ImageRef], layers: Sequence[str], *, logits: bool = False
    ) -> list[ImageRef]:
        """Return the images that have not passed through the network yet, at one of the layers.

        Args:
            refs: The images.
            layers: The layers.
            logits: Whether the images must have passed through the whole network.
        """
        with self._lock:
            read = [ref for ref in refs if ref not in self._unreadable]
            passed = {ref: self._entries[ref] for ref in read if ref in self._entries}
            done = {
                ref
                for ref, entry in passed.items()
                if entry.pooled.keys() >= set(layers) and not (logits and entry.logits is None)
            }
            return [ref for ref in read if ref not in done]

    def skipped(self, refs: Sequence[ImageRef]) -> list[Skipped]:
        """Return which of the images could not be read, with reasons."""
        return [self._unreadable[ref] for ref in refs if ref in self._unreadable]

    def look(
        self, refs: Sequence[ImageRef], layers: Sequence[str], *, logits: bool = False
    ) -> None:
        """Pass a few images through the network. The caller holds the lock of the network.

        Args:
            refs: The images.
            layers: The layers.
            logits: Whether to pass through the whole network.

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
        x, z = torch.stack(inputs), None
        if logits:
            maps, z = self._model.activations_and_logits(x, layers)
        else:
            maps = self._model.activations(x, layers)
        check_finite([ref.name for ref in pictures], maps, z)
        with self._lock:
            for n, (ref, picture) in enumerate(pictures.items()):
                if ref not in self._entries:
                    small = thumbnail(picture), perceptual_hash(picture)
                    self._entries[ref] = _Entry(*small, ref in self._pinned)
                entry = self._entries[ref]
                entry.logits = entry.logits if z is None else z[n].cpu()
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
        known = [entry.logits for entry in entries.values() if entry.logits is not None]
        z = torch.stack(known).double() if len(known) == len(entries) else None
        gap = {la: torch.stack([e.pooled[la] for e in entries.values()]) for la in layers}
        maps = {la: torch.stack(F) for la, F in zip(layers, zip(*kept, strict=True), strict=False)}
        return LearnedSet(
            source=images,
            used=list(entries),
            skipped=skipped,
            gap=gap,
            logits=torch.zeros(0) if z is None else z.mean(0).float(),
            logits_std=torch.zeros(0) if z is None else z.std(0, correction=0).float(),
            some_logits=torch.zeros(0) if z is None else z[:SCORED].float(),
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


_Pair = tuple[Tensor, Tensor | None]

Report = Callable[[int, int], None]
"""Takes the number of points done and of all."""


class IntegralCache:
    """Integrated gradients by picture, layer and logit.

    Args:
        steps: Steps of the trapezoid rule.
        batch_size: Points per pass through the head.
        budget: Bytes to keep.
        lock: The lock of the network.
    """

    def __init__(self, steps: int, batch_size: int, budget: int, lock: PriorityLock) -> None:
        self._steps = steps
        self._batch_size = batch_size
        self._lock = lock
        self._kept: RecentlyUsed[tuple[str, str, int], _Pair] = RecentlyUsed(budget, _bytes)

    def missing(self, picture: str, layer: str, logits: Sequence[int]) -> list[int]:
        """Return the logits whose integral is not known."""
        known = {t: self._kept.get((picture, layer, t)) for t in logits}
        return [t for t, pair in known.items() if pair is None]

    def find(self, picture: str, layer: str, logits: Sequence[int]) -> Integral | None:
        """Return the integral of T logits; None if one of them is not known.

        With an odd number of steps it has none with half the steps.
        """
        found = [self._kept.get((picture, layer, t)) for t in logits]
        pairs = [pair for pair in found if pair is not None]
        if len(pairs) < len(found):
            return None
        halves = [half for _, half in pairs if half is not None]
        return Integral(
            torch.stack([whole for whole, _ in pairs])[None],
            torch.full((1, 1, 1), torch.nan, dtype=torch.float32),
            torch.ones(1, dtype=torch.bool),
            torch.full((1,), self._steps + 1),
            torch.stack(halves)[None] if len(halves) == len(pairs) else None,
        )

    def compute(
        self, picture: str, head: Head, F: Tensor, logits: Sequence[int], report: Report
    ) -> None:
        """Integrate a few points at a time, and let urgent users of the network in between.

        Args:
            picture: Its key.
            head: The network after the layer, bound to this picture.
            F: Its feature maps [1, C, h, w].
            logits: Indices of the logits to differentiate.
            report: Called between passes; what it raises ends the work.
        """
        alpha, weight = trapezoid(self._steps)
        parts = [(alpha[0::2], 2 * weight[0::2]), (alpha[1::2], weight[1::2])]
        if self._steps % 2:
            parts = [(alpha, weight)]
        wanted = torch.tensor([list(logits)], device=F.device)
        sums, done, size = [], 0, self._batch_size
        for points, weights in parts:
            total = torch.zeros(1, len(logits), *F.shape[1:], dtype=F.dtype, device=F.device)
            for i in range(0, len(points), size):
                report(done, len(alpha))
                piece = slice(i, i + size)
                at = points[piece], weights[piece]
                with self._lock.hold(urgent=False):
                    total += integrate(head, F, wanted, *at, batch_size=size).IG
                done += len(points[piece])
            sums.append(total[0])
        # Every other point is one of the rule with half the steps, which weighs it twice as much.
        whole = sums[0] if len(sums) == 1 else sums[0] / 2 + sums[1]
        halves = [None] * len(logits) if len(sums) == 1 else [half.clone() for half in sums[0]]
        keys = [(picture, head.layer, t) for t in logits]
        self._kept.put({key: (whole[n].clone(), halves[n]) for n, key in enumerate(keys)})

    def forget(self, picture: str) -> None:
        """Forget all integrals of a picture."""
        self._kept.forget(lambda key: key[0] == picture)


def _bytes(pair: _Pair) -> int:
    return sum(tensor.nbytes for tensor in pair if tensor is not None)
