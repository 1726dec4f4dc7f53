"""A partition of the line from zero feature maps to F into intervals with their multipliers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vtcav.method.integral import constants
from vtcav.method.integral.trapezoid import FLOOR, to_device
from vtcav.method.positions import axes, broadcast


@dataclass(frozen=True, eq=False)
class Partition:
    """The intervals of one image.

    Attributes:
        edges: Where the intervals begin and end, from 0 to 1 [m + 1].
        G: Their rescale multipliers [T, m, C, h, w].
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
        return torch.einsum("tm...,m->t...", self.G, self._to_device(self.widths.to(self.G.dtype)))

    def refined(self, chosen: Tensor, halves: Tensor) -> Partition:
        """Return the partition with some intervals halved.

        The halves err in the same direction as the interval, but less. So their multipliers are
        extrapolated: moved by 0.3 times the change, which keeps the sums exact.

        Args:
            chosen: Which of the m intervals [m].
            halves: The multipliers of their halves [T, 2 * number of chosen, C, h, w].
        """
        [parents] = chosen.nonzero(as_tuple=True)
        times = 1 + chosen.long()
        of = torch.repeat_interleave(torch.arange(len(chosen)), times)
        [positions] = torch.repeat_interleave(chosen, times).nonzero(as_tuple=True)
        before = self.G[:, self._to_device(parents)]
        change = (halves[:, 0::2] + halves[:, 1::2]) / 2 - before
        G = self.G[:, self._to_device(of)]
        extrapolated = constants.EXTRAPOLATION * change
        G[:, self._to_device(positions)] = halves + extrapolated.repeat_interleave(2, 1)
        middles = (self.edges[:-1] + self.edges[1:])[chosen] / 2
        return Partition(torch.cat([self.edges, middles]).sort().values, G)

    def squared_errors(self, F: Tensor, attributions: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the squared error estimate of each interval [m, T, K].

        A multiplier misses how the slopes of successive activations vary together within its
        interval. How much they vary shows in the dissimilarity of the multipliers of neighbouring
        intervals; what that can do to an attribution, in its change if an interval had the
        multipliers of its neighbour. The error estimate is the product of the two, added up over
        intervals like independent errors, relative to the attribution or to 0.01 where it is
        smaller.

        Args:
            F: Feature maps [1, C, h, w].
            attributions: From IG [n, T, C, h, w] of this image to attributions a [n, T, K].
        """
        IG, widths = self.integral[None], self._to_device(self.widths.to(self.G.dtype))
        a = attributions(IG)
        apart = (widths[:-1] + widths[1:]) / 2
        squares = torch.zeros(len(widths), *a.shape[1:], dtype=a.dtype, device=a.device)
        for pairs in self._pairs():
            low, high = self.G[:, pairs], self.G[:, pairs.start + 1 : pairs.stop + 1]
            step = high - low
            both = (_squares(low * F) + _squares(high * F)) / 2
            dissimilarity = _squares(step * F) / torch.where(both > 0, both, 1.0)
            dissimilarity = dissimilarity.clamp(min=constants.LEAST_DISSIMILARITY)
            as_neighbour = IG + (step * broadcast(apart[pairs][None], step)).movedim(1, 0)
            change = (attributions(as_neighbour) - a).square() * dissimilarity.T[..., None] / 2
            for side in (pairs, slice(pairs.start + 1, pairs.stop + 1)):
                # the interval's share of the change, less of it for the narrower of the two
                width = widths[side] / apart[pairs]
                squares[side] += change * (width * width.clamp(max=1) ** 2)[:, None, None] ** 2
        return squares / a.clamp(min=FLOOR).square()

    def _to_device(self, numbers: Tensor) -> Tensor:
        return to_device(numbers, self.G.device)

    def _pairs(self) -> Iterator[slice]:
        """Yield the first intervals of neighbouring pairs, as many at a time as are fast."""
        T, m, *shape = self.G.shape
        on_cpu = self.G.device.type == "cpu"
        numbers = constants.CACHED_NUMBERS if on_cpu else constants.GPU_NUMBERS
        at_once = max(1, numbers // (T * math.prod(shape)))
        for start in range(0, m - 1, at_once):
            yield slice(start, min(start + at_once, m - 1))


def intervals_to_halve(squares: Tensor, target: float) -> Tensor:
    """Return the fewest intervals to halve so that the error estimate reaches a target.

    Args:
        squares: The squared error estimates of the intervals [m].
        target: Their sum as it should be, relative to what it is. At most 0.9 of it is halved at a
            time.

    Returns:
        Which of the intervals [m].

    Example:
        >>> intervals_to_halve(torch.tensor([1.0, 5.0, 2.0]), 0.5)
        tensor([False,  True, False])
    """
    order = squares.argsort(descending=True)
    covered = squares[order].cumsum(0) / squares.sum()
    enough = min((1 - target) / (1 - constants.LEFT_AFTER_HALVING), constants.MOST_HALVED)
    count = min(int((covered < enough).sum()) + 1, len(squares))
    chosen = torch.zeros(len(squares), dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen


def _squares(D: Tensor) -> Tensor:
    """Return the sums of squares over channels and positions [T, n]."""
    return D.square().sum(axes(D, 2))
