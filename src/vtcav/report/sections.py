"""Sections of the report on errors, corrections and second networks, from what they saved."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from vtcav.files.manifest import load_manifest, read_table, reading
from vtcav.results.provenance import Provenance
from vtcav.results.words import clear, count, value

_MOST = 20
_ALL = "class_name", "predicted_class"
"""Columns in which an empty text stands for all classes."""


class _Table(NamedTuple):
    """A saved table: its caption, and headings by column."""

    caption: str
    columns: Mapping[str, str]


class _Kind(NamedTuple):
    """A kind of saved results.

    Attributes:
        title: The heading of its section.
        what: The results in messages.
        tables: Its tables by the name of their file.
        read: How the numbers are to be read.
    """

    title: str
    what: str
    tables: Mapping[str, _Table]
    read: str


_ERRORS = {
    "true_class": "class", "predicted_class": "taken for", "concept": "concept", "wrong": "wrong",
    "right": "right", "auc": "AUC", "low": "from", "high": "to", "q_value": "q",
    "present_wrong": "in wrong", "present_right": "in right", "note": "note",
}  # fmt: skip
_ACCURACY = {
    "class_name": "class", "shown": "images", "n": "how many", "before": "before",
    "after": "after", "change": "change", "low": "from", "high": "to",
}  # fmt: skip
_EFFECTS = {
    "class_name": "class", "concept": "concept", "corrected": "taken out", "n": "images",
    "before": "before", "after": "after", "change": "change", "low": "from", "high": "to",
    "relative": "relative",
}  # fmt: skip
_ATTRIBUTIONS = {
    "class_name": "class", "shown": "images", "layer": "layer", "concept": "concept",
    "corrected": "taken out", "n": "how many", "unraised": "left out", "before": "before",
    "after": "after", "change": "change", "low": "from", "high": "to", "note": "note",
}  # fmt: skip
_GROUPS = {
    "group": "group", "quantity": "quantity", "concept": "concept", "n": "images",
    "before": "before", "after": "after", "change": "change", "low": "from", "high": "to",
}  # fmt: skip
_TESTS = {
    "quantity": "quantity", "concept": "concept", "groups": "groups", "n": "images",
    "p_value": "p", "q_value": "q", "note": "note",
}  # fmt: skip
_DIFFERENCES = {
    "class_name": "class", "quantity": "quantity", "layer_a": "layer a", "layer_b": "layer b",
    "concept": "concept", "n": "images", "a": "a", "b": "b", "difference": "difference",
    "low": "from", "high": "to", "q_value": "q", "note_a": "note a", "note_b": "note b",
    "doubt": "doubt",
}  # fmt: skip
KINDS = {
    "errors": _Kind(
        "Wrong predictions",
        "the analysis of errors",
        {"errors_table": _Table("Concepts in wrong and in right images", _ERRORS)},
        "A concept that goes with errors need not cause them: erasing it tells. “From” and “to” "
        "are a 95 % interval of the AUC, which is 0.5 where the concept makes no difference.",
    ),
    "correction": _Kind(
        "The corrected network",
        "the correction",
        {
            "correction_accuracy": _Table("Accuracy", _ACCURACY),
            "correction_effects": _Table("Fall of the logit when the concept is erased", _EFFECTS),
            "correction_attributions": _Table("Attribution to the true class", _ATTRIBUTIONS),
            "correction_groups": _Table("By group", _GROUPS),
            "correction_group_tests": _Table("Whether changes differ between groups", _TESTS),
        },
        "“From” and “to” are a 95 % interval of the change, over images or "
        "groups of them. The network may have other ways to the same information: the effect that "
        "is left tells how much.",
    ),
    "versus": _Kind(
        "Two networks side by side",
        "the comparison of two networks",
        {"versus_differences": _Table("Differences, b − a", _DIFFERENCES)},
        "“From” and “to” are a 95 % interval of the difference; q is of the hypothesis that it "
        "lies within the margin.",
    ),
}
"""What may stand in the report beside explanations and diagnostics, by the name of its manifest."""


@dataclass(frozen=True)
class ShownTable:
    """A table of a section: texts by row, and how many rows more there are in the file."""

    caption: str
    headings: list[str]
    rows: list[list[str]]
    more: int
    file: str


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        id: Its place on the page.
        title: The heading.
        described: What was looked at.
        sentences: What was found.
        read: How the numbers are to be read.
        tables: The numbers.
        picture: The figure as a data URI; empty where there is none.
        provenances: Everything that the numbers depend on, by network.
    """

    id: str
    title: str
    described: str
    sentences: list[str]
    read: str
    tables: list[ShownTable]
    picture: str
    provenances: list[Provenance]


def section(kind: str, folder: Path, number: int = 0) -> Section:
    """Return the section on results that are saved in a folder.

    Args:
        kind: A name among `KINDS`.
        folder: The folder.
        number: Tells sections of one kind apart.

    Raises:
        ExplanationError: When they are damaged or of another version.
    """
    told = KINDS[kind]
    manifest = load_manifest(folder, kind, told.what)
    # a table that earlier versions did not save is not among the files
    known = {
        name: one for name, one in told.tables.items() if f"{name}.parquet" in manifest["files"]
    }
    manifest = manifest.get("report", manifest)  # that of a correction is apart from its layers
    sentences = [*manifest.get("findings", ()), manifest.get("conclusion") or ""]
    sentences += manifest.get("doubts", ())
    picture = folder / f"{kind}.png"
    provenance = manifest.get("provenance")
    with reading(folder, told.what.removeprefix("the ")):
        each = provenance if isinstance(provenance, list) else [provenance]
        provenances = [Provenance.read(one) for one in each]
        tables = list(_tables(known, folder))
    return Section(
        id=f"{kind}-{number}" if number else kind,
        title=told.title,
        described=manifest["described"],
        sentences=[text for text in sentences if text],
        read=told.read,
        tables=tables,
        picture=_uri(picture) if picture.is_file() else "",
        provenances=provenances,
    )


def _tables(declared: Mapping[str, _Table], folder: Path) -> Iterator[ShownTable]:
    for name, table in declared.items():
        found = read_table(folder / name)
        if "n" in found:
            found = found[found["n"] > 0]
        columns = [
            column
            for column in table.columns
            if column in found
            and not (column.startswith(("note", "doubt")) and (found[column] == "").all())
        ]
        shown = {column: table.columns[column] for column in columns}
        if len(found):
            yield shown_table(table.caption, shown, found, f"{name}.csv")


def shown_table(
    caption: str, columns: Mapping[str, str], table: pd.DataFrame, file: str
) -> ShownTable:
    """Return the first rows of a table as texts.

    Args:
        caption: What it is.
        columns: Headings by column.
        table: The table.
        file: Where all of it is.
    """
    rows = table[list(columns)].replace({column: {"": "all"} for column in _ALL}).head(_MOST)
    cells = [[_cell(cell) for cell in row] for row in rows.itertuples(index=False)]
    return ShownTable(caption, list(columns.values()), cells, len(table) - len(rows), file)


def _cell(cell: Any) -> str:
    """Return the text of a cell.

    Example:
        >>> _cell(0.5), _cell(3), _cell(True), _cell("zebra"), _cell(float("nan"))
        ('0.500', '3', 'yes', 'zebra', '–')
    """
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return value(cell) if cell == cell else "–"
    return clear(cell)


def more_rows(table: ShownTable) -> str:
    """Return how many rows are not shown, and where they are; empty where all are shown."""
    return f"{count(table.more, 'more row')} in {table.file}" if table.more else ""


def _uri(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
