"""The display of learned concepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vtcav.results.notebook.display import Display, rows_of
from vtcav.results.notebook.pictures import examples
from vtcav.results.words import count

if TYPE_CHECKING:
    import pandas as pd


def bank_html(
    table: pd.DataFrame, thumbnails: Mapping[str, NDArray[np.uint8]], network: str
) -> str:
    """Return the display of learned concepts.

    Args:
        table: `CavBank.table`.
        thumbnails: A few examples of each concept.
        network: The network in words.
    """
    concepts = list(table["concept"].unique())
    layers = table["layer"].nunique()
    table = table.assign(separated=table["separated"].map({True: "yes", False: "no"}))
    columns = ["layer", "concept", "e_pos", "e_neg", "separated"]
    columns += ["examples", "negatives", "skipped"]
    header = ["layer", "concept", "e+", "e-", "separated", "examples", "negatives", "left out"]
    # where directions come from, and how well a layer knows texts
    more = [name for name in ("direction", "r2", "level") if name in table]
    if "direction" in more and (table["direction"] != "learned").any():
        columns, header = columns + more, header + more
    return Display(
        title="Learned concepts",
        lines=[f"{count(len(concepts), 'concept')} at {count(layers, 'layer')} of {network}"],
        figures=examples(thumbnails, concepts),
        header=header,
        rows=rows_of(table, columns),
        total=len(table),
        notes=[
            "e+ and e-: typical raw map on examples and on negatives; a layer separates a concept "
            "where e+ is the larger."
        ],
    ).html()
