"""Options for faster, less exact gradients."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["PRECISIONS", "Precision"]

Precision: TypeAlias = Literal["bf16", "fp16"]
"""The type that mixed precision computes in (`vtcav.models.heads.mixed_precision`)."""

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16")
