"""The state of an image file: its size, time and content, without decoding it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from vtcav.errors import ImageError
from vtcav.images.references import ImageRef


@dataclass(frozen=True)
class Fact:
    """The state of an image, which tells whether it is still the one that was computed.

    Attributes:
        size: The file's size in bytes; -1 where there is no file.
        mtime_ns: When the file was last changed; -1 where there is no file.
        digest: SHA-256 of the content; empty where it could not be opened.
    """

    size: int
    mtime_ns: int
    digest: str


def fact_of(ref: ImageRef, known: Fact | None = None) -> Fact:
    """Return the present state of an image.

    Args:
        ref: The image.
        known: An earlier state. A file of the same size and time is taken to have the same content.
    """
    if known is not None and known.digest and known.mtime_ns >= 0:
        with suppress(OSError):
            if ref.status() == (known.size, known.mtime_ns):
                return known
    return fetched(ref)[0]


def fetched(ref: ImageRef) -> tuple[Fact, ImageRef]:
    """Return the present state of an image, and the image with its bytes here: it is read once.

    The state is taken first: if the file changes meanwhile, that shows later. An image that cannot
    be read has an empty digest, and its `load` says why.
    """
    size = mtime_ns = -1
    try:
        size, mtime_ns = ref.status()
        here = ref.fetch()
        return Fact(size, mtime_ns, here.digest()), here
    except (OSError, ImageError):
        return Fact(size, mtime_ns, ""), ref
