"""Lists of pictures: folders, files, globs, URIs, Parquet files, PIL images and arrays.

`collect` lists the pictures of a source without opening them. Everything in the package that takes
images calls it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from glob import has_magic
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ImageError, VtcavError, why
from vtcav.files.paths import expanded, home_text, is_file, is_folder, is_link, is_there, matching
from vtcav.images.decoding import reason_of
from vtcav.images.file_names import hidden, is_parquet, made_by_system
from vtcav.images.references import ImageRef
from vtcav.parameters import Whole, check

T = TypeVar("T")

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | ImageRef"
    " | Iterable[str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | ImageRef]"
)
"""The forms of images that the API takes, described by `collect`."""

_ACCEPTED = (
    "a folder, an image file, a glob, a URI, a Parquet file, a PIL image, a uint8 array [H, W, 3] "
    "or [N, H, W, 3], or a list of these"
)


def collect(source: ImageSource, *, limit: int | None = None, seed: int = 0) -> list[ImageRef]:
    """List the pictures of a source without opening them.

    - A folder is read with all its subfolders, in the sorted order of the relative POSIX paths,
      which is the same on every system. Files and folders whose name starts with a dot, and those
      that systems make (``Thumbs.db``, ``__MACOSX``, ``@eaDir``, ...), are left out. Links to
      folders are followed, each real folder once. Every other file is listed whatever its
      extension, so that one that is no picture is named when it is opened.
    - A glob (``zebras/*.png``, ``photos/**/*.jpg``) stands for the files that it matches, in sorted
      order; where it matches folders alone, for the files in these.
    - A URI (``s3://bucket/zebras``, ``gs://``, ``hdfs://``, ``file://``, and what fsspec knows)
      names a picture, a folder or a Parquet file; with a ``*`` in it, all that match.
    - A Parquet file, here or behind a URI, has a column of bytes ("image", "bytes", or a struct
      "image" with "bytes" as Hugging Face writes it) or one of paths or URIs ("path", ...), which
      are relative to the file's folder.
    - A PIL image is one picture. A uint8 array is one picture ([H, W, 3], [H, W, 1] or [H, W]) or
      many ([N, H, W, 3] or [N, H, W, 1]).
    - References that are listed already, such as those of `vtcav.datasets`, are taken as they are.
    - Lists of these keep their order.

    Args:
        source: The images.
        limit: At most this many, drawn without replacement and kept in order; None for all.
        seed: Seeds the draw.

    Returns:
        At least one reference.

    Raises:
        ImageError: A path does not exist, nothing was found, a folder cannot be listed, or the
            source is of a kind, type or shape that is not accepted.
        ExtraError: A URI needs a package that is not installed.

    Example:
        >>> stack = np.zeros((10, 8, 8, 3), np.uint8)
        >>> [ref.name for ref in collect(stack, limit=3, seed=1)]
        ['array[3]', 'array[4]', 'array[7]']
    """
    return draw(_refs(source), limit, seed)


def draw(
    items: Sequence[T], limit: int | None, seed: int, error: type[VtcavError] = ImageError
) -> list[T]:
    """Draw at most `limit` items without replacement, and keep their order.

    Args:
        items: The items.
        limit: The most items; None takes all.
        seed: Seeds the draw.
        error: The class of the error.

    Raises:
        VtcavError: `error`, when the limit is no whole number of at least 1, or the seed none of at
            least 0.

    Example:
        >>> draw(range(10), 3, seed=1)
        [3, 4, 7]
    """
    check("limit", limit, Whole(1), none="all images", error=error)
    check("seed", seed, Whole(0), error=error)
    if limit is None or limit >= len(items):
        return list(items)
    chosen = np.random.default_rng(seed).choice(len(items), size=limit, replace=False)
    return [items[index] for index in sorted(chosen.tolist())]


def is_remote(source: object) -> bool:
    """Tell whether a source is a URI.

    Example:
        >>> is_remote("s3://bucket/zebras"), is_remote("zebras")
        (True, False)
    """
    return isinstance(source, str) and "://" in source


def subfolders(
    root: str | Path, expected: str = "a folder", error: type[VtcavError] = ImageError
) -> dict[str, str | Path]:
    """Return the folders directly inside a folder or URI by name, without hidden ones.

    Args:
        root: The folder or URI.
        expected: The kind of folder, for the error.
        error: The class of the error.

    Raises:
        VtcavError: `error`, when there is no such folder, or it cannot be listed.
    """
    if is_remote(root):
        from vtcav.images.remote import folders_of

        base = str(root).rstrip("/")
        names = folders_of(base, error)
        return {name: f"{base}/{name}" for name in names if not hidden(name)}
    root = expanded(root)
    if not is_folder(root):
        raise error(
            f"expected {expected}, got {str(root)[:200]!r}, which "
            f"{'is a file' if is_there(root) else 'does not exist'}"
        )
    try:
        found = sorted(root.iterdir())
    except OSError as problem:
        raise error(f"cannot list the folder {str(root)!r}: {why(problem)}") from problem
    folders = (path for path in found if is_folder(path))
    return {path.name: path for path in folders if not hidden(path.name)}


def _refs(source: object) -> list[ImageRef]:
    """Return the references of a whole source."""
    many = isinstance(source, np.ndarray) and source.ndim == 1 and source.dtype.kind in "UO"
    if not many and (single := _refs_of_one(source, 0, stack="array")) is not None:
        return single
    if not isinstance(source, Iterable) or isinstance(source, Mapping | set | frozenset | bytes):
        raise ImageError(f"expected {_ACCEPTED}, got {_kind(source)}")
    refs: list[ImageRef] = []
    for index, item in enumerate(source):
        listed = _refs_of_one(item, index, stack=f"array[{index}]")
        if listed is None:
            raise ImageError(f"expected {_ACCEPTED}, got {_kind(item)} at position {index}")
        refs += listed
    if not refs:
        raise ImageError(f"no images: the {type(source).__name__} is empty; expected {_ACCEPTED}")
    return refs


def _refs_of_one(item: object, index: int, stack: str) -> list[ImageRef] | None:
    """Return the references of a path, picture or array; None for anything else."""
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
    """Describe the type and range of an array that is not uint8, with advice."""
    if array.dtype.kind not in "fiub" or not array.size:
        return f"{array.dtype}; pass the pixels as uint8"
    low, high = float(array.min()), float(array.max())
    advice = "multiply by 255 and cast" if high <= 1 else "scale to 0..255 and cast"
    return f"{array.dtype} in [{low:g}, {high:g}]; {advice} with .astype(np.uint8)"


def _refs_of_path(text: str, known: Path | None = None) -> list[ImageRef]:
    if not text:
        raise ImageError("expected the path of a folder or an image file, got an empty path")
    if text.startswith("~"):
        text, known = home_text(text), None
    path = Path(text) if known is None else known
    try:
        if is_remote(text) or (is_parquet(text) and is_file(path)):
            from vtcav.images.remote import stored_images

            return list(stored_images(text))
        if is_folder(path):
            return [ImageRef(_printable(str(file)), file) for file in _files(path)]
        if is_there(path):
            return [ImageRef(_printable(text), path)]
    except OSError as error:
        raise ImageError(f"cannot look up {text!r}: {reason_of(error)}") from error
    if has_magic(text):
        return _refs_of_glob(text)
    if is_link(path):
        raise ImageError(f"{text!r} is a link to {str(path.readlink())!r}, which is not there")
    raise ImageError(f"{text!r} does not exist{_suggestion(path)}")


def _refs_of_glob(pattern: str) -> list[ImageRef]:
    """List the files that a glob matches; where it matches folders alone, the files in these."""
    paths = matching(pattern, recursive=True)
    asked = Path(pattern).parts
    paths = [p for p in paths if not any(map(made_by_system, set(p.parts).difference(asked)))]
    paths.sort(key=Path.as_posix)
    if not paths:
        raise ImageError(f"no images: no file or folder matches {pattern[:200]!r}")
    refs: list[ImageRef] = []
    for path in [path for path in paths if not is_folder(path)] or paths:
        if is_folder(path) or is_parquet(path):
            refs += _refs_of_path(str(path), path)
        else:
            refs.append(ImageRef(_printable(str(path)), path))
    return refs


def _files(root: Path) -> list[Path]:
    """Return every visible file below a folder, in the order of the relative POSIX paths."""
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
            if hidden(entry.name):
                continue
            path = folder / entry.name
            if not _is_folder(entry):
                files.append(path)
            else:
                (links if entry.is_symlink() else folders).append(path)
    if not files:
        raise ImageError(
            f"no images in {str(root)!r}: the folder holds no files, hidden ones excepted"
        )
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or no right to look: reading it will name the reason
        return False


def _suggestion(path: Path) -> str:
    """Return a hint at the existing name closest to the first missing part of a path."""
    while not is_folder(path.parent) and path.parent != path:
        path = path.parent
    try:
        siblings = [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {str(path.with_name(close[0]))!r}?" if close else ""


def _printable(path: str) -> str:
    """Return a path in a form that UTF-8 can hold, also where its bytes on disk cannot be."""
    printable = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return path if printable == path else printable  # one text, not two


def _kind(value: object) -> str:
    """Describe the kind of a value for an error, with advice where there is a usual mistake."""
    name = type(value).__name__
    if type(value).__module__.split(".")[0] == "torch":
        return (
            f"a torch {name}; pass the pictures as they were before preprocessing, or for values "
            "in 0..1: (x * 255).round().byte().movedim(-3, -1).cpu().numpy()"
        )
    advice = {"set": "; its order is not fixed, make it a list", "dict": "; pass one of its values"}
    return f"an object of type {name}{advice.get(name, '')}"
