"""Erasure: place filters, regions, fills and effects, against literal oracles."""
