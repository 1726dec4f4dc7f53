"""The page of a discovery: what the network sees in images, with patches and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vtcav.report.methods import provenance_text
from vtcav.report.page import environment, frame, write_page
from vtcav.results.discovery.discovery import Discovery
from vtcav.results.figures.data_uri import data_uri
from vtcav.results.figures.overlay import flat_overlay
from vtcav.results.words import clear, value

_SIDE, _LARGE = 96, 192


@dataclass(frozen=True)
class _Card:
    """A found concept on the page."""

    number: int
    layer: str
    level: str
    note: str
    patches: list[str]
    numbers: list[tuple[str, str]]
    classes: list[dict[str, Any]]


def write_discovery(found: Discovery, output: str | Path) -> Path:
    """Write the page of a discovery: one self-contained HTML file.

    Args:
        found: The discovery.
        output: The file, replaced if it exists.

    Returns:
        The path of the file.

    Raises:
        ExplanationError: When it cannot be written.
    """
    return write_page(_page(found), output)


def _page(found: Discovery) -> str:
    concepts, attributions = found.concepts, found.attributions
    cards = [_card(found, row, attributions) for row in concepts.to_dict("records")]
    page: str = (
        environment()
        .get_template("discovery.html.jinja")
        .render(
            **frame("Concepts that nobody named", [found.provenance], ["common.js"]),
            found=found,
            described=repr(found).removeprefix("Discovery(").removesuffix(")"),
            layers=[
                (row, [card for card in cards if card.layer == row["layer"]])
                for row in found.summary.to_dict("records")
            ],
            attributed=not attributions.empty,
            erased=bool(attributions["verdict"].any()),
            coverage=[
                {
                    "layer": clear(row["layer"]),
                    "name": clear(row["class_name"]),
                    "n": row["n"],
                    "uncovered": f"{row['uncovered']:.0%}".replace("%", " %"),
                }
                for row in found.coverage.to_dict("records")
            ],
            uncovered=[
                {
                    "picture": data_uri(one.picture, _LARGE),
                    "overlay": data_uri(_uncovered(one.picture, one.map), _LARGE),
                    "layer": clear(one.layer),
                    "name": clear(one.class_name),
                    "image": clear(one.image),
                    "share": f"{one.share:.0%}".replace("%", " %"),
                }
                for one in found.most_uncovered()
            ],
            provenance=provenance_text(["the discovery"], [found.provenance]),
        )
    )
    return page


def _uncovered(picture: NDArray[np.uint8], left: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the attribution that is not covered over its picture, brightest at its highest."""
    scaled = left / max(float(left.max()), 1e-12)
    return flat_overlay(picture, (0.0, 0.0, 1.0, 1.0), scaled, _LARGE)


def _card(found: Discovery, row: dict[Any, Any], attributions: pd.DataFrame) -> _Card:
    one = found[row["concept"]]
    numbers = [
        ("stability", value(row["stability"])),
        ("other starts", value(row["seeds"])),
        ("halves of the images", value(row["halves"])),
        ("noise", value(row["noise"])),
        ("in images", f"{row['prevalence']:.0%}".replace("%", " %")),
    ]
    if row["nearest"]:
        nearest = f"{clear(row['nearest'])}: cosine {value(row['cosine'])}, AUC {value(row['auc'])}"
        numbers.append(("nearest named concept", nearest))
    own = attributions[attributions["concept"] == one.number]
    return _Card(
        number=one.number,
        layer=one.layer,
        level=row["level"],
        note=row["note"],
        patches=[data_uri(patch, _SIDE) for patch in one.patches],
        numbers=numbers,
        classes=[
            {
                "name": clear(each["class_name"]),
                "n": each["n"],
                "attribution": value(each["attribution"]),
                "p": value(each["p_value"]),
                "q": value(each["q_value"]),
                # where nothing was tested, a 0 is no finding
                "why": clear(each["note"]) if pd.isna(each["p_value"]) else "",
                "verdict": each["verdict"],
                "sentence": each["sentence"],  # which clears its names itself
            }
            for each in own.to_dict("records")
        ],
    )
