"""The table of many parts, gathered in arrays that are allocated once.

Millions of small objects that stay, allocated between large ones that are freed, would keep the
memory of both from the system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vtcav.explainer.runs.part import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RowTable"]

_TEXT = np.int32  # the index of a text among those of its column


class RowTable:
    """Rows of parts, one after another.

    Args:
        capacity: The most rows there can be. The system provides memory only as it is written.
    """

    def __init__(self, capacity: int) -> None:
        kinds = {name: _TEXT if kind is str else kind for name, kind in COLUMNS.items()}
        self._columns = {name: np.empty(capacity, kind) for name, kind in kinds.items()}
        self._texts: dict[str, dict[str, int]] = {
            n: {} for n, kind in COLUMNS.items() if kind is str
        }
        self._count = 0

    def add(self, rows: pa.Table) -> None:
        """Append the rows of a part."""
        end = self._count + len(rows)
        for name, column in self._columns.items():
            column[self._count : end] = self._values(name, rows[name])
        self._count = end

    def frame(self) -> pd.DataFrame:
        """Return the rows as a data frame with plain text columns; the table is then empty."""
        import pandas as pd

        names = list(self._columns)
        columns: dict[str, Any] = {}
        for name in names:  # each column's indices are freed once its texts are made
            values = self._columns.pop(name)[: self._count]
            columns[name] = self._plain(name, values) if name in self._texts else values
        return pd.DataFrame(columns, copy=False)

    def _values(self, name: str, column: pa.ChunkedArray) -> NDArray[Any]:
        if name not in self._texts:
            values: NDArray[Any] = column.to_numpy()
            return values
        known = self._texts[name]
        whole = column.unify_dictionaries().combine_chunks()
        index = [known.setdefault(text, len(known)) for text in whole.dictionary.to_pylist()]
        indices: NDArray[Any] = np.array(index, _TEXT)[whole.indices.to_numpy()]
        return indices

    def _plain(self, name: str, indices: NDArray[Any]) -> pd.Series[str]:
        kind = pa.large_string()  # what pandas uses; it would copy any other type
        texts = pa.array(list(self._texts.pop(name)), kind)
        column = pa.DictionaryArray.from_arrays(indices, texts).cast(kind)
        series: pd.Series[str] = column.to_pandas()
        return series
