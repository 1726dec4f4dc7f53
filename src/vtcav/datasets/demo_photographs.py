"""Pictures for the demo: photographs of the scikit-image package, cups drawn into crops of them.

`write` sorts them as users sort their own: a folder for each concept, negatives, photographs.
"""

from __future__ import annotations

import colorsys
from importlib import resources
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from vtcav.errors import ExtraError
from vtcav.files.atomic import atomic_path
from vtcav.images.listing import collect
from vtcav.images.references import read
from vtcav.models.sources.demo_network import HINT

__all__ = ["crops", "cups", "negatives", "photograph", "wood", "write"]

_SIDE = 256

# Photographs of scikit-image that show none of the concepts and are not explained.
_NEGATIVES = (
    *("astronaut", "camera", "cell", "coins", "horse"),
    *("hubble_deep_field", "retina", "rocket", "gravel", "grass"),
)


def photograph(name: str) -> Image.Image:
    """Return a photograph of the scikit-image package, in RGB.

    Raises:
        ExtraError: When scikit-image is not installed.
    """
    try:
        folder = resources.files("skimage.data")
    except ModuleNotFoundError as error:
        raise ExtraError(f"the demo's photographs need scikit-image: {HINT}") from error
    path = next(p for p in folder.iterdir() if Path(p.name).stem == name)
    with resources.as_file(path) as file:
        return read(collect(file)[0])


def crops(
    picture: Image.Image, count: int, *, seed: int, smallest: float = 0.4, largest: float = 0.9
) -> NDArray[np.uint8]:
    """Return square crops from random places and at random scales.

    Args:
        picture: An RGB picture.
        count: The number of crops.
        seed: Seeds the places and scales.
        smallest: The side of the smallest crop, as a share of the picture's shorter side.
        largest: The side of the largest crop.

    Returns:
        uint8 [count, 256, 256, 3].
    """
    rng = np.random.default_rng(seed)
    short = min(picture.size)
    cut = []
    for _ in range(count):
        side = round(short * rng.uniform(smallest, largest))
        left = int(rng.integers(0, picture.width - side + 1))
        top = int(rng.integers(0, picture.height - side + 1))
        piece = picture.crop((left, top, left + side, top + side))
        cut.append(np.asarray(piece.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)))
    return np.stack(cut)


def negatives(seed: int) -> NDArray[np.uint8]:
    """Return 120 crops of photographs that show none of the demo's concepts."""
    return np.concatenate(
        [crops(photograph(name), 12, seed=seed + i) for i, name in enumerate(_NEGATIVES)]
    )


def cups(count: int = 40, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw cups of coffee on saucers, seen from above, into crops of the negatives' photographs.

    Args:
        count: The number of pictures.
        seed: Seeds the crops, sizes, places and colours.

    Returns:
        uint8 [count, 256, 256, 3].

    Raises:
        ExtraError: When scikit-image is not installed.
    """
    rng = np.random.default_rng(seed)
    grounds = negatives(seed)
    chosen = rng.integers(0, len(grounds), count)
    return np.stack([_with_cup(Image.fromarray(grounds[i]), rng) for i in chosen])


def _with_cup(ground: Image.Image, rng: Generator) -> NDArray[np.uint8]:
    """Return a picture with a cup of coffee drawn into it."""
    side = 2 * _SIDE  # reduced afterwards: sharp edges would otherwise show as stairs
    picture = ground.resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    radius, flat = side * rng.uniform(0.3, 0.5), rng.uniform(0.65, 1)
    x, y = rng.uniform(0.8 * radius, side - 0.8 * radius, 2)
    height = 0.35 * radius * (1 - flat)

    def disc(share: float, colour: NDArray[np.floating], up: float = 0.0) -> None:
        a, b = share * radius, share * radius * flat
        box = (x - a, y - up - b, x + a, y - up + b)
        red, green, blue = np.clip(colour, 0, 255).astype(int).tolist()
        draw.ellipse(box, fill=(red, green, blue))

    saturation = rng.choice([0.03, 0.6], p=[0.85, 0.15])  # most are white
    china = 255 * np.array(
        colorsys.hsv_to_rgb(rng.uniform(), float(saturation), rng.uniform(0.75, 0.98))
    )
    inside = np.array([235, 230, 220]) * rng.uniform(0.85, 1)
    coffee = np.array([rng.uniform(90, 150), rng.uniform(50, 80), rng.uniform(15, 35)])
    for k in range(15):
        disc(1 - 0.02 * k, china * (0.85 + 0.02 * k))  # the saucer
    for k in range(10):
        disc(0.5 + 0.012 * k, china * (0.7 + 0.03 * k), height * k / 9)  # the side of the cup
    disc(0.62, inside, height)
    disc(0.57, 0.85 * inside, height)
    disc(0.53, 1.35 * coffee, height)
    disc(0.48, coffee, height)
    for k in range(10):
        disc(0.44 - 0.03 * k, coffee * (1 + 0.03 * k * rng.uniform(0, 2)), height)
    soft = picture.filter(ImageFilter.GaussianBlur(1.5))
    return np.asarray(soft.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))


def wood(count: int = 40, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw wooden boards.

    Args:
        count: The number of pictures.
        seed: Seeds the boards, their grain and colours.

    Returns:
        uint8 [count, 256, 256, 3].
    """
    rng = np.random.default_rng(seed)
    return np.stack([_boards(rng) for _ in range(count)])


def _boards(rng: Generator) -> NDArray[np.uint8]:
    """Return a picture of boards, turned by any angle."""
    side = 3 * _SIDE // 2  # so that a square of the wanted side is left when turned
    boards = int(rng.integers(1, 5))
    line = np.arange(side)
    across = line * boards / side + rng.uniform()
    grain = np.zeros((side, side))
    for width, length, weight in ((1, 60, 1.0), (3, 120, 1.5), (12, 200, 1.5)):
        noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), (width, length))
        grain += weight * noise / noise.std()
    tone = rng.uniform(-1, 1, boards + 2)[np.floor(across).astype(int)]
    light = 0.55 + 0.06 * grain + 0.08 * tone[:, None]
    gap = np.abs(across - np.rint(across)) * side / boards < rng.uniform(1, 3)
    light[gap] *= 0.4
    hue, saturation = rng.uniform(0.04, 0.1), rng.uniform(0.35, 0.8)
    colour = np.array(colorsys.hsv_to_rgb(hue, saturation, rng.uniform(1.0, 1.5)))
    rgb = np.clip(255 * light[..., None] * colour, 0, 255).astype(np.uint8)
    turned = Image.fromarray(rgb).rotate(rng.uniform(0, 180), Image.Resampling.BICUBIC)
    edge = (side - _SIDE) // 2
    return np.asarray(turned.crop((edge, edge, edge + _SIDE, edge + _SIDE)))


def write(folder: str | PathLike[str], *, images: int = 16, seed: int = 0) -> None:
    """Write the demo's pictures, sorted as `vtcav explain` and `vtcav explain-class` take them.

    ```
    concepts/cup of coffee/   drawn into crops of photographs
    concepts/wood/            drawn boards
    random/                   the negatives
    espressos/                crops of the photograph
    photo.png                 an espresso on a wooden table
    ```

    Args:
        folder: The folder; created when missing.
        images: The number of crops of the photograph.
        seed: Seeds everything.

    Raises:
        ExtraError: When scikit-image is not installed.
        OSError: A folder or file cannot be written.
    """
    espresso = photograph("coffee")
    sets = {
        "concepts/cup of coffee": cups(seed=seed),
        "concepts/wood": wood(seed=seed),
        "random": negatives(seed),
        "espressos": crops(espresso, images, seed=seed, smallest=0.7, largest=1.0),
    }
    pictures = {
        f"{name}/{i:03d}.png": Image.fromarray(picture)
        for name, made in sets.items()
        for i, picture in enumerate(made)
    }
    for name, picture in {**pictures, "photo.png": espresso}.items():
        with atomic_path(Path(folder) / name) as partial:
            picture.save(partial, format="png")
