"""Localisation: whether concept maps lie on the concept."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.evaluation.localisation.compute import FolderLocalisation, localise_folder

__all__ = ["FolderLocalisation", "localise_folder"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("vtcav.evaluation.localisation.compute"), name)
    raise AttributeError(f"module 'vtcav.evaluation.localisation' has no attribute {name!r}")
