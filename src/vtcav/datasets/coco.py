"""Annotations in COCO's JSON: boxes, polygons and run-length masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vtcav.datasets.cells import missing, told_apart
from vtcav.datasets.concept_images import ConceptImages, Wanted, group
from vtcav.datasets.patches import (
    Patches,
    PatchImage,
    Region,
    check_inside,
    checked_box,
    choose,
)
from vtcav.datasets.tables import check_there, file_in
from vtcav.errors import DatasetError, ImageError, why
from vtcav.files.json_text import parsed
from vtcav.files.paths import given_path
from vtcav.images.references import ImageRef

T = TypeVar("T")


def from_coco(
    annotations: str | Path,
    images: str | Path,
    concepts: Wanted = None,
    *,
    patches: Patches | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List patches from a file in COCO's format: images, annotations and categories.

    Annotations of crowds (`iscrowd`) are left out, as their box holds many objects. The pixels of a
    concept are those of its polygons or run lengths where an annotation has them, else those of its
    box. Compressed run lengths are not read.

    Args:
        annotations: The JSON file.
        images: The folder of the images.
        concepts: The categories wanted, or a mapping from new names to categories; None takes all.
        patches: The rules for choosing and cutting out patches.
        limit: At most this many patches of each concept, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        DatasetError: For a file that cannot be read or has another format, an unknown category, a
            box outside of its image, or a category without patches or files.
    """
    cut = patches or Patches()
    data = _read(given_path("annotations", annotations, DatasetError))
    try:
        folder = given_path("images", images, DatasetError)
        pictures = _by_id(data, "images", lambda entry: _picture(entry, folder))
        names = _by_id(data, "categories", _name)
        # two of one name stay two
        categories = dict(zip(names, told_apart(names.values()), strict=True))
        pairs = [
            (categories[entry["category_id"]], _patch(entry, *pictures[entry["image_id"]], cut))
            for entry in data["annotations"]
            if not entry.get("iscrowd")
        ]
    except DatasetError as error:
        raise DatasetError(f"{str(annotations)!r}: {error}") from error
    except Exception as error:  # whatever the JSON holds
        raise DatasetError(
            f"{str(annotations)!r} is not of COCO's form: {type(error).__name__} {error}"
        ) from error
    check_there([(label, patch.picture) for label, patch in pairs], str(images))
    kept, lost = choose(pairs, cut)
    known = list(dict.fromkeys(categories.values()))
    return group(
        kept, concepts, limit=limit, seed=seed, left_out=lost, known=known, what="category"
    )


def _by_id(
    data: Mapping[str, Any], kind: str, value: Callable[[Mapping[str, Any]], T]
) -> dict[Any, T]:
    """Return the values of images or categories by their id.

    Raises:
        DatasetError: When two have one id.
    """
    found: dict[Any, T] = {}
    for entry in data[kind]:
        if entry["id"] in found:
            raise DatasetError(
                f"two {kind} have the id {entry['id']!r}; were files joined? Number them anew"
            )
        found[entry["id"]] = value(entry)
    return found


def _name(entry: Mapping[str, Any]) -> str:
    if missing(entry["name"]):
        raise DatasetError(f"the category {entry['id']!r} has no name")
    return str(entry["name"])


def _read(path: Path) -> Mapping[str, Any]:
    try:
        data = parsed(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read the annotations {str(path)!r}: {why(error)}") from error
    needed = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in needed):
        came = ", ".join(data) if isinstance(data, dict) else type(data).__name__
        raise DatasetError(
            f"{str(path)!r} is not of COCO's form: expected the lists {', '.join(needed)}, got "
            f"{came}"
        )
    return data


def _picture(entry: Mapping[str, Any], folder: Path) -> tuple[ImageRef, tuple[int, int] | None]:
    path = file_in(folder, entry["file_name"])
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(
            f"the image {entry['file_name']!r} leads out of {str(folder)!r}: annotations name "
            "files of their folder; give the folder that holds all of them"
        )
    sized = "width" in entry and "height" in entry
    size = (int(entry["width"]), int(entry["height"])) if sized else None
    return ImageRef(str(path), path), size


def _patch(
    entry: Mapping[str, Any], picture: ImageRef, size: tuple[int, int] | None, cut: Patches
) -> PatchImage:
    left, top, width, height = map(float, entry["bbox"])
    where = f"in annotation {entry.get('id')} of {picture.name!r}"
    box = checked_box((left, top, left + width, top + height), where)
    if size is not None:
        try:
            check_inside(box, size)
        except ImageError as error:
            raise DatasetError(f"annotation {entry.get('id')} of {picture.name!r}: {error}") from (
                error
            )
    return PatchImage.of(picture, box, cut, _region(entry.get("segmentation"), where, cut), size)


def _region(segmentation: Any, where: str, cut: Patches) -> Region | None:
    """Return the pixels of an annotation, or None for those of its box."""
    if not segmentation or cut.outside == "keep":
        return None
    if isinstance(segmentation, list):
        rings = tuple(tuple(map(float, ring)) for ring in segmentation if ring)
        if any(len(ring) < 6 or len(ring) % 2 or not np.isfinite(ring).all() for ring in rings):
            raise DatasetError(f"a polygon {where} has not x and y of three points or more")
        return Polygons(rings) if rings else None
    counts = segmentation["counts"]
    if isinstance(counts, str):
        raise DatasetError(
            f"compressed run lengths {where} are not read; decode them with pycocotools, or take "
            "outside='keep'"
        )
    high, wide = segmentation["size"]
    lengths = tuple(map(int, counts))
    if min(lengths, default=0) < 0 or sum(lengths) != int(wide) * int(high):
        raise DatasetError(f"run lengths {where} are not of {wide} x {high} pixels")
    return RunLengths(lengths, (int(wide), int(high)))


@dataclass(frozen=True)
class Polygons:
    """Rings of x, y, x, y, ... in pixels."""

    rings: tuple[Sequence[float], ...]

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the pixels inside."""
        picture = Image.new("1", size)
        for ring in self.rings:
            ImageDraw.Draw(picture).polygon(list(ring), fill=1)
        return np.array(picture)


@dataclass(frozen=True)
class RunLengths:
    """Lengths of alternating runs of 0 and 1, column by column; `size` is width and height."""

    counts: tuple[int, ...]
    size: tuple[int, int]

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the pixels.

        Raises:
            ImageError: When they have another size.
        """
        wide, high = self.size
        if self.size != size or sum(self.counts) != wide * high:
            raise ImageError(f"its run lengths are of {wide} x {high} pixels, not {size}")
        values = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        return values.reshape(wide, high).T
