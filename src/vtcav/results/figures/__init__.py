"""Figures of explanations, and the page, palette and lettering of all figures."""
