"""Display of diagnostics in notebooks."""

from __future__ import annotations

import pandas as pd

from vtcav.diagnostics.levels import LEVELS
from vtcav.results.notebook.display import MOST_ROWS, Cell, Display, cell, shown
from vtcav.results.words import listed


def summary_html(summary: pd.DataFrame) -> str:
    """Return the HTML of the worst level of each concept at each layer, with the reason for it.

    Args:
        summary: `Diagnostics.summary`.
    """
    rows = [
        [
            cell(row["layer"]),
            cell(row["concept"]),
            Cell(row["level"], level=row["level"]),
            Cell(shown(row["meaning"], 400)),
        ]
        for row in summary.head(MOST_ROWS).to_dict("records")
    ]
    return Display(
        title="How far can each concept be trusted?",
        lines=[level_counts(summary)],
        header=["layer", "concept", "level", "because"],
        rows=rows,
        total=len(summary),
        notes=["The attribute “table” has every finding; plot() draws them."],
    ).html()


def level_counts(summary: pd.DataFrame) -> str:
    """Return the number of concepts of each level, as text."""
    counts = summary["level"].value_counts()
    return listed([f"{int(counts.get(level, 0))} {level}" for level in LEVELS])
