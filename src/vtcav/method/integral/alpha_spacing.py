"""Spacings of the points alpha between zero feature maps (0) and F (1).

Equidistant points suit networks whose gradient changes anywhere along the line. Where a network
normalises what follows the layer (LayerNorm in ConvNeXt, Swin, ViT), nearly everything happens
below alpha = 0.001, between two equidistant points. A graded spacing makes alpha a smooth function
of u in [0, 1]. One part of its points is spread evenly, one follows the total variation of the
logits, and one goes evenly over the octaves above the alpha where the logits begin to change: there
scores hardly change any more, but gradients fall like 1 / alpha, so all octaves contribute alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.method.integral import constants

PILOT = np.concatenate([[0.0], 2.0 ** np.arange(-16, 1)])
"""Points at which the logits are sampled first: 0 and the powers of 2 up to 1."""


@dataclass(frozen=True)
class UniformSpacing:
    """Equidistant points: alpha = u."""

    def at(self, u: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and dalpha/du at u [P] for some images [n], both [n, P]."""
        alpha = u.expand(len(images), -1)
        return alpha, torch.ones_like(alpha)


class GradedSpacing:
    """Points that are denser where the logits change.

    Args:
        z: Logits [N, T, len(PILOT)] at the points `PILOT`.

    Example:
        >>> z = torch.tensor(PILOT > 0.01).float()[None, None]  # all change lies in 0.008..0.016
        >>> alpha, slope = GradedSpacing(z).at(torch.linspace(0, 1, 5), torch.tensor([0]))
        >>> alpha.numpy().round(3)
        array([[0.   , 0.013, 0.103, 0.487, 1.   ]], dtype=float32)
    """

    def __init__(self, z: Tensor) -> None:
        from scipy.interpolate import PchipInterpolator

        change = np.abs(np.diff(z.double().cpu().numpy(), axis=2))
        total = change.sum(2, keepdims=True)
        steps = np.diff(PILOT)
        # a class whose logit is constant does not say where to look
        share = np.divide(
            change, total, out=np.broadcast_to(steps, change.shape).copy(), where=total > 0
        )
        share = share.mean(1)
        changing = share.cumsum(1) >= constants.CHANGE_BEGINS
        octaves = changing / changing.sum(1, keepdims=True)
        even, with_change = constants.EVEN_SHARE, constants.CHANGE_SHARE
        density = even * steps + with_change * share + (1 - even - with_change) * octaves
        u = np.concatenate([np.zeros((len(density), 1)), density.cumsum(1)], 1)
        self._alpha = [PchipInterpolator(row / row[-1], PILOT) for row in u]
        self._slope = [alpha.derivative() for alpha in self._alpha]

    def at(self, u: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and dalpha/du at u [P] for some images [n], both [n, P]."""
        points: NDArray[np.float64] = u.double().numpy()
        chosen = images.tolist()
        alpha = np.stack([self._alpha[i](points) for i in chosen])
        slope = np.stack([self._slope[i](points) for i in chosen])
        return torch.tensor(alpha).float(), torch.tensor(slope).float()


Spacing = UniformSpacing | GradedSpacing
