"""The page: data into templates that escape, one policy that lets nothing in or out."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExtraError
from vtcav.report.charts import HEIGHT, LEFT, WIDTH, limit, panels
from vtcav.report.concepts import concept_parts, matrices
from vtcav.report.images import ImagePart, image_part
from vtcav.report.methods import CITATION, methods, provenance_text
from vtcav.report.overview import overview
from vtcav.report.rows import Trust, class_part
from vtcav.results.explanation import GlobalExplanation, LocalExplanation
from vtcav.results.figures.overlay import hex_colours
from vtcav.results.provenance import Provenance
from vtcav.results.words import clear, count, distinct_names, interval, short_names, value

if TYPE_CHECKING:
    from jinja2 import Environment

    from vtcav.diagnostics.result import Diagnostics

__all__ = ["render", "safe_json"]

_SCRIPTS = "common.js", "charts.js", "images.js"


@dataclass(frozen=True)
class _Images:
    """What is kept of the images explained."""

    parts: list[ImagePart]
    provenances: list[Provenance]
    thumbnails: dict[str, NDArray[np.uint8]]


def render(
    local: Iterable[LocalExplanation],
    global_: Sequence[GlobalExplanation],
    diagnostics: Diagnostics | None,
    title: str,
) -> str:
    """Return the page; `vtcav.report.build_report` says how.

    Raises:
        ExplanationError: When there is nothing to report.
        ExtraError: When jinja2 is not installed.
    """
    environment = _environment()
    trust = Trust(diagnostics)
    names = distinct_names(explained.class_name for explained in global_)
    parts = [
        class_part(k, name, explained, trust)
        for k, (name, explained) in enumerate(zip(names, global_, strict=True))
    ]
    images = _read(local, trust)
    explained = [g.provenance for g in global_] + images.provenances
    diagnosed = None if diagnostics is None else diagnostics.provenance
    thumbnails = dict(images.thumbnails)
    for part in reversed(global_):
        thumbnails |= part.thumbnails
    rows = [row for part in parts for row in part.rows]
    most = limit(rows)
    style, script = _text("style.css"), "\n".join(map(_text, _SCRIPTS))
    page = environment.get_template("page.html.jinja").render(
        title=title,
        version=version("vtcav"),
        policy=_policy(style, script),
        style=style,
        script=script,
        overview=overview(
            parts, images.parts, trust, explained + ([] if diagnosed is None else [diagnosed])
        ),
        parts=parts,
        rows=rows,
        layers=list(dict.fromkeys(row.layer for row in rows)),
        concepts=list(dict.fromkeys(row.concept for row in rows)),
        panels=panels(parts, most),
        ticks=[(LEFT + WIDTH * share, f"{most * share:g}") for share in (0, 0.5, 1)],
        limit=most,
        strip={"left": LEFT, "width": WIDTH, "height": HEIGHT},
        images=images.parts,
        index=_index(images.parts),
        data=[safe_json(part.data) for part in images.parts],
        settings=safe_json({"colours": hex_colours()}),
        concept_parts=concept_parts(thumbnails, explained, diagnostics, trust),
        matrices=matrices(diagnostics),
        methods=methods(explained, parts, len(images.parts), diagnosed),
        provenance=provenance_text(
            list(zip(names, (g.provenance for g in global_), strict=True)),
            images.provenances,
            diagnosed,
        ),
        citation=CITATION,
    )
    # A name may hold half a letter (a lone surrogate), which no file of UTF-8 can.
    return page.encode("utf-8", "replace").decode("utf-8")


def _read(local: Iterable[LocalExplanation], trust: Trust) -> _Images:
    """Return what is kept of each image, which is let go before the next is read."""
    images = _Images([], [], {})
    for explained in local:
        images.parts.append(image_part(explained, trust))
        if explained.provenance not in images.provenances[-1:]:
            images.provenances.append(explained.provenance)
        for name, pictures in explained.thumbnails.items():
            images.thumbnails.setdefault(name, pictures)
    return images


def _index(parts: Sequence[ImagePart]) -> str:
    """Return what the list of images shows of each."""
    names = distinct_names(short_names([part.name for part in parts]))
    return safe_json(
        [
            {
                "name": clear(name),
                "best": clear(part.best),
                "probability": value(part.probability),
                "findings": len(part.claims),
            }
            for name, part in zip(names, parts, strict=True)
        ]
    )


def safe_json(data: Any) -> str:
    r"""Return JSON that cannot end the script element that it stands in.

    Example:
        >>> safe_json("</script>")
        '"\\u003c/script\\u003e"'
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(style: str, script: str) -> str:
    """Return a policy under which only this style and script act, and nothing is fetched."""
    return (
        "default-src 'none'; img-src data:; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _text(name: str) -> str:
    return resources.files("vtcav.report").joinpath(f"templates/{name}").read_text("utf-8")


@cache
def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ExtraError("the report needs jinja2: pip install jinja2") from error
    environment = Environment(
        loader=PackageLoader("vtcav.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clear": clear, "value": value, "exact": _exact}
    environment.globals |= {"count": count, "interval": interval}
    return environment


def _exact(x: float) -> str:
    """Return a number for the page to sort by, as exact as it is; empty where there is none."""
    return "" if x != x else repr(float(x))
