"""Findings about a network: its cuts, usable layers, stages, layouts and logits."""
