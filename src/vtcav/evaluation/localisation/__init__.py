"""Localisation: comparison of concept maps with masks of the concepts."""

from vtcav.evaluation.localisation.compute import FolderLocalisation, localise_folder

__all__ = ["FolderLocalisation", "localise_folder"]
