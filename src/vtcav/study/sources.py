"""The images that a source of a study stands for: folders, files, rows of a table, scans."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from vtcav.datasets.slices import slices
from vtcav.datasets.tables import from_table
from vtcav.datasets.volumes import volumes
from vtcav.errors import DatasetError
from vtcav.files.paths import is_file
from vtcav.images.listing import is_remote
from vtcav.images.references import ImageRef
from vtcav.parameters import did_you_mean

Source: TypeAlias = str | tuple[str, ...]
"""A folder or file, the rows of a table with a label (TABLE:LABEL), medical scans (volumes:FOLDER,
slices:FOLDER), or several of them; as they are written in the study."""

_SCANS = re.compile(r"(volumes|slices):([^/].*|/[^/].*)")
_ROWS = re.compile(r"(.+\.(?:csv|tsv|parquet)):([^/\\].*)", re.IGNORECASE)


def paths(source: Source) -> str | Path | list[str | Path | ImageRef]:
    """Return a source as the API takes it.

    Raises:
        DatasetError: For a table that cannot be read, or has no such label.
    """
    if isinstance(source, str) and not (_ROWS.fullmatch(source) or _SCANS.fullmatch(source)):
        return source if is_remote(source) else Path(source)
    parts = [source] if isinstance(source, str) else source
    return [each for part in parts for each in _parts(part)]


def labels_in(table: str) -> list[str]:
    """Return the labels in a table of images, each with its rows as a source: "TABLE:LABEL".

    Raises:
        DatasetError: For a table that cannot be read.
    """
    return list(_table(table, str(Path.cwd()), _changed(table)))


def _parts(part: str) -> Sequence[str | Path | ImageRef]:
    """Return the images of one source."""
    if scans := _SCANS.fullmatch(part):
        return (volumes if scans[1] == "volumes" else slices)(scans[2])
    if (rows := _ROWS.fullmatch(part)) is None:
        return [part if is_remote(part) else Path(part)]
    table, label = rows.groups()
    known = _table(table, str(Path.cwd()), _changed(table))
    if label not in known:
        hint = did_you_mean(label, known) or f"; it has {', '.join(map(repr, list(known)[:12]))}"
        raise DatasetError(f"{table!r} has no label {label!r}{hint}")
    return known[label]


def _changed(table: str) -> int:
    return Path(table).stat().st_mtime_ns if is_file(table) else 0


@lru_cache(maxsize=4)
def _table(table: str, folder: str, changed: int) -> Mapping[str, tuple[ImageRef, ...]]:
    """Return the images of a table by their labels; it is read again where it has changed."""
    return from_table(table)
