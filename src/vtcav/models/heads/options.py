"""What computes gradients otherwise than the network does, by request."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["MODES", "PRECISIONS", "Mode", "Precision"]

Precision: TypeAlias = Literal["bf16", "fp16"]
"""The type that mixed precision computes in (`vtcav.models.heads.mixed_precision`)."""

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16")

Mode: TypeAlias = Literal["default", "reduce-overhead", "max-autotune"]
"""How torch.compile compiles, in its own words (`vtcav.models.heads.compiled`)."""

MODES: tuple[Mode, ...] = ("default", "reduce-overhead", "max-autotune")
