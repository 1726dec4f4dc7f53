"""Checks on whether a direction tells a concept from its negatives, in plain sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.diagnostics.levels import BAD, FINE, LIMITS, LOOK, Finding, by_level, percent
from vtcav.diagnostics.separability import (
    auc_interval,
    held_out_margins,
    held_out_scores,
    margins_from,
)
from vtcav.diagnostics.stability import Resamples, is_zero
from vtcav.method.auc import auc
from vtcav.method.cav import direction, emblem
from vtcav.results.bank.layer_cavs import TextAlignment
from vtcav.results.image_set import ImageSetRecord
from vtcav.results.words import count

_HELD_OUT = "both held out, the direction"
_GIVEN = "from which it was not learned here, the given direction"
_OF_TEXT = "as the image-text model chose them, the direction of the text"


@dataclass(frozen=True, eq=False)
class Subject:
    """One concept at one layer.

    Attributes:
        layer: The layer.
        concept: The concept.
        examples: Its examples, n of them.
        negatives: Its negatives, m of them.
        values_pos: Contraharmonic means of the examples' raw maps [n].
        values_neg: The same for the negatives [m].
        resamples: The resamples of this layer.
        given: The direction [C], if it was not learned from these images; None if it was.
        text: Whether it is the direction of a text.
    """

    layer: str
    concept: str
    examples: ImageSetRecord
    negatives: ImageSetRecord
    values_pos: Tensor
    values_neg: Tensor
    resamples: Resamples
    given: Tensor | None = None
    text: bool = False

    @property
    def gap_pos(self) -> Tensor:
        """The GAP activations of the examples [n, C]."""
        return self.examples.gap[self.layer]

    @property
    def gap_neg(self) -> Tensor:
        """The GAP activations of the negatives [m, C]."""
        return self.negatives.gap[self.layer]

    @property
    def v(self) -> Tensor:
        """The direction [C], in double precision."""
        if self.given is not None:
            return self.given.double()
        return direction(self.gap_pos.double(), self.gap_neg.double())

    def margins(self) -> Tensor:
        """Return how far examples project above negatives, held out where v was learned [n, m]."""
        if self.given is not None:
            return self.margins_from(self.gap_neg)
        return held_out_margins(self.gap_pos, self.gap_neg)

    def margins_from(self, others: Tensor) -> Tensor:
        """Return how far the examples project above other images [n, k].

        Args:
            others: GAP activations of images that v was not learned from [k, C].
        """
        if self.given is not None:
            projections = (images.double() @ self.v for images in (self.gap_pos, others))
            own, other = projections
            return own[:, None] - other
        return margins_from(self.gap_pos, self.gap_neg, others)

    def why_not(self) -> str:
        """Return why the direction cannot be tested; empty where it can."""
        n, m = len(self.examples), len(self.negatives)
        if min(n, m) < 2:
            images = f"{count(n, 'example')} and {count(m, 'negative')}"
            return f"{images}: at least 2 of each are needed"
        if is_zero(self.v, torch.cat([self.gap_pos, self.gap_neg])):
            return "the direction is 0: examples and negatives have the same mean activation"
        return ""

    def scores(self) -> NDArray[np.float64]:
        """Return held-out projections of the examples, then the negatives [n + m]."""
        return np.asarray(held_out_scores(self.margins()))

    def finding(
        self,
        check: str,
        value: float,
        level: str,
        meaning: str,
        *,
        ends: tuple[float, float] = (math.nan, math.nan),
        note: str = "",
        other: str = "",
    ) -> Finding:
        """Return a finding about this concept at this layer."""
        return Finding(self.layer, self.concept, check, value, *ends, level, meaning, note, other)

    def untested(self, check: str, what: str, reason: str) -> Finding:
        """Return the finding that something could not be tested, which is never fine."""
        text = f"Not tested {what}: {reason}."
        return self.finding(check, math.nan, LOOK, text, note=reason)


def separability_check(subject: Subject) -> Finding:
    """Return how well the direction tells apart images that it was not learned from."""
    if reason := subject.why_not():
        text = f"There is no direction that could tell the concept from its negatives: {reason}."
        level = BAD if "is 0" in reason else LOOK
        return subject.finding("separability", math.nan, level, text, note=reason)
    value = auc(subject.margins())
    low, high = auc_interval(value, len(subject.examples), len(subject.negatives))
    level = LIMITS.auc.level(low)
    learned = subject.given is None
    which = _HELD_OUT if learned else _OF_TEXT if subject.text else _GIVEN
    text = (
        f"From a pair of an example and a negative, {which} picks the example "
        f"in {percent(value)} of cases ({percent(low)} to {percent(high)}; guessing: 50 %); "
    )
    text += by_level(
        level,
        "the layer tells the concept from its negatives.",
        "that is better than guessing, but less than one should ask for.",
        "that is not shown to be better than guessing."
        if learned or not high < 0.5
        else "it points away from the concept: is its sign right, and the layer?",
    )
    return subject.finding("separability", value, level, text, ends=(low, high))


def text_check(subject: Subject, alignment: TextAlignment, k: int) -> Finding:
    """Return how well the layer knows how similar images are to the text of a concept.

    Args:
        subject: The concept at a layer.
        alignment: The alignment of the layer with the image-text model.
        k: The position of the concept.
    """
    value, low, high = (float(x[k]) for x in (alignment.r2, alignment.low, alignment.high))
    level = LIMITS.text.level(low)
    text = (
        f"The layer knows {percent(max(value, 0.0))} of how similar held-out images are to the "
        f"text, as the image-text model sees it (R2, {low:.2f} to {high:.2f}; of whole embeddings "
        f"{float(alignment.embedding[k]):.2f}); "
    )
    text += by_level(
        level,
        "what the text means is that model's opinion, which the layer shares.",
        "it shares that opinion in part: look at the maps of the examples.",
        "the direction is not that of the text here.",
    )
    return subject.finding("text", value, level, text, ends=(low, high))


def emblem_checks(subject: Subject, separability: str, after: str = "") -> list[Finding]:
    """Return the gap between the emblems, and how far the two sets of values overlap.

    Args:
        subject: The concept at a layer.
        separability: The level of its separability. Emblems come from the images that the
            direction was learned from, where any direction does well. They are not called fine
            where it fails on other images.
        after: The next layer of the bank whose outputs are never negative, if there is one.
    """
    e_pos, e_neg = float(emblem(subject.values_pos)), float(emblem(subject.values_neg))
    if not e_pos > e_neg:
        text = (
            f"The examples activate the direction no more than the negatives do (e+ {e_pos:.3g}, "
            f"e- {e_neg:.3g}): the concept map is empty"
        )
        negative = min(float(subject.gap_pos.min()), float(subject.gap_neg.min())) < 0
        if separability == FINE and negative:
            text += (
                ", although the direction tells them apart. The outputs of this layer are negative "
                "in part, as those of a BatchNorm before its activation; take the output after the "
                f"activation{f', {after!r}' if after else ''}"
            )
        note = "no gap relative to e+, which is not above e-"
        return [
            subject.finding(check, math.nan, BAD, f"{text}.", note=note)
            for check in ("emblem gap", "emblem overlap")
        ]
    gap = (e_pos - e_neg) / e_pos
    low, high = _gap_interval(subject)
    text = (
        f"Half of the examples activate the direction more than {e_pos:.3g}, half of the negatives "
        f"more than {e_neg:.3g}: a gap of {percent(gap)}"
    )
    level = FINE
    if not low > 0:
        level = LOOK
        text += f"; with other images there may be none ({percent(low)})"
    found = subject.finding("emblem gap", gap, level, f"{text}.", ends=(low, high))
    return [_held_back(each, separability) for each in (found, _overlap(subject, e_pos, e_neg))]


def _held_back(finding: Finding, separability: str) -> Finding:
    """Lower a finding from fine to look where the direction fails on other images."""
    if finding.level != FINE or separability != BAD:
        return finding
    text = finding.meaning.removesuffix(".")
    text += "; but on images that it was not learned from the direction fails."
    return finding._replace(level=LOOK, meaning=text)


def _gap_interval(subject: Subject, count: int = 1000) -> tuple[float, float]:
    """Return the bootstrap interval of the relative gap; an e+ of 0 counts as no gap."""
    rng = np.random.default_rng(0)
    drawn = [
        np.median(rng.choice(values.double().numpy(), (count, len(values))), axis=1)
        for values in (subject.values_pos, subject.values_neg)
    ]
    safe = np.where(drawn[0] > 0, drawn[0], 1)
    gaps = np.where(drawn[0] > 0, (drawn[0] - drawn[1]) / safe, 0)
    low, high = np.percentile(gaps, (2.5, 97.5))
    return float(low), float(high)


def _overlap(subject: Subject, e_pos: float, e_neg: float) -> Finding:
    negatives = float((subject.values_neg.double() >= e_pos).double().mean())
    examples = float((subject.values_pos.double() <= e_neg).double().mean())
    value = max(negatives, examples)
    level = LIMITS.overlap.level(value)
    text = (
        f"{percent(negatives)} of the negatives activate the direction as much as a typical "
        f"example, {percent(examples)} of the examples no more than a typical negative"
    )
    text += (
        " (on the images it was learned from, so somewhat too good)."
        if subject.given is None
        else "."
    )
    note = "two shares in one sentence, no interval"
    return subject.finding("emblem overlap", value, level, text, note=note)
