"""The integrand of step 5: a head, feature maps, and the attributions that the integral serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.method.integral.trapezoid import rows_of
from vtcav.models.base import Head


@dataclass(frozen=True, eq=False)
class Integrand:
    """The gradients of some logits along the lines from zero feature maps to those of N images.

    Attributes:
        head: The network after the layer, bound to the images where it has prefix tokens.
        F: Feature maps [N, C, h, w].
        classes: Indices of the logits to differentiate, per image [N, T].
        logit_difference: z(F) - z(0) of these logits [N, T].
        attributions: Takes IG [n, T, C, h, w] and the positions [n] of its images among the N, or
            that of one image [1], and returns concept attributions a [n, T, K], whose error the
            adaptive rule controls.
    """

    head: Head
    F: Tensor
    classes: Tensor
    logit_difference: Tensor
    attributions: Callable[[Tensor, Tensor], Tensor]

    def of(self, images: Tensor) -> Integrand:
        """Return the integrand of some of the images [n]."""
        at = images.to(self.F.device)

        def attributions(IG: Tensor, on: Tensor) -> Tensor:
            return self.attributions(IG, at[on.to(at.device)])

        head, F, classes = rows_of(self.head, at), self.F[at], self.classes[at]
        return Integrand(head, F, classes, self.logit_difference[at], attributions)

    def of_image(self, image: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return F [1, C, h, w] of one image, and a function from IG [n, T, C, h, w] to a."""
        at = torch.arange(image, image + 1, device=self.F.device)
        return self.F[image : image + 1], lambda IG: self.attributions(IG, at)
