"""The line from zero feature maps to those of an image, in intervals with their mean gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vtcav.method.integral.trapezoid import FLOOR, moved

__all__ = ["Line", "to_halve"]

_LEFT = 0.15  # of the square of an interval's doubt, in its two halves together
_UNLIKE = 0.25  # neighbours are taken to be, at least: few units may change together by chance
_FURTHER = 0.3  # of the way from an interval to its halves they are taken beyond them
_QUICK = {
    True: 1 << 18,
    False: 1 << 26,
}  # numbers at a time: on a processor what stays in its cache
_WORST = 0.9  # of the squares are halved at a time, at most: the rest may be good enough as it is


@dataclass(frozen=True, eq=False)
class Line:
    """An image's intervals.

    Attributes:
        edges: Where they begin and end, from 0 to 1 [m + 1].
        G: The mean gradients in them [T, m, C, h, w].
    """

    edges: Tensor
    G: Tensor

    @property
    def widths(self) -> Tensor:
        """The lengths of the intervals [m], which sum to 1."""
        return self.edges.diff()

    @cached_property
    def integral(self) -> Tensor:
        """Integrated gradients [T, C, h, w]."""
        return torch.einsum("tmchw,m->tchw", self.G, self._moved(self.widths.to(self.G.dtype)))

    def halved(self, chosen: Tensor, halves: Tensor) -> Line:
        """Return the line with some intervals in halves.

        What halving changed is taken a little further, for the halves err in the same direction,
        less: their gradients are moved by 0.3 times the change, which leaves sums exact.

        Args:
            chosen: Which of the m intervals [m].
            halves: The mean gradients of their halves [T, 2 * number of chosen, C, h, w].
        """
        [parents] = chosen.nonzero(as_tuple=True)
        times = 1 + chosen.long()
        of = torch.repeat_interleave(torch.arange(len(chosen)), times)
        [places] = torch.repeat_interleave(chosen, times).nonzero(as_tuple=True)
        before = self.G[:, self._moved(parents)]
        further = _FURTHER * ((halves[:, 0::2] + halves[:, 1::2]) / 2 - before)
        G = self.G[:, self._moved(of)]
        G[:, self._moved(places)] = halves + further.repeat_interleave(2, 1)
        middles = (self.edges[:-1] + self.edges[1:])[chosen] / 2
        return Line(torch.cat([self.edges, middles]).sort().values, G)

    def doubts(self, F: Tensor, attributions: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the squares of what each interval makes doubtful [m, T, K].

        What a mean gradient loses is how the slopes of activations in a row vary together within
        its interval. That they vary shows in how unlike the gradients of neighbouring intervals
        are; what it may do to an attribution, in how much that would change if an interval had the
        gradients of its neighbour. The doubt is the product, taken together like independent
        errors, relative to the attribution or to 0.01 for smaller ones.

        Args:
            F: Feature maps [1, C, h, w].
            attributions: From IG [n, T, C, h, w] of this image to attributions a [n, T, K].
        """
        IG, widths = self.integral[None], self._moved(self.widths.to(self.G.dtype))
        a = attributions(IG)
        apart = (widths[:-1] + widths[1:]) / 2
        squares = torch.zeros(len(widths), *a.shape[1:], device=a.device)
        for pairs in self._pairs():
            low, high = self.G[:, pairs], self.G[:, pairs.start + 1 : pairs.stop + 1]
            step = high - low
            both = (_squares(low * F) + _squares(high * F)) / 2
            unlike = (_squares(step * F) / torch.where(both > 0, both, 1.0)).clamp(min=_UNLIKE)
            as_neighbour = IG + (step * apart[pairs, None, None, None]).movedim(1, 0)
            change = (attributions(as_neighbour) - a).square() * unlike.T[..., None] / 2
            for side in (pairs, slice(pairs.start + 1, pairs.stop + 1)):
                # its weight, and less of the two variations where it is the narrower one
                width = widths[side] / apart[pairs]
                squares[side] += change * (width * width.clamp(max=1) ** 2)[:, None, None] ** 2
        return squares / a.clamp(min=FLOOR).square()

    def _moved(self, numbers: Tensor) -> Tensor:
        """Return a few numbers where the gradients are."""
        return moved(numbers, self.G.device)

    def _pairs(self) -> Iterator[slice]:
        """Yield the first of neighbouring intervals, as many at a time as are quick."""
        T, m, *shape = self.G.shape
        at_once = max(1, _QUICK[self.G.device.type == "cpu"] // (T * math.prod(shape)))
        for start in range(0, m - 1, at_once):
            yield slice(start, min(start + at_once, m - 1))


def to_halve(squares: Tensor, wanted: float) -> Tensor:
    """Return the fewest intervals to halve so that the doubt falls as wanted, or well towards it.

    Args:
        squares: The squares of the doubts of the intervals [m].
        wanted: Their sum as it should be, relative to what it is.

    Returns:
        Which of the intervals [m].

    Example:
        >>> to_halve(torch.tensor([1.0, 5.0, 2.0]), 0.5)
        tensor([False,  True, False])
    """
    order = squares.argsort(descending=True)
    covered = squares[order].cumsum(0) / squares.sum()
    enough = min((1 - wanted) / (1 - _LEFT), _WORST)
    count = min(int((covered < enough).sum()) + 1, len(squares))
    chosen = torch.zeros(len(squares), dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen


def _squares(D: Tensor) -> Tensor:
    """Return the sums of squares over channels and places [T, n]."""
    return D.square().sum((2, 3, 4))
