"""Checks that compare concepts, compare layers, and locate a concept in the image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vtcav.diagnostics.direction_checks import Subject, separability_check
from vtcav.diagnostics.entanglement import Entanglement
from vtcav.diagnostics.levels import (
    BAD,
    FINE,
    LIMITS,
    LOOK,
    NOT_APPLICABLE,
    Finding,
    percent,
)
from vtcav.diagnostics.location import effective_share, place
from vtcav.diagnostics.separability import Z95, auc_interval
from vtcav.method.auc import auc

_NAN = math.nan
_FEW = 30  # small things at random locations then seem to gather


def entanglement_checks(subjects: Sequence[Subject], found: Entanglement) -> list[Finding]:
    """Return how far the concepts at one layer are confused, and what all of them share.

    Args:
        subjects: Every concept at one layer.
        found: The cosines between their directions.
    """
    if len(subjects) < 2:
        text = "Not applicable: whether the direction is this concept's own takes a second concept."
        return [
            subjects[0].finding(check, _NAN, NOT_APPLICABLE, text, note="no other concept")
            for check in ("entanglement", "other concepts")
        ]
    numbers = range(len(subjects))
    return [
        *(_neighbour(subjects, k, found) for k in numbers),
        *(_confused(subjects, k) for k in numbers),
        *_common_part(subjects, found),
    ]


def _neighbour(subjects: Sequence[Subject], k: int, found: Entanglement) -> Finding:
    """Return the finding on the concept whose direction is closest."""
    reason = ""
    cosines = found.corrected[k].copy()
    cosines[k] = np.nan
    if not np.isfinite(found.corrected[k, k]):
        reason = subjects[k].why_not() or "the direction is no longer than its chance errors"
    elif not np.isfinite(cosines).any():
        reason = "no other concept has a direction longer than its chance errors"
    if reason:
        what = "whether the direction is another concept's too"
        return subjects[k].untested("entanglement", what, reason)
    other = int(np.nanargmax(cosines))
    value = float(cosines[other])
    low, high = float(found.low[k, other]), float(found.high[k, other])
    level = LIMITS.neighbour.level(value)
    # not where the cosine could as well be half as large
    one = value >= LIMITS.one_direction and low >= LIMITS.neighbour.fine
    text = (
        f"The nearest other direction is that of {subjects[other].concept!r}, cosine "
        f"{found.raw[k, other]:z.2f}; {value:z.2f} is to be expected with many images, without the "
        f"{found.chance[k, other]:z.2f} that shared negatives add by chance"
    )
    end = "." if level == FINE else ": the larger part of the two is one direction."
    text += _not_apart(subjects[k].concept, subjects[other].concept) if one else end
    note = "" if math.isfinite(low) else "no interval: many resampled directions are chance"
    found_in = subjects[other].concept if one else ""
    return subjects[k].finding(
        "entanglement", value, level, text, ends=(low, high), note=note, other=found_in
    )


def _not_apart(concept: str, other: str) -> str:
    """Return the end of a sentence on two concepts that have one direction."""
    return (
        f": this layer does not tell {concept!r} from {other!r} apart, so that one may stand for "
        "the other; erasing each in turn tells which one counts."
    )


def _confused(subjects: Sequence[Subject], k: int) -> Finding:
    """Return the finding on the concept that the direction is most likely to take for its own."""
    mine, check = subjects[k], "other concepts"
    if reason := mine.why_not():
        return mine.untested(check, "against other concepts", reason)
    others = [subject for subject in subjects if subject.examples is not mine.examples]
    if not others:
        text = "Not applicable: all concepts take their emblems from one set of images."
        return mine.finding(check, _NAN, NOT_APPLICABLE, text, note="no other images")
    values = [auc(mine.margins_from(other.gap_pos)) for other in others]
    worst = int(np.argmin(values))
    value, other = values[worst], others[worst]
    low, high = auc_interval(value, len(mine.examples), len(other.examples))
    level, points = LIMITS.other.level(value), high < 0.5
    # a direction that tells nothing from anything is not the other concept's
    one = points and separability_check(mine).level != BAD
    text = (
        f"From a pair of its own example and one of {other.concept!r}, the direction picks its own "
        f"in {percent(value)} of cases ({percent(low)} to {percent(high)})"
    )
    end = "."
    if level == LOOK:
        end = f": where {other.concept!r} is, it will often show this concept too."
    if points:
        end = f": it points to {other.concept!r} rather than to its own concept."
    text += _not_apart(mine.concept, other.concept) if one else end
    found_in = other.concept if one else ""
    return mine.finding(check, value, level, text, ends=(low, high), other=found_in)


def _common_part(subjects: Sequence[Subject], found: Entanglement) -> list[Finding]:
    """Return the finding on what all directions share; for two concepts `_neighbour` says it."""
    cosines = found.corrected[np.triu_indices(len(subjects), 1)]
    cosines = cosines[np.isfinite(cosines)]
    if len(subjects) < 3 or len(cosines) < 3:
        return []
    value = float(cosines.mean())
    level = FINE if value < LIMITS.common.fine else LOOK
    text = f"On average two concepts' directions have a cosine of {value:z.2f}"
    if level == LOOK:
        text += (
            ": much of every direction is common to all examples and absent from the negatives, as "
            "between drawings and photographs; negatives of the examples' kind remove it"
        )
    where, note = (subjects[0].layer, "", "common part"), "a mean of cosines, no interval"
    return [Finding(*where, value, _NAN, _NAN, level, f"{text}.", note)]


# -- layers -----------------------------------------------------------------------------------


def rank_correlations(scores: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """Return Spearman's rank correlations between layers, of the same images' projections [L, L].

    Args:
        scores: For each layer the held-out projections [n + m]; None where there is no direction.

    Returns:
        Correlations [L, L], NaN where a layer has no direction or all its projections are equal.
    """
    from scipy.stats import rankdata

    correlations = np.full((len(scores), len(scores)), np.nan)
    ranks = {
        i: rankdata(values)
        for i, values in enumerate(scores)
        if values is not None and np.ptp(values) > 0
    }
    for i, a in ranks.items():
        for j, b in ranks.items():
            correlations[i, j] = np.corrcoef(a, b)[0, 1]
    return correlations


def layer_checks(
    concept: str, layers: Sequence[str], correlations: NDArray[np.float64], images: int
) -> list[Finding]:
    """Return whether each layer orders the images as the others do; nothing for one layer.

    Args:
        concept: The concept.
        layers: Their names, L of them.
        correlations: Rank correlations [L, L].
        images: The number of images that they are computed from.
    """
    if len(layers) < 2:
        return []
    return [
        _layer_check((layer, concept, "layer agreement"), np.delete(correlations[i], i), images)
        for i, layer in enumerate(layers)
    ]


def _layer_check(where: tuple[str, str, str], others: NDArray[np.float64], images: int) -> Finding:
    if not np.isfinite(others).any():
        reason = "this layer, or every other, has no direction to compare"
        text = f"Not tested whether layers agree: {reason}."
        return Finding(*where, _NAN, _NAN, _NAN, LOOK, text, reason)
    value = float(np.nanmean(others))
    level = LIMITS.agreement.level(value)
    order, end = "the same", "."
    if level == LOOK:
        order, end = "another", ": this layer may see something else in the examples than they do."
    text = f"The other layers put the same {images} images in {order} order "
    text += f"(rank correlation {value:z.2f}){end}"
    if images < 4:
        return Finding(*where, value, _NAN, _NAN, LOOK, text, "no interval: fewer than 4 images")
    # Bonett and Wright 2000: the standard error of Fisher's z of a rank correlation
    half = Z95 * math.sqrt((1 + value**2 / 2) / (images - 3))
    z = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, value)))
    return Finding(*where, value, math.tanh(z - half), math.tanh(z + half), level, text)


# -- location ---------------------------------------------------------------------------------


def location_check(
    subject: Subject, map_pos: NDArray[np.floating], map_neg: NDArray[np.floating]
) -> Finding:
    """Return whether a concept's examples all activate at one location.

    Args:
        subject: The concept at a layer.
        map_pos: Mean of the examples' raw maps, each divided by its sum [h, w].
        map_neg: The same for the negatives.
    """
    active = float(map_pos.sum())
    if map_pos.size < 4 or active <= 0:
        reason = "the map has fewer than 4 cells" if active > 0 else "no example activates"
        return subject.untested("place", "where in the image the concept is", reason)
    value, usual = effective_share(map_pos), effective_share(map_neg)
    text = "The activation of the examples is as concentrated as if it filled "
    text += f"{percent(value)} of the image"
    if math.isfinite(usual):
        text += f", on the negatives {percent(usual)}"
    level = FINE
    if value <= LIMITS.place.fine:
        level = LOOK
        text += f", most of all at {place(map_pos)}"
        text += "; see whether that is the concept, and not a mark or the framing"
        if len(subject.examples) < _FEW:
            text += f" (with {len(subject.examples)} examples it may be chance)"
    if active < 0.5:
        level = LOOK
        text += f"; in {percent(1 - active)} of the examples the layer sees nothing of the concept"
    return subject.finding("place", value, level, f"{text}.", note="a mean map, no interval")
