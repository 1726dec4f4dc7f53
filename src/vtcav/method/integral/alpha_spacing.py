"""Where the points of an integral lie on the line from zero feature maps to F.

Equidistant points suit networks whose gradient changes here and there along the line. Where the
network normalises what follows the layer (LayerNorm in ConvNeXt, Swin, ViT), nearly all happens
close to zero, below alpha = 0.001, where equidistant points see nothing. A crowded path takes
its points where that is: alpha is a smooth function of u in [0, 1], whose range goes in parts
evenly over the line, with the logits' total variation, and evenly over the octaves from where this
begins. (Beyond that place scores no longer change and gradients still do: they fall like
1 / alpha, and as much is to be found between 0.001 and 0.002 as between 0.5 and 1.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["PILOT", "CrowdedPath", "Path", "StraightPath"]

PILOT = np.concatenate([[0.0], 2.0 ** np.arange(-16, 1)])
"""The points at which the logits are looked at first: 0 and powers of 2 up to 1."""

_EVEN = 0.4  # of u goes evenly over the line
_CHANGE = 0.3  # of it goes with the change of the logits, the rest evenly over the octaves
_BEGUN = 0.01  # from that share of the change on


@dataclass(frozen=True)
class StraightPath:
    """Equidistant points: alpha = u."""

    def at(self, u: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and dalpha/du at u [P] for some images [n], both [n, P]."""
        alpha = u.expand(len(images), -1)
        return alpha, torch.ones_like(alpha)


class CrowdedPath:
    """Points that crowd where the logits change.

    Args:
        z: Logits [N, T, len(PILOT)] at the points `PILOT`.

    Example:
        >>> z = torch.tensor(PILOT > 0.01).float()[None, None]  # all rises from 0.008 to 0.016
        >>> alpha, slope = CrowdedPath(z).at(torch.linspace(0, 1, 5), torch.tensor([0]))
        >>> alpha.numpy().round(3)
        array([[0.   , 0.013, 0.103, 0.487, 1.   ]], dtype=float32)
    """

    def __init__(self, z: Tensor) -> None:
        from scipy.interpolate import PchipInterpolator

        change = np.abs(np.diff(z.double().cpu().numpy(), axis=2))
        total = change.sum(2, keepdims=True)
        steps = np.diff(PILOT)
        # a class that does not change at all says nothing about where to look
        share = np.divide(
            change, total, out=np.broadcast_to(steps, change.shape).copy(), where=total > 0
        )
        share = share.mean(1)
        begun = share.cumsum(1) >= _BEGUN
        octaves = begun / begun.sum(1, keepdims=True)
        mass = _EVEN * steps + _CHANGE * share + (1 - _EVEN - _CHANGE) * octaves
        ends = np.concatenate([np.zeros((len(mass), 1)), mass.cumsum(1)], 1)
        self._alpha = [PchipInterpolator(row / row[-1], PILOT) for row in ends]
        self._slope = [alpha.derivative() for alpha in self._alpha]

    def at(self, u: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and dalpha/du at u [P] for some images [n], both [n, P]."""
        places: NDArray[np.float64] = u.double().numpy()
        chosen = images.tolist()
        alpha = np.stack([self._alpha[i](places) for i in chosen])
        slope = np.stack([self._slope[i](places) for i in chosen])
        return torch.tensor(alpha).float(), torch.tensor(slope).float()


Path = StraightPath | CrowdedPath
