"""Limits of the explorer, so that neither a mistake nor malice can exhaust the machine."""

FILE_BYTES = 32 << 20
"""The size of an uploaded picture."""

PICTURES = 300
"""Uploaded pictures held at a time."""

PICTURE_BYTES = 512 << 20
"""The size of all uploaded pictures together."""

PIXELS = 50_000_000
"""Pixels of an uploaded picture."""

SIDE = 20_000
"""Pixels along a side of an uploaded picture."""

VALUES = 200_000_000
"""Values of an uploaded picture: pixels times channels, pages or slices."""

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF", "PPM"),
    *("NPY", "NPZ", "DICOM"),
)
"""Accepted formats of pictures: Pillow's names, and others that `images.opening` reads."""

JSON_BYTES = 1 << 20
"""The size of any other request."""

NAME_LETTERS = 80
"""Characters of the name of a concept or picture."""

CONCEPTS = 30
"""Concepts held at a time."""

TILES = 1000
"""Tiles of found concepts that were thrown away or merged."""

EXAMPLES = 1000
"""Examples of one concept, and counter-examples of its own."""

CLASSES = 10
"""Classes explained at a time."""

PATCH_SIDE = 8
"""The fewest pixels along a side of a patch."""

PATCH_BYTES = 256 << 20
"""The size of all patches together, decoded."""
