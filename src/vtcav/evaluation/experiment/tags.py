"""The tags of the controlled experiment: a dark letter on a small square of coloured noise."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

__all__ = ["ABSENT", "GLYPHS", "TAG", "draw_tags", "put_tags"]

TAG = 19
"""Pixels on a side of a tag as it is drawn."""
ABSENT = -1
"""In the place of a letter: no tag."""
GLYPHS = {
    "X": ("#...#", ".#.#.", "..#..", ".#.#.", "#...#"),
    "L": ("#....", "#....", "#....", "#....", "#####"),
    "O": (".###.", "#...#", "#...#", "#...#", ".###."),
    "T": ("#####", "..#..", "..#..", "..#..", "..#.."),
    "H": ("#...#", "#...#", "#####", "#...#", "#...#"),
    "C": ("#####", "#....", "#....", "#....", "#####"),
    "U": ("#...#", "#...#", "#...#", "#...#", ".###."),
    "E": ("#####", "#....", "####.", "#....", "#####"),
    "Z": ("#####", "...#.", "..#..", ".#...", "#####"),
    "A": ("..#..", ".#.#.", "#...#", "#####", "#...#"),
}
"""Letters of 5 x 5 cells; a tag's letter is a position among them."""

_SHARE = TAG / 64  # of a picture's shorter side


def draw_tags(letters: NDArray[np.intp], rng: Generator) -> NDArray[np.uint8]:
    """Draw a tag for each letter, uint8 [N, 19, 19, 3]; without meaning where there is none."""
    tags = rng.integers(60, 256, (len(letters), TAG, TAG, 3), np.uint8)
    ink = rng.integers(0, 50, tags.shape, np.uint8)
    glyphs = np.stack([_glyph(letter) for letter in GLYPHS])
    shape = glyphs[np.maximum(letters, 0)]
    return np.where(shape[..., None], ink, tags)


def put_tags(
    pictures: NDArray[np.uint8], letters: NDArray[np.intp], seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Put tags on pictures, at random places.

    Args:
        pictures: uint8 [N, H, W, 3].
        letters: Positions among `GLYPHS` [N], -1 for no tag.
        seed: Seeds noise and places, which do not depend on the letters.

    Returns:
        The pictures with tags of 0.3 of the shorter side, and masks of the tags, bool [N, H, W].

    Example:
        >>> grey = np.full((2, 64, 64, 3), 128, np.uint8)
        >>> tagged, masks = put_tags(grey, np.array([0, -1]), seed=0)
        >>> masks.sum((1, 2)).tolist(), bool((tagged[1] == grey[1]).all())
        ([361, 0], True)
    """
    count, high, wide = pictures.shape[:3]
    side = round(_SHARE * min(high, wide))
    rng = np.random.default_rng([seed, 2])
    tags = draw_tags(np.asarray(letters, np.intp), rng)
    cells = np.arange(side) * TAG // side
    rows = rng.integers(0, high - side + 1, count)[:, None, None] + np.arange(side)[:, None]
    columns = rng.integers(0, wide - side + 1, count)[:, None, None] + np.arange(side)
    on = np.flatnonzero(np.asarray(letters) != ABSENT)
    tagged, masks = pictures.copy(), np.zeros((count, high, wide), bool)
    large = tags[on][:, cells[:, None], cells]
    tagged[on[:, None, None], rows[on], columns[on]] = large
    masks[on[:, None, None], rows[on], columns[on]] = True
    return tagged, masks


def _glyph(letter: str) -> NDArray[np.bool_]:
    """Return a letter of 15 x 15 in the middle of a tag, bool [19, 19]."""
    small = np.array([[cell == "#" for cell in row] for row in GLYPHS[letter]])
    return np.pad(small.repeat(3, 0).repeat(3, 1), (TAG - 15) // 2)
