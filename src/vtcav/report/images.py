"""The part of the report on an explained image: a small picture, packed maps, texts to show.

Browsers unpack an image only when it is looked at, so that one file can hold thousands.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtcav.diagnostics.levels import BAD
from vtcav.report.trust import Trust
from vtcav.results.explanation import LocalExplanation
from vtcav.results.figures.data_uri import data_uri
from vtcav.results.words import NS, SIGNIFICANTLY, as_much, clear, count, interval, value, verdict

__all__ = ["Claim", "ImagePart", "image_part", "packed"]

_SIDE = 480
_PREDICTIONS = 3
_TINY = 1001  # stands for more than 0 and less than half a thousandth
_MOST_FINDINGS = 8


class Claim(NamedTuple):
    """A concept that counts for a class in an image, and its level in the diagnostics."""

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
        claims: Attributions that are significant, of concepts that may be used.
        data: Everything that the page needs to show it, for JSON; without its name.
    """

    name: str
    best: str
    probability: float
    claims: tuple[Claim, ...]
    data: dict[str, Any]


class _Row(NamedTuple):
    """A row of the attributions, with its verdict and the level of its concept."""

    values: dict[Hashable, Any]
    verdict: str
    level: str

    @property
    def claimed(self) -> bool:
        return self.verdict == SIGNIFICANTLY and self.level != BAD


def image_part(explained: LocalExplanation, trust: Trust) -> ImagePart:
    """Return the part of the report on an image.

    Args:
        explained: Its explanation.
        trust: In the concepts.
    """
    trust = trust.about(explained.provenance)
    rows = [
        _Row(
            row,
            verdict(row["q_value"], separated=bool(row["separated"])),
            trust.level(row["layer"], row["concept"]),
        )
        for row in explained.attributions.to_dict("records")
    ]
    classes = {row.values["class_index"]: row.values["class_name"] for row in rows}
    claimed = [row for row in rows if row.claimed]
    top = explained.predictions.iloc[0]
    return ImagePart(
        name=explained.image,
        best=str(top["class_name"]),
        probability=float(top["probability"]),
        claims=tuple(
            Claim(row["class_name"], row["concept"], row["layer"], level, reason)
            for row, _, level in claimed
            for reason in [trust.reason(row["layer"], row["concept"])]
        ),
        data={
            "layers": [clear(name) for name in explained.layers],
            "concepts": [clear(name) for name in explained.concepts],
            "classes": [clear(name) for name in classes.values()],
            "predictions": _predictions(explained, list(classes)),
            **_pictures(explained),
            "rows": _table(explained, rows, list(classes)),
            "findings": _sentences(claimed, [row.verdict for row in rows]),
        },
    )


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
    maps = [explained.maps[layer] for layer in explained.layers]
    return {
        "size": explained.picture.shape[1::-1],
        "box": [round(float(x), 6) for x in explained.box],
        "picture": data_uri(explained.picture, _SIDE),
        "shapes": [M.shape[1:] for M in maps],
        "maps": packed(list(map(_thousandths, maps))),
        "largest": [[value(float(m)) for m in M.max((1, 2))] for M in maps],
    }


def _table(explained: LocalExplanation, rows: list[_Row], classes: list[int]) -> list[list[Any]]:
    """Return the rows as the page reads them: indices, numbers to draw and texts to show."""
    null_cavs = explained.provenance.null_cavs
    tests = int(explained.attributions["p_value"].notna().sum())
    return [
        [
            explained.layers.index(row["layer"]),
            explained.concepts.index(row["concept"]),
            classes.index(row["class_index"]),
            _finite(row["attribution"]),
            value(row["attribution"]),
            _finite(row["cav_low"]),
            _finite(row["cav_high"]),
            interval(row["cav_low"], row["cav_high"]),
            value(row["null_mean"]),
            value(row["q_value"]),
            verdict_,
            level,
            clear(row["note"]),
            as_much(row["p_value"], row["q_value"], null_cavs, tests, row["note"]),
        ]
        for row, verdict_, level in rows
    ]


def _sentences(claimed: list[_Row], verdicts: list[str]) -> list[str]:
    """Return the findings in an image as sentences, the largest attribution first."""
    if not claimed:
        if not {SIGNIFICANTLY, NS} & set(verdicts):
            return ["Nothing was tested here, so nothing is claimed about this image."]
        return [
            "No concept can be claimed to count for a class in this image: none stands out from "
            "concepts made of random images, or those that do cannot be trusted."
        ]
    ordered = sorted(claimed, key=lambda row: -row.values["attribution"])
    sentences = [_sentence(row.values, row.level) for row in ordered[:_MOST_FINDINGS]]
    if (more := len(ordered) - _MOST_FINDINGS) > 0:
        sentences.append(f"{count(more, 'more finding')} in the table below.")
    return sentences


def _sentence(row: dict[Hashable, Any], level: str) -> str:
    examples = interval(row["cav_low"], row["cav_high"])
    return (
        f"“{clear(row['concept'])}” counts for “{clear(row['class_name'])}” at "
        f"{clear(row['layer'])}: {value(row['attribution'])} (q = {value(row['q_value'])}"
        + (f"; for other examples {examples}" if examples else "")
        + f"; concepts of random images get {value(row['null_mean'])}; diagnostics: {level})."
    )


def _finite(x: float) -> float | None:
    return None if math.isnan(x) else round(float(x), 6)


def _thousandths(M: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the concept maps of a layer in thousandths, uint16 [K, h, w]."""
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
