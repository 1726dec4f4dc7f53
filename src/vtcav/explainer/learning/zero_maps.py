"""Scores at zero feature maps, beside those of a few examples of each concept."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vtcav.explainer.learning.example_passes import LearnedSet, Pass
from vtcav.images.batches import Batches
from vtcav.method.erasure.effect import class_scores
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.models.foreign_errors import network_errors
from vtcav.results.bank.zero_maps import ZeroMaps

_MOST = 12  # examples of each concept


def zero_maps(run: Pass, examples: Iterable[LearnedSet]) -> dict[str, ZeroMaps]:
    """Return the scores at zero maps by layer, beside those of up to a dozen images of each set.

    Raises:
        LayerError: For a layer that the network cannot be resumed from.
    """
    found = [_of_set(run, learned) for learned in examples]
    return {layer: ZeroMaps.joined([own[layer] for own in found]) for layer in run.layers}


def _of_set(run: Pass, learned: LearnedSet) -> dict[str, ZeroMaps]:
    entries = learned.entries
    known = {layer: entries.get("zero", layer) for layer in run.layers} if entries else {}
    here = {layer: ZeroMaps(**kept) for layer, kept in known.items() if kept is not None}
    missing = [layer for layer in run.layers if layer not in here]
    if missing:
        here |= (new := _computed(run, learned, missing))
        if entries is not None and entries.unchanged():
            for layer, each in new.items():
                entries.keep("zero", each.tensors(), layer)
    return here


def _computed(run: Pass, learned: LearnedSet, layers: list[str]) -> dict[str, ZeroMaps]:
    model, parts = run.model, {layer: list[ZeroMaps]() for layer in layers}
    order = torch.randperm(len(learned.used), generator=torch.Generator().manual_seed(0))
    refs = [learned.used[image] for image in order[:_MOST].sort().values.tolist()]
    for batch in Batches(refs, model.preprocess, run.batch_size, strict=True):
        with network_errors(f"for examples such as {batch.names[0]!r}"):
            maps, z = model.activations_and_logits(batch.x, layers)
        check_finite(batch.names, maps, z)
        for layer, F in maps.items():
            z0 = _at_zero(model, layer, batch.x, F)
            parts[layer].append(ZeroMaps.of(*_scores(model, z0, z), binary=model.binary))
    return {layer: ZeroMaps.joined(own) for layer, own in parts.items()}


def _at_zero(model: Model, layer: str, x: Tensor, F: Tensor) -> Tensor:
    """Return the logits at zero feature maps [1 or N, T]."""
    with torch.no_grad(), network_errors(f"at zero feature maps of layer {layer!r}"):
        head = model.head(layer).of(x)
        return head(torch.zeros_like(F if head.per_image else F[:1]))


def _scores(model: Model, *logits: Tensor) -> list[Tensor]:
    classes = list(range(len(model.class_names)))
    return [class_scores(z, classes, binary=model.binary) for z in logits]
