"""What is integrated, of which images, and what the integral is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.method.integral.trapezoid import rows_of
from vtcav.models.base import Head

__all__ = ["Integrand"]


@dataclass(frozen=True, eq=False)
class Integrand:
    """The gradients of some logits along the lines from zero feature maps to those of N images.

    Attributes:
        head: The network after the layer, `of` the images where it has prefix tokens.
        F: Feature maps [N, C, h, w].
        classes: Indices of the logits to differentiate, per image [N, T].
        rise: z(F) - z(0) of these logits [N, T].
        attributions: From IG [n, T, C, h, w] and the positions [n] of its images among the N, or
            that of one image [1], to concept attributions a [n, T, K]; their errors are what
            counts.
    """

    head: Head
    F: Tensor
    classes: Tensor
    rise: Tensor
    attributions: Callable[[Tensor, Tensor], Tensor]

    def of(self, images: Tensor) -> Integrand:
        """Return the same of some of the images [n]."""
        at = images.to(self.F.device)

        def attributions(IG: Tensor, on: Tensor) -> Tensor:
            return self.attributions(IG, at[on.to(at.device)])

        head = rows_of(self.head, at)
        return Integrand(head, self.F[at], self.classes[at], self.rise[at], attributions)

    def line(self, image: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return F [1, C, h, w] of one image, and what gives a [n, T, K] for IG [n, T, C, h, w]."""
        at = torch.arange(image, image + 1, device=self.F.device)
        return self.F[image : image + 1], lambda IG: self.attributions(IG, at)
