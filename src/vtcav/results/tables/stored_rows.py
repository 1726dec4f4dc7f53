"""Rows of images that stay in Parquet files, so that memory does not grow with the images."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from vtcav.errors import ExplanationError, why
from vtcav.method.significance import PValueCounts
from vtcav.results.effect_tables import GROUP
from vtcav.results.tables.image_groups import with_groups
from vtcav.results.tables.image_rows import PAIR, ImageRows, Pair, places_of_pairs

if TYPE_CHECKING:
    import pandas as pd

MOST_IN_MEMORY = 500_000
"""The most rows that are held in memory: about 100 MB."""

_BATCH = 1 << 15  # rows


class StoredRows(ImageRows):
    """Rows in Parquet files, which are read again whenever they are asked for.

    Args:
        files: The files, in the order of the images.
        p_values: The counts of all p-values, from which q-values follow; None where the files have
            these themselves.
        home: What keeps the files alive, as long as they are needed.

    Raises:
        ExplanationError: When a file cannot be read; also later, when one is gone or has changed.
    """

    def __init__(
        self, files: Sequence[Path], p_values: PValueCounts | None = None, home: object = None
    ) -> None:
        self._files = [path.absolute() for path in files]
        self._p_values = p_values
        self._home = home
        self._states = [_state(path) for path in self._files]
        with _readable(self._files[0]):
            lengths = (parquet.read_metadata(path).num_rows for path in self._files)
            self._length = int(sum(lengths))
            schema = parquet.read_schema(self._files[0])
        self._text = [f.name for f in schema if _is_text(f.type)]
        self._columns = list(schema.names)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._columns)

    @property
    def on_disk(self) -> bool:
        """Yes."""
        return True

    def __len__(self) -> int:
        return self._length

    def frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all rows, which takes as much memory as they do."""
        import pandas as pd

        table: pd.DataFrame = pd.concat(self.batches(columns), ignore_index=True)
        return table

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yield all rows, 32,768 at a time."""
        wanted = self._columns if columns is None else list(columns)
        adds = self._p_values is not None and "q_value" in wanted
        read = [*wanted, "p_value"] if adds and "p_value" not in wanted else wanted
        for path, state in zip(self._files, self._states, strict=True):
            with _readable(path):
                if _state(path) != state:
                    raise ExplanationError(
                        f"{str(path)!r} has changed since the explanation was made or loaded: "
                        "make or load it again"
                    )
                # ahead of the reader it would hold all that is read of the file
                file = parquet.ParquetFile(path, read_dictionary=self._text, pre_buffer=False)
                with file:
                    for batch in file.iter_batches(_BATCH, columns=read):
                        table = plain(pa.Table.from_batches([batch]))
                        if self._p_values is not None and adds:
                            q = self._p_values.q_values(table["p_value"].to_numpy())
                            table = table.assign(q_value=q)
                        yield table[wanted]

    def by_pair(
        self,
        columns: Sequence[str],
        layer: str | None = None,
        groups: Mapping[str, str] | None = None,
    ) -> Iterator[tuple[Pair, pd.DataFrame]]:
        """Yield the rows of each layer and concept, which are sorted by these in a file first."""
        read = [*PAIR, *columns, *(["image"] if groups else [])]
        with tempfile.TemporaryFile() as file:
            sorted_ = _PairFile(file, [*columns, *([GROUP] if groups else [])])
            for batch in self.batches(list(dict.fromkeys(read))):
                own = batch if layer is None else batch[batch["layer"] == layer]
                # the names of all images would not fit into memory, their groups do
                sorted_.add(with_groups(own, groups or {}))
            for pair in sorted_.pairs:
                yield pair, sorted_.rows(pair)


class _PairFile:
    """Columns in a file, sorted by layer and concept.

    Arithmetic over a column must not depend on where its rows came from: sums of all its numbers in
    one array differ in their last bits from sums of sums.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        self._file = file
        self._columns = list(columns)
        self._texts: dict[str, dict[str, int]] = {}
        self._kinds: dict[str, np.dtype[Any]] = {}
        self._segments: dict[Pair, list[dict[str, tuple[int, int]]]] = defaultdict(list)

    @property
    def pairs(self) -> list[Pair]:
        """All layers and concepts."""
        return list(self._segments)

    def add(self, table: pd.DataFrame) -> None:
        """Write rows."""
        arrays = {name: self._array(name, table[name]) for name in self._columns}
        for pair, places in places_of_pairs(table).items():
            segment = {}
            for name, array in arrays.items():
                part = array[places]
                segment[name] = self._file.tell(), len(part)
                self._file.write(part.tobytes())
            self._segments[pair].append(segment)

    def _array(self, name: str, values: pd.Series[Any]) -> NDArray[Any]:
        """Return the values of a column as numbers: texts by their number in a list."""
        if values.dtype.kind in "fiub":
            array: NDArray[Any] = values.to_numpy()
        else:
            known = self._texts.setdefault(name, {})
            codes, different = values.factorize()
            numbers = [known.setdefault(text, len(known)) for text in different]
            array = np.array(numbers, np.int32)[codes]
        self._kinds[name] = array.dtype
        return array

    def rows(self, pair: Pair) -> pd.DataFrame:
        """Read the rows of a layer and a concept."""
        import pandas as pd

        columns = {}
        for name in self._columns:
            parts = [self._read(*segment[name], name) for segment in self._segments[pair]]
            column = np.concatenate(parts)
            if name in self._texts:
                # one text for all rows that have it: notes are long
                texts = np.array(list(self._texts[name]), object)
                columns[name] = pd.Series(texts[column], dtype=object)
            else:
                columns[name] = pd.Series(column)
        return pd.DataFrame(columns)

    def _read(self, start: int, length: int, name: str) -> NDArray[Any]:
        kind = self._kinds[name]
        self._file.seek(start)
        return np.frombuffer(self._file.read(length * kind.itemsize), kind)


def plain(table: pa.Table) -> pd.DataFrame:
    """Return a table as a data frame with plain text columns."""
    # large strings are what pandas uses; it would copy any other type
    schema = [f.with_type(pa.large_string()) if _is_text(f.type) else f for f in table.schema]
    cast = table.unify_dictionaries().cast(pa.schema(schema))
    frame: pd.DataFrame = cast.to_pandas(split_blocks=True, self_destruct=True)
    return frame


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))


def _state(path: Path) -> tuple[int, int]:
    """Return the size and the time of a file, which tell whether it has changed."""
    with _readable(path):
        status = path.stat()
        return status.st_size, status.st_mtime_ns


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of reading rows into advice."""
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise ExplanationError(
            f"cannot read rows of the explanation in {str(path)!r}: {why(error)}. They lie there, "
            "as they are too many for memory: make the explanation again, or load it where it was "
            "saved"
        ) from error
