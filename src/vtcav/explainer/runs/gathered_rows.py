"""The rows of all parts of a run: in memory while they are few, beyond that on disk."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc, parquet

from vtcav.errors import ExplanationError, why
from vtcav.method.significance import PValueCounts
from vtcav.results.tables import stored_rows
from vtcav.results.tables.image_rows import HeldRows, ImageRows
from vtcav.results.tables.stored_rows import StoredRows, plain

_FLUSHED = 1 << 17  # rows of a temporary file


class GatheredRows:
    """The rows of one table of a run, which parts are added to in order.

    Args:
        kept: The files that keep the rows anyway, in order; none where no run folder does.
    """

    def __init__(self, kept: Sequence[Path] = ()) -> None:
        self._kept = list(kept)
        self._held = _HeldTables()
        self._length = 0
        self._p_values: PValueCounts | None = None
        self._home: _TemporaryFolder | None = None

    def add(self, table: pa.Table) -> None:
        """Add the rows of a part."""
        if "p_value" in table.schema.names:
            self._p_values = self._p_values or PValueCounts()
            self._p_values.add(table["p_value"].to_numpy())
        self._length += len(table)
        if self._kept:
            return
        self._held.add(table)
        if self._on_disk and len(self._held) > _FLUSHED:
            self._flush()

    @property
    def _on_disk(self) -> bool:
        return self._length > stored_rows.MOST_IN_MEMORY

    def rows(self) -> ImageRows:
        """Return all rows, with q-values over all of them where they have p-values."""
        if self._on_disk:
            if len(self._held):
                self._flush()
            files = sorted(self._home.path.iterdir()) if self._home else self._kept
            return StoredRows(files, self._p_values, self._home)
        tables = [parquet.read_table(path, memory_map=False) for path in self._kept]
        frame = plain(pa.concat_tables(tables or [self._held.table()]))
        if self._p_values is not None:
            frame["q_value"] = self._p_values.q_values(frame["p_value"].to_numpy())
        return HeldRows(frame)

    def _flush(self) -> None:
        """Write the rows in memory to a temporary file.

        Raises:
            ExplanationError: When it cannot be written.
        """
        try:
            if self._home is None:
                self._home = _TemporaryFolder()
            path = self._home.path
            path /= f"rows-{len(list(path.iterdir())):06d}.parquet"
            table = self._held.table().unify_dictionaries()
            parquet.write_table(table, path, compression="zstd")
        except OSError as error:
            raise ExplanationError(
                f"cannot keep rows in a temporary file: {why(error)}; give a folder with run="
            ) from error
        self._held = _HeldTables()


class _HeldTables:
    """Tables of one schema in memory, as a stream of bytes.

    A few hundred small tables keep the gaps between them from being used again: the process grew
    by 20 kB for each image.
    """

    def __init__(self) -> None:
        self._bytes = pa.BufferOutputStream()
        self._writer: ipc.RecordBatchStreamWriter | None = None
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, table: pa.Table) -> None:
        """Add the rows of a table."""
        if self._writer is None:
            self._writer = ipc.new_stream(self._bytes, table.schema)
        self._writer.write_table(table)
        self._length += len(table)

    def table(self) -> pa.Table:
        """Return all rows; nothing can be added after that.

        Raises:
            ValueError: Where no table was added.
        """
        if self._writer is None:
            raise ValueError("expected at least one table, got none")
        if not self._bytes.closed:
            self._writer.close()
        return ipc.open_stream(self._bytes.getvalue()).read_all()


class _TemporaryFolder:
    """A folder that goes with the last result that needs it, or with the process."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="vtcav-rows-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
