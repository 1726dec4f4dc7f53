"""The concepts and negatives that an explorer begins with.

Negatives are the user's own, or a stand-in that is marked as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from vtcav.errors import ConceptError, ExtraError, ImageError
from vtcav.explorer import limits
from vtcav.explorer.pictures import Picture, PictureRef, Pictures
from vtcav.explorer.schemas import ConceptSpec, Example
from vtcav.images.concepts import concept_folders, negative_folders
from vtcav.images.fitting.checks import ranges_of
from vtcav.images.listing import ImageSource, collect
from vtcav.images.opening import picture_of
from vtcav.images.preprocess import Preprocess
from vtcav.images.references import ImageRef, Skipped, UnreadableError
from vtcav.images.signature import channel_count

COUNT = 120
_FEWEST = 10  # pictures that crops are cut out of, as a stand-in for negatives


@dataclass(frozen=True, eq=False)
class Negatives:
    """Images that all concepts are contrasted with.

    Attributes:
        images: The images, in any form that `fit` takes.
        described: The images in words, for the page.
        stand_in: Whether they stand in for the user's own.
    """

    images: ImageSource
    described: str
    stand_in: bool


def find_negatives(
    own: ImageSource | None,
    seed: int,
    pictures: Pictures,
) -> Negatives:
    """Return the user's negatives, or else photographs, crops of the user's pictures or drawings.

    Args:
        own: A folder or images; None for a stand-in. For networks of RGB or grey of 8 bits it is
            photographs, or drawings where scikit-image is not installed; for others crops of the
            pictures to choose from, or drawings where these are few.
        seed: Seeds crops and drawings.
        pictures: The pictures to choose from, and what the network takes.
    """
    if own is not None:
        where = f" of the folder {Path(own).name!r}" if isinstance(own, str | Path) else ""
        return Negatives(own, f"{len(collect(own))} images{where}", stand_in=False)
    preprocess = pictures.preprocess
    if not _takes_photographs(preprocess):
        known = [each for each in pictures.listed() if min(each.size) >= limits.PATCH_SIDE]
        if len(known) >= _FEWEST:
            crops = _crops(pictures, known, seed)
            return Negatives(crops, f"{len(crops)} crops of the photos", stand_in=True)
        clouds = _as_taken(draw_clouds(COUNT, seed, channels=channel_count(preprocess)), preprocess)
        return Negatives(clouds, f"{COUNT} drawings of clouds and noise", stand_in=True)
    try:
        from vtcav.datasets.demo_photographs import negatives

        images, what = negatives(seed), "crops of ten photographs that come with scikit-image"
    except ExtraError:
        images, what = draw_clouds(COUNT, seed), "drawings of coloured clouds and noise"
    return Negatives(images, f"{len(images)} {what}", stand_in=True)


def _takes_photographs(preprocess: object) -> bool:
    """Tell whether a network takes photographs in RGB as they are, or as grey, and nothing more."""
    return (
        not hasattr(preprocess, "named")
        and channel_count(preprocess) in (1, 3)
        and not (isinstance(preprocess, Preprocess) and preprocess.ranges)
    )


def _crops(pictures: Pictures, known: Sequence[Picture], seed: int) -> list[PictureRef]:
    """Cut crops of half the side out of pictures, in turn, at random places."""
    rng = np.random.default_rng(seed)
    crops = []
    for i in range(COUNT):
        picture = known[i % len(known)]
        wide, high = (max(side // 2, limits.PATCH_SIDE) for side in picture.size)
        left = int(rng.integers(0, picture.size[0] - wide + 1))
        top = int(rng.integers(0, picture.size[1] - high + 1))
        crops.append(pictures.ref(picture.key, (left, top, left + wide, top + high)))
    return crops


def _as_taken(clouds: NDArray[np.uint8], preprocess: object) -> list[ImageRef]:
    """Return drawings [n, H, W, C] as pictures whose values fill the window of a network."""
    scaled: NDArray[np.number[Any]] = clouds
    if isinstance(preprocess, Preprocess) and preprocess.window is not None:
        low, high = np.array(ranges_of(preprocess.window, preprocess.count), np.float32).T
        scaled = low + clouds.astype(np.float32) / 255 * (high - low)
    return [
        ImageRef(f"drawing[{i}]", picture_of(np.ascontiguousarray(each)))
        for i, each in enumerate(scaled)
    ]


def draw_clouds(count: int, seed: int = 0, size: int = 224, channels: int = 3) -> NDArray[np.uint8]:
    """Draw coloured clouds, from smooth to grainy.

    Args:
        count: The number of drawings.
        seed: Seeds the drawings.
        size: Their side in pixels.
        channels: C, the number of their channels.

    Returns:
        uint8 [count, size, size, C].

    Example:
        >>> draw_clouds(2, size=32).shape
        (2, 32, 32, 3)
    """
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        picture = np.tile(rng.uniform(40, 215, channels), (size, size, 1))
        for _ in range(4):
            cells = int(np.exp(rng.uniform(np.log(2), np.log(size / 2))))
            noise = rng.integers(0, 256, (cells, cells, channels), dtype=np.uint8)
            bands = [_enlarged(noise[..., c], size) for c in range(channels)]
            picture += rng.uniform(0.1, 0.5) * (np.stack(bands, -1) - 127.5)
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


def _enlarged(band: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    larger = Image.fromarray(band).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(larger, np.float64)


def first_concepts(
    concepts: str | Path | Mapping[str, ImageSource],
    negatives: ImageSource | None,
    pictures: Pictures,
) -> tuple[list[ConceptSpec], list[Skipped]]:
    """Return the first concepts, and the images that were left out.

    Args:
        concepts: A folder with one folder for each, or images by name.
        negatives: A folder; where it has one for each concept, these are the concepts' own.
        pictures: The explorer's pictures, to which all images are added.

    Raises:
        ConceptError: For a folder that does not exist, or concepts beyond the explorer's limits.
    """
    folder = negatives if isinstance(negatives, str | Path) else None
    if not isinstance(concepts, Mapping):
        concepts = concept_folders(concepts, besides=folder)
    folders = None if folder is None else negative_folders(folder, concepts)
    own = folders if isinstance(folders, Mapping) else {}
    skipped: list[Skipped] = []
    try:
        specs = [
            ConceptSpec(
                name=name,
                examples=_examples(source, pictures, skipped),
                negatives=_examples(own[name], pictures, skipped) if own else (),
                shared=not own,
            )
            for name, source in concepts.items()
        ]
    except ImageError as error:
        raise ConceptError(f"one of the first concepts cannot be used: {error}") from error
    except ValidationError as error:
        raise ConceptError(
            f"one of the first concepts is not valid: {error.errors()[0]['msg']}. The explorer "
            f"takes {limits.EXAMPLES} images a set, and names of {limits.NAME_LETTERS} characters"
        ) from error
    return specs, skipped


def _examples(
    source: ImageSource, pictures: Pictures, skipped: list[Skipped]
) -> tuple[Example, ...]:
    """Add the pictures of a source, and note those that cannot be read."""
    examples = []
    for ref in collect(source):
        try:
            examples.append(Example(picture=pictures.add(ref, ref.name, "concept").key))
        except UnreadableError as error:
            skipped.append(Skipped(*error.args))
    return tuple(examples)
