"""The display of a region erased by hand, and of pictures without their concepts."""

from __future__ import annotations

from vtcav.results.erased import ErasedPicture
from vtcav.results.figures.protocols import ErasedRegion
from vtcav.results.notebook.display import MOST_ROWS, Display, Figure, rows_of
from vtcav.results.notebook.pictures import picture


def erasure_html(erasure: ErasedRegion) -> str:
    """Return the display of a region erased by hand."""
    effects = erasure.effects
    columns = ["class_name", "logit", "without", "drop", "share", "placebo_mean", "p_value", "note"]
    return Display(
        title=f"{erasure.image} without {erasure.region}",
        lines=erasure.sentences()[:MOST_ROWS],
        figures=before_and_after(erasure.erased, "the marked region"),
        header=["class", "logit", "without", "drop", "share", "elsewhere", "p", "note"],
        rows=rows_of(effects, columns),
        total=len(effects),
        notes=[
            "Share: of the logit above that of the negatives. Judge the fill by eye.",
            *erasure.provenance.picture_notes,
        ],
    ).html()


def before_and_after(erased: ErasedPicture, what: str) -> list[Figure]:
    """Return a picture with the outline of its region, and the picture without it.

    Args:
        erased: The picture.
        what: What was erased, in words.
    """
    from vtcav.results.figures.overlay import outlined

    where = f" ({erased.slice})" if erased.slice else ""
    return [
        picture(outlined(erased.before, erased.region), f"{what}, outlined{where}"),
        picture(erased.after, f"without {what}: {erased.change}"),
    ]
