"""Concepts beside each other, layers beside each other, and places: checks in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vtcav.diagnostics import levels
from vtcav.diagnostics.direction_checks import Subject
from vtcav.diagnostics.entanglement import Entanglement
from vtcav.diagnostics.levels import BAD, FINE, LOOK, Finding, percent, untested
from vtcav.diagnostics.location import effective_share, middle, words
from vtcav.diagnostics.separability import Z95, auc, auc_interval, margins_from

__all__ = ["agreement", "agreement_check", "entanglement_checks", "place_check"]

_NAN = math.nan
_FEW = 30  # small things at random places then seem to gather


def entanglement_checks(subjects: Sequence[Subject], found: Entanglement) -> list[Finding]:
    """Return how far the concepts of one layer are confused, and what all of them share.

    Args:
        subjects: Every concept at one layer.
        found: The cosines of their directions.
    """
    if len(subjects) < 2:
        text = "Not tested whether the direction is this concept's own: there is no other concept."
        only = subjects[0].layer, subjects[0].concept
        checks = "entanglement", "other concepts"
        return [untested(*only, check, text, "no other concept") for check in checks]
    numbers = range(len(subjects))
    return [
        *(_neighbour(subjects, k, found) for k in numbers),
        *(_confused(subjects, k) for k in numbers),
        *_common_part(subjects, found),
    ]


def _neighbour(subjects: Sequence[Subject], k: int, found: Entanglement) -> Finding:
    """Return the concept whose direction is closest."""
    where = subjects[k].layer, subjects[k].concept, "entanglement"
    if not np.isfinite(found.corrected[k, k]):
        reason = subjects[k].why_not() or "the direction is no longer than its chance errors"
        text = f"Not tested whether the direction is another concept's too: {reason}."
        return untested(*where, text, reason)
    cosines = found.corrected[k].copy()
    cosines[k] = np.nan
    if not np.isfinite(cosines).any():
        reason = "no other concept has a direction longer than its chance errors"
        text = f"Not tested whether the direction is another concept's too: {reason}."
        return untested(*where, text, reason)
    other = int(np.nanargmax(cosines))
    value = float(cosines[other])
    low, high = float(found.low[k, other]), float(found.high[k, other])
    level = FINE if value < levels.NEIGHBOUR_FINE else LOOK
    # a cosine that could as well be half as large condemns nothing
    sure = low >= levels.NEIGHBOUR_FINE
    level = BAD if value >= levels.NEIGHBOUR_USABLE and sure else level
    ends = {
        FINE: ".",
        LOOK: ": the larger part of the two is one direction.",
        BAD: ": the layer has one direction for both.",
    }
    text = (
        f"The nearest other direction is that of {subjects[other].concept!r}, cosine {value:.2f} "
        f"(without the {found.chance[k, other]:.2f} that shared negatives add by chance)"
    )
    note = "" if math.isfinite(low) else "no interval: many resampled directions are chance"
    return Finding(*where, value, low, high, level, text + ends[level], note)


def _confused(subjects: Sequence[Subject], k: int) -> Finding:
    """Return the concept whose examples the direction tells worst from its own."""
    mine = subjects[k]
    where = mine.layer, mine.concept, "other concepts"
    if reason := mine.why_not():
        return untested(*where, f"Not tested against other concepts: {reason}.", reason)
    others = [subject for i, subject in enumerate(subjects) if i != k]
    values = [auc(margins_from(mine.gap_pos, mine.gap_neg, other.gap_pos)) for other in others]
    worst = int(np.argmin(values))
    value, other = values[worst], others[worst]
    low, high = auc_interval(value, len(mine.examples), len(other.examples))
    level = FINE if value >= levels.OTHER_FINE else LOOK
    level = BAD if high < levels.OTHER_USABLE else level
    text = (
        f"Of an example of this concept and one of {other.concept!r}, the direction picks its own "
        f"in {percent(value)} of pairs ({percent(low)} to {percent(high)})"
    )
    ends = {
        FINE: ".",
        LOOK: f": where {other.concept!r} is, it will often show this concept too.",
        BAD: f": it points to {other.concept!r} rather than to its own concept.",
    }
    return Finding(*where, value, low, high, level, text + ends[level])


def _common_part(subjects: Sequence[Subject], found: Entanglement) -> list[Finding]:
    """Return what all directions of a layer share; two concepts are neighbours already."""
    cosines = found.corrected[np.triu_indices(len(subjects), 1)]
    cosines = cosines[np.isfinite(cosines)]
    if len(subjects) < 3 or len(cosines) < 3:
        return []
    value = float(cosines.mean())
    level = FINE if value < levels.COMMON_FINE else LOOK
    text = f"On average two concepts' directions have a cosine of {value:.2f}"
    if level == LOOK:
        text += (
            ": much of every direction is what all examples have and the negatives lack, as "
            "drawings have against photographs; negatives of the examples' kind take it out"
        )
    note = "a mean of cosines, no interval"
    return [
        Finding(subjects[0].layer, "", "common part", value, _NAN, _NAN, level, text + ".", note)
    ]


# -- layers -----------------------------------------------------------------------------------


def agreement(scores: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """Return Spearman's rank correlation between layers of the same images' projections [L, L].

    Args:
        scores: By layer the held-out projections [n + m]; None where there is no direction.

    Returns:
        NaN where a layer has no direction, or all its projections are one.
    """
    from scipy.stats import rankdata

    found = np.full((len(scores), len(scores)), np.nan)
    ranks = {
        i: rankdata(values)
        for i, values in enumerate(scores)
        if values is not None and np.ptp(values) > 0
    }
    for i, a in ranks.items():
        for j, b in ranks.items():
            found[i, j] = np.corrcoef(a, b)[0, 1]
    return found


def agreement_check(
    concept: str, layers: Sequence[str], correlations: NDArray[np.float64], images: int
) -> list[Finding]:
    """Return how each layer agrees with the others; nothing for one layer.

    Args:
        concept: The concept.
        layers: Their names, L of them.
        correlations: Rank correlations [L, L].
        images: How many images they are over.
    """
    return [
        _agreement_at(concept, layers, i, correlations, images)
        for i in range(len(layers))
        if len(layers) > 1
    ]


def _agreement_at(
    concept: str, layers: Sequence[str], i: int, correlations: NDArray[np.float64], images: int
) -> Finding:
    where = layers[i], concept, "layer agreement"
    others = np.delete(correlations[i], i)
    if not np.isfinite(others).any():
        reason = "this layer, or every other, has no direction to compare"
        return untested(*where, f"Not tested whether layers agree: {reason}.", reason)
    value = float(np.nanmean(others))
    level = FINE if value >= levels.AGREEMENT_FINE else LOOK
    text = f"The other layers order the same {images} images alike (rank correlation {value:.2f})."
    if level == LOOK:
        text = (
            f"The other layers order the same {images} images otherwise (rank correlation "
            f"{value:.2f}): this layer may see something else in the examples than they do."
        )
    if images < 4:
        return Finding(*where, value, _NAN, _NAN, LOOK, text, "no interval: fewer than 4 images")
    # Bonett and Wright 2000: the standard error of Fisher's z of a rank correlation
    half = Z95 * math.sqrt((1 + value**2 / 2) / (images - 3))
    z = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, value)))
    return Finding(*where, value, math.tanh(z - half), math.tanh(z + half), level, text)


# -- places -----------------------------------------------------------------------------------


def place_check(
    subject: Subject, place_pos: NDArray[np.floating], place_neg: NDArray[np.floating]
) -> Finding:
    """Return whether a concept's examples activate at one place.

    Args:
        subject: The concept at a layer.
        place_pos: Mean of the examples' raw maps, each divided by its sum [h, w].
        place_neg: The same of the negatives.
    """
    where = subject.layer, subject.concept, "place"
    active = float(place_pos.sum())
    if place_pos.size < 4 or active <= 0:
        reason = "the map has fewer than 4 cells" if active > 0 else "no example activates"
        return untested(*where, f"Not tested where in the image the concept is: {reason}.", reason)
    value, usual = effective_share(place_pos), effective_share(place_neg)
    text = "What the examples activate is as concentrated as if it filled "
    text += f"{percent(value)} of the image"
    if math.isfinite(usual):
        text += f", on the negatives {percent(usual)}"
    level = FINE
    if value <= levels.PLACE_FINE:
        level = LOOK
        text += f", most of all at the {words(*middle(place_pos))}"
        text += "; see whether the concept is what lies there, and not a mark or the framing"
        if len(subject.examples) < _FEW:
            text += f" (with {len(subject.examples)} examples it may be chance)"
    if active < 0.5:
        level = LOOK
        text += f"; in {percent(1 - active)} of the examples the layer sees nothing of the concept"
    note = "a mean map, no interval"
    return Finding(*where, value, _NAN, _NAN, level, text + ".", note)
