"""Pictures as data URIs, to stand inside a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

_QUALITY = 80


def data_uri(picture: NDArray[np.uint8], side: int) -> str:
    """Return a picture as a data URI.

    Args:
        picture: uint8 [H, W, 3], or [H, W, 4] with opacity.
        side: Most pixels along the longer edge.
    """
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    kind = "webp" if features.check("webp") else "jpeg" if image.mode == "RGB" else "png"
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
