"""Images behind URIs and in the rows of Parquet files.

They are listed here and read where they are used, through pyarrow (local files, S3, Google Cloud
Storage, HDFS) or fsspec (whatever it knows). Two row groups of a Parquet file are in memory at a
time, more where they are small.
"""

from __future__ import annotations

import posixpath
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs, parquet

from vtcav.errors import ExtraError, ImageError, VtcavError, why
from vtcav.images.decoding import reason_of
from vtcav.images.file_names import hidden, is_parquet
from vtcav.images.references import ImageRef, UnreadableError

_BYTES = ("image", "image.bytes", "bytes", "image_bytes")
_BINARY = pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view
_TEXT = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view
_PATHS = ("path", "image", "image.path", "image_path", "file_name", "uri")
# A row group that one thread reads is not read by the others as well.
_READING = threading.Lock()
_GROUPS: OrderedDict[tuple[str, str, int, str, int], Any] = OrderedDict()  # under that lock
_APART = 256  # images between the threads that decode, at most; twice a batch is usual


@dataclass(frozen=True, eq=False, slots=True)
class StoredImage(ImageRef):
    """An image behind a URI, or in a row of a Parquet file.

    Attributes:
        root: A URI of the file system; empty where a row of a Parquet file names no picture.
        key: The path of the picture file or Parquet file there; empty for the URI's own.
        column: The column of bytes in the Parquet file; empty for a picture file.
        row: The row in the Parquet file.
        size: The file's size in bytes; -1 where it is not known yet.
        mtime_ns: When the file was last changed; -1 where it is not known.
    """

    root: str = ""
    key: str = ""
    column: str = ""
    row: int = 0
    size: int = -1
    mtime_ns: int = -1

    def status(self) -> tuple[int, int]:
        """Return size and time of the file; -1 where they are not known.

        Raises:
            OSError: When it cannot be looked up.
        """
        if self.size >= 0 or not self.root:
            return self.size, self.mtime_ns
        system, path = _system(self.root)
        info = system.get_file_info(self.key or path)
        return _status(info)

    def fetch(self) -> ImageRef:
        """Read the bytes.

        Raises:
            ImageError: When they cannot be read.
        """
        try:
            data = self._bytes()
        except (OSError, ValueError, pa.ArrowException, ImageError) as error:
            raise UnreadableError(self.name, reason_of(error)) from error
        if not data:
            raise UnreadableError(self.name, "there are no bytes")
        return ImageRef(self.name, data)

    def _bytes(self) -> bytes:
        if not self.root:
            raise ImageError("its row of the Parquet file is empty")
        system, path = _system(self.root)
        path = self.key or path
        if self.column:
            with _READING:
                cell = _cell(self.root, path, self.mtime_ns, self.column, self.row)
            return cell or b""
        with system.open_input_stream(path, compression=None) as file:
            data: bytes = file.read()
        return data


def stored_images(
    place: str, *, column: str | None = None, folder: str | None = None
) -> list[StoredImage]:
    """List the images of a URI or a Parquet file; see `vtcav.images.listing.collect`.

    Args:
        place: A URI, or the path of a Parquet file.
        column: The Parquet file's column of bytes, paths or URIs, or of structs with "bytes";
            None looks for a usual name.
        folder: The folder or URI that paths in a Parquet file are relative to; None takes the
            file's own.

    Raises:
        ImageError: When there are no images, the place cannot be listed, or a Parquet file has no
            such column.
        ExtraError: When the URI needs a package that is not installed.
    """
    root = place if "://" in place else Path(place).absolute().as_uri()
    root, pattern = _split(root)
    try:
        system, path = _system(root)
        info = system.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise ImageError(f"{place!r} does not exist")
        if not info.is_file:
            images = _inside(root, info, pattern)
        elif is_parquet(path):
            images = _rows(place, root, info, column, folder)
        else:
            images = [_file(place, root, info)]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ImageError(f"cannot list the images of {place!r}: {why(error)}") from error
    if not images:
        raise ImageError(f"no images in {place!r}")
    return images


def folders_of(uri: str, error: type[VtcavError] = ImageError) -> list[str]:
    """Return the names of the folders directly inside the folder of a URI, in order.

    Raises:
        VtcavError: `error`, when there is no such folder, or it cannot be listed.
        ExtraError: When the URI needs a package that is not installed.
    """
    try:
        system, path = _system(uri)
        entries = system.get_file_info(fs.FileSelector(path))
    except (OSError, ValueError, pa.ArrowException) as fault:
        raise error(f"cannot list the folders in {uri!r}: {why(fault)}") from fault
    return sorted(entry.base_name for entry in entries if entry.type == fs.FileType.Directory)


def _split(uri: str) -> tuple[str, str]:
    """Return a URI up to the first folder with a "*", and the pattern after it."""
    if "*" not in uri:
        return uri, ""
    scheme, path = uri.split("://", 1)
    base = path.partition("*")[0].rpartition("/")[0]
    return f"{scheme}://{base}", path[len(base) :].lstrip("/")


def _inside(root: str, folder: Any, pattern: str) -> list[StoredImage]:
    """List the files of a folder and below, in the order of their paths.

    A Parquet file that a pattern matches stands for its rows.
    """
    system, _ = _system(root)
    base = PurePosixPath(folder.path)
    selected = system.get_file_info(fs.FileSelector(folder.path, recursive=True))
    files = {PurePosixPath(e.path).relative_to(base): e for e in selected if e.is_file}
    images: list[StoredImage] = []
    for path in sorted(files, key=PurePosixPath.as_posix):
        name = f"{root.rstrip('/')}/{path.as_posix()}"
        if any(map(hidden, path.parts)):
            continue
        if pattern and not _matches(path.parts, PurePosixPath(pattern).parts):
            continue
        if pattern and is_parquet(path):
            images += _rows(name, root, files[path])
        else:
            images.append(_file(name, root, files[path]))
    return images


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a path matches a glob, part by part."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _file(name: str, root: str, info: Any) -> StoredImage:
    size, mtime_ns = _status(info)
    return StoredImage(name, root=root, key=info.path, size=size, mtime_ns=mtime_ns)


def _rows(
    place: str, root: str, info: Any, column: str | None = None, base: str | None = None
) -> list[StoredImage]:
    """List the rows of a Parquet file."""
    with parquet.ParquetFile(info.path, filesystem=_system(root)[0]) as file:
        cells, names = _columns(place, file.schema_arrow, column)
        count = file.metadata.num_rows
        texts = _flat(file.read([names])).to_pylist() if names else [None] * count
    known = [f"{place}#{i}" if text is None else str(text) for i, text in enumerate(texts)]
    if cells:
        whole = replace(_file(place, root, info), column=cells)
        return [replace(whole, name=name, row=i) for i, name in enumerate(known)]
    folder = info.path.rpartition("/")[0]
    if base is not None and "://" in base:
        root, folder = base, _system(base)[1]
    elif base is not None:
        folder = str(Path(base).absolute())
    return [_linked(name, text, root, folder) for name, text in zip(known, texts, strict=True)]


def _linked(name: str, target: str | None, root: str, folder: str) -> StoredImage:
    """Return the image that a row of a Parquet file names by its path or URI."""
    if not target:
        return StoredImage(name)
    if "://" in target:
        return StoredImage(name, root=target)
    return StoredImage(name, root=root, key=posixpath.join(folder, target))


def _columns(place: str, schema: Any, column: str | None = None) -> tuple[str, str]:
    """Return the columns of the bytes and of the names; empty where there is none."""
    kinds: dict[str, Any] = {}
    for field in schema:
        if pa.types.is_struct(field.type):
            kinds |= {f"{field.name}.{inner.name}": inner.type for inner in field.type}
        else:
            kinds[field.name] = field.type
    bytes_: tuple[str, ...] = _BYTES
    paths: tuple[str, ...] = _PATHS
    if column is not None:
        bytes_ = paths = (column, f"{column}.bytes", f"{column}.path")
    cells = [n for n, kind in kinds.items() if n in bytes_ and _holds(kind, *_BINARY)]
    names = [n for n, kind in kinds.items() if n in paths and _holds(kind, *_TEXT)]
    if not cells and not names:
        raise ImageError(
            f"no column of images in {place!r}: expected bytes in one of {', '.join(bytes_)}, or "
            f"paths in one of {', '.join(paths)}; it has {', '.join(kinds)}"
        )
    return (cells or [""])[0], (names or [""])[0]


def _holds(kind: Any, *tests: Callable[[Any], bool]) -> bool:
    """Tell whether a column, or the categories of one, is of a kind."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(test(kind) for test in tests)


def _flat(table: Any) -> Any:
    """Return the only column of a table, or the one inside its only struct."""
    column = table.column(0)
    return column.combine_chunks().field(0) if pa.types.is_struct(column.type) else column


def _cell(root: str, path: str, version: int, column: str, row: int) -> bytes | None:
    """Return the bytes in a row of a Parquet file."""
    starts = _starts(root, path, version)
    group = bisect_right(starts, row) - 1
    found: bytes | None = _group(root, path, version, column, group)[row - starts[group]].as_py()
    return found


@lru_cache(maxsize=8)
def _starts(root: str, path: str, version: int) -> tuple[int, ...]:
    """Return the first row of each row group."""
    with parquet.ParquetFile(path, filesystem=_system(root)[0]) as file:
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    return tuple(accumulate(counts, initial=0))[:-1]


def _group(root: str, path: str, version: int, column: str, group: int) -> Any:
    """Return the bytes of a row group, which stays in memory while threads may need it.

    Threads are at most as many images apart as are decoded ahead. So two groups stay, and of small
    groups as many as hold that many images: none is read twice.
    """
    key = root, path, version, column, group
    if key in _GROUPS:
        _GROUPS.move_to_end(key)
        return _GROUPS[key]
    with parquet.ParquetFile(path, filesystem=_system(root)[0]) as file:
        _GROUPS[key] = _flat(file.read_row_group(group, [column]))
    rows = sum(map(len, _GROUPS.values()))
    while len(_GROUPS) > 2 and rows - len(next(iter(_GROUPS.values()))) >= _APART:
        rows -= len(_GROUPS.popitem(last=False)[1])
    return _GROUPS[key]


@lru_cache(maxsize=8)
def _system(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI, and the path in it."""
    try:
        found: tuple[Any, str] = fs.FileSystem.from_uri(uri)
        return found
    except pa.ArrowInvalid:
        pass  # a scheme that pyarrow does not know
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ExtraError(f"{uri!r} needs the package 'fsspec': pip install fsspec") from error
    try:
        system, path = url_to_fs(uri)
    except ImportError as error:
        raise ExtraError(f"{uri!r} needs another package: {error}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def _status(info: Any) -> tuple[int, int]:
    """Return the size and time of a file; -1 where they are not known."""
    return -1 if info.size is None else info.size, -1 if info.mtime_ns is None else info.mtime_ns
