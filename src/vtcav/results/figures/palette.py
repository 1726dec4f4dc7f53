"""Colours of all figures.

Okabe and Ito's, which people with any colour vision can tell apart, without the yellow.
"""

from __future__ import annotations

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, VERMILION, ORANGE = PALETTE[0], PALETTE[1], PALETTE[4]
MUTED = "0.35"
"""The colour of explanatory text."""
GRID = "0.88"
