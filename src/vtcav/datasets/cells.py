"""Labels and images in the cells of tables and data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vtcav.errors import DatasetError, warn
from vtcav.images.references import ImageRef, SkippedImageWarning, UnreadableError

__all__ = ["image_of", "label_texts", "missing", "report_unlabelled", "whole_label"]


def missing(cell: Any) -> bool:
    """Tell whether a cell holds no label: None, NaN, pandas' NA, or an empty text.

    Example:
        >>> missing(float("nan")), missing(" "), missing(0)
        (True, True, False)
    """
    import pandas as pd

    if isinstance(cell, str):
        return not cell.strip()
    return pd.api.types.is_scalar(cell) and bool(pd.isna(cell))


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
    if type(cell).__module__.partition(".")[0] == "torch":
        cell = cell.tolist()
    if isinstance(cell, list | tuple | np.ndarray):
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
    if isinstance(cell, bytes):
        return ImageRef(name, cell)
    if isinstance(cell, str) and cell:
        return ImageRef(cell, Path(cell))
    if isinstance(cell, Image.Image) or (
        isinstance(cell, np.ndarray) and cell.dtype == np.uint8 and cell.ndim in (2, 3)
    ):
        return ImageRef(name, cell)
    raise UnreadableError(
        name,
        "expected bytes, a path or a picture, got "
        f"{'nothing' if missing(cell) else type(cell).__name__}",
    )
