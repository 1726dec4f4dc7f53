"""What the report keeps of an explained image: a small picture, packed maps, texts ready to show.

Browsers unpack an image only when it is looked at, so that thousands lie in one file.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtcav.diagnostics.levels import BAD
from vtcav.report.rows import Trust, records
from vtcav.results.explanation import LocalExplanation
from vtcav.results.figures.data_uri import data_uri
from vtcav.results.words import NS, SIGNIFICANTLY, clear, count, interval, value, verdict

__all__ = ["Claim", "ImagePart", "image_part", "packed"]

_SIDE = 480
_PREDICTIONS = 3
_TINY = 1001  # stands for more than 0 and less than half a thousandth
_MOST_FINDINGS = 8


class Claim(NamedTuple):
    """That a concept counts for a class in an image, and what the diagnostics say of it."""

    class_name: str
    concept: str
    layer: str
    level: str
    reason: str


@dataclass(frozen=True)
class ImagePart:
    """An image explained.

    Attributes:
        name: Of the image, in full.
        best: Its most probable class.
        probability: Of that class.
        claims: What stands out from CAVs of random images and can be used.
        data: What the page needs to show it, for JSON; without its name.
    """

    name: str
    best: str
    probability: float
    claims: tuple[Claim, ...]
    data: dict[str, Any]


def image_part(explained: LocalExplanation, trust: Trust) -> ImagePart:
    """Return what the report keeps of an image.

    Args:
        explained: The explanation.
        trust: In its concepts.
    """
    trust = trust.about(explained.provenance)
    rows = records(explained.attributions)
    verdicts = [verdict(row["q_value"], separated=bool(row["separated"])) for row in rows]
    levels = [trust.level(row["layer"], row["concept"]) for row in rows]
    found = [
        row
        for row, said, level in zip(rows, verdicts, levels, strict=True)
        if said == SIGNIFICANTLY and level != BAD
    ]
    judged = list(zip(rows, verdicts, levels, strict=True))
    data = {
        **_described(explained, rows),
        **_seen(explained),
        "rows": _table(explained, judged),
        "findings": _sentences(found, verdicts, trust),
    }
    top = explained.predictions.iloc[0]
    return ImagePart(
        name=explained.image,
        best=str(top["class_name"]),
        probability=float(top["probability"]),
        claims=tuple(
            Claim(
                row["class_name"],
                row["concept"],
                row["layer"],
                trust.level(row["layer"], row["concept"]),
                trust.reason(row["layer"], row["concept"]),
            )
            for row in found
        ),
        data=data,
    )


def _classes(rows: list[dict[str, Any]]) -> dict[int, str]:
    """Return the names of the classes explained, by index."""
    return {row["class_index"]: row["class_name"] for row in rows}


def _described(explained: LocalExplanation, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what was explained, and what the network says of the image."""
    names, predictions = _classes(rows), explained.predictions
    shown = predictions.head(_PREDICTIONS)
    others = predictions[
        predictions["class_index"].isin(list(names))
        & ~predictions["class_index"].isin(shown["class_index"])
    ]
    return {
        "layers": [clear(name) for name in explained.layers],
        "concepts": [clear(name) for name in explained.concepts],
        "classes": [clear(name) for name in names.values()],
        "predictions": [
            [clear(row["class_name"]), value(row["probability"])]
            for table in (shown, others)
            for row in records(table)
        ],
    }


def _seen(explained: LocalExplanation) -> dict[str, Any]:
    """Return the picture and the concept maps on it."""
    maps = {layer: _layer_maps(explained, layer) for layer in explained.layers}
    return {
        "size": explained.picture.shape[1::-1],
        "box": [round(float(x), 6) for x in explained.box],
        "picture": data_uri(explained.picture, _SIDE),
        "shapes": [maps[layer].shape[1:] for layer in explained.layers],
        "maps": packed(list(maps.values())),
        "largest": [[value(float(M.max())) for M in _maps(explained, x)] for x in explained.layers],
    }


def _table(
    explained: LocalExplanation, judged: list[tuple[dict[str, Any], str, str]]
) -> list[list[Any]]:
    """Return the rows as the page reads them: indices, numbers to draw and texts to show."""
    indices = list(_classes([row for row, _, _ in judged]))
    return [
        [
            explained.layers.index(row["layer"]),
            explained.concepts.index(row["concept"]),
            indices.index(row["class_index"]),
            _finite(row["attribution"]),
            value(row["attribution"]),
            _finite(row["cav_low"]),
            _finite(row["cav_high"]),
            interval(row["cav_low"], row["cav_high"]),
            value(row["null_mean"]),
            value(row["q_value"]),
            said,
            level,
            clear(row["note"]),
        ]
        for row, said, level in judged
    ]


def _sentences(found: list[dict[str, Any]], verdicts: list[str], trust: Trust) -> list[str]:
    """Return what was found in an image, the largest attribution first."""
    if not found:
        tested = [said for said in verdicts if said in (SIGNIFICANTLY, NS)]
        if not tested:
            return ["Nothing was tested here, so nothing is claimed of this image."]
        return [
            "No concept can be claimed to count for a class in this image: none stands out from "
            "concepts made of random images, or those that do cannot be trusted."
        ]
    ordered = sorted(found, key=lambda row: -row["attribution"])
    sentences = [
        f"“{clear(row['concept'])}” counts for “{clear(row['class_name'])}” at "
        f"{clear(row['layer'])}: {value(row['attribution'])} (q = {value(row['q_value'])}"
        + (f"; for other examples {text}" if (text := _cav(row)) else "")
        + f"; concepts of random images get {value(row['null_mean'])}; diagnostics: "
        + f"{trust.level(row['layer'], row['concept'])})."
        for row in ordered[:_MOST_FINDINGS]
    ]
    if (more := len(ordered) - _MOST_FINDINGS) > 0:
        sentences.append(f"{count(more, 'more finding')} in the table below.")
    return sentences


def _cav(row: dict[str, Any]) -> str:
    return interval(row["cav_low"], row["cav_high"])


def _finite(x: float) -> float | None:
    return None if math.isnan(x) else round(float(x), 6)


def _maps(explained: LocalExplanation, layer: str) -> list[NDArray[np.float32]]:
    return [explained.concept_map(layer, concept) for concept in explained.concepts]


def _layer_maps(explained: LocalExplanation, layer: str) -> NDArray[np.uint16]:
    """Return the concept maps of a layer in thousandths, uint16 [K, h, w]."""
    M = np.stack(_maps(explained, layer))
    thousandths = np.rint(M * 1000).astype(np.uint16)
    thousandths[(M > 0) & (thousandths == 0)] = _TINY
    return thousandths


def packed(maps: list[NDArray[np.uint16]]) -> str:
    """Return maps as base64 of their deflated values, little endian, one after the other.

    The high bytes come first and the low bytes after them, which deflates to a third less.
    """
    values = np.concatenate([M.ravel() for M in maps]).astype("<u2")
    planes = values.view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
