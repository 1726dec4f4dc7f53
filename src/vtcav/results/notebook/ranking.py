"""The display of images in the order of how strongly they show a concept."""

from __future__ import annotations

from vtcav.results.figures.protocols import RankedImages
from vtcav.results.notebook.display import Display, rows_of
from vtcav.results.notebook.pictures import overlay
from vtcav.results.words import value

_MOST = 12


def ranking_html(ranking: RankedImages) -> str:
    """Return the display of a ranking."""
    table = ranking.table
    return Display(
        title=f"Images by presence of “{ranking.concept}”: {ranking.place}",
        lines=[ranking.described, *filter(None, [ranking.caution])],
        figures=[
            overlay(one.picture, one.box, one.concept_map, f"{one.position}: {value(one.presence)}")
            for one in ranking.shown[:_MOST]
        ],
        header=["image", "presence", "area", "predicted", "note"],
        rows=rows_of(table, ["image", "presence", "area", "predicted_class", "note"]),
        total=len(table),
        notes=[
            "Presence: the map's self-weighted mean, 1 where it responds as the examples do.",
            *ranking.provenance.picture_notes,
        ],
    ).html()
