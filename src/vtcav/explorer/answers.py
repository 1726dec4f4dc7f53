"""Answers of the web application: what the session gives, as the page takes it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from PIL import Image

from vtcav.explorer.erasing import Erased
from vtcav.explorer.findings import FoundTiles
from vtcav.explorer.photographs import RankedPhotograph
from vtcav.explorer.pictures import Picture
from vtcav.explorer.session import Answer
from vtcav.images.references import Skipped
from vtcav.results.erased import change_text
from vtcav.results.figures.data_uri import data_uri
from vtcav.results.figures.overlay import outlined
from vtcav.results.verdicts import stands_out
from vtcav.results.words import notes_by_class

_LARGEST_ERASED = 480


def described(picture: Picture) -> dict[str, Any]:
    """Return a picture, as the page takes it."""
    return {
        "key": picture.key,
        "name": picture.name,
        "origin": picture.origin,
        "width": picture.size[0],
        "height": picture.size[1],
    }


def picture(image: Image.Image, kind: str, **settings: int) -> Response:
    """Return the answer that is a picture."""
    data = io.BytesIO()
    image.save(data, kind, **settings)
    return Response(data.getvalue(), media_type=f"image/{kind}")


def reasons(skipped: Iterable[Skipped]) -> list[str]:
    """Return which pictures were left out, and why."""
    return [f"{skip.name}: {skip.reason}" for skip in skipped]


def explained(answer: Answer) -> dict[str, Any]:
    """Return one concept on one picture, as the page takes it."""
    record = answer.record
    return {
        "name": answer.concept,
        "separated": answer.separated,
        **_map(answer.M),
        "examples": len(record.examples),
        "negatives": len(record.negatives),
        "skipped": reasons([*record.skipped_examples, *record.skipped_negatives]),
        "rows": [
            {name: jsonable(value) for name, value in row._asdict().items()}
            | {"rough": answer.rough.get(row.class_index)}
            for row in answer.rows
        ],
        "pending": list(answer.pending),
    }


def found(finding: FoundTiles) -> dict[str, Any]:
    """Return what was found at a layer, as the page takes it."""
    return {
        "layer": finding.layer,
        "photos": len(finding.photographs),
        "skipped": finding.skipped,
        "tiles": [
            {
                "key": tile.key,
                "number": tile.number,
                "examples": [example.model_dump() for example in tile.examples],
                "negatives": [example.model_dump() for example in tile.negatives],
                "level": tile.level,
                "note": tile.note,
                "stability": jsonable(tile.stability),
                "prevalence": jsonable(tile.prevalence),
            }
            for tile in finding.tiles
        ],
    }


def ranked(photograph: RankedPhotograph, shown: bool) -> dict[str, Any]:
    """Return a photograph of an order, as the page takes it, with its map where it is shown."""
    return {
        "picture": photograph.picture,
        "presence": photograph.presence,
        "inside": photograph.inside,
        "peak": photograph.peak.model_dump(),
        **(_map(photograph.M) if shown else {}),
    }


def _map(M: NDArray[np.float32]) -> dict[str, Any]:
    """Return a concept map [h, w], as the page takes it."""
    packed = base64.b64encode(np.ascontiguousarray(M, "<f4").tobytes()).decode()
    return {"height": M.shape[0], "width": M.shape[1], "map": packed}


def erased(found: Erased) -> dict[str, Any]:
    """Return what erasing says, as the page takes it."""
    picture = found.picture
    pictures = (
        {}
        if picture is None
        else {
            "before": data_uri(outlined(picture.before, picture.region), _LARGEST_ERASED),
            "after": data_uri(picture.after, _LARGEST_ERASED),
        }
    )
    return {
        "sentences": found.sentences,
        "sure": [stands_out(row) for row in found.effects.to_dict("records")],
        "notes": list(filter(None, notes_by_class(found.effects).split("; "))),
        "changes": [
            {"class_index": int(t), "change": change_text(drop, share)}
            for t, drop, share in found.effects[["class_index", "drop", "share"]].itertuples(
                index=False
            )
        ],
        **pictures,
    }


def jsonable(value: Any) -> Any:
    """Return a value of a row as JSON holds it, with null for NaN."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
