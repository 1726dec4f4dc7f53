"""Labels and images in the cells of tables and data sets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vtcav.errors import DatasetError, warn
from vtcav.images.references import ImageRef, SkippedImageWarning, UnreadableError
from vtcav.parameters import Text, as_list, check

# Missing values written as text by Python, pandas and Excel.
_NO_VALUE = ("nan", "NaN", "NaT", "<NA>", "#N/A")


def missing(cell: Any) -> bool:
    """Tell whether a cell holds no label: None, NaN, pandas' NA, these as text, or no text.

    Example:
        >>> missing(float("nan")), missing(" "), missing(0)
        (True, True, False)
    """
    import pandas as pd

    if isinstance(cell, str):
        return not cell.strip() or cell.strip() in _NO_VALUE
    return pd.api.types.is_scalar(cell) and bool(pd.isna(cell))


def plain(cell: Any) -> Any:
    """Return a tensor or an array as a list, or as its value where it holds one."""
    if type(cell).__module__.partition(".")[0] == "torch" or isinstance(cell, np.ndarray):
        cell = cell.tolist()
        return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell
    return cell


def vector_length(cell: Any) -> int:
    """Return the length of a vector of zeros and ones; 0 for anything else.

    Example:
        >>> vector_length([0, 1, 0]), vector_length([2, 7]), vector_length("cat")
        (3, 0, 0)
    """
    cell = plain(cell)
    vector = isinstance(cell, list | tuple) and len(cell) > 1
    return (
        len(cell) if vector and all(isinstance(x, int | float) and x in (0, 1) for x in cell) else 0
    )


class LabelReader:
    """Reads the labels of a table or data set, and looks at them as a whole in the end.

    Args:
        source: The data, for messages.
        names: The names of numbered labels.
        separator: The separator of several labels in a text.
    """

    def __init__(
        self, source: str, names: Sequence[str] | None = None, separator: str | None = None
    ) -> None:
        if names is not None:
            names = as_list("the names of classes", names, DatasetError)
        if separator is not None:
            check("separator", separator, Text("a text"), error=DatasetError)
        self._source, self._names, self._separator = source, names, separator
        self._rows = self._unlabelled = 0
        self._lengths: set[int] = set()

    def read(self, row: int, cell: Any) -> list[str]:
        """Return the labels of a cell; none where it is empty.

        Raises:
            DatasetError: As `label_texts`.
        """
        texts = label_texts(cell, f"row {row}", names=self._names, separator=self._separator)
        self._rows += 1
        self._unlabelled += not texts
        if texts and self._names is None:
            self._lengths.add(vector_length(cell))
        return texts

    def finish(self) -> None:
        """Warn of rows without a label, and refuse vectors.

        Raises:
            DatasetError: When no row has a label, or all labels are vectors of one length, which
                count as labels 0 and 1.
        """
        if self._rows and self._unlabelled == self._rows:
            raise DatasetError(f"none of the {self._rows} rows of {self._source} has a label")
        report_unlabelled(self._unlabelled, self._rows, self._source)
        if len(self._lengths) == 1 and (length := max(self._lengths)):
            raise DatasetError(
                f"the labels of {self._source} are vectors of {length} zeros and ones; give the "
                "names of the ones, for example [names[i] for i in np.flatnonzero(vector)]"
            )


def label_texts(
    cell: Any, where: str, *, names: Sequence[str] | None = None, separator: str | None = None
) -> list[str]:
    """Return the labels of a cell; none where it is empty.

    Args:
        cell: A text, a number, or a list of these.
        where: The place of the cell, for messages: "row 3".
        names: The names of numbered labels. Numbers outside of them, such as -1, are no label.
        separator: The separator of several labels in a text.

    Raises:
        DatasetError: For a cell of another kind, or a fraction where labels are numbered.

    Example:
        >>> label_texts("cat; dog", "row 0", separator=";")
        ['cat', 'dog']
    """
    cell = plain(cell)
    if isinstance(cell, list | tuple):
        return [
            text
            for part in cell
            for text in label_texts(part, where, names=names, separator=separator)
        ]
    if missing(cell):
        return []
    if isinstance(cell, str):
        parts = cell.split(separator) if separator else [cell]
        return [part.strip() for part in parts if part.strip()]
    if not np.isscalar(cell) or isinstance(cell, bytes):
        kind = "a mapping" if isinstance(cell, Mapping) else type(cell).__name__
        raise DatasetError(f"expected the label in {where} to be a text or a number, got {kind}")
    if names is None:
        return [str(cell)]
    number = whole_label(cell, where)
    return [names[number]] if 0 <= number < len(names) else []


def whole_label(label: Any, where: str) -> int:
    """Return a numbered label.

    Raises:
        DatasetError: When it is no whole number.

    Example:
        >>> whole_label(1.0, "item 0")
        1
    """
    try:
        number = int(label)
        if number == label:
            return number
        came = f"{label}"
    except (TypeError, ValueError, OverflowError):
        came = type(label).__name__
    raise DatasetError(
        f"expected the label of {where} to be a whole number or a text, got {came}; labels stand "
        "for classes, so turn measurements into classes first"
    )


def told_apart(classes: Iterable[Any]) -> list[str]:
    """Return names of classes; one that an earlier class has is numbered: "crane", "crane [2]"."""
    counts: Counter[str] = Counter()
    names = []
    for entry in classes:
        # ImageNet's are tuples of synonyms
        name = str(entry) if isinstance(entry, str) else ", ".join(map(str, entry))
        counts[name] += 1
        names.append(f"{name} [{counts[name]}]" if counts[name] > 1 else name)
    return names


def report_unlabelled(count: int, total: int, source: str) -> None:
    """Warn of rows without a label, which are left out."""
    if count:
        warn(f"{count} of {total} rows of {source} have no label: left out", SkippedImageWarning)


def image_of(name: str, cell: Any) -> ImageRef:
    """Return the image of a cell: bytes, a mapping of bytes and path, a path, or a picture.

    Raises:
        UnreadableError: For anything else.
    """
    if isinstance(cell, Mapping):
        path = cell.get("path")
        if cell.get("bytes"):
            cell = cell["bytes"]
            name = f"{name} {Path(path).name}" if path else name
        else:
            cell = path
    if isinstance(cell, bytes | bytearray | memoryview):
        return ImageRef(name, bytes(cell))
    if isinstance(cell, str | os.PathLike) and os.fspath(cell):
        return ImageRef(str(cell), Path(cell))
    if isinstance(cell, Image.Image) or _is_picture(cell):
        return ImageRef(name, cell)
    came = "nothing" if missing(cell) else type(cell).__name__
    if (shape := getattr(cell, "shape", None)) is not None:
        came += f" {list(shape)} of {cell.dtype}"
    raise UnreadableError(
        name, f"expected bytes, a path, a PIL image or a uint8 array [H, W, 3], got {came}"
    )


def _is_picture(cell: Any) -> bool:
    if not isinstance(cell, np.ndarray) or cell.dtype != np.uint8:
        return False
    return cell.ndim == 2 or (cell.ndim == 3 and cell.shape[2] in (1, 3))
