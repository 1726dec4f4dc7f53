"""What the measured effects of erasing say about each concept, in sentences."""

from vtcav.results.verdicts.contenders import (
    contender,
    counts_by_itself,
    mostly_of_others,
    overlapping,
    own_part,
)
from vtcav.results.verdicts.images import image_sentences, reading_place, stands_out
from vtcav.results.verdicts.ownership import Ownership, ownership
from vtcav.results.verdicts.verdict import (
    FEWEST,
    LARGE,
    RARE,
    SMALL,
    SMALL_LOGITS,
    Verdict,
    verdicts,
)

__all__ = [
    "FEWEST",
    "LARGE",
    "RARE",
    "SMALL",
    "SMALL_LOGITS",
    "Ownership",
    "Verdict",
    "contender",
    "counts_by_itself",
    "image_sentences",
    "mostly_of_others",
    "overlapping",
    "own_part",
    "ownership",
    "reading_place",
    "stands_out",
    "verdicts",
]
