"""The concepts and negatives that an explorer begins with.

Negatives are the user's own, or a stand-in that is marked as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from vtcav.errors import ConceptError, ExtraError, ImageError
from vtcav.explorer import limits
from vtcav.explorer.pictures import Pictures
from vtcav.explorer.schemas import ConceptSpec, Example
from vtcav.images.concepts import concept_folders, negative_folders
from vtcav.images.listing import ImageSource, collect
from vtcav.images.references import Skipped, UnreadableError

COUNT = 120


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


def find_negatives(own: ImageSource | None, seed: int = 0) -> Negatives:
    """Return the user's negatives, or else photographs or drawings.

    Args:
        own: A folder or images; None for a stand-in of photographs, or of drawings where
            scikit-image is not installed.
        seed: Seeds crops and drawings.
    """
    if own is not None:
        where = f" of the folder {Path(own).name!r}" if isinstance(own, str | Path) else ""
        return Negatives(own, f"{len(collect(own))} images{where}", stand_in=False)
    try:
        from vtcav.datasets.demo_photographs import negatives

        images, what = negatives(seed), "crops of ten photographs that come with scikit-image"
    except ExtraError:
        images, what = draw_clouds(COUNT, seed), "drawings of coloured clouds and noise"
    return Negatives(images, f"{len(images)} {what}", stand_in=True)


def draw_clouds(count: int, seed: int = 0, size: int = 224) -> NDArray[np.uint8]:
    """Draw coloured clouds, from smooth to grainy.

    Args:
        count: The number of drawings.
        seed: Seeds the drawings.
        size: Their side in pixels.

    Returns:
        uint8 [count, size, size, 3].

    Example:
        >>> draw_clouds(2, size=32).shape
        (2, 32, 32, 3)
    """
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        picture = np.tile(rng.uniform(40, 215, 3), (size, size, 1))
        for _ in range(4):
            cells = int(np.exp(rng.uniform(np.log(2), np.log(size / 2))))
            noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            layer = np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC), np.float64)
            picture += rng.uniform(0.1, 0.5) * (layer - 127.5)
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


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
