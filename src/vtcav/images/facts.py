"""What is known of a file without decoding it."""

from __future__ import annotations

from dataclasses import dataclass

from vtcav.errors import ImageError
from vtcav.images.references import ImageRef

__all__ = ["Fact", "fact_of"]


@dataclass(frozen=True)
class Fact:
    """What tells whether an image is still the one that was computed.

    Attributes:
        size: Of the file in bytes; -1 where there is no file.
        mtime_ns: When the file was last changed; -1 where there is no file.
        digest: SHA-256 of the content; empty where it could not be opened.
    """

    size: int
    mtime_ns: int
    digest: str


def fact_of(ref: ImageRef, known: Fact | None = None) -> Fact:
    """Return what an image is at this moment.

    Args:
        ref: The image.
        known: What it was. A file of the same size and time is taken to have the same content.
    """
    size = mtime_ns = -1
    try:
        size, mtime_ns = ref.status()
        there = Fact(size, mtime_ns, known.digest if known else "")
        if there == known and there.digest and mtime_ns >= 0:
            return there
        return Fact(size, mtime_ns, ref.digest())
    except (OSError, ImageError):
        return Fact(size, mtime_ns, "")
