"""Tables with an image and a label in each row: CSV, TSV, Parquet or pandas."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.datasets.cells import image_of, label_texts, report_unlabelled
from vtcav.datasets.concept_images import ConceptImages, Wanted, group, names, unknown
from vtcav.errors import DatasetError, ImageError
from vtcav.images.file_names import is_parquet
from vtcav.images.listing import is_remote
from vtcav.images.references import ImageRef, UnreadableError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "IMAGE_COLUMNS",
    "LABEL_COLUMNS",
    "column",
    "from_table",
    "image_files",
    "read_table",
    "row_labels",
]

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

    Labels are compared as texts, as they are written: "01" is not "1". Rows with an empty label
    are left out, and a
    warning counts them.

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
    label = column(frame, label, LABEL_COLUMNS, "labels", place, option="label")
    if is_parquet(place):
        refs = _parquet(place, image, root)
    else:
        image = column(frame, image, IMAGE_COLUMNS, "images", place, option="image")
        refs = image_files(frame[image], _root(root, place))
    labels = row_labels(frame[label], place, separator)
    pairs: list[tuple[str, ImageRef]] = [
        (text, ref) for texts, ref in zip(labels, refs, strict=True) for text in texts
    ]
    check_there(pairs, _root(root, place))
    return group(pairs, concepts, limit=limit, seed=seed)


def read_table(table: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return a table and the path of its file, empty for a DataFrame.

    Raises:
        DatasetError: When it cannot be read or has no rows.
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        frame, place = table.dropna(how="all"), ""
    else:
        place = os.fspath(table)
        frame = _read(place)
    if frame.empty:
        raise DatasetError(f"the table {place!r} has no rows")
    return frame, place


def _read(place: str) -> pd.DataFrame:
    import pandas as pd

    suffix = Path(place).suffix.lower()
    if not Path(place).is_file():
        raise DatasetError(f"there is no table {place!r}")
    try:
        if suffix == ".parquet":
            return _narrow(place)
        if suffix in (".csv", ".tsv", ".txt"):
            by = "\t" if suffix == ".tsv" else ","
            frame = pd.read_csv(
                place, sep=by, dtype=str, keep_default_na=False, encoding="utf-8-sig"
            ).fillna("")
            # spreadsheets end their files in rows of separators alone
            return frame[(frame != "").any(axis=1)]
    except Exception as error:
        # pandas and pyarrow meet files with exceptions of many kinds; all are this file's
        raise DatasetError(f"cannot read the table {place!r}: {error}") from error
    raise DatasetError(f"expected a .csv, .tsv or .parquet file, got {place!r}")


def _narrow(place: str) -> pd.DataFrame:
    """Read a Parquet file without columns of bytes."""
    import pandas as pd
    from pyarrow import parquet, types

    schema = parquet.read_schema(place)
    heavy = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_struct)
    light = [entry.name for entry in schema if not any(test(entry.type) for test in heavy)]
    return pd.read_parquet(place, columns=light)


def column(
    frame: pd.DataFrame,
    name: str | None,
    usual: Sequence[str],
    what: str,
    place: str,
    *,
    option: str,
) -> str:
    """Return the name of the column asked for, or the first of the usual names.

    Raises:
        DatasetError: When there is no such column, naming the closest.
    """
    known = [str(entry) for entry in frame.columns]
    if name is not None:
        if name not in known:
            raise DatasetError(f"{place or 'the table'}: {unknown('column', name, known)}")
        return name
    for entry in usual:
        for have in known:
            if have.casefold() == entry:
                return have
    raise DatasetError(
        f"{place or 'the table'} has no column of {what}: expected one of {', '.join(usual)}, or "
        f"say which with {option}=; it has {names(known)}"
    )


def image_files(cells: Iterable[Any], root: str) -> list[ImageRef]:
    """Return the images of a column of paths or URIs, relative to a folder or URI, or of pictures.

    Raises:
        DatasetError: For a cell that is neither, naming the row.
    """
    return [_image(cell, root, row) for row, cell in enumerate(cells)]


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
    path = Path(root) / text
    return ImageRef(str(path), path)


def _parquet(place: str, image: str | None, root: str | Path | None) -> Sequence[ImageRef]:
    from vtcav.images.remote import stored_images

    try:
        return stored_images(place, column=image, folder=None if root is None else str(root))
    except ImageError as error:
        raise DatasetError(str(error)) from error


def _root(root: str | Path | None, place: str) -> str:
    if root is not None:
        return os.fspath(root)
    return str(Path(place).parent) if place else ""


def row_labels(cells: Iterable[Any], place: str, separator: str | None = None) -> list[list[str]]:
    """Return the labels of each row of a column; none where a cell is empty.

    Raises:
        DatasetError: For a cell that is no text, number or list of these.

    Warns:
        SkippedImageWarning: When rows have no label.
    """
    labels = [
        label_texts(cell, f"row {row}", separator=separator) for row, cell in enumerate(cells)
    ]
    report_unlabelled(labels.count([]), len(labels), place or "the table")
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
        if all(ref.path is not None and not ref.path.exists() for ref in refs):
            raise DatasetError(
                f"none of the files of label {label!r} is there, first {refs[0].name!r}; paths are "
                f"taken relative to {root or '.'!r}: say where they are with root="
            )
