"""Databases of LMDB: encoded pictures and their labels under keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vtcav.datasets import probes
from vtcav.datasets.cells import LabelReader
from vtcav.datasets.concept_images import ConceptImages, Wanted, group
from vtcav.datasets.shards import label_cell
from vtcav.errors import DatasetError, ExtraError, why
from vtcav.files.apart import can_run, run_apart
from vtcav.files.paths import given_path, is_file, is_folder
from vtcav.images.references import ImageRef, UnreadableError

_FOLDER = "folder"
_DICOM = slice(128, 132)
_PICTURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0"),
    *(b"RIFF", b"\x93NUMPY", b"\0\0\0\x0cjP  ", b"\x1f\x8b"),
)
"""How files of pictures begin."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class DatabaseImage(ImageRef):
    """A picture in a database.

    Attributes:
        database: The file, or the folder that it is in.
        key: Its key.
    """

    database: Path
    key: bytes

    def fetch(self) -> ImageRef:
        """Return the image with its bytes.

        Raises:
            ImageError: When they cannot be read.
        """
        try:
            with _opened(self.database).begin() as reading:
                content = reading.get(self.key)
        except Exception as error:
            # of a database that changed, LMDB raises errors of its own
            raise UnreadableError(self.name, why(error) or type(error).__name__) from error
        if content is None:
            raise UnreadableError(self.name, "the database no longer has this key")
        return ImageRef(self.name, bytes(content))


def from_lmdb(
    database: str | Path,
    concepts: Wanted = None,
    *,
    label: str | Callable[[str], Any] = "cls",
    key: str | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List the pictures of an LMDB database by label.

    A value is a picture if it begins as a file of one does (JPEG, PNG, WebP, TIFF, NPY, DICOM and
    others); other values are passed over. Nothing is unpickled. LMDB maps the file into memory and
    trusts it, so a process of its own walks through it first: what ends that one is damaged.

    Args:
        database: The file, or the folder with `data.mdb`.
        concepts: The labels wanted, or a mapping from new names to labels; None takes all.
        label: Where the label of a picture is. A suffix: under the picture's key up to its first
            dot, with this suffix ("cls" and "txt" hold a number or a text, "json" JSON). "folder":
            the last folder in the key, as in `zebra/000017.jpg`. Or a callable from the key to the
            label, None for no label.
        key: The key of the label in JSON.
        classes: The names of numbered labels.
        limit: At most this many images of each concept, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        DatasetError: When it is no database, holds no picture, a label is missing in all, or is
            unknown.
        ExtraError: When lmdb is not installed.
    """
    path = given_path("database", database, DatasetError)
    reader = LabelReader(f"the database {str(path)!r}", classes)
    pairs, count = [], 0
    for name, held in _pictures(path, label, key):
        ref = DatabaseImage(f"{path}[{_text(name)}]", database=path, key=name)
        pairs += [(text, ref) for text in reader.read(count, held)]
        count += 1
    if not count:
        raise DatasetError(f"no value in {str(path)!r} is a picture; expected files such as JPEG")
    reader.finish()
    return group(pairs, concepts, limit=limit, seed=seed, known=classes)


def _pictures(
    path: Path, label: str | Callable[[str], Any], key: str | None
) -> Iterator[tuple[bytes, Any]]:
    """Yield the keys of pictures in order, with their labels."""
    _probe(path)
    try:
        with _opened(path).begin(buffers=True) as reading:
            for name, value in reading.cursor():
                start = bytes(value[: _DICOM.stop])
                if start.startswith(_PICTURES) or start[_DICOM] == b"DICM":
                    yield bytes(name), _label(reading, bytes(name), label, key)
    except DatasetError:
        raise
    except Exception as error:
        # LMDB raises errors of its own
        raise DatasetError(f"cannot read the database {str(path)!r}: {why(error)}") from error


def _probe(path: Path) -> None:
    """Walk through a database in a process of its own, which a damaged one may end.

    Raises:
        DatasetError: When it is damaged.
    """
    _opened(path)  # says what is no database
    folder = is_folder(path)
    file = path / "data.mdb" if folder else path
    if can_run():
        kind = "folder" if folder else "file"
        try:
            run_apart(probes.__file__, ["lmdb", str(path), kind], file, "LMDB")
        except ValueError as error:
            raise DatasetError(f"cannot read the database {str(path)!r}: {why(error)}") from error


def _label(reading: Any, name: bytes, label: str | Callable[[str], Any], key: str | None) -> Any:
    """Return the label of a picture; None where it has none."""
    if callable(label):
        return label(_text(name))
    folder, _, base = _text(name).rpartition("/")
    if label == _FOLDER:
        return folder.rpartition("/")[2] or None
    stem = base.partition(".")[0]
    found = reading.get(f"{folder}/{stem}.{label}".lstrip("/").encode())
    return None if found is None else label_cell(bytes(found), label, key)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _opened(path: Path) -> Any:
    """Return a database, which is opened once in a process.

    Raises:
        DatasetError: When it is none, or cut off.
        ExtraError: When lmdb is not installed.
    """
    file = path / "data.mdb" if is_folder(path) else path
    if not is_file(file):
        raise DatasetError(
            f"expected an LMDB database, a file or a folder with data.mdb, got {str(path)!r}"
        )
    return _environment(str(path.resolve()), is_folder(path), os.getpid())


@lru_cache(maxsize=8)
def _environment(path: str, folder: bool, process: int) -> Any:
    try:
        import lmdb
    except ModuleNotFoundError:
        raise ExtraError("LMDB databases need lmdb: pip install 'vtcav[lmdb]'") from None
    try:
        found = lmdb.open(
            path, subdir=folder, readonly=True, lock=False, readahead=False, create=False
        )
    except lmdb.Error as error:
        raise DatasetError(f"cannot open the database {path!r}: {error}") from error
    size = Path(path, "data.mdb").stat().st_size if folder else Path(path).stat().st_size
    if (found.info()["last_pgno"] + 1) * found.stat()["psize"] > size:
        found.close()
        raise DatasetError(f"the database {path!r} is cut off: pages at its end are missing")
    return found
