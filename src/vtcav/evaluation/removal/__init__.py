"""Insertion and deletion of a concept at a layer."""
