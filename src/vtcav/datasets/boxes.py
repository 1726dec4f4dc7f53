"""Tables with an image, a label and a box in each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vtcav.datasets.concept_images import ConceptImages, Wanted, group
from vtcav.datasets.patches import Box, Patches, PatchImage, checked_box, choose
from vtcav.datasets.tables import check_there, column, image_files, labelled, read_table, root_of
from vtcav.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd


CORNERS = ("left", "top", "right", "bottom"), ("xmin", "ymin", "xmax", "ymax")
"""Usual names of the columns of two corners."""

SIZES = ("left", "top", "width", "height"), ("x", "y", "width", "height"), ("x", "y", "w", "h")
"""Usual names of the columns of a corner and two sides."""


def from_boxes(
    table: str | Path | pd.DataFrame,
    concepts: Wanted = None,
    *,
    image: str | None = None,
    label: str | None = None,
    box: Sequence[str] | None = None,
    form: Literal["corners", "size"] | None = None,
    root: str | Path | None = None,
    patches: Patches | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List patches from a table with one box per row, in pixels of the upright picture.

    Args:
        table: A CSV, TSV or Parquet file, or a DataFrame.
        concepts: The labels wanted, or a mapping from new names to labels; None takes all.
        image: The column of paths; None looks for a usual name.
        label: The column of labels; None looks for a usual name.
        box: Four columns; None looks for left, top, right, bottom; xmin, ymin, xmax, ymax; left,
            top, width, height; x, y, width, height; or x, y, w, h.
        form: The meaning of the four: "corners" (left, top, right, bottom) or "size" (left, top,
            width, height); needed with `box`.
        root: The folder or URI that paths are relative to; None takes the table's folder.
        patches: The rules for choosing and cutting out patches.
        limit: At most this many patches of each concept, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        DatasetError: For a missing file or column, numbers that are no box, an unknown label or a
            label without patches. A box that reaches out of its picture is named and left out when
            the patch is read.

    Example:
        >>> import pandas as pd
        >>> rows = {"path": ["a.png"], "label": ["eye"], "x": [5], "y": [5], "w": [40], "h": [40]}
        >>> from_boxes(pd.DataFrame(rows), root="s3://bucket")["eye"][0].name
        's3://bucket/a.png[5,5,45,45]'
    """
    cut = patches or Patches()
    frame, place = read_table(table)
    labels = labelled(frame, label, place)
    columns, kind = _box_columns(frame, box, form, place)
    folder = root_of(root, place)
    pictures = image_files(frame, labels, image, place, folder)
    boxes = _boxes(frame, labels, columns, kind, place)
    pairs = [
        (text, PatchImage.of(picture, place_, cut))
        for texts, picture, place_ in zip(labels.values(), pictures, boxes, strict=True)
        for text in texts
    ]
    check_there([(text, patch.picture) for text, patch in pairs], folder)
    kept, lost = choose(pairs, cut)
    known = dict.fromkeys(text for text, _ in pairs)
    return group(kept, concepts, limit=limit, seed=seed, left_out=lost, known=known)


def _box_columns(
    frame: pd.DataFrame, box: Sequence[str] | None, form: str | None, place: str
) -> tuple[list[str], str]:
    """Return the four columns and their form."""
    if box is not None:
        if len(box) != 4 or form not in ("corners", "size"):
            raise DatasetError(
                f"expected four columns with form='corners' or 'size', got box={list(box)!r} and "
                f"form={form!r}"
            )
        return [column(frame, name, (), "boxes", place, option="box") for name in box], form
    known = {str(name).casefold(): str(name) for name in frame.columns}
    for kind, usual in (("corners", CORNERS), ("size", SIZES)):
        for four in usual:
            if form in (None, kind) and all(name in known for name in four):
                found = (
                    column(frame, known[name], (), "boxes", place, option="box") for name in four
                )
                return list(found), kind
    raise DatasetError(
        f"{place or 'the table'} has no columns of boxes: expected left, top, right, bottom or x, "
        f"y, width, height, or say which with box= and form=; it has {', '.join(known.values())}"
    )


def _boxes(
    frame: pd.DataFrame, rows: Iterable[int], columns: Sequence[str], form: str, place: str
) -> list[Box]:
    boxes = []
    values = dict(
        zip(frame.index, zip(*(frame[name] for name in columns), strict=True), strict=True)
    )
    for row in rows:
        cells = values[row]
        where = f"in row {row} of {place or 'the table'}"
        try:
            first, second, third, fourth = map(float, cells)
        except (TypeError, ValueError) as error:
            raise DatasetError(f"expected four numbers, got {cells!r} {where}") from error
        if form == "size":
            third, fourth = first + third, second + fourth
        boxes.append(checked_box((first, second, third, fourth), where))
    return boxes
