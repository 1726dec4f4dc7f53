"""The precision of the integrated gradients at each layer, and what it was measured to cost.

Mixed precision is faster where the device has instructions for it, and moves the attributions. By
how much depends on the network and the layer, so it is measured at the first images explained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import torch

from vtcav.errors import warn
from vtcav.explainer.settings import IntegralSettings
from vtcav.models.heads.mixed_precision import MixedPrecision, computes_bf16
from vtcav.models.settings import Precision

_OF_TOLERANCE = 3  # "auto" leaves two thirds of the tolerance to the integral and to other images
_STEPS = (
    2  # of the rule that "auto" is measured with, whose error is about the finer one's or larger
)
_IMAGES = 4  # of a class; a single image that is explained has to do


@dataclass(frozen=True)
class GradientPrecision:
    """The precision of the gradients, as asked for and as measured.

    Attributes:
        asked: As the user gives it: None for the network's own.
        errors: For each layer, how far mixed precision moves attributions, relative to the
            attribution or to 0.01 for smaller ones; for "auto" NaN where all are below 0.01, and
            infinity where the network fails. None until it is measured.
        chosen: The layers at which "auto" takes bf16.
    """

    asked: Precision | None
    errors: Mapping[str, float] | None = None
    chosen: tuple[str, ...] = ()

    @classmethod
    def of(cls, asked: Precision | None, device: torch.device) -> GradientPrecision:
        """Return what is asked for; "auto" has nothing to measure where bf16 would be slower."""
        nothing = asked == "auto" and not computes_bf16(device)
        return cls(asked, {} if nothing else None)

    @property
    def is_due(self) -> bool:
        """Whether it has to be measured."""
        return self.asked is not None and self.errors is None

    @property
    def images(self) -> int:
        """The number of images that it is measured at."""
        return _IMAGES if self.asked == "auto" else 1

    @property
    def candidate(self) -> MixedPrecision | None:
        """The mixed precision that is measured."""
        return "bf16" if self.asked == "auto" else self.asked

    def at(self, layer: str) -> MixedPrecision | None:
        """Return the precision at a layer; None for the network's own."""
        if self.asked == "auto":
            return "bf16" if layer in self.chosen else None
        return self.asked

    def rule(self, settings: IntegralSettings) -> IntegralSettings:
        """Return how the integral is taken that it is measured with.

        For "auto" it is a coarse one, as the measurement must cost less than bf16 saves.
        """
        return replace(settings, steps=_STEPS) if self.asked == "auto" else settings

    def measured(self, errors: Mapping[str, float], tolerance: float) -> GradientPrecision:
        """Return the precision with its errors [relative] by layer.

        Warns:
            UserWarning: When a precision that was asked for by name exceeds the tolerance.
        """
        if self.asked == "auto":
            most = tolerance / _OF_TOLERANCE
            chosen = tuple(layer for layer, error in errors.items() if error <= most)
            return replace(self, errors=errors, chosen=chosen)
        worst = max(errors, key=lambda layer: errors[layer], default=None)
        if worst is not None and errors[worst] > tolerance:
            warn(
                f"precision={self.asked!r} moves attributions by up to {errors[worst]:.1%} (layer "
                f"{worst!r}, measured at the first image), more than the tolerance of "
                f"{tolerance:.1%}; leave precision out to compute them as the network does"
            )
        return replace(self, errors=errors)

    def describe(self, *, measured: bool) -> dict[str, Any]:
        """Return it as JSON data.

        Args:
            measured: Whether to include the errors.
        """
        found: dict[str, Any] = {} if self.asked is None else {"precision": self.asked}
        if self.asked == "auto":
            found["bf16_layers"] = list(self.chosen)
        if measured and self.errors:
            found["precision_error"] = {k: e for k, e in self.errors.items() if isfinite(e)}
        return found
