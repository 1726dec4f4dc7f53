"""The title of a page that nobody gave one, and the date of today."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePath

from vtcav.results.provenance import Provenance
from vtcav.results.words import clear, count, listed

_NAMED = 3
"""The most classes or images that a title names."""


def heading(
    provenances: Sequence[Provenance], classes: Sequence[str], images: Sequence[str]
) -> str:
    """Return network and classes, or images where no class was explained.

    Args:
        provenances: Of everything on the page.
        classes: The names of the explained classes.
        images: The names of the explained images.
    """
    short = [PurePath(name).name for name in images]
    what = _named(classes, "class", "classes") or _named(short, "image", "images")
    networks = dict.fromkeys(str(each.model["network"]).split(" (")[0] for each in provenances)
    network = listed(list(networks)) if networks else ""
    return ": ".join(part for part in (network, what) if part) or "Concepts"


def today() -> str:
    """Return the date, as in 29 November 2026."""
    now = datetime.now(UTC).astimezone()
    return f"{now.day} {now:%B %Y}"


def _named(names: Sequence[str], one: str, many: str) -> str:
    """Return names in words, their number where they are many."""
    if len(names) > _NAMED:
        return count(len(names), one, many)
    if not names:
        return ""
    return listed([clear(name) for name in names])
