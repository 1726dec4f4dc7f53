"""Tables with an image and a label in each row: CSV, TSV, Parquet or pandas."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.datasets.cells import LabelReader, image_of
from vtcav.datasets.concept_images import ConceptImages, Wanted, group, names, unknown
from vtcav.errors import DatasetError, ImageError, why
from vtcav.files.paths import home_text, is_file, is_there
from vtcav.images.file_names import is_parquet
from vtcav.images.listing import is_remote
from vtcav.images.references import ImageRef, UnreadableError
from vtcav.parameters import Text, check

if TYPE_CHECKING:
    import pandas as pd


IMAGE_COLUMNS = (
    *("image", "path", "file", "file_name", "filename", "image_path", "filepath", "uri", "bytes"),
    "image.bytes",
)
"""Usual names of the column of images; the first that exists is taken."""

LABEL_COLUMNS = ("label", "concept", "class", "class_name", "category", "name")
"""Usual names of the column of labels; the first that exists is taken."""


def from_table(
    table: str | Path | pd.DataFrame,
    concepts: Wanted = None,
    *,
    image: str | None = None,
    label: str | None = None,
    root: str | Path | None = None,
    separator: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List the images of a table by their label.

    Labels are compared as texts, as they are written: "01" is not "1". Rows without a label are
    left out, and a warning counts them.

    Args:
        table: A CSV, TSV or Parquet file, or a DataFrame. A Parquet file may hold the bytes of the
            images, also in a struct with "bytes" as Hugging Face writes it.
        concepts: The labels wanted, or a mapping from new names to labels; None takes all.
        image: The column of paths, URIs, bytes, {"bytes", "path"} or pictures; None looks for a
            usual name.
        label: The column of labels; None looks for a usual name.
        root: The folder or URI that paths are relative to; None takes the table's folder, or the
            current one for a DataFrame.
        separator: The separator of several labels in one cell, such as ";".
        limit: At most this many images of each concept, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        DatasetError: For a missing file or column, an unknown label, or a label none of whose files
            exists. Single missing files are named and left out when they are read.

    Example:
        >>> import pandas as pd
        >>> rows = {"path": ["a.png", "b.png", "c.png"], "label": ["dog", "cat", "dog"]}
        >>> from_table(pd.DataFrame(rows), root="s3://bucket/animals")
        ConceptImages(dog: 2, cat: 1)
    """
    frame, place = read_table(table)
    labels = labelled(frame, label, place, separator)
    folder = root_of(root, place)
    if is_parquet(place):
        every = _parquet(place, image, root)
        refs: list[ImageRef] = [every[row] for row in labels]
    else:
        refs = image_files(frame, labels, image, place, folder)
    pairs = [
        (text, ref) for texts, ref in zip(labels.values(), refs, strict=True) for text in texts
    ]
    check_there(pairs, folder)
    return group(pairs, concepts, limit=limit, seed=seed)


def read_table(table: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return a table, indexed by its rows' numbers, and the path of its file.

    The path is empty for a table in memory. Rows without any value are left out.

    Raises:
        DatasetError: When it cannot be read or has no rows.
    """
    import pandas as pd

    place = ""
    if isinstance(table, str | os.PathLike):
        place = home_text(os.fspath(table))
        frame = _read(place)
    else:
        # Arrow and polars
        convert = getattr(table, "to_pandas", None)
        frame = table if isinstance(table, pd.DataFrame) or convert is None else convert()
        if not isinstance(frame, pd.DataFrame):
            raise DatasetError(
                f"expected the path of a table or a DataFrame, got {type(table).__name__}; "
                "pandas.DataFrame(...) makes one of lists and mappings"
            )
        frame = frame.reset_index(drop=True).dropna(how="all")
    if frame.empty:
        raise DatasetError(f"{_title(place)} has no rows")
    return frame, place


def _title(place: str) -> str:
    return place or "the table"


def _read(place: str) -> pd.DataFrame:
    suffix = Path(place).suffix.lower()
    if not is_file(place):
        raise DatasetError(f"there is no table {place!r}")
    try:
        if suffix == ".parquet":
            return _narrow(place)
        if suffix in (".csv", ".tsv", ".txt"):
            return _separated(Path(place), "\t" if suffix == ".tsv" else "")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"cannot read the table {place!r}: {error}; save it as UTF-8 (in Excel: CSV UTF-8)"
        ) from error
    except DatasetError:
        raise
    except Exception as error:
        # pandas and pyarrow meet files with exceptions of many kinds; all are this file's
        raise DatasetError(f"cannot read the table {place!r}: {why(error)}") from error
    raise DatasetError(f"expected a .csv, .tsv or .parquet file, got {place!r}")


def _separated(path: Path, separator: str) -> pd.DataFrame:
    """Read a file of values between separators, also as spreadsheets write them.

    They write a mark of the byte order, semicolons where the comma is decimal, a line "sep=;", and
    separators at the ends of lines.

    Args:
        path: The file, in UTF-8 or UTF-16.
        separator: The separator; empty takes the most frequent one of the first line.
    """
    import pandas as pd

    data = path.read_bytes()
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").lstrip()
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep="):
        separator, text = first[4:5], rest
    separator = separator or max(",;\t", key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    header, *rows = [line for line in lines if any(map(str.strip, line))] or [[]]
    header = [name.strip() for name in header]
    while header and not header[-1]:
        header.pop()
    for number, row in enumerate(rows):
        if any(map(str.strip, row[len(header) :])):
            raise DatasetError(
                f"row {number} of {str(path)!r} has {len(row)} values for {len(header)} columns; "
                f"put values with {separator!r} in them into quotation marks"
            )
    filled = [[*row, *[""] * (len(header) - len(row))][: len(header)] for row in rows]
    return pd.DataFrame(filled, columns=header, dtype=str)


def _narrow(place: str) -> pd.DataFrame:
    """Read a Parquet file without columns of bytes."""
    import pandas as pd
    from pyarrow import parquet, types

    schema = parquet.read_schema(place)
    heavy = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_struct)
    light = [entry.name for entry in schema if not any(test(entry.type) for test in heavy)]
    # numbers with gaps stay whole
    frame = pd.read_parquet(Path(place).absolute(), columns=light, dtype_backend="numpy_nullable")
    return frame.reset_index(drop=True)


def column(
    frame: pd.DataFrame,
    name: str | None,
    usual: Sequence[str],
    what: str,
    place: str,
    *,
    option: str,
) -> Any:
    """Return the key of the column asked for, or the first of the usual names.

    Raises:
        DatasetError: When there is no such column, naming the closest, or there are two.
    """
    known = [str(entry) for entry in frame.columns]
    if name is not None and str(name) not in known:
        raise DatasetError(f"{_title(place)}: {unknown('column', name, known)}")
    folded = [entry.casefold() for entry in known]
    first = next((folded.index(entry) for entry in usual if entry in folded), None)
    place_of = first if name is None else known.index(str(name))
    if place_of is None:
        raise DatasetError(
            f"{_title(place)} has no column of {what}: expected one of {', '.join(usual)}, or "
            f"say which with {option}=; it has {names(known)}"
        )
    if known.count(known[place_of]) > 1:
        raise DatasetError(f"{_title(place)} has two columns named {known[place_of]!r}; rename one")
    return frame.columns[place_of]


def image_files(
    frame: pd.DataFrame, rows: Iterable[int], name: str | None, place: str, root: str
) -> list[ImageRef]:
    """Return the images of a column of paths or URIs, relative to a folder or URI, or of pictures.

    Args:
        frame: The table.
        rows: The numbers of the rows wanted.
        name: The column; None looks for a usual name.
        place: The table's file, for messages.
        root: The folder or URI.

    Raises:
        DatasetError: For no such column, or a cell that is neither, naming the row.
    """
    cells = dict(frame[column(frame, name, IMAGE_COLUMNS, "images", place, option="image")].items())
    return [_image(cells[row], root, row) for row in rows]


def _image(cell: Any, root: str, row: int) -> ImageRef:
    if isinstance(cell, ImageRef):
        return cell
    if not isinstance(cell, str | os.PathLike):
        try:
            ref = image_of(f"table[{row}]", cell)
        except UnreadableError as error:
            raise DatasetError(f"no image in row {row}: {error.args[1]}") from error
        if ref.path is None:
            return ref
        cell = ref.path
    text = str(os.fspath(cell))
    if not text:
        raise DatasetError(f"expected the path of an image in row {row}, got {cell!r}")
    if is_remote(root) and not is_remote(text):
        text = f"{root.rstrip('/')}/{text}"
    if is_remote(text):
        from vtcav.images.remote import StoredImage

        return StoredImage(text, root=text)
    path = file_in(Path(root), text)
    return ImageRef(str(path), path)


def file_in(folder: Path, name: str) -> Path:
    """Return a file by its path in a folder, also where that was written on Windows."""
    path = folder / name
    if "\\" in name and not is_there(path):
        other = folder / name.replace("\\", "/")
        return other if is_there(other) else path
    return path


def _parquet(place: str, image: str | None, root: str | Path | None) -> Sequence[ImageRef]:
    from vtcav.images.remote import stored_images

    try:
        return stored_images(
            place, column=image, folder=None if root is None else home_text(str(root))
        )
    except ImageError as error:
        raise DatasetError(str(error)) from error


def root_of(root: str | Path | None, place: str) -> str:
    """Return the folder or URI that paths are relative to: the table's own, or the one given."""
    if root is not None:
        check("root", root, Text("a folder or URI"), error=DatasetError)
        return home_text(os.fspath(root))
    return str(Path(place).parent) if place else ""


def labelled(
    frame: pd.DataFrame, name: str | None, place: str, separator: str | None = None
) -> dict[int, list[str]]:
    """Return the labels of the rows that have some, by the rows' numbers.

    Args:
        frame: The table.
        name: The column of labels; None looks for a usual name.
        place: The table's file, for messages.
        separator: The separator of several labels in a cell.

    Raises:
        DatasetError: For no such column, or a cell that is no text, number or list of these.

    Warns:
        SkippedImageWarning: When rows have no label.
    """
    cells = frame[column(frame, name, LABEL_COLUMNS, "labels", place, option="label")]
    reader = LabelReader(_title(place), separator=separator)
    labels = {row: texts for row, cell in cells.items() if (texts := reader.read(row, cell))}
    reader.finish()
    return labels


def check_there(pairs: Sequence[tuple[str, ImageRef]], root: str) -> None:
    """Refuse labels none of whose files exists, which usually means a wrong folder.

    Raises:
        DatasetError: Naming the first file.
    """
    by_label: dict[str, list[ImageRef]] = {}
    for label, ref in pairs:
        by_label.setdefault(label, []).append(ref)
    for label, refs in by_label.items():
        if all(ref.path is not None and not is_there(ref.path) for ref in refs):
            raise DatasetError(
                f"none of the files of label {label!r} is there, first {refs[0].name!r}; paths are "
                f"taken relative to {root or '.'!r}: say where they are with root="
            )
