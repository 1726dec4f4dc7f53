"""Integrated gradients from mean gradients in a few intervals of the line.

With one activation after another a single interval is exact. With more, what is lost is how their
slopes vary together within an interval. How much that may be shows in how the gradients differ from
interval to interval (`Line.doubts`). Intervals of much doubt are halved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.partition import Line, to_halve
from vtcav.method.integral.refined_trapezoid import EXACT
from vtcav.method.integral.rescale_gradients import Zero, mean_gradients
from vtcav.method.integral.trapezoid import FLOOR, Integral, moved, rows_of
from vtcav.models.heads.batch_size import BatchSize

__all__ = ["edges_of", "integrate_by_intervals", "intervals", "points_of"]

BEGIN = 4.4
"""Intervals to begin with, over the square root of the activations in a row; at 1 %."""

FEWEST, AT_FIRST, MOST = 14, 32, 128
"""Intervals with more than one activation in a row: at least, at first at most, and at most."""

UNEVEN = 0.35
"""By this share intervals are wider at both ends, where less happens, than on average."""

ORDER = 1.7
"""The error falls like the number of intervals to the power of minus this."""

TYPICAL = 0.25
"""The error of an attribution over its doubt, as a rule: five in six are below."""

UNSEEN = 0.1
"""What is added to a doubt to give the error, in tolerances: a doubt may be small by chance."""

_TINY = 1e-12  # counts where all attributions are 0


def integrate_by_intervals(
    integrand: Integrand, zero: Zero, *, tolerance: float, batch_size: int | BatchSize
) -> Integral:
    """Integrate each image in as many intervals as its attributions ask for.

    Args:
        integrand: The gradients, and the attributions that they are for.
        zero: What the head does at zero feature maps.
        tolerance: The relative error to reach.
        batch_size: Intervals per pass through the head; one that does not go on from another takes
            a second feature map, unless it begins at 0.

    Returns:
        IG [N, T, C, h, w], the errors told (the doubts, and a tenth of the tolerance) and the cost
        per image. The cost does not hang on batch_size: that a pass which cuts a line runs the
        point of the cut again is left out.

    Raises:
        OtherOperationsError: When the head does not do what it does at zero feature maps.
    """
    size = BatchSize.from_(batch_size)
    n, N = intervals(zero.in_a_row, tolerance), len(integrand.F)
    rule = _Rule(integrand, zero, tolerance, size)
    # passes of a GPU take about as long with few rows: halves of many images go together
    together = size.size if integrand.F.device.type == "cpu" else 4 * size.size
    at_once = max(1, together // n)
    found: list[_Image] = []
    for first in range(0, N, at_once):
        found += rule.group(range(first, min(first + at_once, N)), n)
    return Integral(
        torch.stack([image.IG for image in found]),
        torch.stack([image.error for image in found]),
        torch.tensor([image.converged for image in found]),
        torch.tensor([image.evaluations for image in found]),
    )


def intervals(in_a_row: int, tolerance: float) -> int:
    """Return how many intervals to begin with.

    Args:
        in_a_row: Activations that follow one another. With one, a single interval is exact.
        tolerance: The relative error to reach.

    Example:
        >>> intervals(1, 0.01), intervals(20, 0.01), intervals(20, 0.001)
        (1, 20, 32)
    """
    if in_a_row <= 1:
        return 1
    wanted: float = BEGIN * in_a_row**0.5 * (0.01 / tolerance) ** (1 / ORDER)
    return min(max(math.ceil(wanted), FEWEST), AT_FIRST)


def edges_of(n: int) -> Tensor:
    """Return where n intervals begin and end, from 0 to 1 [n + 1].

    Example:
        >>> edges_of(4)
        tensor([0.0000, 0.3057, 0.5000, 0.6943, 1.0000], dtype=torch.float64)
    """
    u = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    return (u + UNEVEN / math.tau * torch.sin(math.tau * u)).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Intervals of an image whose mean gradients are wanted.

    Attributes:
        image: Its position.
        low: Where they begin [m], rising.
        high: Where they end [m].
    """

    image: int
    low: Tensor
    high: Tensor

    @property
    def points(self) -> int:
        """How many points they need, without the point 0, in passes that cut no line."""
        apart = torch.cat([torch.tensor([True]), self.low[1:] != self.high[:-1]])
        return len(self.low) + int((apart & (self.low > 0)).sum())


@dataclass(frozen=True, eq=False)
class _Rule:
    """The rule of mean gradients from point to point, and what it is given."""

    integrand: Integrand
    zero: Zero
    tolerance: float
    batch_size: BatchSize

    def group(self, images: range, n: int) -> list[_Image]:
        """Integrate some images, whose points go through the network together."""
        edges = edges_of(n)
        asked = [_Asked(i, edges[:-1], edges[1:]) for i in images]
        lines = {i: Line(edges, G) for i, G in zip(images, self._gradients(asked), strict=True)}
        spent = dict.fromkeys(images, n)
        found: dict[int, _Image] = {}
        while asked:
            halve: dict[int, Tensor] = {}
            at = [each.image for each in asked]
            for i, (squares, a) in zip(at, self._doubts(lines, at), strict=True):
                found[i], worst = self._judged(lines[i], squares, a, spent[i])
                if worst is not None:
                    halve[i] = worst
            asked = [_halves_of(lines[i], i, chosen) for i, chosen in halve.items()]
            for each, G in zip(asked, self._gradients(asked), strict=True):
                lines[each.image] = lines[each.image].halved(halve[each.image], G)
                spent[each.image] += each.points
        return [found[i] for i in images]

    def _doubts(self, lines: Mapping[int, Line], images: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Return the squares of the doubts [m, T, K] and the attributions [T, K] of some images.

        They are fetched together, so that a GPU is waited for once.
        """
        squares, found = [], []
        for i in images:
            F, attributions = self.integrand.line(i)
            squares.append(lines[i].doubts(F, attributions))
            found.append(attributions(lines[i].integral[None])[0])
        apart = torch.split(torch.cat(squares).cpu(), [len(each) for each in squares])
        return list(zip(apart, torch.stack(found).cpu(), strict=True))

    def _judged(
        self, line: Line, squares: Tensor, a: Tensor, spent: int
    ) -> tuple[_Image, Tensor | None]:
        """Return what is found of an image, and which intervals to halve; None when it is done.

        The attributions count as far as they come up to 0.01; where all are smaller, the largest
        of these.
        """
        doubt = squares.sum(0).sqrt()
        counts = a.clamp(max=FLOOR).square() + _TINY
        counts /= counts.sum()
        judged = TYPICAL * float((doubt * counts).sum())
        unseen = EXACT if len(line.widths) == 1 else UNSEEN * self.tolerance
        done = judged <= self.tolerance
        found = _Image(line.integral, doubt + unseen, done, spent)
        if done or not math.isfinite(judged) or len(line.widths) >= MOST:
            return found, None
        wanted = (self.tolerance / judged) ** 2
        return found, to_halve((squares * counts).sum((1, 2)), wanted)

    def _gradients(self, asked: Sequence[_Asked]) -> list[Tensor]:
        """Return the mean gradients of the intervals of each image [T, m, C, h, w]."""
        if not asked:
            return []
        image = torch.cat([torch.full((len(each.low),), each.image) for each in asked])
        low, high = (torch.cat([getattr(each, side) for each in asked]) for side in ("low", "high"))
        head, F, classes = self.integrand.head, self.integrand.F, self.integrand.classes

        def work(part: slice) -> Tensor:
            points = points_of(image[part], low[part], high[part])
            rows, *places = (moved(tensor, F.device) for tensor in points)
            G = mean_gradients(rows_of(head, rows), F, classes, self.zero, rows, *places)
            return torch.stack(G)

        G = torch.cat(list(self.batch_size.run(len(image), work)), 1)
        return list(torch.split(G, [len(each.low) for each in asked], 1))


@dataclass(frozen=True, eq=False)
class _Image:
    """What is found of an image: IG [T, C, h, w], the error [T, K], and what it took."""

    IG: Tensor
    error: Tensor
    converged: bool
    evaluations: int


def _halves_of(line: Line, image: int, chosen: Tensor) -> _Asked:
    """Return the halves of some of the intervals of an image."""
    low, high = line.edges[:-1][chosen], line.edges[1:][chosen]
    middle = (low + high) / 2
    return _Asked(
        image, torch.stack([low, middle], 1).flatten(), torch.stack([middle, high], 1).flatten()
    )


def points_of(image: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the points that intervals need; those that go on from another share one.

    Args:
        image: The image of each interval [m].
        low: Where it begins [m].
        high: Where it ends [m].

    Returns:
        The image and the alpha of each point [P], the points at which intervals end [m], and those
        of them that follow the point 0, which is not among the points.

    Example:
        >>> low, high = torch.tensor([0.0, 0.5, 0.2]), torch.tensor([0.5, 1.0, 0.6])
        >>> rows, alpha, ends, first = points_of(torch.tensor([0, 0, 1]), low, high)
        >>> rows.tolist(), alpha, ends.tolist(), first.tolist()
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
    return (
        torch.repeat_interleave(image, 1 + begins.long()),
        alpha.float(),
        ends,
        ends[from_zero],
    )
