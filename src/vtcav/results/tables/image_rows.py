"""Tables with many rows an image, which may lie on disk: read whole, in batches, or by concept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vtcav.results.effect_tables import GROUP
from vtcav.results.tables.image_groups import with_groups

if TYPE_CHECKING:
    import pandas as pd

Pair: TypeAlias = tuple[str, str]
"""A layer and a concept."""

PAIR = ["layer", "concept"]


class ImageRows(ABC):
    """The rows of images, image by image; each image has one row of a layer and a concept."""

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """The names of the columns."""

    @property
    @abstractmethod
    def on_disk(self) -> bool:
        """Whether they are read from files whenever they are asked for."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all rows, which others may hold as well."""

    @abstractmethod
    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yield all rows, some at a time."""

    @abstractmethod
    def by_pair(
        self,
        columns: Sequence[str],
        layer: str | None = None,
        groups: Mapping[str, str] | None = None,
    ) -> Iterator[tuple[Pair, pd.DataFrame]]:
        """Yield the rows of each layer and concept, which come in the order of their first rows.

        Args:
            columns: The columns that are needed.
            layer: The only layer; None for all.
            groups: The groups of the images, which become a column of their own; None for none.
        """

    def every(self, step: int, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield the first of each so many rows: one an image where an image has that many."""
        start = 0
        for batch in self.batches(columns):
            yield batch.iloc[-start % step :: step]
            start += len(batch)

    def of_images(self, chosen: NDArray[np.bool_], columns: Sequence[str]) -> pd.DataFrame:
        """Return the rows of some images, with the image's position as the index.

        Args:
            chosen: Whether an image is one of them, by its position [n].
            columns: The columns that are needed, beside layer and concept.
        """
        import pandas as pd

        seen: dict[Pair, int] = defaultdict(int)
        found = []
        for batch in self.batches([*PAIR, *columns]):
            positions = np.empty(len(batch), np.int64)
            for pair, places in places_of_pairs(batch).items():
                positions[places] = np.arange(seen[pair], seen[pair] + len(places))
                seen[pair] += len(places)
            kept = chosen[positions]
            found.append(batch[kept].set_index(positions[kept]))
        table: pd.DataFrame = pd.concat(found)
        return table


class HeldRows(ImageRows):
    """Rows in memory."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [str(name) for name in self._table.columns]

    @property
    def on_disk(self) -> bool:
        """No."""
        return False

    def __len__(self) -> int:
        return len(self._table)

    def frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all rows."""
        return self._table if columns is None else self._table[list(columns)]

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yield all rows at once."""
        yield self.frame(columns)

    def by_pair(
        self,
        columns: Sequence[str],
        layer: str | None = None,
        groups: Mapping[str, str] | None = None,
    ) -> Iterator[tuple[Pair, pd.DataFrame]]:
        """Yield the rows of each layer and concept."""
        table = self._table if layer is None else self._table[self._table["layer"] == layer]
        for (at, concept), rows in table.groupby(PAIR, sort=False):
            if groups:
                rows, columns = with_groups(rows, groups), [*dict.fromkeys([*columns, GROUP])]
            yield (str(at), str(concept)), rows[list(columns)].reset_index(drop=True)


def places_of_pairs(table: pd.DataFrame) -> Mapping[Pair, NDArray[np.intp]]:
    """Return where the rows of each layer and concept are, in the order of their first rows."""
    found: Mapping[Any, Any] = table.groupby(PAIR, sort=False).indices
    return found
