"""Patches: parts of photographs, cut out with or without their surroundings."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vtcav.errors import DatasetError, ImageError, brief
from vtcav.images.decoding import reduced
from vtcav.images.references import ImageRef, UnreadableError
from vtcav.parameters import Flag, Whole, Words, check

GREY = 128, 128, 128
_OVERHANG = 2  # pixels by which rounded coordinates may leave the picture


class Box(NamedTuple):
    """A rectangle in pixels of the upright picture; right and bottom are the first beyond it."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Its width."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Its height."""
        return self.bottom - self.top


class Region(Protocol):
    """The pixels that belong to the concept."""

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return them for a picture of width and height `size`: [height, width].

        Raises:
            ImageError: When they cannot be read, or are of another size.
        """
        ...


@dataclass(frozen=True)
class Patches:
    """Rules for choosing and cutting out patches.

    Args:
        pad: The margin kept on each side of a box, as a share of its longer side.
        square: Whether to widen the shorter side to a square, as far as the picture goes. Most
            networks take square inputs; a long box would be cropped or squeezed.
        outside: The treatment of pixels outside the box or mask: "keep", "grey" or "blur".
        min_size: The shortest side that a box may have, in pixels and without the margin.
        per_image: At most this many of one label from one picture, the largest first.

    Raises:
        DatasetError: For a value out of range.

    Example:
        >>> Patches(pad=0.1).window(Box(40, 40, 60, 50), (100, 100))
        (38, 33, 62, 57)
    """

    pad: float = 0.1
    square: bool = True
    outside: Literal["keep", "grey", "blur"] = "keep"
    min_size: int = 32
    per_image: int | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.pad, int | float | np.number)
        if not number or not (math.isfinite(self.pad) and self.pad >= 0):
            raise DatasetError(f"expected pad to be a share of at least 0, got {brief(self.pad)}")
        check("square", self.square, Flag(), error=DatasetError)
        check("outside", self.outside, Words("keep", "grey", "blur"), error=DatasetError)
        check("min_size", self.min_size, Whole(1), error=DatasetError)
        check("per_image", self.per_image, Whole(1), none="all patches", error=DatasetError)

    def window(self, box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the patch in a picture of this size."""
        around = self.pad * max(box.width, box.height)
        wide, high = box.width + 2 * around, box.height + 2 * around
        if self.square:
            wide = high = max(wide, high)
        across = _span((box.left + box.right) / 2, wide, size[0])
        down = _span((box.top + box.bottom) / 2, high, size[1])
        return across[0], down[0], across[1], down[1]


def _span(middle: float, length: float, most: int) -> tuple[int, int]:
    """Return the ends of a length around a middle, moved into 0..most and cut where too long."""
    whole = min(max(round(length), 1), most)
    start = min(max(round(middle - length / 2), 0), most - whole)
    return start, start + whole


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class PatchImage(ImageRef):
    """A part of a picture.

    Attributes:
        picture: The picture that it is cut out of.
        box: The place of the concept.
        cut: The rules for cutting it out.
        region: The pixels that belong to the concept; None for all of the box.
        size: Width and height that the picture must have; None where they are not known.
    """

    picture: ImageRef
    box: Box
    cut: Patches
    region: Region | None = field(default=None, repr=False)
    size: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        picture: ImageRef,
        box: Box,
        cut: Patches,
        region: Region | None = None,
        size: tuple[int, int] | None = None,
    ) -> PatchImage:
        """Return the reference of a patch, named after its picture and box.

        Example:
            >>> from vtcav.images.references import ImageRef
            >>> picture = ImageRef("cat.jpg", np.zeros((9, 9, 3), np.uint8))
            >>> PatchImage.of(picture, Box(1, 2, 5, 6), Patches()).name
            'cat.jpg[1,2,5,6]'
        """
        name = f"{picture.name}[{','.join(f'{value:g}' for value in box)}]"
        return cls(name, picture=picture, box=box, cut=cut, region=region, size=size)

    def load(self) -> Image.Image:
        """Read the picture and cut the patch out.

        Raises:
            ImageError: When the picture cannot be read, is of another size than its annotations
                say, or ends before the box does.
        """
        try:
            return _cut_out(self.picture.load(), self)
        except UnreadableError as error:
            raise UnreadableError(self.name, error.args[1]) from error
        except ImageError as error:
            raise UnreadableError(self.name, str(error)) from error

    @property
    def photograph(self) -> ImageRef:
        """The picture that it is cut out of."""
        return self.picture.photograph


def _cut_out(picture: Image.Image, patch: PatchImage) -> Image.Image:
    box, cut = patch.box, patch.cut
    if patch.size is not None and picture.size != patch.size:
        raise ImageError(
            f"its annotations are of a picture of {patch.size[0]} x {patch.size[1]} pixels, it has "
            f"{picture.width} x {picture.height}"
        )
    check_inside(box, picture.size)
    window = cut.window(box, picture.size)
    if cut.outside == "keep":
        return picture.crop(window)
    picture = reduced(picture)
    if patch.region is not None:
        inside = patch.region.mask(picture.size)
    else:
        inside = np.zeros((picture.height, picture.width), bool)
        left, top, right, bottom = map(round, box)
        inside[max(top, 0) : bottom, max(left, 0) : right] = True
    keep = Image.fromarray((inside * 255).astype(np.uint8)).crop(window)
    patch_picture = picture.crop(window)
    if cut.outside == "grey":
        other = Image.new("RGB", patch_picture.size, GREY)
    else:
        radius = max(patch_picture.size) / 12
        other = patch_picture.filter(ImageFilter.GaussianBlur(radius))
    made = Image.composite(patch_picture, other, keep)
    made.info |= picture.info  # whether bits were lost
    return made


def check_inside(box: Box, size: tuple[int, int]) -> None:
    """Refuse a box that does not lie in the picture.

    Args:
        box: The box.
        size: Width and height of the picture.

    Raises:
        ImageError: Saying both.
    """
    low = min(box.left, box.top) < -_OVERHANG
    if low or box.right > size[0] + _OVERHANG or box.bottom > size[1] + _OVERHANG:
        raise ImageError(
            f"the box {tuple(box)} (left, top, right, bottom) lies outside of the picture, which "
            f"has {size[0]} x {size[1]} pixels; was the picture resized after it was annotated?"
        )


def checked_box(values: Iterable[float], where: str) -> Box:
    """Return a box from four numbers.

    Raises:
        DatasetError: When they are no box.
    """
    box = Box(*map(float, values))
    if not all(map(math.isfinite, box)) or box.width <= 0 or box.height <= 0:
        raise DatasetError(
            f"expected left < right and top < bottom, got {tuple(box)} {where}; for left, top, "
            "width and height say so"
        )
    return box


def choose(
    patches: Iterable[tuple[str, PatchImage]], cut: Patches
) -> tuple[list[tuple[str, ImageRef]], dict[str, Counter[str]]]:
    """Leave out patches that are too small, and more than enough from one picture.

    Args:
        patches: Pairs of label and patch.
        cut: The limits.

    Returns:
        The pairs that stay, in order, and by label how many were left out for which reason.
    """
    lost: dict[str, Counter[str]] = defaultdict(Counter)
    by_picture: dict[tuple[str, str], list[int]] = defaultdict(list)
    listed = list(patches)
    for i, (label, patch) in enumerate(listed):
        if min(patch.box.width, patch.box.height) < cut.min_size:
            lost[label][f"smaller than {cut.min_size} pixels"] += 1
        else:
            by_picture[label, patch.name.rpartition("[")[0]].append(i)
    stay: set[int] = set()
    for (label, _), places in by_picture.items():
        best = sorted(places, key=lambda i: -_area(listed[i][1].box))[: cut.per_image]
        stay.update(best)
        if len(best) < len(places):
            lost[label][f"beyond {cut.per_image} per image"] += len(places) - len(best)
    return [pair for i, pair in enumerate(listed) if i in stay], lost


def _area(box: Box) -> float:
    return box.width * box.height
