"""The check of a bank that comes from a file: shapes, kinds and values fit each other.

A file with the right checksum may still have been written by other software, or on purpose. A NaN
or a direction of the wrong length would give a wrong number later, or an error that names no file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.method.cav import Cavs
from vtcav.method.variants import FILTER, PAPER, PLACES, VARIANTS, Variant
from vtcav.results.image_set import HASH_SIDE

if TYPE_CHECKING:
    from vtcav.results.bank.layer_cavs import LayerCavs, Resampling
    from vtcav.results.bank.zero_maps import ZeroMaps
    from vtcav.results.image_set import ConceptRecord, ImageSetRecord

_Shape: TypeAlias = tuple[int | None, ...]  # None: any size
_FIELDS = {PAPER: (), FILTER: ("w",), PLACES: ("w", "offset")}
"""Fields of `Cavs` beside directions and emblems, by variant."""


class _Bank(Protocol):
    """What is checked of a bank."""

    @property
    def concepts(self) -> Sequence[ConceptRecord]: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def layers(self) -> Mapping[str, LayerCavs]: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def sets(self) -> Sequence[ImageSetRecord]: ...
    @property
    def contrast(self) -> Sequence[tuple[int, int]]: ...
    @property
    def resampling(self) -> Resampling: ...
    @property
    def thumbnails(self) -> Mapping[str, NDArray[np.uint8]]: ...
    @property
    def variant(self) -> Variant: ...


def faults(bank: _Bank) -> Iterator[str]:
    """Yield what is wrong with a bank, one sentence each."""
    if bank.settings.get("variant", PAPER) not in VARIANTS:
        yield f"its variant is {bank.settings['variant']!r}, expected one of {VARIANTS}"
        return
    if not bank.concepts or not bank.layers:
        yield "it has no concepts or no layers"
        return
    if len(set(bank.names)) < len(bank.names):
        yield "two concepts have one name"
    wrong = [*_of_sets(bank), *_of_thumbnails(bank)]
    yield from wrong
    if wrong:  # layers are checked against sets that fit
        return
    for layer, cavs in bank.layers.items():
        for fault in _of_layer(bank, cavs):
            yield f"layer {layer!r}: {fault}"


def _of_sets(bank: _Bank) -> Iterator[str]:
    K, sets = len(bank.concepts), len(bank.sets)
    if len(bank.contrast) != K or any(not 0 <= i < sets for pair in bank.contrast for i in pair):
        yield f"its contrast does not name two of {sets} sets for each of {K} concepts"
    counts = {name: len(kind) for name, kind in vars(bank.resampling).items()}
    if any(count != K for count in counts.values()):
        yield f"resampled CAVs belong to {counts} concepts, expected {K} each"
    for images in bank.sets:
        n = len(images.names)
        if not n or len(images.digests) != n or len(images.origins) not in (0, n):
            yield f"{images.role}: names, digests and origins are of different lengths"
        shapes = {layer: (n, cavs.v.shape[-1]) for layer, cavs in bank.layers.items()}
        for fault in _of_tensors({layer: images.gap[layer] for layer in shapes}, shapes):
            yield f"{images.role}, mean activations: {fault}"
        yield from _of_pictures(images)


def _of_thumbnails(bank: _Bank) -> Iterator[str]:
    for name, pictures in bank.thumbnails.items():
        if pictures.dtype != "uint8" or pictures.ndim != 4 or pictures.shape[1:] != (96, 96, 3):
            yield f"thumbnails of {name!r} are {pictures.dtype} {list(pictures.shape)}"


def _of_pictures(images: ImageSetRecord) -> Iterator[str]:
    hashes = images.perceptual_hashes
    if hashes.shape != (len(images.names), HASH_SIDE, HASH_SIDE) or hashes.dtype.kind != "u":
        yield f"{images.role}: perceptual hashes are {hashes.dtype} {list(hashes.shape)}"
    if images.logits.dim() != 1 or images.logits_std.dim() != 1:
        yield f"{images.role}: logits are no vectors"
    if len(images.logits) != len(images.logits_std):
        yield f"{images.role}: logits and their deviations are of different lengths"
    for name, tensor in (("logits", images.logits), ("logits_std", images.logits_std)):
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            yield f"{images.role}: {name} are not finite"


def _of_layer(bank: _Bank, cavs: LayerCavs) -> Iterator[str]:
    K, C = len(bank.concepts), cavs.v.shape[-1] if cavs.v.dim() else 0
    yield from _of_cavs(bank, cavs, (K, C))
    J = max((r.stop for kind in _kinds(bank) for r in kind if r), default=0)
    if cavs.resampled is not None:
        yield from (f"resampled, {fault}" for fault in _of_cavs(bank, cavs.resampled, (None, C)))
    known = 0 if cavs.resampled is None else len(cavs.resampled.v)
    if known < J or any(r.start < 0 or r.step != 1 for kind in _kinds(bank) for r in kind):
        yield f"expected {J} resampled CAVs or more, got {known}"
    for role, values in (("values_pos", cavs.values_pos), ("values_neg", cavs.values_neg)):
        sizes = [len(bank.sets[pair[role == "values_neg"]]) for pair in bank.contrast]
        for k, each in enumerate(values):
            yield from _of_tensors({f"{role}/{k}": each}, {f"{role}/{k}": (sizes[k],)})
    for name in ("location_pos", "location_neg"):
        location = getattr(cavs, name)
        sides = 3 if location.dim() == 4 else 2  # of volumes, or of pictures
        yield from _of_tensors({name: location}, {name: (K, *[None] * sides)})
    if cavs.zero is not None:
        yield from _of_zero_maps(cavs.zero)
    if cavs.texts is not None:
        for name, tensor in cavs.texts.tensors().items():
            if tuple(tensor.shape) != (K,) or bool(tensor.isinf().any()):
                yield f"texts, {name!r} has shape {list(tensor.shape)} or infinite values"
    if cavs.places is not None:
        named = cavs.places.by_name()
        shapes: dict[str, _Shape] = dict.fromkeys(named, (K,))
        yield from (
            f"place filters, {fault}"
            for fault in _of_tensors(named, shapes | {"w": (K, C), "pattern": (K, C)})
        )
    if cavs.classifier is not None:
        named = cavs.classifier.by_name()
        shapes = {"W": (K + 1, C), "b": (K + 1,), "told": (K, K)}
        yield from (f"place classifier, {fault}" for fault in _of_tensors(named, shapes))


def _of_zero_maps(zero: ZeroMaps) -> Iterator[str]:
    n = len(zero.spread) if zero.spread.dim() else 0
    rows = len(zero.scores) if zero.scores.dim() else 0
    yield from _of_tensors(
        {"zero/scores": zero.scores, "zero/spread": zero.spread},
        {"zero/scores": (rows if rows in (1, n) else n, None), "zero/spread": (n,)},
    )
    if zero.raised.dtype != torch.bool or tuple(zero.raised.shape) != (n,) or not n:
        yield f"'zero/raised' is {zero.raised.dtype} {list(zero.raised.shape)}"


def _kinds(bank: _Bank) -> tuple[tuple[range, ...], ...]:
    return bank.resampling.null, bank.resampling.bootstrap, bank.resampling.subset


def _of_cavs(bank: _Bank, cavs: Cavs, shape: _Shape) -> Iterator[str]:
    named = cavs.by_name()
    wanted = {"v", "e_pos", "e_neg", *_FIELDS[bank.variant]}
    if set(named) != wanted:
        yield f"expected {sorted(wanted)} of variant {bank.variant!r}, got {sorted(named)}"
        return
    J = len(cavs.v) if shape[0] is None and cavs.v.dim() else shape[0]
    shapes: dict[str, _Shape] = {
        name: (J, shape[1]) if name in ("v", "w") else (J,) for name in named
    }
    yield from _of_tensors(named, shapes)


def _of_tensors(named: Mapping[str, Tensor], shapes: Mapping[str, _Shape]) -> Iterator[str]:
    for name, tensor in named.items():
        found, expected = tuple(tensor.shape), shapes[name]
        if len(found) != len(expected) or any(
            b is not None and a != b for a, b in zip(found, expected, strict=True)
        ):
            sizes = ["any" if size is None else size for size in expected]
            yield f"{name!r} has shape {list(found)}, expected {sizes}"
        elif not tensor.is_floating_point():
            yield f"{name!r} is {tensor.dtype}, expected floating point"
        elif not bool(torch.isfinite(tensor).all()):
            yield f"{name!r} holds {_strange(tensor)}, expected finite numbers"
    kinds = sorted({str(tensor.dtype) for tensor in named.values() if tensor.is_floating_point()})
    if len(kinds) > 1:
        yield f"{sorted(named)} are of several types: {', '.join(kinds)}"


def _strange(tensor: Tensor) -> str:
    value = float(tensor[~torch.isfinite(tensor)].flatten()[0])
    return "NaN" if math.isnan(value) else "infinite values"
