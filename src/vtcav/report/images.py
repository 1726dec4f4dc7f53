"""The part of the report on an explained image: a small picture, packed maps, texts to show.

Browsers unpack an image only when it is looked at, so that one file can hold thousands.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtcav.images.volumes import slice_between, strongest_slice
from vtcav.report.image_effects import ImageEffects, effects_of
from vtcav.report.rows import AttributionRow, attribution_rows
from vtcav.report.trust import Trust
from vtcav.results.effect_tables import of_pictures
from vtcav.results.erased import change_text
from vtcav.results.explanation import LocalExplanation
from vtcav.results.figures.data_uri import data_uri, sheet
from vtcav.results.figures.overlay import outline
from vtcav.results.reading import best_first, read_first, reading_order
from vtcav.results.words import NS, SIGNIFICANTLY, clear, count, value

_SIDE = 480
_SLICE = 256
_PREDICTIONS = 3
_TINY = 1001  # stands for more than 0 and less than half a thousandth
_MOST_FINDINGS = 8


@dataclass(frozen=True)
class ImagePart:
    """An explained image.

    Attributes:
        name: The image's name, in full.
        best: Its most probable class.
        probability: The probability of that class.
        claims: The significant attributions of concepts that may be used.
        data: Everything that the page needs to show it, for JSON; without its name.
        erased: What erasing the concepts does.
    """

    name: str
    best: str
    probability: float
    claims: tuple[AttributionRow, ...]
    data: dict[str, Any]
    erased: ImageEffects


def image_part(explained: LocalExplanation, trust: Trust) -> ImagePart:
    """Return the part of the report on an image.

    Args:
        explained: Its explanation.
        trust: The trust in the concepts.
    """
    table = best_first(explained.attributions, explained.best_layers)
    rows = attribution_rows(table, explained.provenance, trust)
    claims = tuple(row for row in rows if row.claimed)
    classes = {row["class_index"]: row["class_name"] for row in rows}
    top = explained.predictions.iloc[0]
    erased = effects_of(explained)
    return ImagePart(
        name=explained.image,
        best=str(top["class_name"]),
        probability=float(top["probability"]),
        claims=claims,
        data={
            "layers": [clear(name) for name in _layers(explained)],
            "concepts": [clear(name) for name in explained.concepts],
            "classes": [clear(name) for name in classes.values()],
            "predictions": _predictions(explained, list(classes)),
            **_pictures(explained),
            "erased": _erased(explained),
            "rows": _table(explained, rows, list(classes)),
            "findings": [
                *erased.sentences,
                *filter(None, [read_first(explained.best_layers, explained.layers)]),
                *_sentences(
                    claims,
                    explained.best_layers,
                    {row.verdict for row in rows},
                    erased=bool(erased.rows),
                ),
                *explained.provenance.picture_notes,
            ],
        },
        erased=erased,
    )


def _layers(explained: LocalExplanation) -> tuple[str, ...]:
    return reading_order(explained.layers, explained.best_layers)


def _predictions(explained: LocalExplanation, classes: list[int]) -> list[list[str]]:
    """Return names and probabilities of the top classes, then of the others explained."""
    table = explained.predictions
    chosen = table[(np.arange(len(table)) < _PREDICTIONS) | table["class_index"].isin(classes)]
    return [
        [clear(name), value(p)]
        for name, p in zip(chosen["class_name"], chosen["probability"], strict=True)
    ]


def _pictures(explained: LocalExplanation) -> dict[str, Any]:
    """Return the picture and the concept maps on it."""
    maps = [explained.maps[layer] for layer in _layers(explained)]
    picture, volume = explained.picture, explained.picture.ndim == 4
    return {
        "size": picture.shape[-2:-4:-1],
        "box": [round(float(x), 6) for x in explained.box],
        **(_slices(picture, maps) if volume else {"picture": data_uri(picture, _SIDE)}),
        "shapes": [M.shape[1:] for M in maps],
        "maps": packed(list(map(_thousandths, maps))),
        "largest": [[value(float(m.max())) for m in M] for M in maps],
    }


def _slices(picture: NDArray[np.uint8], maps: Sequence[NDArray[np.float32]]) -> dict[str, Any]:
    """Return the slices of a volume, and the strongest of every map."""
    address, columns = sheet(picture, _SLICE)
    strongest = [[slice_between(strongest_slice(m), len(m), len(picture)) for m in M] for M in maps]
    return {
        "picture": address,
        "slices": len(picture),
        "columns": columns,
        "strongest": strongest,
    }


def _erased(explained: LocalExplanation) -> list[dict[str, str]]:
    """Return for each concept the outline of its region, what it is filled with, and the change."""
    if not explained.shows_erased:
        return []
    return [_erased_concept(explained, concept) for concept in explained.concepts]


def _erased_concept(explained: LocalExplanation, concept: str) -> dict[str, str]:
    region, quoted = explained.region(concept), f"“{clear(concept)}”"
    effects = of_pictures(explained.effects)
    rows = effects[effects["concept"] == concept].to_dict("records")
    if math.isnan(rows[0]["drop"]):
        return {"text": f"{quoted} is not seen at these layers: nothing was erased."}
    if not region.any():
        return {"text": f"{quoted} is nowhere in this image: nothing was erased."}
    opacity = np.where(region, 255, 0).astype(np.uint8)[..., None]
    content = np.concatenate([explained.without(concept) * region[..., None], opacity], -1)
    changes = [
        f"{clear(row['class_name'])} {change_text(row['drop'], row['share'])}" for row in rows
    ]
    if region.ndim == 3:
        line, _ = sheet(np.stack(list(map(outline, region))), _SLICE)
        filled, _ = sheet(content, _SLICE)
    else:
        line, filled = data_uri(outline(region), _SIDE), data_uri(content, _SIDE)
    return {
        "outline": line,
        "filled": filled,
        "text": f"Without {quoted} the scores change: {', '.join(changes)}.",
    }


def _table(
    explained: LocalExplanation, rows: Sequence[AttributionRow], classes: list[int]
) -> list[list[Any]]:
    """Return the rows as the page reads them: indices, numbers to draw and texts to show."""
    layers = _layers(explained)
    return [
        [
            layers.index(row["layer"]),
            explained.concepts.index(row["concept"]),
            classes.index(row["class_index"]),
            _finite(row["attribution"]),
            value(row["attribution"]),
            _finite(row["cav_low"]),
            _finite(row["cav_high"]),
            row.examples,
            value(row["null_mean"]),
            value(row["q_value"]),
            row.verdict,
            row.level,
            clear(row["note"]),
            row.as_much,
            value(row["presence"]),
        ]
        for row in rows
    ]


def _sentences(
    claims: Sequence[AttributionRow], best: Mapping[str, str], verdicts: set[str], *, erased: bool
) -> list[str]:
    """Return what an image's attributions say, each concept's best layer first, then by size."""
    if not claims and erased:
        return ["By the attributions alone no concept stands out from chance in this image."]
    if not claims:
        if not {SIGNIFICANTLY, NS} & verdicts:
            return ["Nothing was tested here, so nothing is claimed about this image."]
        return [
            "No concept can be claimed to count for a class in this image: none stands out from "
            "concepts made of random images, or those that do cannot be trusted."
        ]
    ordered = sorted(
        claims, key=lambda row: (row["layer"] != best.get(row["concept"]), -row["attribution"])
    )
    sentences = list(map(_sentence, ordered[:_MOST_FINDINGS]))
    if (more := len(ordered) - _MOST_FINDINGS) > 0:
        sentences.append(f"{count(more, 'more finding')} in the table below.")
    return sentences


def _sentence(row: AttributionRow) -> str:
    examples = row.examples and f"; for other examples {row.examples}"
    return (
        f"“{clear(row['concept'])}” counts for “{clear(row['class_name'])}” at "
        f"{clear(row['layer'])}: {value(row['attribution'])} (q = {value(row['q_value'])}"
        f"{examples}; random concepts get {value(row['null_mean'])}; "
        f"diagnostics: {row.level})."
    )


def _finite(x: float) -> float | None:
    return None if math.isnan(x) else round(float(x), 6)


def _thousandths(M: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the concept maps of a layer in thousandths, uint16 of their shape."""
    thousandths = np.rint(M * 1000).astype(np.uint16)
    thousandths[(M > 0) & (thousandths == 0)] = _TINY
    return thousandths


def packed(maps: list[NDArray[np.uint16]]) -> str:
    """Return maps as base64 of their deflated values, little endian, one after the other.

    The high bytes follow all low bytes, which deflates to a third less.
    """
    values = np.concatenate([M.ravel() for M in maps]).astype("<u2")
    planes = values.view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
