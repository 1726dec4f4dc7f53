"""Page of the report: templates escape all data, and a policy lets nothing in or out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from vtcav.diagnostics.result import Diagnostics
from vtcav.errors import ExplanationError, why
from vtcav.files.atomic import atomic_path
from vtcav.files.paths import given_path
from vtcav.report.charts import axis, in_words
from vtcav.report.classes import ClassPart, class_part
from vtcav.report.concepts import concept_parts
from vtcav.report.groups import group_section
from vtcav.report.heading import heading, today
from vtcav.report.images import ImagePart, image_part
from vtcav.report.methods import CITATION, methods, provenance_text
from vtcav.report.overview import overview
from vtcav.report.rows import AttributionRow
from vtcav.report.sections import Section, more_rows
from vtcav.report.trust import Trust
from vtcav.results.explanation import GlobalExplanation, LocalExplanation
from vtcav.results.figures.overlay import hex_colours
from vtcav.results.limits import STATES
from vtcav.results.provenance import Provenance
from vtcav.results.words import clear, count, distinct_names, interval, short_names, value

_SCRIPTS = "common.js", "charts.js", "images.js"
_QUOTED_OR_PERCENT = re.compile(
    r"""(?<!\w)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|“[^”]*”)(?!\w)|(?<=\d) %"""
)


def build_report(
    local: Iterable[LocalExplanation] = (),
    global_: Sequence[GlobalExplanation] = (),
    diagnostics: Diagnostics | None = None,
    title: str | None = None,
    limits: Sequence[Mapping[str, Any]] = (),
    sections: Sequence[Section] = (),
    not_done: Sequence[str] = (),
) -> str:
    """Return the report on some explanations as the text of an HTML file.

    Args:
        local: Explained images. They are read once, one at a time, so an iterator of thousands
            needs the memory of one.
        global_: Explained classes.
        diagnostics: How far the concepts can be trusted; without them the report says that this is
            not known.
        title: The title of the page; None for the network and the classes, or images.
        limits: What became of the limits of a study, as `LimitOutcome.to_dict` gives it.
        sections: Wrong predictions, corrections and second networks.
        not_done: Sentences on the steps of a study that failed.

    Raises:
        ExplanationError: When there is nothing to report.
    """
    templates = environment()
    trust = Trust(diagnostics)
    names = distinct_names(explained.class_name for explained in global_)
    sections = [
        *sections,
        *(group_section(each, i) for i, each in enumerate(global_) if each.groups),
    ]
    parts = [
        class_part(k, name, explained, trust)
        for k, (name, explained) in enumerate(zip(names, global_, strict=True))
    ]
    images, provenances, thumbnails = _read(local, trust)
    for g in reversed(global_):
        thumbnails |= g.thumbnails
    explained = [g.provenance for g in global_] + provenances
    diagnosed = [] if diagnostics is None else [diagnostics.provenance]
    sources = [f"class {name}" for name in names] + ["images"] * len(provenances)
    sources += ["diagnostics"] * len(diagnosed)
    added = [provenance for part in sections for provenance in part.provenances]
    sources += [part.title.lower() for part in sections for _ in part.provenances]
    known = explained + diagnosed + added
    about = frame(title or heading(known, names, [image.name for image in images]), known)
    page = templates.get_template("page.html.jinja").render(
        **{**about, "first_cautions": [*not_done, *about["first_cautions"]]},
        date=today(),
        **_charts(parts),
        **_viewer(images),
        overview=overview(parts, images, trust, explained + diagnosed)
        if explained or not sections
        else None,
        sections=sections,
        limits=sorted(limits, key=lambda one: STATES.index(one["state"])),
        concept_parts=concept_parts(thumbnails, diagnosed + explained, diagnostics, trust),
        diagnostics=diagnostics,
        methods=methods(explained, parts, len(images), diagnosed) if explained else [],
        provenance=provenance_text(sources, known),
        citation=CITATION,
    )
    # A name may hold half a letter (a lone surrogate), which UTF-8 cannot encode.
    return page.encode("utf-8", "replace").decode("utf-8")


def write_page(text: str, output: str | Path) -> Path:
    """Write the text of a page to a file, all or nothing, and return its path.

    Raises:
        ExplanationError: When it cannot be written.
    """
    output = given_path("output", output)
    # A name may hold half a letter (a lone surrogate), which UTF-8 cannot encode.
    text = text.encode("utf-8", "replace").decode("utf-8")
    try:
        with atomic_path(output) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ExplanationError(f"cannot write the page {str(output)!r}: {why(error)}") from error
    return output


def _read(
    local: Iterable[LocalExplanation], trust: Trust
) -> tuple[list[ImagePart], list[Provenance], dict[str, NDArray[np.uint8]]]:
    """Return parts, provenance and thumbnails of the images, releasing each before the next."""
    parts: list[ImagePart] = []
    provenances: list[Provenance] = []
    thumbnails: dict[str, NDArray[np.uint8]] = {}
    for explained in local:
        parts.append(image_part(explained, trust))
        if explained.provenance not in provenances[-1:]:
            provenances.append(explained.provenance)
        for name, pictures in explained.thumbnails.items():
            thumbnails.setdefault(name, pictures)
    return parts, provenances, thumbnails


def frame(
    title: str, provenances: Iterable[Provenance], scripts: Sequence[str] = _SCRIPTS
) -> dict[str, Any]:
    """Return what every page has: title, first cautions, style, scripts and their policy.

    Args:
        title: The title.
        provenances: Of all results on the page.
        scripts: The only scripts that the policy allows.
    """
    style, script = _text("style.css"), "\n".join(map(_text, scripts))
    return {
        "title": title,
        "first_cautions": list(dict.fromkeys(filter(None, (p.caution for p in provenances)))),
        "version": version("vtcav"),
        "policy": _policy(style, script),
        "style": style,
        "script": script,
    }


def _charts(parts: list[ClassPart]) -> dict[str, Any]:
    """Return the rows of all classes, for charts and table."""
    rows = [row for part in parts for row in part.rows]
    return {
        "parts": parts,
        "erased": any(part.erased for part in parts),
        "rows": [row for part in parts for row in sorted(part.rows, key=_read_later)],
        "layers": list(dict.fromkeys(row["layer"] for row in rows)),
        "concepts": list(dict.fromkeys(row["concept"] for row in rows)),
        "axis": axis(rows),
    }


def _read_later(row: AttributionRow) -> bool:
    """Return whether a row is not of the layer to read first for its concept."""
    return not row["first"]


def _viewer(parts: list[ImagePart]) -> dict[str, Any]:
    """Return the data of the images, and of the list that they are chosen from."""
    names = distinct_names(short_names([part.name for part in parts]))
    index = [
        {
            "name": clear(name),
            "best": clear(part.best),
            "probability": value(part.probability),
            "findings": len(part.claims),
        }
        for name, part in zip(names, parts, strict=True)
    ]
    return {
        "images": parts,
        "index": safe_json(index),
        "data": [safe_json(part.data) for part in parts],
        "settings": safe_json({"colours": hex_colours()}),
    }


def safe_json(data: Any) -> str:
    r"""Return JSON that cannot end the script element around it.

    Example:
        >>> safe_json("</script>")
        '"\\u003c/script\\u003e"'
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(style: str, script: str) -> str:
    """Return a policy that allows only this style and script, and fetches nothing."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _text(name: str) -> str:
    return resources.files("vtcav.report").joinpath(f"templates/{name}").read_text("utf-8")


@cache
def environment() -> Environment:
    """Return the templates of the pages."""
    templates = Environment(
        loader=PackageLoader("vtcav.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"clear": clear, "value": value, "exact": _exact, "unbroken": _unbroken}
    templates.globals |= {"count": count, "interval": interval, "in_words": in_words}
    templates.globals |= {"more_rows": more_rows}
    return templates


def _unbroken(sentence: str) -> str:
    """Return a sentence whose numbers keep to their percent sign; quoted names stay as they are."""
    return _QUOTED_OR_PERCENT.sub(lambda m: "\u00a0%" if m[0] == " %" else m[0], sentence)


def _exact(x: float) -> str:
    """Return a number in full, for the page to sort by; empty where there is none."""
    return "" if x != x else repr(float(x))
