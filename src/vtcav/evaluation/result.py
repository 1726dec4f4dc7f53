"""Base class of the results of evaluations, which summarises, draws and saves their tables."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vtcav.files.manifest import records, save_result, write_table
from vtcav.images.references import Skipped
from vtcav.method.significance import student_interval
from vtcav.results.provenance import Provenance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationResult(ABC):
    """Result with numbers by layer and concept.

    Attributes:
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        skipped: Images that were left out, with reasons.
        provenance: What the numbers depend on.
    """

    kind: ClassVar[str]
    """The prefix of the saved files."""
    title: ClassVar[str]
    """The name of the result in messages."""

    layers: tuple[str, ...]
    concepts: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    provenance: Provenance = field(repr=False)
    _rows: pd.DataFrame = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """All rows."""
        return self._rows.copy()

    @abstractmethod
    def summary(self) -> pd.DataFrame:
        """Return the rows over images."""

    def plot(self) -> Figure:
        """Draw the result as a matplotlib figure, which `plt.show()` and notebooks display."""
        from vtcav.results.figures.page import new_figure

        return self._draw(new_figure())

    def save(self, folder: str | Path) -> Path:
        """Write tables, figure and provenance, all or nothing; an earlier result is replaced.

        The files are named after the result: a manifest (.json, written last) with summary,
        provenance and a hash of each other file, every table (.csv and .parquet), and the figure
        (.png).

        Returns:
            The folder.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, self.kind, self.title, self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.results.figures.page import save_figure

        tables = self._tables()
        for name, table in tables.items():
            write_table(folder / f"{self.kind}_{name}", table)
        save_figure(self._draw, folder / f"{self.kind}.png")
        return {
            "layers": self.layers,
            "concepts": self.concepts,
            **self._facts(),
            "skipped": [asdict(skip) for skip in self.skipped],
            "summary": records(tables["summary"]),
            "provenance": self.provenance.to_dict(),
        }

    @abstractmethod
    def _tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables to save, among them the summary."""

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """Return the other entries of the manifest."""

    @abstractmethod
    def _draw(self, figure: Figure) -> Figure:
        """Draw the result on an empty figure."""


def mean_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float, float]:
    """Return the mean of any number of values, and the ends of its Student t interval.

    Args:
        values: The values [n].
        confidence: Of the interval, between 0 and 1.

    Returns:
        Mean, low, high; the ends are NaN for fewer than two values, and so is the mean for none.
    """
    if len(values) > 1:
        return student_interval(values, confidence)
    return (float(values[0]) if len(values) else math.nan), math.nan, math.nan


def by_group(
    table: pd.DataFrame,
    keys: Sequence[str],
    summary: Callable[[pd.DataFrame], Mapping[str, Any]],
) -> pd.DataFrame:
    """Return one row per group of rows, in the order of the first of each.

    Args:
        table: The rows.
        keys: The columns whose values make a group.
        summary: Makes the other columns from the rows of a group.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"layer": ["b", "a", "b"], "value": [1, 2, 4]})
        >>> by_group(table, ["layer"], lambda rows: {"most": rows["value"].max()}).values.tolist()
        [['b', 4], ['a', 2]]
    """
    import pandas as pd

    groups = table.groupby(list(keys), sort=False)
    return pd.DataFrame(
        [{**dict(zip(keys, key, strict=True)), **summary(rows)} for key, rows in groups]
    )
