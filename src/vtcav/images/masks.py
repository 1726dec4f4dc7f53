"""Masks of concepts: files and arrays, matched to images and read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vtcav.errors import ExplanationError, ImageError
from vtcav.files.paths import expanded, is_file, is_folder, is_there
from vtcav.images.decoding import identify, open_file, reason_of
from vtcav.images.file_names import hidden
from vtcav.images.listing import is_remote
from vtcav.images.references import ImageRef
from vtcav.parameters import as_list

MaskSource: TypeAlias = (
    str | os.PathLike[str] | NDArray[Any] | Iterable[Path | str | Image.Image | NDArray[Any]]
)
"""A folder of mask files, or one mask for each image: files, PIL images, arrays [H, W]."""

MaskValue: TypeAlias = int | Sequence[int] | str | None
"""The values of a mask that mean the concept; see `MaskReader`."""

SUFFIXES = (".png", ".bmp", ".npy", ".gif", ".tif", ".tiff")
_SHOWN = 6  # values that a message lists
_NAME_THEM = 'pass the value that means the concept, or "nonzero" for all but 0'


def find_masks(
    refs: Sequence[ImageRef], images: object, masks: MaskSource
) -> list[Path | Image.Image | NDArray[Any] | None]:
    """Find the mask of each image.

    Args:
        refs: The images, as `collect(images)` lists them.
        images: Their source. For a folder or URI, `cats/1.jpg` in it has its mask at `cats/1.png`
            in the folder of masks, or at `1.png` if no other mask has that name.
        masks: A folder, or one mask for each image in order.

    Returns:
        For each image a file, picture or array, or None where the folder has none.

    Raises:
        ExplanationError: For a folder that does not exist or has no masks, two masks of one name,
            or a list of another length.
    """
    if not isinstance(masks, str | os.PathLike):
        given = as_list("masks", masks)
        each = [expanded(m) if isinstance(m, str | os.PathLike) else m for m in given]
        if len(each) != len(refs):
            raise ExplanationError(
                f"expected one mask for each of {len(refs)} images, got {len(each)}; or pass a "
                "folder of masks named like the images"
            )
        return list(each)
    folder = expanded(masks)
    if not is_folder(folder):
        raise ExplanationError(
            f"expected a folder of masks, got {str(folder)!r}, "
            f"which {'is a file' if is_there(folder) else 'does not exist'}"
        )
    named, bare = _by_name(folder)
    root = _place(images) if isinstance(images, str | os.PathLike) else None
    return [_mask_of(ref, root, named, bare) for ref in refs]


def mask_files(masks: MaskSource) -> list[Path]:
    """Return all masks of a folder; none of a list, in which each is an image's.

    Raises:
        ExplanationError: As `find_masks`.
    """
    if not isinstance(masks, str | os.PathLike):
        return []
    return list(_by_name(expanded(masks))[0].values())


def _by_name(folder: Path) -> tuple[dict[PurePath, Path], dict[str, list[Path]]]:
    """Return the masks of a folder by their path in it without suffix, and by their stem."""
    named: dict[PurePath, Path] = {}
    bare: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or any(map(hidden, inside.parts)):
            continue
        if not is_file(path):
            continue
        name = inside.with_suffix("")
        if name in named:
            raise ExplanationError(
                f"expected one mask for each image, got {str(named[name])!r} and {str(path)!r}; "
                "remove one"
            )
        named[name] = path
        bare.setdefault(path.stem, []).append(path)
    if not named:
        raise ExplanationError(
            f"no masks in {str(folder)!r}: expected files of the kinds {', '.join(SUFFIXES)}, "
            "named like the images"
        )
    return named, bare


def _mask_of(
    ref: ImageRef,
    root: PurePath | None,
    named: dict[PurePath, Path],
    bare: dict[str, list[Path]],
) -> Path | None:
    if ref.path is None and not is_remote(ref.name):
        raise ExplanationError(
            f"a folder of masks is matched by file names, and {ref.name!r} has none; pass the "
            "masks as a list in the order of the images"
        )
    place = ref.path or _place(ref.name)
    if root is not None and place != root and place.is_relative_to(root):  # a file is no folder
        name = place.relative_to(root).with_suffix("")
        if name in named:
            return named[name]
    alike = bare.get(place.stem, [])
    return alike[0] if len(alike) == 1 else None


def _place(source: str | os.PathLike[str]) -> PurePath:
    return PurePosixPath(source) if is_remote(source) else expanded(source)


class MaskReader:
    """Reads the masks of one concept.

    Args:
        value: The values that mean the concept. None takes boolean masks, shares in [0, 1], and
            masks of 0 and one other value, the same in all of them (0 and 255). A number or
            several are labels of a segmentation. "nonzero" is everything but 0, "#rrggbb" pixels
            of this colour.

    Raises:
        ExplanationError: For a value of another kind.

    Example:
        >>> labels = np.array([[0, 1], [2, 2]], np.uint8)
        >>> MaskReader(2).read(labels, "labels")
        array([[0., 0.],
               [1., 1.]])
    """

    def __init__(self, value: MaskValue = None) -> None:
        self._colour: NDArray[np.uint8] | None = None
        if isinstance(value, str) and value != "nonzero":
            self._colour = _colour(value)
        self._value = value
        # the nonzero value of the first mask that had one, and that mask's name
        self._first: tuple[Any, str] | None = None

    def read(self, source: Path | Image.Image | NDArray[Any], name: str) -> NDArray[np.float64]:
        """Read the mask of the concept.

        Args:
            source: A picture file or PIL image (a palette image counts by its indices, not its
                colours), a `.npy` file or an array [H, W].
            name: The mask's name in errors.

        Returns:
            The mask [H, W] in [0, 1].

        Raises:
            ImageError: When it cannot be read, or its values need a `value` to be understood.
            ExplanationError: When masks of 0 and one other value differ in that value.
        """
        try:
            values = _values(source)
        except ImageError:
            raise
        except Exception as error:
            # decoders meet damaged files with exceptions of every kind; all are this mask's
            raise ImageError(reason_of(error)) from error
        return self._inside(values, name).astype(np.float64)

    def _inside(self, values: NDArray[Any], name: str) -> NDArray[Any]:
        """Return which pixels mean the concept."""
        if self._colour is not None:
            colours = values if values.ndim == 3 else values[..., None]
            return np.asarray((colours == self._colour).all(axis=2))
        if values.ndim == 3:
            raise ImageError('it is in colours: pass the one of the concept, value="#rrggbb"')
        if self._value == "nonzero":
            return np.asarray(values != 0)
        if self._value is not None:
            return np.isin(values, np.asarray(self._value))
        if values.dtype.kind == "f":
            return _shares(values)
        if values.dtype.kind != "b":
            self._check_two(np.unique(values), name)
        return np.asarray(values != 0)

    def _check_two(self, values: NDArray[Any], name: str) -> None:
        """Refuse labels without a `value` that says which one means the concept."""
        others = values[values != 0]
        if len(others) > 1:
            listed = ", ".join(map(str, values[:_SHOWN])) + ", ..." * (len(values) > _SHOWN)
            raise ImageError(f"it holds the values {listed}: {_NAME_THEM}")
        if not len(others):
            return
        self._first = self._first or (others[0], name)
        if others[0] != self._first[0]:
            raise ExplanationError(
                f"the masks hold labels, not one value besides 0: {self._first[0]} in "
                f"{self._first[1]!r} and {others[0]} in {name!r}; {_NAME_THEM}"
            )


def _values(source: Path | Image.Image | NDArray[Any]) -> NDArray[Any]:
    """Return the pixels of a mask [H, W], or [H, W, 3] in colours."""
    if isinstance(source, Path):
        with open_file(source) as file:
            if source.suffix.lower() == ".npy":
                return _plain(np.load(file, allow_pickle=False))
            return _pixels(identify(file))
    return _pixels(source) if isinstance(source, Image.Image) else _plain(np.asarray(source))


def _pixels(image: Image.Image) -> NDArray[Any]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("LA", "La"):
        upright = upright.getchannel("L")
    elif upright.mode not in ("1", "L", "P", "F") and not upright.mode.startswith("I"):
        upright = upright.convert("RGB")
    return _plain(np.asarray(upright))


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return pixels without redundant channels, or refuse what is no mask."""
    channels = values.shape[2] if values.ndim == 3 else 1
    # a grey picture in three equal channels is as good as one
    if values.ndim == 3 and channels in (1, 3) and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim not in (2, 3) or channels not in (1, 3):
        raise ImageError(f"expected a mask [H, W], got an array of shape {list(values.shape)}")
    if not values.size or values.dtype.kind not in "biuf":
        raise ImageError(
            f"expected a mask of numbers, got {values.dtype} of shape {list(values.shape)}"
        )
    return values


def _shares(values: NDArray[Any]) -> NDArray[Any]:
    if not (values.min() >= 0 and values.max() <= 1):  # so that NaN fails
        raise ImageError(
            f"it holds numbers from {values.min():g} to {values.max():g}: expected shares from 0 "
            f"to 1, or {_NAME_THEM}"
        )
    return values


def _colour(text: str) -> NDArray[np.uint8]:
    """Return a colour's red, green and blue."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ExplanationError(
            'expected value to be a number or several, "nonzero" or a colour like "#ff0000", '
            f"got {text!r}"
        )
    return np.frombuffer(bytes.fromhex(text[1:]), np.uint8)
