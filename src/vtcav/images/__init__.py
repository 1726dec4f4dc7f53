"""Images on their way in: listed, decoded, preprocessed and put into batches."""

from vtcav.images.decoding import BandPicture
from vtcav.images.listing import ImageSource, collect
from vtcav.images.opening import picture_of
from vtcav.images.references import ImageRef, Skipped, SkippedImageWarning, UnreadableError, read
from vtcav.images.volumes import VolumePicture

__all__ = [
    "BandPicture",
    "ImageRef",
    "ImageSource",
    "Skipped",
    "SkippedImageWarning",
    "UnreadableError",
    "VolumePicture",
    "collect",
    "picture_of",
    "read",
]
