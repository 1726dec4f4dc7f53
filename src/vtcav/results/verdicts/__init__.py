"""What the measured effects of erasing say about each concept, in sentences."""

from vtcav.results.verdicts.contenders import contender
from vtcav.results.verdicts.verdict import (
    FEWEST,
    LARGE,
    RARE,
    SMALL,
    SMALL_LOGITS,
    Verdict,
    image_sentences,
    in_turn,
    verdicts,
)

__all__ = [
    "FEWEST",
    "LARGE",
    "RARE",
    "SMALL",
    "SMALL_LOGITS",
    "Verdict",
    "contender",
    "image_sentences",
    "in_turn",
    "verdicts",
]
