"""The page of a ranking: images in the order of how strongly they show a concept, with maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vtcav.report.methods import provenance_text
from vtcav.report.page import environment, frame, write_page
from vtcav.results.figures.data_uri import data_uri
from vtcav.results.figures.overlay import flat_overlay
from vtcav.results.ranking import RankedImage, Ranking
from vtcav.results.words import clear, value

_SIDE = 192
_WIDTH, _HEIGHT, _LEFT = 640, 120, 28
_POINTS = 400
_NAMED = 100


@dataclass(frozen=True)
class _Card:
    """An image on the page."""

    position: int
    name: str
    numbers: str
    about: str
    picture: str
    overlay: str
    alt: str


def write_ranking(ranking: Ranking, output: str | Path) -> Path:
    """Write the page of a ranking: one self-contained HTML file.

    Args:
        ranking: The images in order.
        output: The file, replaced if it exists.

    Returns:
        The path of the file.

    Raises:
        ExplanationError: When it cannot be written.
    """
    return write_page(_page(ranking), output)


def _page(ranking: Ranking) -> str:
    table = ranking.table
    cards = [_card(one, table, ranking) for one in ranking.shown]
    title = f"Images by presence of “{ranking.concept}”"
    page: str = (
        environment()
        .get_template("ranking.html.jinja")
        .render(
            **frame(title, [ranking.provenance], ["common.js"]),
            ranking=ranking,
            groups=_groups(cards, len(table) - len(ranking.skipped)),
            curve=_curve(table["presence"].dropna().to_numpy()),
            examples=[data_uri(picture, 96) for picture in ranking.examples],
            lost=ranking.skipped[:_NAMED],
            more=max(0, len(ranking.skipped) - _NAMED),
            provenance=provenance_text(["the ranking"], [ranking.provenance]),
        )
    )
    return page


def _card(one: RankedImage, table: pd.DataFrame, ranking: Ranking) -> _Card:
    row = table.iloc[one.position - 1]
    predicted = f"predicted: {clear(row['predicted_class'])} {value(float(row['probability']))}"
    # a caution about all images stands above them
    notes = [note for note in str(row["note"]).split("; ") if note and note != ranking.caution]
    overlay = flat_overlay(one.picture, one.box, one.concept_map, _SIDE)
    return _Card(
        position=one.position,
        name=one.image,
        numbers=f"presence {value(one.presence)}, area {float(row['area']):.0%}",
        about="; ".join([predicted, *notes]),
        picture=data_uri(one.picture, _SIDE),
        overlay=data_uri(overlay, _SIDE),
        alt=f"map of {ranking.concept}, largest value {value(float(one.concept_map.max()))}",
    )


def _groups(cards: list[_Card], images: int) -> list[dict[str, Any]]:
    """Return the cards of the first images, of those between, and of the last ones."""
    if len(cards) >= images or len(cards) < 4:
        return [{"id": "first", "title": "In order", "cards": cards}] if cards else []
    last = len(cards) // 4
    first = len(cards) - 2 * last
    return [
        {"id": "first", "title": "The first", "cards": cards[:first]},
        {"id": "between", "title": "Spread evenly over the rest", "cards": cards[first:-last]},
        {"id": "last", "title": "The last", "cards": cards[-last:]},
    ]


def _curve(presence: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    """Return the line of presence over the position in the order, in units of its drawing."""
    n = len(presence)
    at = np.unique(np.linspace(0, n - 1, min(n, _POINTS)).round().astype(int))
    x = _LEFT + (_WIDTH - _LEFT) * at / max(n - 1, 1)
    y = 8 + _HEIGHT * (1 - presence[at])
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return {"points": points, "left": _LEFT, "width": _WIDTH, "height": _HEIGHT, "images": n}
