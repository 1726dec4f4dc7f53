"""Whose a part of a region is: the concept's whose filter found it, or another's (erasure 3).

A filter that never met another concept may respond to it as well. What a filter answers to every
concept is known from their patterns, so the responses at a part can be taken apart: they are those
of an amount of each concept, none below 0, that fit them best (non-negative least squares). What
the concept itself contributes decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
class RegionParts:
    """The connected parts of a region in one image.

    Attributes:
        M: Mean of every concept's map over each of P parts, by layer [P, L, K] in [0, 1].
        r: The same of the maps before they are clipped [P, L, K].
        everywhere: Whether a map is nearly as high over the whole image [P, L, K].
    """

    M: NDArray[np.float64]
    r: NDArray[np.float64]
    everywhere: NDArray[np.bool_]

    @classmethod
    def of(
        cls, parts: NDArray[np.integer[Any]], M: NDArray[np.float32], r: NDArray[np.float32]
    ) -> RegionParts:
        """Return the parts of a region.

        Args:
            parts: The number of the part that every pixel is in, from 1 on; 0 for none [H, W].
            M: Maps of the image [L, K, H, W].
            r: The same before they are clipped.
        """
        number = parts.ravel()
        inside = np.flatnonzero(number)
        # one part after the other
        inside = inside[np.argsort(number[inside], kind="stable")]
        sizes = np.bincount(number)[1:]
        starts = np.cumsum(sizes) - sizes

        def means(maps: NDArray[np.float32]) -> NDArray[np.float64]:
            # a layer at a time: pixels of all would be as many again as the maps
            flat = (each.reshape(len(each), -1)[:, inside] for each in maps)
            totals = [np.add.reduceat(each, starts, axis=1, dtype=np.float64) for each in flat]
            return np.moveaxis(np.stack(totals) / sizes, 2, 0)

        overall = M.reshape(*M.shape[:2], -1).mean(2)
        own = means(M)
        return cls(own, means(r), overall >= CONTEST * own)


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

    def own(self, parts: RegionParts, k: int) -> NDArray[np.bool_]:
        """Return whether parts of the region of concept k belong to other concepts [P].

        They do where, on average over layers by their weights, less than the level is left of the
        map of k once the other concepts have explained what they can; or where half of the layers,
        by weight, have another concept that is higher by a third.
        """
        voices, left, taken = np.zeros((3, len(parts.M)))
        for n, (layer, seen, weights) in enumerate(
            zip(self._layers, self._seen, self._weights, strict=True)
        ):
            M, r, everywhere = parts.M[:, n], parts.r[:, n], parts.everywhere[:, n]
            rivals = seen >= max(SEEN, seen[k] - BETTER)
            there = rivals & (M > FAINT)
            # a layer on which nothing is there has no say
            weight = weights[k] * there.any(1)
            voices += weight
            left += weight * layer.left(M, r, k, there)
            # what is everywhere alike, such as a tint, takes only what is everywhere, too
            others = there & (~everywhere | everywhere[:, k, None])
            taken += weight * layer.takes(M, r, k, others, rivals)
        return (voices > 0) & ((left < self._level * voices) | (2 * taken >= voices))


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
        self, M: NDArray[np.float64], r: NDArray[np.float64], k: int, there: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return the map of k that is its own [P], once other concepts explain what they can.

        They explain nothing where k alone fits the responses better than they do without it.

        Args:
            M: Maps of all concepts at each part [P, K].
            r: The same before they are clipped [P, K].
            k: The concept.
            there: The concepts that may explain it [P, K].
        """
        others = there & self.less[:, k]
        others[:, k] = False
        left = M[:, k].copy()
        for p in np.flatnonzero(others.any(1)):
            chosen = [k, *np.flatnonzero(others[p])]
            patterns, above = self.patterns[np.ix_(chosen, chosen)], (r[p] - self.rest)[chosen]
            try:
                (_, alone), (_, without) = nnls(patterns[:1].T, above), nnls(patterns[1:].T, above)
                if alone > without:
                    amounts, _ = nnls(patterns.T, above)
                    left[p] = np.clip(amounts[0] * patterns[0, 0] + self.rest[k], 0, M[p, k])
            except RuntimeError:  # the fit does not converge: what is not known explains nothing
                continue
        return left

    def takes(
        self,
        M: NDArray[np.float64],
        r: NDArray[np.float64],
        k: int,
        others: NDArray[np.bool_],
        rivals: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Return whether another concept is higher by a third, and fits the responses better [P].

        Args:
            M: Maps of all concepts at each part [P, K].
            r: The same before they are clipped [P, K].
            k: The concept.
            others: The concepts that may take its place [P, K].
            rivals: The concepts whose responses are compared [K].
        """
        # of either filter, what the other concept alone would make it answer is taken off
        own, other = M[:, k, None] / self.excess[:, k], M / self.excess[k]
        higher = others & (own < CONTEST * other)
        higher[:, k] = False
        above = r - self.rest
        units = np.diagonal(self.patterns)
        amounts = (above / np.where(units > 0, units, 1)).clip(0)

        def misfits(j: int | np.intp) -> NDArray[np.float64]:
            away = np.abs(amounts[:, j, None] * self.patterns[j] - above)
            return np.asarray(away[:, rivals].sum(1))

        found, of_own = np.zeros(len(M), bool), misfits(k)
        for j in np.flatnonzero(higher.any(0)):
            found |= higher[:, j] & (misfits(j) < of_own)
        return found
