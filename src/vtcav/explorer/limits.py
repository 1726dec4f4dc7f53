"""What the explorer takes at most, so that neither a mistake nor malice can exhaust the machine."""

from __future__ import annotations

__all__ = [
    "CLASSES",
    "CONCEPTS",
    "EXAMPLES",
    "FILE_BYTES",
    "FORMATS",
    "JSON_BYTES",
    "NAME_LETTERS",
    "PATCH_BYTES",
    "PATCH_SIDE",
    "PICTURES",
    "PICTURE_BYTES",
    "PIXELS",
    "SIDE",
]

FILE_BYTES = 32 << 20
"""Of an uploaded picture."""

PICTURES = 300
"""Uploaded pictures held at a time."""

PICTURE_BYTES = 512 << 20
"""Of all uploaded pictures together."""

PIXELS = 50_000_000
"""Of an uploaded picture."""

SIDE = 20_000
"""Pixels on a side of an uploaded picture."""

FORMATS = "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF"
"""Kinds of pictures that are taken, as Pillow names them."""

JSON_BYTES = 1 << 20
"""Of any other request."""

NAME_LETTERS = 80
"""Of the name of a concept or picture."""

CONCEPTS = 30
EXAMPLES = 1000
"""Of one concept, examples or negatives."""

CLASSES = 10
"""Explained at a time."""

PATCH_SIDE = 8
"""Fewest pixels on a side of a patch."""

PATCH_BYTES = 256 << 20
"""Of all patches together, decoded."""
