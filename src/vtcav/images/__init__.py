"""Images on their way in: listed, decoded, preprocessed and put into batches."""

from vtcav.images.listing import ImageSource, collect
from vtcav.images.references import ImageRef, Skipped, SkippedImageWarning, UnreadableError, read

__all__ = [
    "ImageRef",
    "ImageSource",
    "Skipped",
    "SkippedImageWarning",
    "UnreadableError",
    "collect",
    "read",
]
