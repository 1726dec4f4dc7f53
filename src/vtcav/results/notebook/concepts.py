"""Displays of learned concepts and of how far they can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtcav.results.notebook.display import MOST_ROWS, Cell, Display, cell, rows_of, shown
from vtcav.results.notebook.pictures import examples
from vtcav.results.words import count, listed

if TYPE_CHECKING:
    from vtcav.datasets import ConceptImages
    from vtcav.diagnostics.result import Diagnostics
    from vtcav.results.bank import CavBank

__all__ = ["bank_html", "diagnostics_html", "diagnostics_text", "images_html"]


def diagnostics_html(diagnostics: Diagnostics) -> str:
    """Return the display of diagnostics: the worst level of each concept at each layer, and why."""
    summary = diagnostics.summary()
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
        lines=[_levels(diagnostics)],
        header=["layer", "concept", "level", "because"],
        rows=rows + [[]] * (len(summary) - len(rows)),
        notes=["The attribute “table” has every finding; plot() draws them."],
    ).html()


def diagnostics_text(diagnostics: Diagnostics) -> str:
    """Return diagnostics in one line."""
    return (
        f"Diagnostics({count(len(diagnostics.layers), 'layer')}, "
        f"{count(len(diagnostics.concepts), 'concept')}: {_levels(diagnostics)})"
    )


def _levels(diagnostics: Diagnostics) -> str:
    from vtcav.diagnostics.levels import LEVELS

    counts = diagnostics.summary()["level"].value_counts()
    return listed([f"{int(counts.get(level, 0))} {level}" for level in LEVELS])


def bank_html(bank: CavBank) -> str:
    """Return the display of learned concepts."""
    table = bank.table()
    lines = [
        f"{count(len(bank.names), 'concept')} at {count(len(bank.layers), 'layer')} of "
        f"{bank.described.get('network', 'a network')}"
    ]
    words = table.assign(separated=table["separated"].map({True: "yes", False: "no"}))
    return Display(
        title="Learned concepts",
        lines=lines,
        figures=examples(bank.thumbnails, bank.names),
        header=["layer", "concept", "e+", "e-", "separated", "examples", "negatives", "left out"],
        rows=rows_of(
            words,
            [
                *("layer", "concept", "e_pos", "e_neg", "separated"),
                *("examples", "negatives", "skipped"),
            ],
        ),
        notes=[
            "e+ and e-: typical raw map on examples and on negatives; a layer separates a concept "
            "where e+ is the larger."
        ],
    ).html()


def images_html(images: ConceptImages) -> str:
    """Return the display of listed images."""
    return Display(
        title=count(len(images), "concept"),
        header=["concept", "images", "left out", "why"],
        rows=rows_of(images.counts(), ["concept", "images", "left_out", "why"]),
    ).html()
