"""Settings of the method."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Literal

from vtcav.errors import ExplanationError
from vtcav.models.heads.batch_size import IMAGES
from vtcav.models.heads.options import PRECISIONS, Precision

__all__ = ["Rule"]


@dataclass(frozen=True)
class Rule:
    """How the integral of step 5 is taken.

    Attributes:
        steps: "adaptive", or the number of steps of the trapezoid rule.
        tolerance: The relative error that "adaptive" aims at.
        batch_size: Feature maps per pass through a head, and images per pass; None finds it.
        precision: Of the gradients: None is the network's own, "bf16" or "fp16" is mixed.

    Raises:
        ExplanationError: For a value out of range.
    """

    steps: int | Literal["adaptive"]
    tolerance: float
    batch_size: int | None = None
    precision: Precision | None = None

    def __post_init__(self) -> None:
        if self.steps != "adaptive":
            expected = "steps to be 'adaptive' or a whole number of at least 1"
            object.__setattr__(self, "steps", _whole(self.steps, expected))
        if not (isinstance(self.tolerance, numbers.Real) and 0 < self.tolerance < 1):
            raise ExplanationError(f"expected a tolerance between 0 and 1, got {self.tolerance!r}")
        object.__setattr__(self, "tolerance", float(self.tolerance))
        if self.batch_size is not None:
            expected = "batch_size to be a whole number of at least 1"
            object.__setattr__(self, "batch_size", _whole(self.batch_size, expected))
        if self.precision not in (None, *PRECISIONS):
            known = ", ".join(map(repr, PRECISIONS))
            raise ExplanationError(
                f"expected precision to be None, {known}, got {self.precision!r}"
            )

    @property
    def images(self) -> int:
        """Images per pass through the network."""
        return self.batch_size or IMAGES


def _whole(value: object, expected: str) -> int:
    """Return a number of at least 1 as a plain int, which JSON takes."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ExplanationError(f"expected {expected}, got {value!r}")
    return int(value)
