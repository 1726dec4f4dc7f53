"""The tags of the controlled experiment: a dark letter on a small square of coloured noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

TAG = 19
"""Pixels on a side of a tag as it is drawn."""
ABSENT = -1
"""No tag, instead of a letter."""
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

PutCue: TypeAlias = Callable[
    [NDArray[np.uint8], NDArray[np.intp], int], tuple[NDArray[np.uint8], NDArray[np.bool_]]
]
"""From pictures [N, H, W, 3], the cue of each [N] (-1: none) and a seed to the pictures with their
cues and the masks of these [N, H, W], as `put_tags` does."""

_SHARE = TAG / 64  # of a picture's shorter side


def draw_tags(letters: NDArray[np.intp], rng: Generator) -> NDArray[np.uint8]:
    """Draw a tag for each letter, uint8 [N, 19, 19, 3]; arbitrary where there is none."""
    tags = rng.integers(60, 256, (len(letters), TAG, TAG, 3), np.uint8)
    ink = rng.integers(0, 50, tags.shape, np.uint8)
    glyphs = np.stack([_glyph(letter) for letter in GLYPHS])
    shape = glyphs[np.maximum(letters, 0)]
    return np.where(shape[..., None], ink, tags)


def put_tags(
    pictures: NDArray[np.uint8], letters: NDArray[np.intp], seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Put tags on pictures, at random locations.

    Args:
        pictures: uint8 [N, H, W, 3].
        letters: Positions among `GLYPHS` [N], -1 for no tag.
        seed: Seeds noise and locations, which do not depend on the letters.

    Returns:
        The pictures with tags of 0.3 of the shorter side, and masks of the tags, bool [N, H, W].

    Example:
        >>> grey = np.full((2, 64, 64, 3), 128, np.uint8)
        >>> tagged, masks = put_tags(grey, np.array([0, -1]), seed=0)
        >>> masks.sum((1, 2)).tolist(), bool((tagged[1] == grey[1]).all())
        ([361, 0], True)
    """
    count, high, wide = pictures.shape[:3]
    letters = np.asarray(letters, np.intp)
    side = round(_SHARE * min(high, wide))
    rng = np.random.default_rng([seed, 2])
    tags, cells = draw_tags(letters, rng), np.arange(side) * TAG // side
    ends = [rng.integers(0, length - side + 1, count) for length in (high, wide)]
    corners, large = np.stack(ends, 1), tags[:, cells[:, None], cells]
    masks = np.zeros((count, high, wide), bool)
    paste(masks, np.ones(large.shape[:3], bool), corners, letters)
    tagged = pictures.copy()
    paste(tagged, large, corners, letters)
    return tagged, masks


def paste(
    onto: NDArray[Any], tags: NDArray[Any], corners: NDArray[np.intp], letters: NDArray[np.intp]
) -> None:
    """Put tags on pictures or masks in place, except where the letter is `ABSENT`.

    Args:
        onto: [N, H, W, ...].
        tags: [N, h, w, ...].
        corners: Upper left corners of the tags (row, column), [N, 2].
        letters: [N].
    """
    on, line = np.flatnonzero(letters != ABSENT), np.arange(tags.shape[1])
    rows, columns = (corners[on, axis, None] + line for axis in (0, 1))
    onto[on[:, None, None], rows[:, :, None], columns[:, None, :]] = tags[on]


def _glyph(letter: str) -> NDArray[np.bool_]:
    """Return a letter of 15 x 15 in the middle of a tag, bool [19, 19]."""
    small = np.array([[cell == "#" for cell in row] for row in GLYPHS[letter]])
    return np.pad(small.repeat(3, 0).repeat(3, 1), (TAG - 15) // 2)
