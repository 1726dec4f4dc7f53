"""What the measured effects of erasing say about each concept, in sentences."""

from vtcav.results.verdicts.verdicts import (
    FEWEST,
    RARE,
    Verdict,
    image_sentences,
    in_turn,
    verdicts,
)

__all__ = ["FEWEST", "RARE", "Verdict", "image_sentences", "in_turn", "verdicts"]
