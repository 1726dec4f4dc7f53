"""Drawn scenes whose class shows in an object's texture and in a small tag.

```
background (smooth colours, grain) -> object: an ellipse of one of the textures -> tag: a letter
```

Only texture and letter may depend on the class; the background, the location and size of the
object, its colours and the location of the tag have the same distribution for all classes. Every
scene keeps its parts, so that each can be removed to show the background behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vtcav.evaluation.experiment.tags import ABSENT, TAG, draw_tags, paste
from vtcav.images.preprocess import Preprocess

SIDE = 64
PREPROCESS = Preprocess(SIDE, mean=0.5, std=0.5)
"""From a picture to the input of the small networks."""
CLASSES = ("level", "upright", "rising", "falling")
"""The classes, named by the direction of the stripes that are their texture."""
LETTERS = ("X", "L", "O", "T")
"""The letter of each class's tag."""

# degrees; 0 is level, 45 falls to the right
_ANGLES = (0.0, 90.0, -45.0, 45.0)
_TRIES = 16
_CHUNK = 128


@dataclass(frozen=True, eq=False)
class Scenes:
    """N scenes and their parts.

    Attributes:
        plain: The background alone, uint8 [N, 64, 64, 3].
        textured: Background and object, uint8 [N, 64, 64, 3].
        texture_mask: Where the object is, bool [N, 64, 64].
        tags: The tags, uint8 [N, 19, 19, 3]; arbitrary where there is none.
        corners: Upper left corners of the tags (row, column), [N, 2].
        letters: Index into `LETTERS`, [N]; -1 where there is no tag.
        labels: The class [N].
    """

    plain: NDArray[np.uint8]
    textured: NDArray[np.uint8]
    texture_mask: NDArray[np.bool_]
    tags: NDArray[np.uint8]
    corners: NDArray[np.intp]
    letters: NDArray[np.intp]
    labels: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def tag_mask(self) -> NDArray[np.bool_]:
        """Where the tag is, bool [N, 64, 64]; nowhere for a scene without one."""
        mask = np.zeros((len(self), *self.plain.shape[1:3]), bool)
        paste(mask, np.ones(self.tags.shape[:3], bool), self.corners, self.letters)
        return mask

    def images(self, *, tag: bool = True, texture: bool = True) -> NDArray[np.uint8]:
        """Return the pictures, uint8 [N, 64, 64, 3], with or without a part.

        Args:
            tag: Whether tags are shown. Without, the scene behind them is.
            texture: Whether objects are shown. Without, the background behind them is.
        """
        pictures = (self.textured if texture else self.plain).copy()
        if tag:
            paste(pictures, self.tags, self.corners, self.letters)
        return pictures


def draw_scenes(
    labels: NDArray[np.intp], seed: int, *, textures: NDArray[np.intp] | None = None
) -> Scenes:
    """Draw scenes without tags; `with_tags` adds these.

    Args:
        labels: The class of each scene [N], 0 to 3.
        seed: Seeds the drawing.
        textures: The class whose stripes each object has [N], -1 for an object without stripes;
            None takes the labels. Scenes of one seed differ in their stripes and in nothing else.

    Example:
        >>> scenes = draw_scenes(np.array([0, 3]), seed=0)
        >>> scenes.images().shape, scenes.texture_mask.any((1, 2)).tolist()
        ((2, 64, 64, 3), [True, True])
    """
    labels = np.asarray(labels, np.intp)
    stripes = labels if textures is None else np.asarray(textures, np.intp)
    # in chunks that stay in the processor's cache
    starts = range(0, len(labels), _CHUNK)
    parts = [_draw(stripes[i : i + _CHUNK], [seed, 1, i]) for i in starts]
    scenes = Scenes(
        **{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])}
    )
    return with_tags(replace(scenes, labels=labels), scenes.letters, seed)


def _draw(textures: NDArray[np.intp], seed: list[int]) -> Scenes:
    rng = np.random.default_rng(seed)
    count = len(textures)
    background = _background(count, rng)
    mask = _ellipses(count, rng)
    surface = _stripes(textures, rng)
    grain = rng.standard_normal(background.shape, np.float32)
    grain *= rng.uniform(4, 8, (count, 1, 1, 1)).astype(np.float32)
    textured = np.where(mask[..., None], surface, background)
    return Scenes(
        plain=_as_bytes(background + grain),
        textured=_as_bytes(textured + grain),
        texture_mask=mask,
        tags=np.zeros((count, TAG, TAG, 3), np.uint8),
        corners=np.zeros((count, 2), np.intp),
        letters=np.full(count, ABSENT, np.intp),
        labels=textures,
    )


def with_tags(scenes: Scenes, letters: NDArray[np.intp], seed: int) -> Scenes:
    """Return the scenes with new tags at new locations beside the object.

    Args:
        scenes: The scenes.
        letters: Index of the letter of each [N], -1 for no tag.
        seed: Seeds noise and locations.
    """
    rng = np.random.default_rng([seed, 2])
    return replace(
        scenes,
        letters=np.asarray(letters, np.intp),
        tags=draw_tags(letters, rng),
        corners=_free_corners(scenes.texture_mask, rng),
    )


def scene_seed(seed: int, purpose: Literal["train", "test", "concepts", "epochs"]) -> int:
    """Return the seed that draws an experiment's scenes of one purpose, so that none is shared.

    Those of "concepts" may be counted up from there, to 989 further, those of "epochs" (the tags
    of each epoch of training) to 999 further.
    """
    return seed * 1000 + {"train": 0, "test": 1, "concepts": 10, "epochs": 1 << 40}[purpose]


# -- parts ------------------------------------------------------------------------------------


def _background(count: int, rng: Generator) -> NDArray[np.float32]:
    """Return smooth colours, [count, 64, 64, 3]: a 4 x 4 grid of colours, interpolated."""
    coarse = rng.uniform(80, 175, (count, 4, 4, 3)).astype(np.float32)
    place = ((np.arange(SIDE) + 0.5) * 4 / SIDE - 0.5).clip(0, 3)
    weight = (1 - np.abs(place[:, None] - np.arange(4))).clip(0).astype(np.float32)
    half = np.tensordot(coarse, weight, (1, 1))  # [count, 4, 3, 64]
    smooth: NDArray[np.float32] = np.tensordot(half, weight, (1, 1)).transpose(0, 2, 3, 1)
    return smooth


def _grid() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    line = np.arange(SIDE, dtype=np.float32) + 0.5
    y, x = np.meshgrid(line, line, indexing="ij")
    return y[None], x[None]


def _ellipses(count: int, rng: Generator) -> NDArray[np.bool_]:
    """Return the objects' outlines, bool [count, 64, 64], 22 to 26 pixels long and wide."""
    y, x = _grid()
    radius = rng.uniform(11, 13, (2, count, 1, 1)).astype(np.float32)
    centre = rng.uniform(radius + 1, SIDE - radius - 1).astype(np.float32)
    inside = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
    return np.asarray(inside, np.bool_)


def _stripes(textures: NDArray[np.intp], rng: Generator) -> NDArray[np.float32]:
    """Return stripes in two colours, [N, 64, 64, 3]; one colour where there is no texture."""
    count = len(textures)
    angle = np.asarray(_ANGLES)[np.maximum(textures, 0)]
    striped = (textures != ABSENT)[:, None, None, None]
    y, x = _grid()
    turn = np.deg2rad(angle + rng.uniform(-12, 12, count)).astype(np.float32)[:, None, None]
    period = rng.uniform(4.5, 7.5, (count, 1, 1)).astype(np.float32)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1)).astype(np.float32)
    wave = np.sin(2 * np.pi / period * (y * np.cos(turn) - x * np.sin(turn)) + phase)
    middle = rng.uniform(70, 185, (count, 1, 1, 3)).astype(np.float32)
    contrast = rng.uniform(25, 50, (count, 1, 1, 1)).astype(np.float32)
    tint = rng.uniform(0.5, 1.0, (count, 1, 1, 3)).astype(np.float32)
    tint *= contrast * striped
    colours: NDArray[np.float32] = middle + tint * np.clip(2 * wave, -1, 1)[..., None]
    return colours


def _free_corners(mask: NDArray[np.bool_], rng: Generator) -> NDArray[np.intp]:
    """Return a random corner [N, 2] for each tag, where it does not touch the object."""
    n = np.arange(len(mask))
    corners = rng.integers(0, SIDE - TAG + 1, (_TRIES, len(mask), 2))
    under = np.lib.stride_tricks.sliding_window_view(mask, (TAG, TAG), (1, 2))
    covered = under[n, corners[..., 0], corners[..., 1]].sum((2, 3))
    chosen: NDArray[np.intp] = corners[covered.argmin(0), n]
    return chosen


def _as_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return values.round().clip(0, 255).astype(np.uint8)
