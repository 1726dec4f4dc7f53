"""Scores at zero feature maps, beside those of a few examples of each concept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import torch
from torch import Tensor

from vtcav.explainer.learning.example_passes import SCORED, LearnedSet, Pass
from vtcav.images.batches import Batches
from vtcav.method.erasure.effect import class_scores
from vtcav.models.base import Head, Model
from vtcav.models.finite import check_finite
from vtcav.models.foreign_errors import network_errors
from vtcav.results.bank.zero_maps import ZeroMaps


def zero_maps(run: Pass, examples: Iterable[LearnedSet]) -> dict[str, ZeroMaps]:
    """Return the scores at zero maps by layer, beside those of up to a dozen images of each set.

    Raises:
        LayerError: For a layer that the network cannot be resumed from.
    """

    @cache
    def z0_of(layer: str) -> Tensor:
        """Return the logits at zero maps [1, T] of a layer that no image changes."""
        [info] = run.model.check_layers([layer])
        zero = torch.zeros(1, *info.shape, device=run.model.device)
        return _at_zero(run.model.head(layer), zero)

    found = [_of_set(run, learned, z0_of) for learned in examples]
    return {layer: ZeroMaps.joined([own[layer] for own in found]) for layer in run.layers}


def _of_set(run: Pass, learned: LearnedSet, z0_of: Callable[[str], Tensor]) -> dict[str, ZeroMaps]:
    entries = learned.entries
    known = {layer: entries.get("zeros", layer) for layer in run.layers} if entries else {}
    here = {layer: ZeroMaps(**kept) for layer, kept in known.items() if kept is not None}
    if missing := [layer for layer in run.layers if layer not in here]:
        z = learned.some_logits
        again = [la for la in missing if not len(z) or run.model.head(la).takes_images]
        new = {la: _beside(run.model, z0_of(la), z) for la in missing if la not in again}
        here |= (new := new | (_passed_again(run, learned, again) if again else {}))
        if entries is not None and entries.unchanged():
            for layer, each in new.items():
                entries.keep("zeros", each.tensors(), layer)
    return here


def _passed_again(run: Pass, learned: LearnedSet, layers: list[str]) -> dict[str, ZeroMaps]:
    """Pass a few images once more, of which the rest of the network reads more than their maps."""
    model, parts = run.model, {layer: list[ZeroMaps]() for layer in layers}
    order = torch.randperm(len(learned.used), generator=torch.Generator().manual_seed(0))
    refs = [learned.used[image] for image in order[:SCORED].sort().values.tolist()]
    for batch in Batches(refs, model.preprocess, run.batch_size, strict=True):
        with network_errors(f"for examples such as {batch.names[0]!r}"):
            maps, z = model.activations_and_logits(batch.x, layers)
        check_finite(batch.names, maps, z)
        for layer, F in maps.items():
            with network_errors(f"at zero feature maps of layer {layer!r}"):
                head = model.head(layer).of(batch.x)
            z0 = _at_zero(head, torch.zeros_like(F if head.per_image else F[:1]))
            parts[layer].append(_beside(model, z0, z))
    return {layer: ZeroMaps.joined(own) for layer, own in parts.items()}


def _at_zero(head: Head, F: Tensor) -> Tensor:
    """Return the logits at zero feature maps [1 or N, T]."""
    with torch.no_grad(), network_errors(f"at zero feature maps of layer {head.layer!r}"):
        return head(F)


def _beside(model: Model, z0: Tensor, z: Tensor) -> ZeroMaps:
    """Return the scores at zero maps beside those of images, from their logits."""
    classes = list(range(len(model.class_names)))
    own = (z0, z.to(z0.device))
    scores = [class_scores(each, classes, binary=model.binary) for each in own]
    return ZeroMaps.of(*scores, binary=model.binary)
