"""Scores of segmentation: the mean logit of a class over a region."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ModelError
from vtcav.models.scores.held import HeldScore, part_of


class RegionScore(HeldScore):
    """The mean logit of each class over the region that the plain pass gives to it.

    The region of a class is where its logit is the largest, in the plain pass of each image; it is
    held. A class without a region scores 0, and gets no attribution. With a single channel of
    logits, its region is where it is above 0.

    Args:
        mask: A region [h, w] for all classes and images in place of their own, of bool or 0..1, on
            the network's input; it is brought to the size of the logits.
        output: The key or attribute of the logits [N, T, h, w]; None takes "out" or "logits", or
            the output itself.

    Raises:
        ModelError: For a mask that is none, or marks nothing.

    Example:
        >>> logits = torch.tensor([[[[4.0, 1.0], [2.0, 0.0]], [[0.0, 2.0], [1.0, 5.0]]]])
        >>> RegionScore()({"out": logits})
        tensor([[3.0000, 3.5000]])
        >>> RegionScore(np.array([[1, 0], [0, 0]]))({"out": logits})
        tensor([[4., 0.]])
    """

    def __init__(self, mask: NDArray[Any] | None = None, output: str | None = None) -> None:
        self.mask = None if mask is None else torch.from_numpy(_checked(mask))
        self.output = output

    def __repr__(self) -> str:
        shape = None
        if self.mask is not None:
            digest = hashlib.sha256(self.mask.numpy().tobytes()).hexdigest()[:16]
            shape = f"{tuple(self.mask.shape)} {digest}"
        return f"RegionScore(mask={shape}, output={self.output!r})"

    def hold(self, output: Any) -> Tensor:
        """Return the region of each class, [N, T, h, w] of 0 and 1."""
        z = self._logits(output)
        if self.mask is not None:
            size = (z.shape[2], z.shape[3])
            mask = functional.interpolate(self.mask[None, None].to(z), size, mode="area")
            inside = (mask >= min(0.5, float(mask.max()))).to(z)
            return inside.expand_as(z)
        if z.shape[1] == 1:
            return (z > 0).to(z)
        return functional.one_hot(z.max(1).indices, z.shape[1]).movedim(-1, 1).to(z)

    def read(self, output: Any, held: Tensor) -> Tensor:
        """Return the mean logits [N, T] over the regions."""
        z = self._logits(output)
        return (z * held).sum((2, 3)) / held.sum((2, 3)).clamp(min=1)

    def _logits(self, output: Any) -> Tensor:
        names = ("out", "logits") if self.output is None else (self.output,)
        z = output if isinstance(output, Tensor) else part_of(output, *names)
        if not isinstance(z, Tensor) or z.ndim != 4:
            came = f"of shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
            raise ModelError(f"expected logits [N, T, h, w] of a segmentation, got {came}")
        return z


def _checked(mask: NDArray[Any]) -> NDArray[np.float32]:
    values = np.asarray(mask)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise ModelError(
            f"expected a mask [h, w] of bool or 0..1, got {values.dtype} of shape "
            f"{list(values.shape)}"
        )
    if not np.isfinite(values).all() or values.min() < 0 or values.max() <= 0:
        raise ModelError("expected a mask of 0..1 that marks something")
    marked: NDArray[np.float32] = (values / values.max()).astype(np.float32)
    return marked
