"""Patches of images where masks mark a concept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.datasets.concept_images import ConceptImages, Wanted, group
from vtcav.datasets.patches import Box, Patches, PatchImage, choose
from vtcav.errors import DatasetError, ExplanationError, ImageError, brief
from vtcav.images.decoding import identify, open_file, orientation, reason_of
from vtcav.images.listing import ImageSource, collect
from vtcav.images.masks import MaskReader, MaskSource, MaskValue, find_masks
from vtcav.images.references import ImageRef


def from_masks(
    images: ImageSource,
    masks: MaskSource,
    concepts: Mapping[str, MaskValue] | str,
    *,
    pieces: Literal["components", "whole"] = "components",
    patches: Patches | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List patches where masks mark a concept.

    With a limit, images are taken in an order drawn with `seed` until there are enough patches of
    every concept, so that few of many masks are opened.

    Args:
        images: Photographs, in any form that `fit` takes.
        masks: A folder of masks named like the images, or one mask for each image in order. Masks
            have the size of the upright image.
        concepts: The values that mean each concept in a mask: a number or several (labels),
            "nonzero", a colour "#rrggbb", or None for masks of 0 and one other value. A text is the
            name of the only concept of such masks.
        pieces: "components" for a patch per connected part of a mask, "whole" for one patch.
        patches: The rules for choosing and cutting out patches.
        limit: At most this many patches of each concept.
        seed: Seeds the draw.

    Raises:
        DatasetError: For no concepts, no masks, a mask of another size than its image or that
            cannot be read, or a concept without patches.

    Example:
        >>> spot = np.zeros((60, 80), bool)
        >>> spot[10:50, 20:60] = True
        >>> photograph = np.zeros((60, 80, 3), np.uint8)
        >>> found = from_masks([photograph], [spot], "spot")
        >>> [patch.name for patch in found["spot"]]
        ['array[0][20,10,60,50]']
    """
    cut = patches or Patches()
    if not isinstance(concepts, str | Mapping):
        raise DatasetError(
            f"expected the name of a concept, or values by names, got {brief(concepts)}"
        )
    values = {concepts: None} if isinstance(concepts, str) else dict(concepts)
    if not values:
        raise DatasetError("expected at least one concept, got none")
    try:
        refs = collect(images)
        found = find_masks(refs, images, masks)
        readers = {name: MaskReader(value) for name, value in values.items()}
    except (ExplanationError, ImageError) as error:
        raise DatasetError(str(error)) from error
    if all(mask is None for mask in found):
        raise DatasetError(f"none of the {len(refs)} images has a mask of its name")

    def of_image(i: int) -> Iterator[tuple[str, PatchImage]]:
        mask = found[i]
        if mask is None:
            return
        size = upright_size(refs[i])
        for name, reader in readers.items():
            region = MaskFile(mask, reader, str(mask) if isinstance(mask, Path) else refs[i].name)
            for box in boxes_of(region, size, pieces, refs[i].name):
                yield name, PatchImage.of(refs[i], box, cut, region, size)

    return pieces_of(of_image, len(refs), list(values), list(values), cut, limit, seed)


def pieces_of(
    of_image: Callable[[int], Iterable[tuple[str, PatchImage]]],
    count: int,
    names: list[str],
    concepts: Wanted,
    cut: Patches,
    limit: int | None,
    seed: int,
) -> ConceptImages:
    """Take images until there are enough patches of every concept.

    Args:
        of_image: Returns the labelled patches of an image by its number.
        count: The number of images.
        names: All labels that are wanted.
        concepts: The labels and the concepts that they make up; None for all labels that occur.
        cut: The rules for choosing patches.
        limit: The number of patches of each label that is enough.
        seed: Seeds the order.
    """
    order: Iterable[int] = range(count)
    if limit is not None:
        order = np.random.default_rng(seed).permutation(count).tolist()
    by_image: dict[int, list[tuple[str, ImageRef]]] = {}
    lost: dict[str, Counter[str]] = defaultdict(Counter)
    have: Counter[str] = Counter()
    for i in order:
        by_image[i], why = choose(of_image(i), cut)
        have.update(label for label, _ in by_image[i])
        for label, reasons in why.items():
            lost[label].update(reasons)
        if limit is not None and all(have[name] >= limit for name in names):
            break
    pairs = [pair for i in sorted(by_image) for pair in by_image[i]]
    return group(
        pairs, concepts, limit=limit, seed=seed, left_out=lost, known=names, what="concept"
    )


@dataclass(frozen=True, eq=False)
class MaskFile:
    """A mask, read when it is needed.

    Attributes:
        source: The file, picture or array.
        reader: The reader, which knows the values of the concept.
        name: The mask's name in messages.
    """

    source: Path | Image.Image | NDArray[Any]
    reader: MaskReader
    name: str

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the concept's pixels [height, width]: where the mask is at least a half.

        Raises:
            ImageError: When the mask cannot be read or has another size.
        """
        values = self.reader.read(self.source, self.name)
        if values.shape != (size[1], size[0]):
            raise ImageError(
                f"the mask {self.name!r} has {values.shape[1]} x {values.shape[0]} pixels, its "
                f"image {size[0]} x {size[1]}; masks must be of the size of the upright image"
            )
        return np.asarray(values >= 0.5)


def boxes_of(
    region: Any, size: tuple[int, int], pieces: Literal["components", "whole"], image: str
) -> list[Box]:
    """Return the boxes around the connected parts of a region, or around all of it.

    Raises:
        DatasetError: When the region cannot be read.
    """
    try:
        inside = region.mask(size)
    except (ImageError, ExplanationError) as error:
        raise DatasetError(f"{image!r}: {error}") from error
    if not inside.any():
        return []
    from scipy import ndimage

    if pieces == "components":
        labels, _ = ndimage.label(inside, structure=np.ones((3, 3)))
    else:
        labels = inside.astype(np.uint8)
    return [
        Box(across.start, down.start, across.stop, down.stop)
        for down, across in filter(None, ndimage.find_objects(labels))
    ]


def upright_size(ref: ImageRef) -> tuple[int, int]:
    """Return the width and height of an upright image; a file is not decoded for it.

    Raises:
        DatasetError: When it cannot be read.
    """
    try:
        if ref.path is None:
            return ref.load().size
        with open_file(ref.path) as file:
            image = identify(file)
            sides_change = orientation(image) in (5, 6, 7, 8)
            return (image.height, image.width) if sides_change else image.size
    except Exception as error:
        # decoders meet damaged files with exceptions of every kind; all are this picture's
        raise DatasetError(f"cannot read {ref.name!r}: {reason_of(error)}") from error
