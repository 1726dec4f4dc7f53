"""Groups of images: those of one patient, one scanner, one photographer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import TypeAlias

from vtcav.datasets.tables import read_table
from vtcav.errors import ImageError, brief

Groups: TypeAlias = str | Mapping[str, str]
"""A pattern in the images' names, "TABLE:COLUMN", or the group of each image by its name."""

_TABLES = re.compile(r"(.+\.(?:csv|tsv|parquet)):([^:/\\]+)", re.IGNORECASE)


def groups_of(names: Iterable[str], groups: Groups | None) -> dict[str, str]:
    r"""Return the group of each image; empty where there are no groups.

    Args:
        names: The images' names.
        groups: A regular expression that is searched for in the names: its first bracket is the
            group, or all of it where there is none. Or "TABLE:COLUMN", a table (CSV, TSV, Parquet)
            of which another column has the names, with or without folders. Or a mapping from names.

    Raises:
        ImageError: For an image without a group, naming it, or a pattern that is none.
        DatasetError: For a table that cannot be read.

    Example:
        >>> groups_of(["scans/p1_a.png", "scans/p1_b.png", "scans/p2_a.png"], r"(p\d+)_")
        {'scans/p1_a.png': 'p1', 'scans/p1_b.png': 'p1', 'scans/p2_a.png': 'p2'}
    """
    return dict(group_pairs(names, groups))


def group_pairs(names: Iterable[str], groups: Groups | None) -> Iterator[tuple[str, str]]:
    """Yield the name and the group of each image, as `groups_of`; none where there are no groups.

    Raises:
        ImageError: As `groups_of`.
        DatasetError: As `groups_of`.
    """
    if groups is None:
        return
    if not isinstance(groups, str | Mapping):
        raise ImageError(
            "expected groups as a pattern in the names, as TABLE:COLUMN or as a mapping from names "
            f"to groups, got {brief(groups)}"
        )
    if isinstance(groups, str) and (table := _TABLES.fullmatch(groups)):
        groups = _column(*table.groups())
    for name in names:
        group = _group(name, groups)
        if group is None:
            raise ImageError(
                f"{name!r} has no group: expected "
                + (f"{groups!r} in its name" if isinstance(groups, str) else "one for every image")
            )
        yield name, group


def _group(name: str, groups: Groups) -> str | None:
    if not isinstance(groups, str):
        known = groups.get(name, groups.get(PurePath(name).name))
        return None if known is None else str(known)
    try:
        match = re.search(groups, name)
    except re.error as error:
        raise ImageError(f"{groups!r} is no regular expression: {error}") from error
    return match and (match[1] if match.re.groups else match[0])


def _column(path: str, column: str) -> dict[str, str]:
    """Return the groups in a table, by names with and without folders."""
    table, _ = read_table(Path(path))
    if column not in table:
        raise ImageError(f"{path!r} has no column {column!r}; it has {list(map(str, table))}")
    found: dict[str, str] = {}
    for other in table.columns.drop(column):
        for name, group in zip(table[other], table[column], strict=True):
            if isinstance(name, str):
                found.setdefault(name, str(group))
                found.setdefault(PurePath(name).name, str(group))
    return found
