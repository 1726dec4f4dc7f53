"""Localisation: whether concept maps lie on the concept."""

from vtcav.evaluation.localisation.compute import FolderLocalisation, localise_folder

__all__ = ["FolderLocalisation", "localise_folder"]
