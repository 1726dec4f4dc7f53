"""Whose a part of a region is: the concept's whose filter found it, or another's (erasure 3).

A filter that never met another concept may respond to it as well. What a filter answers to every
concept is known from their patterns, so the responses at a part can be taken apart: they are those
of an amount of each concept, none below 0, that fit them best (non-negative least squares). What
the concept itself contributes decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from vtcav.method.erasure.joined_map import SEEN, layer_weight
from vtcav.method.erasure.place_filter import BETTER, Answers

CONTEST = 0.75
"""The share of another concept's map below which a part is the other's, and of a filter's answer
to its own concept from which on another concept's examples may show that concept as well."""
FAINT = 0.1
"""The mean map below which a layer has nothing in a part of a region."""


@dataclass(frozen=True, eq=False)
class RegionPart:
    """A connected part of a region in one image.

    Attributes:
        M: Mean of every concept's map over the part, by layer [L, K] in [0, 1].
        r: The same of the maps before they are clipped [L, K].
        everywhere: Whether a map is nearly as high over the whole image [L, K].
    """

    M: NDArray[np.float32]
    r: NDArray[np.float32]
    everywhere: NDArray[np.bool_]

    @classmethod
    def of(
        cls, M: NDArray[np.float32], r: NDArray[np.float32], overall: NDArray[np.float32]
    ) -> RegionPart:
        """Return the part that has these P pixels.

        Args:
            M: Maps at the pixels [L, K, P].
            r: The same before they are clipped.
            overall: Means of the maps over the whole image [L, K].
        """
        means = M.mean(2)
        return cls(means, r.mean(2), overall >= CONTEST * means)


class Rivals:
    """Tells whether a part of a region belongs to another concept.

    A layer may say so of concepts that it sees as well as the one in question.

    Args:
        seen: Held-out AUC of each layer [K].
        answers: What the filters of each layer answer to each concept; None where it is not known.
        level: The map from which on a concept is there.
    """

    def __init__(
        self, seen: Sequence[Tensor], answers: Sequence[Answers | None], level: float
    ) -> None:
        self._seen = torch.stack(list(seen)).cpu().numpy()
        self._weights = layer_weight(torch.from_numpy(self._seen)).numpy()
        self._layers = [_Layer.of(each, self._seen.shape[1], level) for each in answers]
        self._level = level

    def own(self, part: RegionPart, k: int) -> bool:
        """Return whether a part of the region of concept k belongs to another concept.

        It does where, on average over layers by their weights, less than the level is left of the
        map of k once the other concepts have explained what they can; or where half of the layers,
        by weight, have another concept that is higher by a third.
        """
        voices, left, taken = 0.0, 0.0, 0.0
        for layer, seen, weights, M, r, everywhere in zip(
            self._layers, self._seen, self._weights, part.M, part.r, part.everywhere, strict=True
        ):
            rivals = seen >= max(SEEN, seen[k] - BETTER)
            there = rivals & (M > FAINT)
            # a layer on which nothing is there has no say
            if not there.any() or not weights[k]:
                continue
            voices += weights[k]
            left += weights[k] * layer.left(M, r, k, there)
            # what is everywhere alike, such as a tint, takes only what is everywhere, too
            others = there & (~everywhere | everywhere[k])
            taken += weights[k] * layer.takes(M, r, k, others, rivals)
        return bool(voices and (left < self._level * voices or 2 * taken >= voices))


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the filters of one layer answer: row i, column j that of concept j to concept i.

    Attributes:
        patterns: What a unit of each concept adds to the maps before they are clipped [K, K]; a
            unit is what its own examples show.
        rest: These maps where no concept is [K].
        excess: How many times more than its own concept a filter answers another [K, K], at
            least 1.
        less: Whether a filter answers another concept clearly less than its own [K, K]; else the
            other's examples may show its own, and explain nothing away.
    """

    patterns: NDArray[np.float64]
    rest: NDArray[np.float64]
    excess: NDArray[np.float64]
    less: NDArray[np.bool_]

    @classmethod
    def of(cls, answers: Answers | None, K: int, level: float) -> _Layer:
        if answers is None:
            to, rest = np.eye(K), np.zeros(K)
        else:
            to, rest = (each.double().cpu().numpy() for each in (answers.to, answers.rest))
        # its own counts as no less than the level of a region, as a quotient of next to nothing
        # would say little
        own = np.diagonal(to).clip(level)
        excess = np.maximum(to / own, 1)
        np.fill_diagonal(excess, 1)
        return cls(to - rest, rest, excess, to < CONTEST * own)

    def left(
        self, M: NDArray[np.float32], r: NDArray[np.float32], k: int, there: NDArray[np.bool_]
    ) -> float:
        """Return the map of k that is its own, once other concepts explain what they can.

        They explain nothing where k alone fits the responses better than they do without it.

        Args:
            M: Maps of all concepts [K].
            r: The same before they are clipped [K].
            k: The concept.
            there: The concepts that may explain it [K].
        """
        others = there & self.less[:, k]
        others[k] = False
        if not others.any():
            return float(M[k])
        chosen = [k, *np.flatnonzero(others)]
        patterns, above = self.patterns[np.ix_(chosen, chosen)], (r - self.rest)[chosen]
        try:
            (_, alone), (_, without) = nnls(patterns[:1].T, above), nnls(patterns[1:].T, above)
            amounts, _ = nnls(patterns.T, above)
        except RuntimeError:  # the fit does not converge: what is not known explains nothing
            return float(M[k])
        if alone <= without:
            return float(M[k])
        return float(np.clip(amounts[0] * patterns[0, 0] + self.rest[k], 0, M[k]))

    def takes(
        self,
        M: NDArray[np.float32],
        r: NDArray[np.float32],
        k: int,
        others: NDArray[np.bool_],
        rivals: NDArray[np.bool_],
    ) -> bool:
        """Return whether another concept is higher by a third, and fits the responses better.

        Args:
            M: Maps of all concepts [K].
            r: The same before they are clipped.
            k: The concept.
            others: The concepts that may take its place [K].
            rivals: The concepts whose responses are compared [K].
        """
        # of either filter, what the other concept alone would make it answer is taken off
        own, other = M[k] / self.excess[:, k], M / self.excess[k]
        higher = others & (own < CONTEST * other)
        higher[k] = False
        if not higher.any():
            return False
        above = r - self.rest
        units = np.diagonal(self.patterns)
        amounts = (above / np.where(units > 0, units, 1)).clip(0)
        misfits = np.abs(amounts[:, None] * self.patterns - above)[:, rivals].sum(1)
        return bool((misfits[higher] < misfits[k]).any())
