"""Pictures as data URIs, to stand inside a page."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

_QUALITY = 80


_WIDEST = 2048  # of a sheet of slices


def sheet(slices: NDArray[np.uint8], side: int) -> tuple[str, int]:
    """Return the slices of a volume as one picture, row by row, and how many stand in a row.

    Args:
        slices: uint8 [D, H, W, 3], or [D, H, W, 4] with opacity.
        side: Most pixels along the longer edge of a slice.
    """
    columns = math.ceil(math.sqrt(len(slices)))
    small = []
    for each in slices:
        image = Image.fromarray(each)
        image.thumbnail((most := min(side, _WIDEST // columns), most), Image.Resampling.LANCZOS)
        small.append(np.asarray(image))
    while len(small) % columns:
        small.append(np.zeros_like(small[0]))
    rows = [np.concatenate(small[i : i + columns], 1) for i in range(0, len(small), columns)]
    whole = np.concatenate(rows)
    return data_uri(whole, max(whole.shape)), columns


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
