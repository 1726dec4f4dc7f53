"""Integrated gradients (step 5) by the rescale rule in a few intervals of the line.

With a single activation one interval is exact. With successive activations, the multipliers miss
how their slopes vary together within an interval. The error estimate follows from how much the
multipliers of neighbouring intervals differ (`Partition.squared_errors`). The intervals with the
largest estimates are halved until it meets the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from vtcav.method.integral import constants
from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.partition import Partition, intervals_to_halve
from vtcav.method.integral.rescale_gradients import Points, ZeroPass, rescale_multipliers
from vtcav.method.integral.trapezoid import FLOOR, Integral, to_device
from vtcav.models.memory import BatchSize

_TINY = 1e-12  # the weight of every attribution where all are 0

_Result: TypeAlias = tuple[Tensor, Tensor, bool, int]
"""The result for an image: IG [T, C, h, w], the error [T, K], whether it converged, the cost."""


def integrate_by_rescale_rule(
    integrand: Integrand, zero: ZeroPass, *, tolerance: float, batch_size: int | BatchSize
) -> Integral:
    """Integrate each image in as many intervals as its attributions need.

    Args:
        integrand: The gradients, and the attributions that they serve.
        zero: The pass of the head at zero feature maps.
        tolerance: The relative error to reach.
        batch_size: Intervals per pass through the head. An interval that neither continues another
            nor begins at 0 takes a second feature map.

    Returns:
        IG [N, T, C, h, w], the errors (the estimate, and a tenth of the tolerance) and the cost per
        image. The cost does not depend on batch_size: where a pass ends within a line, the next
        one repeats a point, which is not counted.

    Raises:
        OperationsChangedError: When the head runs other operations than at zero feature maps.
    """
    size = BatchSize.from_(batch_size)
    n, N = first_intervals(zero.depth, tolerance), len(integrand.F)
    rule = _RescaleRule(integrand, zero, tolerance, size)
    batches = 1 if integrand.F.device.type == "cpu" else constants.GPU_BATCHES
    at_once = max(1, batches * size.size // n)
    results: list[_Result] = []
    for first in range(0, N, at_once):
        results += rule.integrate(range(first, min(first + at_once, N)), n)
    IG, error, converged, evaluations = zip(*results, strict=True)
    return Integral(
        torch.stack(IG),
        torch.stack(error),
        torch.tensor(converged),
        torch.tensor(evaluations),
        None,
    )


def first_intervals(depth: int, tolerance: float) -> int:
    """Return the number of intervals to begin with.

    Args:
        depth: The number of successive activations. With one, a single interval is exact.
        tolerance: The relative error to reach.

    Example:
        >>> first_intervals(1, 0.01), first_intervals(20, 0.01), first_intervals(20, 0.001)
        (1, 17, 32)
    """
    if depth <= 1:
        return 1
    finer = (0.01 / tolerance) ** (1 / constants.CONVERGENCE_ORDER)
    wanted: float = constants.FIRST_INTERVALS * depth**0.5 * finer
    return min(max(math.ceil(wanted), constants.FEWEST_INTERVALS), constants.MOST_FIRST_INTERVALS)


def edges_of(n: int) -> Tensor:
    """Return where the first n intervals begin and end, from 0 to 1 [n + 1].

    Example:
        >>> edges_of(4)
        tensor([0.0000, 0.3057, 0.5000, 0.6943, 1.0000], dtype=torch.float64)
    """
    u = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    return (u + constants.WIDER_ENDS / math.tau * torch.sin(math.tau * u)).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class _Request:
    """Intervals of an image whose multipliers are wanted.

    Attributes:
        image: The position of the image.
        low: Where the intervals begin [m], rising.
        high: Where they end [m].
    """

    image: int
    low: Tensor
    high: Tensor

    @property
    def evaluations(self) -> int:
        """The number of points, without the point 0, in passes that end at a line's end."""
        apart = torch.cat([torch.tensor([True]), self.low[1:] != self.high[:-1]])
        return len(self.low) + int((apart & (self.low > 0)).sum())

    @classmethod
    def of_halves(cls, image: int, partition: Partition, chosen: Tensor) -> _Request:
        """Return the halves of some intervals of an image."""
        low, high = partition.edges[:-1][chosen], partition.edges[1:][chosen]
        middle = (low + high) / 2
        lows, highs = torch.stack([low, middle], 1), torch.stack([middle, high], 1)
        return cls(image, lows.flatten(), highs.flatten())


@dataclass(frozen=True, eq=False)
class _RescaleRule:
    """The rescale rule from point to point, with the arguments of `integrate_by_rescale_rule`."""

    integrand: Integrand
    zero: ZeroPass
    tolerance: float
    batch_size: BatchSize

    def integrate(self, images: range, n: int) -> list[_Result]:
        """Integrate some images, whose points go through the network together."""
        edges = edges_of(n)
        requests = [_Request(i, edges[:-1], edges[1:]) for i in images]
        partitions = {
            i: Partition(edges, G) for i, G in zip(images, self._multipliers(requests), strict=True)
        }
        spent = dict.fromkeys(images, n)
        results: dict[int, _Result] = {}
        while requests:
            to_halve: dict[int, Tensor] = {}
            at = [request.image for request in requests]
            for i, (squares, a) in zip(at, self._squared_errors(partitions, at), strict=True):
                results[i], chosen = self._judge(partitions[i], squares, a, spent[i])
                if chosen is not None:
                    to_halve[i] = chosen
            requests = [_Request.of_halves(i, partitions[i], c) for i, c in to_halve.items()]
            for request, G in zip(requests, self._multipliers(requests), strict=True):
                i = request.image
                partitions[i] = partitions[i].refined(to_halve[i], G)
                spent[i] += request.evaluations
        return [results[i] for i in images]

    def _squared_errors(
        self, partitions: Mapping[int, Partition], images: list[int]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the squared error estimates [m, T, K] and the attributions [T, K] of some images.

        They are fetched together, so that a GPU is waited for once.
        """
        squares, found = [], []
        for i in images:
            F, attributions = self.integrand.of_image(i)
            squares.append(partitions[i].squared_errors(F, attributions))
            found.append(attributions(partitions[i].integral[None])[0])
        apart = torch.split(torch.cat(squares).cpu(), [len(each) for each in squares])
        return list(zip(apart, torch.stack(found).cpu(), strict=True))

    def _judge(
        self, partition: Partition, squares: Tensor, a: Tensor, spent: int
    ) -> tuple[_Result, Tensor | None]:
        """Return the result for an image, and which intervals to halve; None when it is done.

        Estimates are averaged over attributions with the weights min(a, 0.01)^2: those far below
        0.01 count little.
        """
        estimate = squares.sum(0).sqrt()
        weights = a.clamp(max=FLOOR).square() + _TINY
        weights /= weights.sum()
        judged = constants.TYPICAL_ERROR * float((estimate * weights).sum())
        exact = len(partition.widths) == 1
        unseen = constants.EXACT if exact else constants.UNSEEN_ERROR * self.tolerance
        done = judged <= self.tolerance
        result = (partition.integral, estimate + unseen, done, spent)
        full = len(partition.widths) >= constants.MOST_INTERVALS
        if done or full or not math.isfinite(judged):
            return result, None
        target = (self.tolerance / judged) ** 2
        return result, intervals_to_halve((squares * weights).sum((1, 2)), target)

    def _multipliers(self, requests: Sequence[_Request]) -> list[Tensor]:
        """Return the multipliers of the intervals of each image [T, m, C, h, w]."""
        if not requests:
            return []
        image = torch.cat([torch.full((len(each.low),), each.image) for each in requests])
        low = torch.cat([each.low for each in requests])
        high = torch.cat([each.high for each in requests])
        head, F, classes = self.integrand.head, self.integrand.F, self.integrand.classes

        def work(part: slice) -> Tensor:
            points = points_of(image[part], low[part], high[part], F.device)
            return torch.stack(rescale_multipliers(head, F, classes, self.zero, points))

        G = torch.cat(list(self.batch_size.run(len(image), work)), 1)
        return list(torch.split(G, [len(each.low) for each in requests], 1))


def points_of(image: Tensor, low: Tensor, high: Tensor, device: torch.device) -> Points:
    """Return the points that intervals need; those that continue another share one.

    Args:
        image: The image of each interval [m].
        low: Where it begins [m].
        high: Where it ends [m].
        device: Where to put them.

    Example:
        >>> low, high = torch.tensor([0.0, 0.5, 0.2]), torch.tensor([0.5, 1.0, 0.6])
        >>> points = points_of(torch.tensor([0, 0, 1]), low, high, torch.device("cpu"))
        >>> points.image.tolist(), points.alpha, points.ends.tolist(), points.first.tolist()
        ([0, 0, 1, 1], tensor([0.5000, 1.0000, 0.2000, 0.6000]), [0, 1, 3], [0])
    """
    apart = torch.ones_like(image, dtype=torch.bool)
    apart[1:] = (image[1:] != image[:-1]) | (low[1:] != high[:-1])
    from_zero = low == 0
    begins = apart & ~from_zero
    ends = torch.arange(len(image)) + begins.cumsum(0)
    alpha = torch.empty(int(ends[-1]) + 1, dtype=low.dtype)
    alpha[ends] = high
    alpha[ends[begins] - 1] = low[begins]
    of = torch.repeat_interleave(image, 1 + begins.long())
    return Points(*(to_device(each, device) for each in (of, alpha.float(), ends, ends[from_zero])))
