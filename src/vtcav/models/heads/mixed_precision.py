"""Gradients in mixed precision, on request.

Only the integrated gradients, which take most of the time, are computed under autocast. Feature
maps, CAVs, concept maps, predictions and class shares keep the network's own precision. The loss of
accuracy is measured and reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from vtcav.models.base import Head, held, recomputes

MixedPrecision: TypeAlias = Literal["bf16", "fp16"]
"""The types that a head may compute in."""

_TYPES: dict[MixedPrecision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}

_SCALE = 1024.0  # of gradients in float16, which loses those below 6e-8


def computes_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16, without which it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # older PyTorch
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def mixed(head: Head, precision: MixedPrecision | None) -> Head:
    """Return a head that computes in mixed precision; the head itself for None."""
    return head if precision is None else MixedHead(head, precision)


class MixedHead:
    """A head whose passes run under autocast.

    Attributes:
        layer: Name of the layer.
        resume: The way in which the rest is run.

    Args:
        head: The head in the network's own precision.
        precision: The type to compute in.
    """

    def __init__(self, head: Head, precision: MixedPrecision) -> None:
        self.layer, self.resume = head.layer, head.resume
        self._head, self._precision = head, precision

    @property
    def takes_images(self) -> bool:
        """Whether the rest reads more of an image than its maps, so that it needs `of`."""
        return self._head.takes_images

    @property
    def per_image(self) -> bool:
        """Whether the head is bound to N images and takes maps of these, row by row."""
        return self._head.per_image

    @property
    def recomputes(self) -> bool:
        """Whether parts run again when a gradient is taken (activation checkpointing)."""
        return recomputes(self._head)

    def __call__(self, F: Tensor) -> Tensor:
        """Return the logits z [N, T] (float32), differentiable with respect to F."""
        scale = _SCALE if self._precision == "fp16" and F.requires_grad else 1.0
        if scale != 1:
            F = F.clone()
            F.register_hook(lambda gradient: gradient / scale)  # type: ignore[no-untyped-call]  # untyped
        with torch.autocast(F.device.type, _TYPES[self._precision]):
            z = self._head(F)
        z = z.float()
        if scale != 1:
            z = z.clone()
            z.register_hook(lambda gradient: gradient * scale)  # type: ignore[no-untyped-call]  # untyped
        return z

    @contextmanager
    def held(self) -> Iterator[Head]:
        """Yield the head for one pass whose gradients are taken inside."""
        with held(self._head) as head:
            yield MixedHead(head, self._precision)

    def of(self, images: Tensor) -> Head:
        """Return the head for maps of these preprocessed images [N, 3, H, W], row by row."""
        return MixedHead(self._head.of(images), self._precision)

    def rows(self, index: Tensor) -> Head:
        """Return the head for maps of the images at these positions [n] among the N."""
        return MixedHead(self._head.rows(index), self._precision)
