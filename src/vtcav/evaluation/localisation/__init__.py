"""Localisation: whether concept maps lie on the concept."""
