"""Concept insertion and deletion at a layer."""
