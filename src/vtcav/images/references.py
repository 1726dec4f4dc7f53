"""Folders, files, arrays and PIL images become RGB pictures; what was left out is named.

`collect` lists the pictures of a source without opening them and `read` decodes one. A picture
that cannot be read is an error or a `Skipped` with its reason; it never just disappears.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ImageError, warn
from vtcav.images.decoding import identify, open_file, reason_of, upright_rgb

__all__ = [
    "ImageRef",
    "ImageSource",
    "Skipped",
    "SkippedImageWarning",
    "UnreadableError",
    "collect",
    "pixel_digest",
    "read",
    "report_skipped",
    "with_reasons",
]

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | ImageRef"
    " | Iterable[str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | ImageRef]"
)
"""What the API takes for images: a folder, a file, a PIL image, a uint8 array or many of these.

References that are listed already, such as those of `vtcav.datasets`, are taken as they are.

Arrays are [H, W, 3], [H, W, 1] or [H, W] for one picture, [N, H, W, 3] or [N, H, W, 1] for many.
"""

_ACCEPTED = (
    "a folder, an image file, a PIL image, a uint8 array [H, W, 3] or [N, H, W, 3], "
    "or a list of these"
)
_NAMED = 5  # pictures that a warning names
# Two entries of a list may be one lazily opened picture, whose loading is not thread safe.
_SHARED = threading.Lock()


class SkippedImageWarning(UserWarning):
    """Some images could not be read and are left out; the message names them."""


class UnreadableError(ImageError):
    """One picture cannot be read: its arguments are the picture's name and the reason."""

    def __str__(self) -> str:
        name, reason = self.args
        return f"cannot read {name!r}: {reason}"


@dataclass(frozen=True)
class Skipped:
    """A picture that was left out.

    Attributes:
        name: The path as given, or "array[3]", "image[3]" for a picture in memory.
        reason: Why it could not be read, and what to do where that is known.
    """

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class ImageRef:
    """One picture that is listed and not opened yet.

    Attributes:
        name: The path as given, or "array[3]", "image[3]" for a picture in memory.
        source: The file, or the picture itself, which is not copied.
    """

    name: str
    source: Path | Image.Image | NDArray[np.uint8] = field(repr=False)

    def load(self) -> Image.Image:
        """Decode the picture; see `read`.

        Raises:
            ImageError: Naming the picture and the reason.
        """
        source = self.source
        try:
            if isinstance(source, Path):
                with open_file(source) as file:
                    return upright_rgb(identify(file))
            if isinstance(source, Image.Image):
                with _SHARED:
                    return upright_rgb(source)
            if not source.size:
                raise ImageError(f"the picture has no pixels: its shape is {list(source.shape)}")
            pixels = source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source
            # fromarray may share the array's memory, which its owner is free to change.
            return Image.fromarray(np.array(pixels, order="C")).convert("RGB")
        except Exception as error:
            # Decoders meet damaged files with exceptions of every kind; all are this picture's.
            raise UnreadableError(self.name, reason_of(error)) from error

    def status(self) -> tuple[int, int]:
        """Return size and time (ns) of the file; -1 where the picture is no file of its own.

        Raises:
            OSError: When it cannot be looked up.
        """
        if not isinstance(self.source, Path):
            return -1, -1
        found = self.source.stat()
        return found.st_size, found.st_mtime_ns

    def origin(self) -> str:
        """The digest of the photograph that this picture was cut out of; empty where it is whole.

        Raises:
            ImageError: When that photograph cannot be read.
        """
        return ""

    def digest(self) -> str:
        """The sha256 of the content: 64 hexadecimal digits.

        Of the file's bytes, or of the size and the RGB pixels for a picture in memory.

        Raises:
            ImageError: The file cannot be opened, or the picture in memory has no RGB form.

        Example:
            >>> ImageRef("array[0]", np.zeros((2, 2, 3), np.uint8)).digest()[:8]
            '93bb0640'
        """
        if not isinstance(self.source, Path):
            return pixel_digest(self.load())
        try:
            with open_file(self.source) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ImageError) as error:
            raise UnreadableError(self.name, reason_of(error)) from error


def collect(source: ImageSource, *, limit: int | None = None, seed: int = 0) -> list[ImageRef]:
    """List the pictures of a source without opening them.

    A folder is read with all its subfolders, in the sorted order of the relative POSIX paths,
    which is the same on every system. Files and folders whose name starts with a dot, and
    `__MACOSX`, are left out. Links to folders are followed, each real folder once. Every other
    file is listed whatever its extension, so that one that is no picture is named when it is
    opened. Lists keep their order; a folder or a stack of pictures in a list stands for its
    pictures.

    Args:
        source: A folder, a file, a PIL image, a uint8 array ([H, W, 3], [H, W, 1] or [H, W] for
            one picture, [N, H, W, 3] or [N, H, W, 1] for many), or an iterable of these.
        limit: At most this many, drawn without replacement and kept in order; None for all.
        seed: Seeds the draw.

    Returns:
        At least one reference.

    Raises:
        ImageError: A path does not exist, nothing was found, a folder cannot be listed, or the
            source is of a kind, type or shape that is not accepted.

    Example:
        >>> stack = np.zeros((10, 8, 8, 3), np.uint8)
        >>> [ref.name for ref in collect(stack, limit=3, seed=1)]
        ['array[3]', 'array[4]', 'array[7]']
    """
    if limit is not None and limit < 1:
        raise ImageError(f"expected a limit of at least 1 image, got {limit}; None takes all")
    refs = _refs(source)
    if limit is None or limit >= len(refs):
        return refs
    drawn = np.random.default_rng(seed).choice(len(refs), size=limit, replace=False)
    return [refs[index] for index in sorted(drawn.tolist())]


def _refs(source: object) -> list[ImageRef]:
    """The references of a whole source."""
    many = isinstance(source, np.ndarray) and source.ndim == 1 and source.dtype.kind in "UO"
    if not many and (single := _refs_of_one(source, 0, stack="array")) is not None:
        return single
    if not isinstance(source, Iterable) or isinstance(source, Mapping | set | frozenset | bytes):
        raise ImageError(f"expected {_ACCEPTED}, got {_kind(source)}")
    refs: list[ImageRef] = []
    for index, item in enumerate(source):
        found = _refs_of_one(item, index, stack=f"array[{index}]")
        if found is None:
            raise ImageError(f"expected {_ACCEPTED}, got {_kind(item)} at position {index}")
        refs += found
    if not refs:
        raise ImageError(f"no images: the {type(source).__name__} is empty; expected {_ACCEPTED}")
    return refs


def _refs_of_one(item: object, index: int, stack: str) -> list[ImageRef] | None:
    """The references of a path, picture or array; None for anything else."""
    if isinstance(item, ImageRef):
        return [item]
    if isinstance(item, Image.Image):
        return [ImageRef(f"image[{index}]", item)]
    if isinstance(item, np.ndarray):
        return _refs_of_array(item, index, stack)
    if isinstance(item, os.PathLike):
        known = item if isinstance(item, Path) else None  # of a long list no second one is made
        text = os.fspath(item)
        return _refs_of_path(text, known) if isinstance(text, str) else None
    return _refs_of_path(item) if isinstance(item, str) else None


def _refs_of_array(array: NDArray[np.uint8], index: int, stack: str) -> list[ImageRef]:
    shape = list(array.shape)
    if array.dtype != np.uint8:
        raise ImageError(f"expected uint8 in 0..255, got {_values(array)}")
    if array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3)):
        return [ImageRef(f"array[{index}]", array)]
    if array.ndim == 4 and shape[3] in (1, 3):
        if not shape[0]:
            raise ImageError(f"no images: the array {shape} is empty")
        return [ImageRef(f"{stack}[{i}]", picture) for i, picture in enumerate(array)]
    advice = "put the channels last, without alpha"
    if array.ndim in (3, 4) and shape[-3] in (1, 3):
        advice = "move the channels last: np.moveaxis(array, -3, -1)"
    elif array.ndim == 3 and shape[2] > 4:
        advice = "give grey pictures a channel: array[..., None]"
    elif array.ndim >= 3 and shape[-1] == 4:
        advice = "drop the alpha channel (array[..., :3]) or pass PIL images, which keep it"
    raise ImageError(f"expected an array [H, W, 3] or [N, H, W, 3], got {shape}; {advice}")


def _values(array: NDArray[np.generic]) -> str:
    """The type and the range of an array that is not uint8, and what to do with it."""
    if array.dtype.kind not in "fiub" or not array.size:
        return f"{array.dtype}; pass the pixels as uint8"
    low, high = float(array.min()), float(array.max())
    advice = "multiply by 255 and cast" if high <= 1 else "scale to 0..255 and cast"
    return f"{array.dtype} in [{low:g}, {high:g}]; {advice} with .astype(np.uint8)"


def _refs_of_path(text: str, known: Path | None = None) -> list[ImageRef]:
    if not text:
        raise ImageError("expected the path of a folder or an image file, got an empty path")
    path = Path(text) if known is None else known
    try:
        if path.is_dir():
            return [ImageRef(_printable(str(file)), file) for file in _files(path)]
        if path.exists():
            return [ImageRef(_printable(text), path)]
    except OSError as error:
        raise ImageError(f"cannot look up {text!r}: {reason_of(error)}") from error
    raise ImageError(f"{text!r} does not exist{_suggestion(path)}")


def _files(root: Path) -> list[Path]:
    """Every visible file below a folder, in the order of the relative POSIX paths."""
    files: list[Path] = []
    folders: list[Path] = [root]
    links: list[Path] = []
    visited: set[Path] = set()
    while folders or links:
        # Links come last, so that a folder that is also linked keeps its own name.
        folder = folders.pop() if folders else links.pop()
        if (real := folder.resolve()) in visited:
            continue
        visited.add(real)
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            raise ImageError(
                f"cannot list the folder {str(folder)!r}: {reason_of(error)}"
            ) from error
        for entry in found:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            path = folder / entry.name
            if not _is_folder(entry):
                files.append(path)
            else:
                (links if entry.is_symlink() else folders).append(path)
    if not files:
        raise ImageError(
            f"no images in {str(root)!r}: the folder holds no files (hidden ones aside)"
        )
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or no right to look: reading it will name the reason
        return False


def _suggestion(path: Path) -> str:
    """The existing name that is closest to the first part of a path that does not exist."""
    while not path.parent.is_dir() and path.parent != path:
        path = path.parent
    try:
        siblings = [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {str(path.with_name(close[0]))!r}?" if close else ""


def _printable(path: str) -> str:
    """A path that can be written as UTF-8, also where its bytes on disk are not."""
    printable = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return path if printable == path else printable  # one text, not two


def _kind(value: object) -> str:
    """What a value is, for an error, with advice where a user can be expected to have it."""
    name = type(value).__name__
    if type(value).__module__.split(".")[0] == "torch":
        return (
            f"a torch {name}; pass the pictures as they were before preprocessing, or for values "
            "in 0..1: (x * 255).round().byte().movedim(-3, -1).cpu().numpy()"
        )
    advice = {"set": "; its order is not fixed, make it a list", "dict": "; pass one of its values"}
    return f"an object of type {name}{advice.get(name, '')}"


def read(ref: ImageRef) -> Image.Image:
    """Decode one picture into an independent, upright RGB image without metadata.

    The EXIF orientation is applied (an EXIF block that cannot be parsed counts as upright). Of
    an animation or a file of many pages, the first is taken; of a picture in memory, the frame
    that it stands at. Colours are converted as `decoding.as_rgb` says. Truncated files are
    refused unless Pillow was told otherwise. EPS, whose decoding runs another program, is not
    read.

    Args:
        ref: One of the references that `collect` returns.

    Returns:
        A PIL image of mode RGB.

    Raises:
        ImageError: Naming the picture and the reason; a file with more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS` is refused before it is decoded.

    Example:
        >>> grey = Image.new("L", (4, 2), 128)
        >>> image = read(collect(grey)[0])
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (4, 2), (128, 128, 128))
    """
    return ref.load()


def report_skipped(listed: int, used: int, skipped: Sequence[Skipped]) -> None:
    """Name the pictures that were left out.

    Args:
        listed: How many there were.
        used: How many could be read.
        skipped: The others.

    Raises:
        ImageError: When none could be read.

    Warns:
        SkippedImageWarning: When pictures were left out.
    """
    if not skipped:
        return
    if not used:
        raise ImageError(f"none of the {listed} images can be read: {with_reasons(skipped)}")
    warn(
        f"{len(skipped)} of {listed} images are left out: {with_reasons(skipped)}",
        SkippedImageWarning,
    )


def with_reasons(skipped: Sequence[Skipped]) -> str:
    """Name at most five skipped pictures with their reasons, and count the others.

    Example:
        >>> with_reasons([Skipped("a.png", "the file is empty")])
        "'a.png' (the file is empty)"
    """
    named = "; ".join(f"{skip.name!r} ({skip.reason})" for skip in skipped[:_NAMED])
    more = len(skipped) - _NAMED
    return f"{named}; and {more} more" if more > 0 else named


def pixel_digest(image: Image.Image) -> str:
    """The sha256 of a picture's size and RGB pixels."""
    pixels = f"{image.width}x{image.height}:".encode() + image.tobytes()
    return hashlib.sha256(pixels).hexdigest()
