"""Images that no folder of this machine holds: behind a URI, or in the rows of a Parquet file.

They are listed here and read where they are computed, through pyarrow (local files, S3, Google
Cloud Storage, HDFS) or fsspec (whatever it knows). Of a Parquet file two row groups at a time are
in memory, more where they are small.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import threading
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader, BytesIO
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import fs, parquet

from vtcav.errors import ExtraError, ImageError
from vtcav.images.decoding import identify, reason_of, upright_rgb
from vtcav.images.references import ImageRef, ImageSource, UnreadableError, collect

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FetchedImage", "StoredImage", "collect_stored", "is_stored", "parquet_images"]

_BYTES = ("image", "image.bytes", "bytes", "image_bytes")
_PATHS = ("path", "image", "image.path", "image_path", "file_name", "uri")
# A row group that is being read by one thread is not to be read by the others as well.
_READING = threading.Lock()
_GROUPS: OrderedDict[tuple[str, str, int, str, int], Any] = OrderedDict()  # under that lock
_APART = 256  # images between the threads that decode; twice a batch is usual


@dataclass(frozen=True, eq=False)
class FetchedImage(ImageRef):
    """A stored image whose bytes are here; `source` is not used.

    Attributes:
        data: The bytes of a picture file.
    """

    data: bytes = b""

    def load(self) -> Image.Image:
        """Decode the picture, as `vtcav.images.references.read` does a file."""
        try:
            return upright_rgb(identify(BufferedReader(BytesIO(self.data))))
        except Exception as error:
            raise UnreadableError(self.name, reason_of(error)) from error

    def digest(self) -> str:
        """The sha256 of the bytes, which is that of the same picture as a file."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, eq=False)
class StoredImage(ImageRef):
    """An image behind a URI, or in a row of a Parquet file behind one; `source` is not used.

    Attributes:
        root: A URI of the file system.
        path: Of the picture file or the Parquet file in it; empty for that of the URI.
        column: Of the bytes in the Parquet file; empty for a picture file.
        row: In the Parquet file.
        size: Of the file in bytes; -1 where it is not known yet.
        mtime_ns: When it was last changed; -1 where it is not known.
    """

    root: str = ""
    path: str = ""
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
        info = system.get_file_info(self.path or path)
        return (-1, -1) if info.size is None else (info.size, _time(info))

    def fetch(self) -> FetchedImage:
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
        return FetchedImage(self.name, self.source, data)

    def _bytes(self) -> bytes:
        if not self.root:
            raise ImageError("its row of the Parquet file is empty")
        system, path = _system(self.root)
        path = self.path or path
        if self.column:
            with _READING:
                cell = _cell(self.root, path, self.mtime_ns, self.column, self.row)
            return cell or b""
        with system.open_input_stream(path, compression=None) as file:
            data: bytes = file.read()
        return data

    def load(self) -> Image.Image:
        """Read and decode the picture."""
        return self.fetch().load()

    def digest(self) -> str:
        """The sha256 of the bytes."""
        return self.fetch().digest()


def is_stored(source: object) -> bool:
    """Whether a source is a URI or a Parquet file, or a list of these.

    Example:
        >>> is_stored("s3://bucket/zebras"), is_stored("zebras.parquet"), is_stored("zebras")
        (True, True, False)
    """
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        return isinstance(text, str) and ("://" in text or text.endswith(".parquet"))
    return isinstance(source, list | tuple) and bool(source) and all(map(is_stored, source))


def collect_stored(
    source: ImageSource, *, limit: int | None = None, seed: int = 0
) -> list[ImageRef]:
    """List the images of a source, as `references.collect` does, also of those stored elsewhere.

    A URI names a picture, a folder (all files in it and below, in the order of their paths, hidden
    ones aside) or a Parquet file. A Parquet file, here or behind a URI, has a column of bytes
    ("image", "bytes", or a struct "image" with "bytes" as Hugging Face writes it) or one of paths
    or URIs ("path", ...), which are relative to the file's folder.

    Args:
        source: A URI, a Parquet file, a list of these, or whatever `collect` takes.
        limit: At most this many, drawn without replacement and kept in order; None for all.
        seed: Seeds the draw.

    Raises:
        ImageError: As `collect`, or when a place cannot be listed.
    """
    if not is_stored(source):
        return collect(source, limit=limit, seed=seed)
    if limit is not None and limit < 1:
        raise ImageError(f"expected a limit of at least 1 image, got {limit}; None takes all")
    places: list[Any] = list(source) if isinstance(source, list | tuple) else [source]
    refs: list[ImageRef] = [ref for place in places for ref in _refs(os.fspath(place))]
    if limit is None or limit >= len(refs):
        return refs
    drawn = np.random.default_rng(seed).choice(len(refs), size=limit, replace=False)
    return [refs[index] for index in sorted(drawn.tolist())]


def _refs(place: str) -> list[StoredImage]:
    """List one URI or Parquet file."""
    root = place if "://" in place else Path(place).absolute().as_uri()
    try:
        system, path = _system(root)
        info = system.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise ImageError(f"{place!r} does not exist")
        if not info.is_file:
            found = _files(place, root, system, path)
        elif path.endswith(".parquet"):
            found = _rows(place, root, info)
        else:
            found = [_file(place, root, info)]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ImageError(f"cannot list the images of {place!r}: {error}") from error
    if not found:
        raise ImageError(f"no images in {place!r}")
    return found


def _files(place: str, root: str, system: Any, folder: str) -> list[StoredImage]:
    """List the files of a folder and below, in the order of their paths."""
    entries = system.get_file_info(fs.FileSelector(folder, recursive=True))
    base = PurePosixPath(folder)
    files = {PurePosixPath(e.path).relative_to(base): e for e in entries if e.is_file}
    return [
        _file(f"{place.rstrip('/')}/{path.as_posix()}", root, files[path])
        for path in sorted(files, key=PurePosixPath.as_posix)
        if not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    ]


def _file(name: str, root: str, info: Any) -> StoredImage:
    size = -1 if info.size is None else info.size
    return StoredImage(name, Path(), root, info.path, size=size, mtime_ns=_time(info))


def parquet_images(
    place: str, *, column: str | None = None, folder: str | None = None
) -> list[StoredImage]:
    """List the images of a Parquet file, one for each row.

    Args:
        place: The file or its URI.
        column: Of bytes, paths or URIs, or of structs with "bytes"; None looks for a usual name.
        folder: What paths are relative to; None takes that of the file.

    Raises:
        ImageError: When it cannot be read, or has no such column.
    """
    root = place if "://" in place else Path(place).absolute().as_uri()
    try:
        system, path = _system(root)
        return _rows(place, root, system.get_file_info(path), column, folder)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ImageError(f"cannot list the images of {place!r}: {error}") from error


def _rows(
    place: str, root: str, info: Any, column: str | None = None, base: str | None = None
) -> list[StoredImage]:
    """List the rows of a Parquet file."""
    system, path = _system(root)
    with parquet.ParquetFile(path, filesystem=system) as file:
        cells, names = _columns(place, file.schema_arrow, column)
        count = file.metadata.num_rows
        texts = _flat(file.read([names])).to_pylist() if names else [None] * count
    known = [f"{place}#{i}" if text is None else str(text) for i, text in enumerate(texts)]
    if cells:
        return [
            StoredImage(name, Path(), root, path, cells, i, info.size, _time(info))
            for i, name in enumerate(known)
        ]
    folder = path.rpartition("/")[0]
    if base is not None and "://" in base:
        root, folder = base, _system(base)[1]
    elif base is not None:
        folder = str(Path(base).absolute())
    return [_linked(name, text, root, folder) for name, text in zip(known, texts, strict=True)]


def _linked(name: str, target: str | None, root: str, folder: str) -> StoredImage:
    """Return the image that a row of a Parquet file names by its path or URI."""
    if not target:
        return StoredImage(name, Path())
    if "://" in target:
        return StoredImage(name, Path(), target)
    return StoredImage(name, Path(), root, posixpath.join(folder, target))


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
    cells = [n for n, kind in kinds.items() if n in bytes_ and _holds_bytes(kind)]
    names = [n for n, kind in kinds.items() if n in paths and _holds_text(kind)]
    if not cells and not names:
        raise ImageError(
            f"no column of images in {place!r}: expected bytes in one of {', '.join(bytes_)}, or "
            f"paths in one of {', '.join(paths)}; it has {', '.join(kinds)}"
        )
    return (cells or [""])[0], (names or [""])[0]


def _holds_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _flat(table: Any) -> Any:
    """Return the only column of a table, or that inside of its only struct."""
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
    """Return the bytes of a row group, which stays in memory while threads may be in it.

    They run apart by as many images as are decoded ahead. So two groups stay, and of small ones
    as many as hold that many images: none is read twice.
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


def _time(info: Any) -> int:
    return -1 if info.mtime_ns is None else int(info.mtime_ns)
