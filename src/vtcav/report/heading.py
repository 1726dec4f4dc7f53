"""The title of a page that nobody gave one, and the date of today."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from vtcav.results.provenance import Provenance
from vtcav.results.words import clear, count, listed, network_name, picture_name

_NAMED = 3
"""The most classes or images that a title names."""


def heading(
    provenances: Sequence[Provenance], classes: Sequence[str], images: Sequence[str]
) -> str:
    """Return what the page is about: the network, if it has a name, and classes or images.

    Args:
        provenances: Of everything on the page.
        classes: The names of the explained classes.
        images: The names of the explained images.
    """
    what = "concepts"
    if classes:
        what = f"concepts for {_named(classes, 'class', 'classes')}"
    elif images:
        names = list(map(picture_name, images))
        if len(names) > 1:  # the first of several pictures in memory
            names = ["image 0" if name == "the image" else name for name in names]
        what = f"concepts in {_named(names, '', 'images')}"
    networks = dict.fromkeys(network_name(str(each.model["network"])) for each in provenances)
    known = [clear(name) for name in networks if name]
    return f"{listed(known)}: {what}" if known else f"C{what[1:]}"


def today() -> str:
    """Return the date, as in 29 November 2026."""
    now = datetime.now(UTC).astimezone()
    return f"{now.day} {now:%B %Y}"


def _named(names: Sequence[str], one: str, many: str) -> str:
    """Return names in words, their number where they are many."""
    if len(names) > _NAMED:
        return count(len(names), one, many)
    if not one:
        return listed(names)
    quoted = listed([f"“{clear(name)}”" for name in names])
    return f"the {one if len(names) == 1 else many} {quoted}"
