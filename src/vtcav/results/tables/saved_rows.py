"""Rows of images as files: Parquet always, CSV up to a number of rows or when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from vtcav.errors import warn
from vtcav.files.csv_text import write_csv
from vtcav.files.manifest import write_table
from vtcav.parameters import Flag, check
from vtcav.results.effect_tables import GROUP, checked_effects, read_effects
from vtcav.results.saved import check_order
from vtcav.results.tables import stored_rows
from vtcav.results.tables.image_groups import ImageGroups
from vtcav.results.tables.image_rows import HeldRows, ImageRows
from vtcav.results.tables.shapes import checked_attributions, read_attributions
from vtcav.results.tables.stored_rows import StoredRows

MOST_IN_CSV = 1_000_000
"""The most rows that are written as CSV unless it is asked for: what a spreadsheet opens."""


def write_rows(stem: Path, tables: Iterable[pd.DataFrame], rows: int, csv: bool | None) -> bool:
    """Write a table that comes in parts.

    Args:
        stem: The path without the ending.
        tables: The parts, at least one.
        rows: How many rows they have together.
        csv: Whether to write CSV, too; None writes it up to 1,000,000 rows.

    Returns:
        Whether CSV was written.
    """
    wanted = rows <= MOST_IN_CSV if csv is None else csv
    parts = iter(tables)
    first = next(parts)
    if len(first) == rows and wanted:
        write_table(stem, first)
        return True
    schema = pa.Schema.from_pandas(first, preserve_index=False)
    with parquet.ParquetWriter(stem.with_suffix(".parquet"), schema) as writer:
        for number, part in enumerate(chain([first], parts)):
            writer.write_table(pa.Table.from_pandas(part, schema, preserve_index=False))
            if wanted:
                write_csv(stem.with_suffix(".csv"), part, append=number > 0)
    return wanted


def write_image_tables(
    folder: Path,
    rows: Mapping[str, ImageRows],
    images: Iterator[pd.DataFrame],
    count: int,
    csv: bool | None,
) -> None:
    """Write the tables of an explanation that grow with its images.

    Args:
        folder: The folder.
        rows: Rows of images by the name of their table.
        images: The table of images in parts.
        count: How many images it has.
        csv: As for `write_rows`.

    Warns:
        UserWarning: When tables are not written as CSV, as they are too long.
    """
    check("csv", csv, Flag(), none=f"tables of up to {MOST_IN_CSV:,} rows")
    tables = {name: (each.batches(), len(each)) for name, each in rows.items()}
    tables["global_images"] = images, count
    left = [
        f"{name} ({length:,} rows)"
        for name, (parts, length) in tables.items()
        if not write_rows(folder / name, parts, length, csv) and csv is None
    ]
    if left:
        warn(
            f"not written as CSV, which is for up to {MOST_IN_CSV:,} rows: {', '.join(left)}; the "
            "Parquet files have all of them; save(folder, csv=True), or --csv, writes both"
        )


def read_image_rows(
    folder: str | Path, name: str, columns: Sequence[str], names: Mapping[str, Sequence[str]]
) -> ImageRows:
    """Return the attributions of a saved explanation, on disk where they are many.

    Args:
        folder: The folder.
        name: The table's name.
        columns: Its columns.
        names: Its layers and concepts.

    Raises:
        ValueError: Naming the first column that does not fit, or when rows are out of order.
    """
    stored = _many(Path(folder) / name, columns)
    if stored is None:
        rows = read_attributions(folder, name, columns, names)
        check_order(rows, name, **names)
        return HeldRows(rows)
    left: list[pd.DataFrame] = []
    block = len(names["layer"]) * len(names["concept"])
    for batch in stored.batches():
        checked = pd.concat([*left, checked_attributions(batch, name, columns, names)])
        whole = len(checked) // block * block
        check_order(checked[:whole], name, **names)
        left = [checked[whole:]]
    if sum(map(len, left)):
        check_order(left[0], name, **names)
    return stored


def read_groups(folder: str | Path) -> Mapping[str, str]:
    """Return the groups of the images of a saved explanation; empty where there are none.

    Raises:
        ValueError: When the table of images is damaged.
    """
    path = Path(folder) / "global_images.parquet"
    if not path.exists() or GROUP not in parquet.read_schema(path).names:
        return {}

    def pairs() -> Iterator[tuple[str, str]]:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(columns=["image", GROUP]):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    return ImageGroups(pairs())


def read_effect_rows(
    folder: str | Path, name: str, columns: Sequence[str], names: Mapping[str, Sequence[str]]
) -> ImageRows:
    """Return the effects of a saved explanation, likewise.

    Raises:
        ValueError: Naming the first column that does not fit.
    """
    stored = _many(Path(folder) / name, columns)
    if stored is None:
        return HeldRows(read_effects(folder, name, names))
    for batch in stored.batches():
        checked_effects(batch, name, names)
    return stored


def _many(stem: Path, columns: Sequence[str]) -> StoredRows | None:
    """Return a table that is too long for memory; None for others, and those of older versions."""
    path = stem.with_suffix(".parquet")
    if not path.exists() or parquet.read_metadata(path).num_rows <= stored_rows.MOST_IN_MEMORY:
        return None
    found = StoredRows([path])
    return found if set(columns) <= set(found.columns) else None
