"""The table of many parts, gathered in arrays that are made once, for all of them.

Millions of small objects that stay between large ones that go would keep the memory of both.
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

_TEXT = np.int32  # the place of a text among those of its column


class RowTable:
    """Rows of parts, one after another.

    Args:
        capacity: The most rows there can be. Memory is taken as they come.
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
        """Return the rows as pandas has them, with plain text columns; the table is then empty."""
        import pandas as pd

        names = list(self._columns)
        columns: dict[str, Any] = {}
        for name in names:  # the places of a text go when the text is there
            values = self._columns.pop(name)[: self._count]
            columns[name] = self._plain(name, values) if name in self._texts else values
        return pd.DataFrame(columns, copy=False)

    def _values(self, name: str, column: pa.ChunkedArray) -> NDArray[Any]:
        if name not in self._texts:
            values: NDArray[Any] = column.to_numpy()
            return values
        known = self._texts[name]
        whole = column.unify_dictionaries().combine_chunks()
        places = [known.setdefault(text, len(known)) for text in whole.dictionary.to_pylist()]
        found: NDArray[Any] = np.array(places, _TEXT)[whole.indices.to_numpy()]
        return found

    def _plain(self, name: str, places: NDArray[Any]) -> pd.Series[str]:
        kind = pa.large_string()  # that of pandas, which would make a copy of another
        texts = pa.array(list(self._texts.pop(name)), kind)
        column = pa.DictionaryArray.from_arrays(places, texts).cast(kind)
        series: pd.Series[str] = column.to_pandas()
        return series
