"""How far a direction depends on the choice of its images: checks in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vtcav.diagnostics import levels
from vtcav.diagnostics.direction_checks import Subject
from vtcav.diagnostics.levels import (
    BAD,
    FINE,
    LOOK,
    Finding,
    at_least,
    count,
    percent,
    untested,
    worst,
)
from vtcav.diagnostics.stability import cosine, curve_sizes, is_zero, replication, spearman_brown
from vtcav.results.image_set import SetEvidence

__all__ = ["CurvePoint", "stability_checks", "stability_curve"]

_NAN = math.nan


class CurvePoint(NamedTuple):
    """The stability of a direction from so many examples.

    Attributes:
        layer: The layer.
        concept: The concept.
        n: Examples, with the same share of the negatives.
        stability: Mean cosine between directions from two disjoint draws of this size.
        low: 2.5 % of the pairs of draws have less.
        high: 97.5 % have less.
        measured: False where it is extended from half of the examples (Spearman-Brown).
    """

    layer: str
    concept: str
    n: int
    stability: float
    low: float
    high: float
    measured: bool


def stability_curve(subject: Subject) -> list[CurvePoint]:
    """Return the stability by number of examples: measured up to half of them, then extended.

    For n examples, and the same share of the negatives, two disjoint draws are made, and the cosine
    between their directions taken, over all resamples. The mean is extended to all examples, and to
    twice as many, by Spearman-Brown's formula, and so are the ends.
    """
    if subject.why_not():
        return []
    n, m = len(subject.examples), len(subject.negatives)
    points = []
    for size in curve_sizes(n):
        share = max(1, min(round(m * size / n), m // 2))
        positives = subject.resamples.halves(subject.examples, size)
        negatives = subject.resamples.halves(subject.negatives, share, keep=True)
        pair = [p - q for p, q in zip(positives, negatives, strict=True)]
        # identical draws of identical images give directions of 0, which have no cosine
        cosines = np.nan_to_num(cosine(*pair).numpy())
        low, high = np.percentile(cosines, (2.5, 97.5))
        where = subject.layer, subject.concept, size
        points.append(CurvePoint(*where, float(cosines.mean()), float(low), float(high), True))
    half = points[-1]
    for size in (n, 2 * n):
        r, low, high = (spearman_brown(value, size / half.n) for value in half[3:6])
        points.append(half._replace(n=size, stability=r, low=low, high=high, measured=False))
    return points


def stability_checks(
    subject: Subject, curve: Sequence[CurvePoint], other: SetEvidence | None
) -> list[Finding]:
    """Return how far a direction depends on the choice of images.

    Args:
        subject: The concept at a layer.
        curve: Its stability by number of examples.
        other: Other negatives to compare with.
    """
    findings = [_examples(subject, curve)]
    if reason := subject.why_not():
        checks = ["split half", "standard error", "bootstrap", "negatives halves"]
        checks += ["other negatives"] if other is not None else []
        text = "Not tested how far the direction depends on the choice of images: " + reason + "."
        where = subject.layer, subject.concept
        return findings + [untested(*where, check, text, reason) for check in checks]
    findings += [_split_half(subject, curve), _standard_error(subject), _bootstrap(subject)]
    findings.append(_negatives_halves(subject))
    if other is not None:
        findings.append(_other_negatives(subject, other))
    return findings


def _level(replicated: float) -> str:
    return at_least(replicated, levels.REPLICATION_FINE, levels.REPLICATION_USABLE)


def _split_half(subject: Subject, curve: Sequence[CurvePoint]) -> Finding:
    n = len(subject.examples)
    point = next(point for point in curve if point.n == n and not point.measured)
    half = next(point for point in reversed(curve) if point.measured)
    level = _level(point.stability)
    text = (
        f"Directions from two halves of the images have a cosine of {half.stability:.2f}; two "
        f"studies of this size would have {point.stability:.2f} (1: the same direction, 0: noise)"
    )
    ends = {
        FINE: ".",
        LOOK: "; other examples would turn it noticeably.",
        BAD: "; the choice of images weighs as much as the concept.",
    }
    where = subject.layer, subject.concept, "split half"
    return Finding(*where, point.stability, point.low, point.high, level, text + ends[level])


def _standard_error(subject: Subject) -> Finding:
    _, error = replication(subject.gap_pos, subject.gap_neg)
    level = LOOK if error > levels.ERROR_FINE else FINE
    level = BAD if error >= levels.ERROR_USABLE else level
    text = (
        f"The chance errors of the direction are {percent(error)} of its length "
        "(about 100 % where it is nothing but chance)."
    )
    where = subject.layer, subject.concept, "standard error"
    return Finding(*where, error, _NAN, _NAN, level, text, "closed form, no interval")


def _bootstrap(subject: Subject) -> Finding:
    drawn = subject.resamples.bootstrap(subject.examples)
    drawn = drawn - subject.resamples.bootstrap(subject.negatives)
    value, low, high = _mean_and_ends(cosine(drawn, subject.v))
    level = at_least(value, levels.BOOTSTRAP_FINE, levels.BOOTSTRAP_USABLE)
    text = (
        "Drawing examples and negatives anew from the same images turns the direction by "
        f"{_degrees(value)} degrees on average (cosine {value:.2f}; for a direction of nothing but "
        "chance about 45 degrees)."
    )
    return Finding(subject.layer, subject.concept, "bootstrap", value, low, high, level, text)


def _negatives_halves(subject: Subject) -> Finding:
    mean = subject.resamples.centred(subject.examples).mean(0)
    half = len(subject.negatives) // 2
    first, second = subject.resamples.halves(subject.negatives, half, keep=True)
    value, low, high = _mean_and_ends(cosine(mean - first, mean - second))
    level = at_least(value, levels.NEGATIVES_FINE, levels.NEGATIVES_USABLE)
    text = (
        "Against one half of the negatives or against the other, the direction differs by "
        f"{_degrees(value)} degrees (cosine {value:.2f})"
    )
    end = "." if level == FINE else "; it depends on which negatives were chosen."
    where = subject.layer, subject.concept, "negatives halves"
    return Finding(*where, value, low, high, level, text + end)


def _other_negatives(subject: Subject, other: SetEvidence) -> Finding:
    where = subject.layer, subject.concept, "other negatives"
    turned = subject.gap_pos.double().mean(0) - other.gap[subject.layer].double().mean(0)
    if is_zero(turned, other.gap[subject.layer]):
        reason = "against the other negatives the direction is 0"
        return untested(*where, f"Not tested against other negatives: {reason}.", reason)
    value = float(cosine(subject.v, turned))
    mean = subject.resamples.bootstrap(subject.examples)
    pair = [mean - subject.resamples.bootstrap(s) for s in (subject.negatives, other)]
    mean_cosine, low, high = _mean_and_ends(cosine(*pair))
    # redrawn directions have more chance in them, so that all of their cosines are lower
    low, high = low + value - mean_cosine, min(1.0, high + value - mean_cosine)
    # another set of negatives asks another question, so that this alone condemns no direction
    level = FINE if value >= levels.NEGATIVES_FINE else LOOK
    text = (
        f"Against the {count(len(other), 'other negative')} the direction differs by "
        f"{_degrees(value)} degrees (cosine {value:.2f})"
    )
    end = "." if level == FINE else "; say which negatives were used wherever it is shown."
    return Finding(*where, value, low, high, level, text + end)


def _mean_and_ends(cosines: Tensor) -> tuple[float, float, float]:
    values = np.nan_to_num(cosines.numpy())
    low, high = np.percentile(values, (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def _degrees(value: float) -> int:
    return round(math.degrees(math.acos(max(-1.0, min(1.0, value)))))


def _examples(subject: Subject, curve: Sequence[CurvePoint]) -> Finding:
    """Return whether there are enough images, by their number and by the curve."""
    n, m = len(subject.examples), len(subject.negatives)
    where = subject.layer, subject.concept, "examples"
    level = at_least(min(n, m), levels.EXAMPLES_FINE, levels.EXAMPLES_USABLE - 1)
    text = f"{count(n, 'example')} and {count(m, 'negative')}"
    if not curve:
        text += ": it cannot be seen how much the direction depends on the choice of images."
        note = f"no interval: {subject.why_not()}"
        return Finding(*where, n, _NAN, _NAN, worst([level, LOOK]), text, note)
    now, twice = (point.stability for point in curve[-2:])
    level = worst([level, _level(now)])
    text += f"; another study of this size would give a direction of cosine {now:.2f} with this one"
    if now < levels.CURVE_MOST:
        text += f", with twice as many images {twice:.2f}"
    if min(n, m) < levels.EXAMPLES_FINE:
        text += f"; fewer than {levels.EXAMPLES_FINE} images show little of how they vary"
    return Finding(*where, n, _NAN, _NAN, level, text + ".", "a count, no interval")
