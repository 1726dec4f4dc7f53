"""Concepts that nobody named, as a result."""
