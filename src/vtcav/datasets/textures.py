"""Drawn textures as examples of concepts: striped, dotted, chequered and the like.

The images are drawn, so they need no download and a seed identifies them. They imitate photographs
of textured material: each has its own scale, direction, colours, folds, perspective, light, blur
and grain, so that the texture is the one thing that all drawings of a name share.

```
coordinates (folded, tilted, turned) -> pattern in [0, 1] -> two colours -> light -> grain
```
"""

import zlib
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from vtcav.datasets.concept_images import check_known
from vtcav.errors import ConceptError
from vtcav.files.atomic import atomic_path
from vtcav.files.paths import given_path
from vtcav.parameters import Whole, as_list, check

__all__ = ["NAMES", "draw", "write"]

_Field: TypeAlias = NDArray[np.floating[Any]]  # float32 in fact: twice as fast

_SMALLEST = 16  # pixels; with fewer, patterns can hardly be told apart
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


# ---------------------------------------------------------------- building blocks


def _triangle(x: _Field) -> _Field:
    """Return the wave of period 1 that falls from 1 at whole numbers to 0 half way between."""
    return np.abs(2 * (x - np.floor(x)) - 1)


def _edge(x: _Field, softness: float) -> _Field:
    """Return a step from 0 to 1 at x = 0, `softness` wide."""
    step: _Field = np.clip(x / softness + 0.5, 0, 1)
    return step


def _odd(row: _Field) -> _Field:
    """Return the half period by which every other row is shifted."""
    return row / 2 - np.floor(row / 2)


def _waves(u: _Field, v: _Field, rng: Generator, *, count: int = 3, spread: float = 0.5) -> _Field:
    """Return a smooth random field of mean 0 and variance 1, about one period per unit."""
    total = np.zeros_like(u)
    for _ in range(count):
        turn, phase = rng.uniform(0, 2 * np.pi, 2)
        k = 2 * np.pi * rng.uniform(1 - spread, 1 + spread)
        total += np.sin(
            np.float32(k * np.cos(turn)) * u + np.float32(k * np.sin(turn)) * v + np.float32(phase)
        )
    return total * np.float32(np.sqrt(2 / count))


# ---------------------------------------------------------------- patterns: (u, v) in periods


def _striped(u: _Field, v: _Field, rng: Generator) -> _Field:
    share, uneven = rng.uniform(0.38, 0.62), rng.uniform(0, 0.12)
    width = share + uneven * _waves(u / 4, v / 4, rng)
    return _edge(_triangle(u) - width, rng.uniform(0.05, 0.25))


def _dotted(u: _Field, v: _Field, rng: Generator) -> _Field:
    ragged = rng.uniform(0, 0.06)
    u, v = u + ragged * _waves(u, v, rng), v + ragged * _waves(u, v, rng)
    row = np.floor(v)
    u = u + int(rng.integers(2)) * _odd(row)
    radius = rng.uniform(0.2, 0.36)
    # A dot stays inside its cell however far it is moved, so that no two dots touch.
    play = rng.uniform(0, 1) * (0.45 - radius)
    cell = (row.astype(np.intp) & 63, np.floor(u).astype(np.intp) & 63)
    table = rng.uniform(-1, 1, (3, 64, 64)).astype(np.float32)
    du = u - np.floor(u) - 0.5 - play * table[0][cell]
    dv = v - row - 0.5 - play * table[1][cell]
    size = radius * (1 + rng.uniform(0, 0.25) * (table[2][cell] - 1))
    return _edge(size - np.hypot(du, dv), rng.uniform(0.03, 0.1))


def _chequered(u: _Field, v: _Field, rng: Generator) -> _Field:
    v = v * np.float32(np.exp(rng.uniform(-0.2, 0.2)))
    softness = rng.uniform(0.04, 0.12)
    a, b = _edge(_triangle(u) - 0.5, softness), _edge(_triangle(v) - 0.5, softness)
    return a + b - 2 * a * b


def _zigzagged(u: _Field, v: _Field, rng: Generator) -> _Field:
    height, pace = rng.uniform(0.7, 1.6), rng.uniform(0.4, 0.8)
    bent = u + height * _triangle(pace * v)
    return _edge(_triangle(bent) - rng.uniform(0.4, 0.6), rng.uniform(0.05, 0.2))


def _comb(u: _Field, v: _Field) -> _Field:
    """Return the distance to the nearest wall between hexagons that are 1 wide."""
    high = np.float32(np.sqrt(3))
    cells: list[tuple[_Field, _Field]] = []
    # The centres of the hexagons lie on two rectangular grids, half a cell apart.
    for half in (0.0, 0.5):
        x = np.abs(u - half - np.rint(u - half))
        y = np.abs(v - high * (half + np.rint(v / high - half)))
        cells.append((np.hypot(x, y), np.maximum(x, x / 2 + y * high / 2)))
    (near, wall), (other_near, other_wall) = cells
    return np.float32(0.5) - np.where(near < other_near, wall, other_wall)


def _meshed(u: _Field, v: _Field, rng: Generator) -> _Field:
    width, softness = rng.uniform(0.04, 0.11), rng.uniform(0.02, 0.05)
    if rng.random() < 0.55:
        distance = _comb(u, v)
    else:
        skew = rng.uniform(-0.6, 0.6)
        threads = np.maximum(_triangle(u + skew * v), _triangle(v + skew * u))
        distance = (1 - threads) / 2
    return _edge(width - distance, softness)


def _scaly(u: _Field, v: _Field, rng: Generator) -> _Field:
    radius = 0.56
    pitch = rng.uniform(radius / 2, 0.42)
    row = np.floor(v / pitch)
    depth = np.zeros_like(u)
    # Two rows reach any one point, and the upper one covers the lower one, as on a roof.
    for k in (row, row - 1):
        du = u + _odd(k)
        inside = radius - np.hypot(du - np.rint(du), v - k * pitch)
        depth = np.where(inside > 0, inside / radius, depth)
    rim = _edge(depth - rng.uniform(0.15, 0.3), rng.uniform(0.1, 0.3))
    return rim * (1 - rng.uniform(0.2, 0.8) * depth)


class _Pattern(NamedTuple):
    field: Callable[[_Field, _Field, Generator], _Field]
    periods: tuple[float, float]  # fewest and most across the picture


_PATTERNS = {
    "striped": _Pattern(_striped, (4, 14)),
    "dotted": _Pattern(_dotted, (4, 12)),
    "chequered": _Pattern(_chequered, (3, 10)),
    "zigzagged": _Pattern(_zigzagged, (3.5, 10)),
    "meshed": _Pattern(_meshed, (6, 18)),
    "scaly": _Pattern(_scaly, (3, 9)),
}

NAMES: tuple[str, ...] = tuple(_PATTERNS)
"""The textures that can be drawn."""


# ---------------------------------------------------------------- from a pattern to a picture


def _coordinates(size: int, rng: Generator) -> tuple[_Field, _Field]:
    """Return the place on the material that each pixel shows, the picture being about 1 wide."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    y, x = np.meshgrid(line, line, indexing="ij")
    fold = rng.uniform(0, 0.025)
    x, y = x + fold * _waves(x, y, rng), y + fold * _waves(x, y, rng)
    if rng.random() < 0.5:
        turn, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8)
        depth = 1 + np.float32(tilt * np.cos(turn)) * x + np.float32(tilt * np.sin(turn)) * y
        x, y = x / depth, y / depth
    # Things in photographs stand upright more often than not.
    turn = rng.normal(0, 0.2) if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    turn += int(rng.integers(4)) * np.pi / 2
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return cos * x - sin * y, sin * x + cos * y


def _colour(hue: float, saturation: float, luma: float) -> _Field:
    """Return the RGB colour of a hue and saturation that has exactly the wanted luma."""
    pure = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    rgb = (1 + saturation * (pure - 1)).astype(np.float32)
    have = float(rgb @ _LUMA)
    darker: _Field = rgb * (luma / have)
    lighter: _Field = 1 - (1 - rgb) * ((1 - luma) / (1 - have))
    return darker if have > luma else lighter


def _palette(rng: Generator) -> tuple[_Field, _Field]:
    """Return two colours that differ clearly in luma, in either order."""
    kind = rng.choice(["neutral", "natural", "saturated"], p=[0.4, 0.3, 0.3])
    if kind == "neutral":
        dark, light = rng.uniform(0.02, 0.2), rng.uniform(0.75, 0.98)
    else:
        dark = rng.uniform(0.05, 0.35)
        light = rng.uniform(dark + 0.4, 0.95)
    hues = rng.uniform(0, 1, 2) if kind == "saturated" else rng.uniform(0.03, 0.2, 2)
    low, high = {"neutral": (0, 0.12), "natural": (0.15, 0.6), "saturated": (0.4, 1)}[kind]
    colours = [
        _colour(hue, rng.uniform(low, high), luma)
        for hue, luma in zip(hues, (dark, light), strict=True)
    ]
    first = int(rng.integers(2))
    return colours[first], colours[1 - first]


def _light(size: int, rng: Generator) -> _Field:
    """Return a smooth brightness around 1, as from a lamp on uneven material."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    y, x = np.meshgrid(line, line, indexing="ij")
    across, down = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
    uneven = rng.uniform(0.03, 0.15) * _waves(x, y, rng, count=4)
    light: _Field = np.exp(uneven + across * (x - 0.5) + down * (y - 0.5))
    return light


def _picture(pattern: _Pattern, size: int, rng: Generator) -> NDArray[np.uint8]:
    low, high = pattern.periods
    periods = np.float32(low * (high / low) ** rng.random())
    # Drawn twice as large and averaged: sharp edges would otherwise show as stairs.
    u, v = _coordinates(2 * size, rng)
    shift = rng.uniform(0, 64, 2).astype(np.float32)
    field = pattern.field(periods * u + shift[0], periods * v + shift[1], rng)
    field = (field[::2, ::2] + field[1::2, ::2] + field[::2, 1::2] + field[1::2, 1::2]) / 4
    field = ndimage.gaussian_filter(field, rng.uniform(0.2, 0.9) * size / 224)
    first, second = _palette(rng)
    rgb = first + field[..., None] * (second - first)
    rgb *= _light(size, rng)[..., None]
    grain = rng.standard_normal((size, size, 1), np.float32)
    grain = grain + 0.4 * rng.standard_normal((size, size, 3), np.float32)
    rgb += np.float32(rng.uniform(0.005, 0.03)) * grain
    picture: NDArray[np.uint8] = np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    return picture


# ---------------------------------------------------------------- the public verbs


def draw(name: str, count: int = 40, *, size: int = 224, seed: int = 0) -> NDArray[np.uint8]:
    """Draw examples of one texture.

    Drawing `i` depends on the name, the size, the seed and `i` alone: a larger count keeps the
    first drawings and adds others. (It also depends on numpy, whose random streams may change
    between releases.)

    Args:
        name: One of `NAMES`.
        count: The number of drawings.
        size: Their side in pixels, at least 16.
        seed: Another seed gives other drawings of the same texture.

    Returns:
        RGB images, uint8 of shape [count, size, size, 3].

    Raises:
        ConceptError: The name is unknown, or the count, size or seed is not a usable number.

    Examples:
        >>> from vtcav.datasets.textures import draw
        >>> stripes = draw("striped", 3, size=64)
        >>> stripes.shape, stripes.dtype
        ((3, 64, 64, 3), dtype('uint8'))
        >>> bool((draw("striped", 1, size=64)[0] == stripes[0]).all())
        True
    """
    check_known("drawn texture", name, NAMES, ConceptError)
    count = check("count", count, Whole(1), error=ConceptError)
    size = check("size", size, Whole(_SMALLEST), error=ConceptError)
    seed = check("seed", seed, Whole(0), error=ConceptError)
    # crc32 because Python's own hash() of a string differs from run to run.
    key = zlib.crc32(name.encode())
    pictures = np.empty((count, size, size, 3), np.uint8)
    for i in range(count):
        pictures[i] = _picture(_PATTERNS[name], size, np.random.default_rng([seed, key, i]))
    return pictures


def write(
    folder: str | PathLike[str],
    names: Iterable[str] = NAMES,
    count: int = 40,
    *,
    size: int = 224,
    seed: int = 0,
) -> dict[str, Path]:
    """Write drawings as PNG files, one folder per texture: `striped/striped_000.png`.

    The folder then serves as `--concepts DIR`, and the answer as the concepts of
    `VisualTCAV.fit`. Files of the same name are replaced, others are left alone.

    Args:
        folder: The folder that the textures' folders are written to; created when missing.
        names: The names of the textures.
        count: The number of drawings of each.
        size: Their side in pixels, at least 16.
        seed: The seed of `draw`.

    Returns:
        The folder of each texture, by its name.

    Raises:
        ConceptError: As for `draw`; nothing is written then.
        OSError: A folder or file cannot be written.

    Examples:
        >>> import tempfile
        >>> from vtcav.datasets.textures import write
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     concepts = write(folder, ["dotted", "striped"], 2, size=32)
        ...     [file.name for file in sorted(concepts["dotted"].iterdir())]
        ['dotted_000.png', 'dotted_001.png']
    """
    home = given_path("folder", folder, ConceptError)
    wanted = as_list("names", names, ConceptError)
    folders: dict[str, Path] = {}
    for name in wanted:
        check_known("drawn texture", name, NAMES, ConceptError)
        folders[name] = home / name
    for name, place in folders.items():
        pictures = draw(name, count, size=size, seed=seed)
        for i, picture in enumerate(pictures):
            with atomic_path(place / f"{name}_{i:03d}.png") as partial:
                Image.fromarray(picture).save(partial, format="PNG")
    return folders
