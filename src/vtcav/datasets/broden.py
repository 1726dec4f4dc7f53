"""Data sets with the layout of Broden: an index of images with masks and labels by category.

```
index.csv     image, split, ih, iw, sh, sw, color, object, part, material, scene, texture
label.csv     number, name, ...
images/       the images, and masks whose red + 256 * green is the number of a label
```

A category's column holds files of masks, or numbers of labels of the whole image, separated by ";".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.datasets.concept_images import ConceptImages, Wanted, check_known, wanted_labels
from vtcav.datasets.masks import boxes_of, pieces_of, upright_size
from vtcav.datasets.patches import Box, Patches, PatchImage
from vtcav.datasets.tables import read_table
from vtcav.errors import DatasetError, ImageError
from vtcav.files.paths import given_path
from vtcav.images.decoding import identify, open_file, reason_of
from vtcav.images.references import ImageRef

_PLAIN = ("image", "split", "ih", "iw", "sh", "sw")


def from_broden(
    root: str | Path,
    concepts: Wanted = None,
    *,
    category: str | None = None,
    split: str | None = None,
    pieces: Literal["components", "whole"] = "components",
    patches: Patches | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List the images and patches of concepts in a data set with the layout of Broden.

    A label of pixels gives patches, a label of a whole image (scenes, textures) the image. Masks
    may be smaller than their images, by the same factor in width and height. Images are taken in an
    order drawn with `seed` until there are `limit` of every concept; without a limit every mask is
    opened.

    Args:
        root: The folder with index.csv, label.csv and images/.
        concepts: The labels wanted, or a mapping from new names to labels; None takes all that
            occur.
        category: Only this column of index.csv; None takes all.
        split: Only rows of this split, such as "train".
        pieces: "components" for a patch per connected part of a mask, "whole" for one patch.
        patches: The rules for choosing and cutting out patches.
        limit: At most this many of each concept.
        seed: Seeds the draw.

    Raises:
        DatasetError: For a missing file or column, an unknown label, category or split, a mask that
            cannot be read, or a concept without images.
    """
    cut = patches or Patches()
    root = given_path("root", root, DatasetError)
    index, _ = read_table(root / "index.csv")
    numbers = _label_numbers(root)
    columns = [str(name) for name in index.columns if name not in _PLAIN]
    if "image" not in index.columns or not columns:
        raise DatasetError(
            f"expected the columns image and one for each category in {str(root / 'index.csv')!r}, "
            f"got {', '.join(index.columns)}"
        )
    if category is not None:
        check_known("category", category, columns)
        columns = [category]
    if split is not None:
        known = list(dict.fromkeys(index["split"])) if "split" in index.columns else []
        check_known("split", split, known)
        index = index[index["split"] == split]
    wanted = wanted_labels(concepts, list(numbers))
    labels = list(dict.fromkeys(label for parts in wanted.values() for label in parts))
    by_number = {numbers[label]: label for label in labels}
    rows = index.to_dict("records")

    def of_image(i: int) -> Iterator[tuple[str, PatchImage]]:
        path = root / "images" / str(rows[i]["image"])
        ref = ImageRef(str(path), path)
        for column in columns:
            entries = filter(None, str(rows[i][column]).split(";"))
            yield from _of_cell(ref, list(entries), root / "images", by_number, cut, pieces)

    found = pieces_of(of_image, len(rows), labels, concepts, cut, limit, seed)
    return ConceptImages({name: map(_plain, refs) for name, refs in found.items()}, found.left_out)


def _plain(ref: ImageRef) -> ImageRef:
    """Return the image itself where the patch is the whole of it."""
    return ref.picture if isinstance(ref, PatchImage) and ref.region is None else ref


def _label_numbers(root: Path) -> dict[str, int]:
    table, place = read_table(root / "label.csv")
    if not {"number", "name"} <= set(table.columns):
        raise DatasetError(
            f"expected the columns number and name in {place!r}, got {', '.join(table.columns)}"
        )
    return {
        str(name): int(number)
        for number, name in zip(table["number"], table["name"], strict=True)
        if int(number) > 0
    }


def _of_cell(
    ref: ImageRef,
    entries: list[str],
    folder: Path,
    labels: Mapping[int, str],
    cut: Patches,
    pieces: Literal["components", "whole"],
) -> Iterator[tuple[str, PatchImage]]:
    """Yield the label and the patch of every entry of a category for an image."""
    for entry in entries:
        if entry.strip().isdecimal():
            if int(entry) in labels:
                size = upright_size(ref)
                # as large as the image, so that only images below the least size are left out
                yield labels[int(entry)], PatchImage.of(ref, Box(0, 0, *size), cut)
            continue
        values = _numbers(folder / entry)
        size = upright_size(ref)
        for number in np.unique(values).tolist():
            if number in labels:
                region = NumberedMask(folder / entry, number)
                for box in boxes_of(region, size, pieces, ref.name):
                    yield labels[number], PatchImage.of(ref, box, cut, region, size)


@dataclass(frozen=True)
class NumberedMask:
    """The pixels of one label in a mask of Broden."""

    path: Path
    number: int

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the pixels at the size of the image.

        Raises:
            ImageError: When the mask cannot be read or has other proportions than the image.
        """
        inside = _numbers(self.path) == self.number
        high, wide = inside.shape
        if abs(wide / size[0] - high / size[1]) > 1.5 / min(size):
            raise ImageError(
                f"the mask {str(self.path)!r} has {wide} x {high} pixels, its image {size[0]} x "
                f"{size[1]}; expected the same proportions"
            )
        small = Image.fromarray(inside.astype(np.uint8))
        return np.asarray(small.resize(size, Image.Resampling.NEAREST)) > 0


def _numbers(path: Path) -> NDArray[np.int64]:
    """Return the label numbers in a mask [height, width].

    Raises:
        DatasetError: When it cannot be read.
    """
    try:
        with open_file(path) as file:
            values = np.asarray(identify(file)).astype(np.int64)
    except Exception as error:
        # decoders meet damaged files with exceptions of every kind; all are this mask's
        raise DatasetError(f"cannot read the mask {str(path)!r}: {reason_of(error)}") from error
    return values if values.ndim == 2 else values[..., 0] + 256 * values[..., 1]
