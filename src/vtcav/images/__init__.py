"""Images on their way in: listed, decoded, preprocessed and put into batches."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.images.listing import ImageSource, collect
    from vtcav.images.references import (
        ImageRef,
        Skipped,
        SkippedImageWarning,
        UnreadableError,
        read,
    )

__all__ = [
    "ImageRef",
    "ImageSource",
    "Skipped",
    "SkippedImageWarning",
    "UnreadableError",
    "collect",
    "read",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        home = "listing" if name in ("ImageSource", "collect") else "references"
        return getattr(import_module(f"vtcav.images.{home}"), name)
    raise AttributeError(f"module 'vtcav.images' has no attribute {name!r}")
