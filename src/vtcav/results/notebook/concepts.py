"""The display of learned concepts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vtcav.results.notebook.display import Display, rows_of
from vtcav.results.notebook.pictures import examples
from vtcav.results.words import count

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["bank_html"]


class Bank(Protocol):
    """Learned concepts, as `vtcav.CavBank` holds them."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def layers(self) -> Collection[str]: ...
    @property
    def thumbnails(self) -> Mapping[str, NDArray[np.uint8]]: ...
    @property
    def described(self) -> Mapping[str, str]: ...
    def table(self) -> pd.DataFrame: ...


def bank_html(bank: Bank) -> str:
    """Return the display of learned concepts."""
    table = bank.table()
    table["separated"] = table["separated"].map({True: "yes", False: "no"})
    columns = ["layer", "concept", "e_pos", "e_neg", "separated"]
    columns += ["examples", "negatives", "skipped"]
    return Display(
        title="Learned concepts",
        lines=[
            f"{count(len(bank.names), 'concept')} at {count(len(bank.layers), 'layer')} of "
            f"{bank.described.get('network', 'a network')}"
        ],
        figures=examples(bank.thumbnails, bank.names),
        header=["layer", "concept", "e+", "e-", "separated", "examples", "negatives", "left out"],
        rows=rows_of(table, columns),
        total=len(table),
        notes=[
            "e+ and e-: typical raw map on examples and on negatives; a layer separates a concept "
            "where e+ is the larger."
        ],
    ).html()
