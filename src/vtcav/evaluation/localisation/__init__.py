"""Localisation: comparison of concept maps with masks of the concepts."""

from vtcav.evaluation.localisation.compute import localise_folder
from vtcav.evaluation.localisation.result import FolderLocalisation

__all__ = ["FolderLocalisation", "localise_folder"]
