"""Small pictures for a display, as data URIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vtcav.images.volumes import slice_between, slice_name, strongest_slice
from vtcav.results.figures.data_uri import data_uri
from vtcav.results.notebook.display import Figure, Viewer

_SIDE = 176
_STRIP = 3
_MOST_CONCEPTS = 8
_MOST_SLICES = 32


def picture(pixels: NDArray[np.uint8], text: str) -> Figure:
    """Return a picture."""
    return Figure(data_uri(pixels, _SIDE), text)


def overlay(
    pixels: NDArray[np.uint8], box: Sequence[float], M: NDArray[np.float32], text: str
) -> Figure:
    """Return a concept map over its picture.

    Args:
        pixels: uint8 [H, W, 3].
        box: The network's input on it, in shares of its sides.
        M: The map [h, w].
        text: The caption.
    """
    from vtcav.results.figures.overlay import flat_overlay

    return Figure(data_uri(flat_overlay(pixels, box, M, _SIDE), _SIDE), text)


def viewer(
    slices: NDArray[np.uint8], box: Sequence[float], M: NDArray[np.float32] | None, text: str
) -> Viewer:
    """Return the slices of a volume, with a concept map over them where there is one.

    Args:
        slices: uint8 [D, H, W, 3]. Of many, at most 32 are shown, evenly spread.
        box: The network's input on them, in shares of their sides.
        M: The map [d, h, w], whose strongest slice is shown first; None for the volume alone.
        text: The caption.
    """
    D = len(slices)
    first = D // 2 if M is None else slice_between(strongest_slice(M), len(M), D)
    chosen = sorted({*np.linspace(0, D - 1, min(D, _MOST_SLICES)).astype(int).tolist(), first})
    shown = []
    for k in chosen:
        here = None if M is None else M[slice_between(k, D, len(M))]
        name = slice_name(k, D)
        each = picture(slices[k], name) if here is None else overlay(slices[k], box, here, name)
        shown.append(each)
    return Viewer(shown, chosen.index(first), text)


def examples(thumbnails: Mapping[str, NDArray[np.uint8]], concepts: Sequence[str]) -> list[Figure]:
    """Return a few examples of each concept, side by side."""
    shown = [name for name in concepts if len(thumbnails.get(name, ()))][:_MOST_CONCEPTS]
    return [Figure(data_uri(_strip(thumbnails[name]), _SIDE), name) for name in shown]


def _strip(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate(list(pictures[:_STRIP]), axis=1)
