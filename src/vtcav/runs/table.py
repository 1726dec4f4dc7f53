"""The table of many parts, gathered in arrays that are made once, for all of them.

Millions of small objects that stay between large ones that go would keep the memory of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vtcav.engines.part import COLUMNS

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
        """Return the rows as pandas has them, with plain text columns."""
        import pandas as pd

        columns = {name: values[: self._count] for name, values in self._columns.items()}
        return pd.DataFrame(
            {
                name: self._plain(name, values) if name in self._texts else values
                for name, values in columns.items()
            },
            copy=False,
        )

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
        texts = pa.array(list(self._texts[name]), pa.string())
        column = pa.DictionaryArray.from_arrays(places, texts).cast(pa.string())
        series: pd.Series[str] = column.to_pandas()
        return series
