"""Correction: a network that no longer uses a concept, and a report of what that changes."""
