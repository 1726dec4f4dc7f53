"""Checks on how far a direction depends on the choice of its images, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vtcav.diagnostics.direction_checks import Subject
from vtcav.diagnostics.levels import (
    BAD,
    FINE,
    LIMITS,
    LOOK,
    NOT_APPLICABLE,
    Finding,
    by_level,
    percent,
    worst,
)
from vtcav.diagnostics.stability import cosine, curve_sizes, is_zero, replication, spearman_brown
from vtcav.method.cav import direction
from vtcav.results.image_set import ImageSetRecord
from vtcav.results.words import count

_OF_LEARNED = "split half", "standard error", "bootstrap", "negatives halves"
"""Checks on a direction that is learned from the images."""


class CurvePoint(NamedTuple):
    """The stability of a direction learned from a number of examples.

    Attributes:
        layer: The layer.
        concept: The concept.
        n: Examples, with the same share of the negatives.
        stability: The mean cosine between directions from two disjoint draws of this size.
        low: The 2.5th percentile of the cosine over the draws.
        high: The 97.5th percentile.
        measured: False where it is extrapolated from half of the examples (Spearman-Brown).
    """

    layer: str
    concept: str
    n: int
    stability: float
    low: float
    high: float
    measured: bool


def stability_curve(subject: Subject) -> list[CurvePoint]:
    """Return the stability by number of examples: measured up to half of them, then extrapolated.

    For n examples and the same share of the negatives, each resample makes two disjoint draws and
    takes the cosine between their directions. The Spearman-Brown formula extrapolates the mean and
    the percentiles to all examples, and to twice as many.
    """
    if subject.why_not() or subject.given is not None:
        return []
    n, m = len(subject.examples), len(subject.negatives)
    points = []
    for size in curve_sizes(n):
        share = max(1, min(round(m * size / n), m // 2))
        positives = subject.resamples.halves(subject.examples, size)
        negatives = subject.resamples.halves(subject.negatives, share, keep=True)
        pair = [p - q for p, q in zip(positives, negatives, strict=True)]
        spread = _mean_and_ends(cosine(*pair))
        points.append(CurvePoint(subject.layer, subject.concept, size, *spread, True))
    half = points[-1]
    for size in (n, 2 * n):
        r, low, high = (spearman_brown(value, size / half.n) for value in half[3:6])
        points.append(half._replace(n=size, stability=r, low=low, high=high, measured=False))
    return points


def stability_checks(
    subject: Subject, curve: Sequence[CurvePoint], other: ImageSetRecord | None
) -> list[Finding]:
    """Return how far a direction depends on the choice of images.

    Args:
        subject: The concept at a layer.
        curve: Its stability by number of examples.
        other: Other negatives to compare with.
    """
    if subject.given is not None:
        return _of_given(subject, other)
    findings = [_examples(subject, curve)]
    if reason := subject.why_not():
        checks = [*_OF_LEARNED, *(["other negatives"] if other is not None else [])]
        what = "how far the direction depends on the choice of images"
        return findings + [subject.untested(check, what, reason) for check in checks]
    findings += [_split_half(subject, curve), _standard_error(subject), _bootstrap(subject)]
    findings.append(_negatives_halves(subject))
    if other is not None:
        findings.append(_other_negatives(subject, other))
    return findings


def _of_given(subject: Subject, other: ImageSetRecord | None) -> list[Finding]:
    """Return the findings on a direction that was not learned from the images."""
    n, m = len(subject.examples), len(subject.negatives)
    text = (
        f"{count(n, 'example')} and {count(m, 'negative')}, from which the emblems come; the "
        f"direction {'is that of a text' if subject.text else 'was given'} and does not depend on "
        "them"
    )
    if min(n, m) < LIMITS.examples.fine:
        text += f"; fewer than {LIMITS.examples.fine} images show little of how they vary"
    level = LIMITS.examples.level(min(n, m))
    examples = subject.finding("examples", n, level, f"{text}.", note="a count, no interval")
    note = "the direction was given"
    text = (
        "Not available: the direction was given, so that what it was learned from is unknown here; "
        "learn it again from other data to see how far it turns."
    )
    if subject.text:
        note = "the direction is that of a text"
        text = (
            "Not applicable: the direction is that of a text, and does not come from the examples; "
            "the intervals of attributions hold how far it depends on the probe images."
        )
    checks = [*_OF_LEARNED, *(["other negatives"] if other is not None else [])]
    return [examples] + [
        subject.finding(check, math.nan, NOT_APPLICABLE, text, note=note) for check in checks
    ]


def _split_half(subject: Subject, curve: Sequence[CurvePoint]) -> Finding:
    half, now, _ = curve[-3:]
    level = LIMITS.replication.level(now.stability)
    text = (
        f"Directions from two halves of the images have a cosine of {half.stability:z.2f}; two "
        f"studies of this size would have {now.stability:z.2f} (1: the same direction, 0: noise)"
    )
    look = "; other examples would turn it noticeably."
    text += by_level(level, ".", look, "; the choice of images weighs as much as the concept.")
    ends = now.low, now.high
    return subject.finding("split half", now.stability, level, text, ends=ends)


def _standard_error(subject: Subject) -> Finding:
    _, error = replication(subject.gap_pos, subject.gap_neg)
    text = (
        f"The chance errors of the direction are {percent(error)} of its length "
        "(about 100 % for pure chance)."
    )
    level, note = LIMITS.error.level(error), "closed form, no interval"
    return subject.finding("standard error", error, level, text, note=note)


def _bootstrap(subject: Subject) -> Finding:
    drawn = subject.resamples.bootstrap(subject.examples)
    drawn = drawn - subject.resamples.bootstrap(subject.negatives)
    value, low, high = _mean_and_ends(cosine(drawn, subject.v))
    text = (
        "Redrawing examples and negatives from the same images turns the direction by "
        f"{_degrees(value)} degrees on average (cosine {value:z.2f}; pure chance: about 45 "
        "degrees)."
    )
    level = LIMITS.bootstrap.level(value)
    return subject.finding("bootstrap", value, level, text, ends=(low, high))


def _negatives_halves(subject: Subject) -> Finding:
    mean = subject.resamples.centred(subject.examples).mean(0)
    half = len(subject.negatives) // 2
    first, second = subject.resamples.halves(subject.negatives, half, keep=True)
    value, low, high = _mean_and_ends(cosine(mean - first, mean - second))
    level = LIMITS.negatives.level(value)
    text = (
        "Between one half of the negatives and the other, the direction differs by "
        f"{_degrees(value)} degrees (cosine {value:z.2f})"
    )
    text += "." if level == FINE else "; it depends on which negatives were chosen."
    return subject.finding("negatives halves", value, level, text, ends=(low, high))


def _other_negatives(subject: Subject, other: ImageSetRecord) -> Finding:
    check = "other negatives"
    turned = direction(subject.gap_pos.double(), other.gap[subject.layer].double())
    if is_zero(turned, other.gap[subject.layer]):
        reason = "against the other negatives the direction is 0"
        return subject.untested(check, "against other negatives", reason)
    value = float(cosine(subject.v, turned))
    mean = subject.resamples.bootstrap(subject.examples)
    pair = [mean - subject.resamples.bootstrap(s) for s in (subject.negatives, other)]
    mean_cosine, low, high = _mean_and_ends(cosine(*pair))
    # redrawn directions contain more chance, so that all of their cosines are lower
    ends = low + value - mean_cosine, min(1.0, high + value - mean_cosine)
    # another set of negatives asks another question, so that this alone condemns no direction
    level = FINE if value >= LIMITS.negatives.fine else LOOK
    text = (
        f"Against the {count(len(other), 'other negative')} the direction differs by "
        f"{_degrees(value)} degrees (cosine {value:z.2f})"
    )
    text += "." if level == FINE else "; say which negatives were used wherever it is shown."
    return subject.finding(check, value, level, text, ends=ends)


def _mean_and_ends(cosines: Tensor) -> tuple[float, float, float]:
    """Return mean and 95 % range; the directions of identical draws are 0 and count as 0."""
    values = np.nan_to_num(cosines.numpy())
    low, high = np.percentile(values, (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def _degrees(value: float) -> int:
    return round(math.degrees(math.acos(max(-1.0, min(1.0, value)))))


def _examples(subject: Subject, curve: Sequence[CurvePoint]) -> Finding:
    """Return the finding on whether there are enough images, by their number and by the curve."""
    n, m = len(subject.examples), len(subject.negatives)
    level = FINE if min(n, m) >= LIMITS.examples.fine else LOOK
    level = BAD if min(n, m) < LIMITS.examples.usable else level
    text = f"{count(n, 'example')} and {count(m, 'negative')}"
    if not curve:
        text += ": it is unknown how much the direction depends on the choice of images."
        note = f"no interval: {subject.why_not()}"
        return subject.finding("examples", n, worst([level, LOOK]), text, note=note)
    now, twice = (point.stability for point in curve[-2:])
    level = worst([level, LIMITS.replication.level(now)])
    text += "; another study of this size would give a direction of cosine "
    text += f"{now:z.2f} with this one"
    if now < LIMITS.curve_most:
        text += f", with twice as many images {twice:z.2f}"
    if min(n, m) < LIMITS.examples.fine:
        text += f"; fewer than {LIMITS.examples.fine} images show little of how they vary"
    return subject.finding("examples", n, level, f"{text}.", note="a count, no interval")
