"""OpenCV's inpainting as ways to fill in a region (erasure 4): the extra vtcav[inpainting].

"telea" marches from the edge of the region inwards and takes weighted means of what is known (Telea
2004), "navier-stokes" continues lines of equal intensity (Bertalmio, Bertozzi and Sapiro 2001).

Both work on one channel at a time in float32, so no value is rounded to 8 bits. Their constants
belong to values from 0 to 255: the range of the pixels outside the region is brought to that, image
by image and channel by channel, and back, so that they commute with a normalisation by channel.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.method.erasure.fill_names import check_installed

__all__ = ["navier_stokes", "telea"]

RADIUS = 0.03
"""How far around a pixel is looked, as a share of the shorter side; at least 3 pixels."""
_HIGHEST = 255.0


def telea(x: Tensor, H: Tensor) -> Tensor:
    """Return pictures x [n, c, H, W] with regions H [n, 1, H, W] inpainted by Telea's method.

    Raises:
        ExtraError: When OpenCV is not installed.
    """
    return _inpainted(x, H, "telea")


def navier_stokes(x: Tensor, H: Tensor) -> Tensor:
    """Return pictures x [n, c, H, W] with regions H [n, 1, H, W] inpainted by Navier-Stokes.

    Raises:
        ExtraError: When OpenCV is not installed.
    """
    return _inpainted(x, H, "navier-stokes")


def _inpainted(x: Tensor, H: Tensor, method: str) -> Tensor:
    check_installed(method)
    if x.ndim != 4:
        raise ExplanationError(
            f'fill="{method}" fills pictures: for volumes expected "convolution", "mean" or "blur"'
        )
    import cv2

    flag = cv2.INPAINT_TELEA if method == "telea" else cv2.INPAINT_NS
    radius = max(3.0, RADIUS * min(x.shape[2:]))
    pictures = x.detach().cpu().double().numpy()
    regions = (H[:, 0] > 0).byte().cpu().numpy()
    content = np.empty_like(pictures)
    for n, region in enumerate(regions):
        for c, channel in enumerate(pictures[n]):
            low, high = _range(channel, region)
            unit = (high - low) / _HIGHEST or 1.0
            known = np.where(region, 0.0, (channel - low) / unit).astype(np.float32)
            found = cv2.inpaint(known, region, radius, flag) if not region.all() else known
            content[n, c] = found.astype(np.float64) * unit + low
    return torch.from_numpy(content).to(x)


def _range(channel: NDArray[np.float64], region: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the range of what is outside a region; of one that covers all, twice the mean."""
    outside = channel[region == 0]
    if not outside.size:
        return float(channel.mean()), float(channel.mean())
    return float(outside.min()), float(outside.max())
