"""The picture that figures show, and where the network's input lies on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtcav.images.preprocess import Preprocess

__all__ = ["shown_picture"]

SIDE = 1024


def shown_picture(
    picture: Image.Image, x: Tensor, preprocess: object
) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
    """Return the picture for figures, and where the network's input lies on it.

    Args:
        picture: The image as it came.
        x: The network's input [3, H, W].
        preprocess: A `Preprocess`, whose geometry is known, or another callable.

    Returns:
        uint8 [H, W, 3] of at most 1024 pixels a side, and left, top, right and bottom as shares
        of its sides. For another callable the picture is the network's input, stretched to the
        full range of grey.
    """
    if isinstance(preprocess, Preprocess):
        width, height = picture.size
        left, top, right, bottom = preprocess.box(width, height)
        small = picture.copy()
        small.thumbnail((SIDE, SIDE))
        box = left / width, top / height, right / width, bottom / height
        return np.array(small), box
    low, high = float(x.min()), float(x.max())
    shown = x.float() if len(x) == 3 else x.float().mean(0, keepdim=True).expand(3, -1, -1)
    grey = ((shown - low) / max(high - low, 1e-12) * 255).round().byte()
    return grey.permute(1, 2, 0).cpu().numpy(), (0.0, 0.0, 1.0, 1.0)
