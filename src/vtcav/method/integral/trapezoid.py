"""Integrated gradients at a layer (step 5) with a fixed rule, as in the paper.

The integral over alpha in [0, 1] of dz_t/dF(alpha F) is taken along the straight line from zero
feature maps to F. The paper's rule is the trapezoid rule with 50 equidistant steps, 51 points.
`vtcav.method.integral.adaptive` takes it as finely as each image needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.method.integral import constants
from vtcav.method.positions import axes, broadcast
from vtcav.models.base import Head, held, recomputes
from vtcav.models.heads.gradient import logit_gradients
from vtcav.models.memory import BatchSize

__all__ = [
    "FLOOR",
    "Integral",
    "coarser",
    "completeness_gap",
    "fixed_rule_error",
    "integrate",
    "rows_of",
    "to_device",
    "trapezoid",
    "weighted_gradients",
]

FLOOR = 0.01
"""Errors are relative to the attribution, or to this where it is smaller (a definition)."""


@dataclass(frozen=True, eq=False)
class Integral:
    """Integrated gradients and what they cost.

    Attributes:
        IG: Integrated gradients [N, T, C, h, w].
        error: Conservative estimate of the relative error of the concept attributions [N, T, K],
            or of all of an image [N, 1, 1]; NaN for a fixed rule (`fixed_rule_error`).
        converged: Whether the tolerance was reached [N]; true for a fixed rule.
        evaluations: Forward and backward passes through the head that each image took [N].
        coarse: IG of a coarser rule at every second point of a fixed rule; None for others, and
            where it is not known.
    """

    IG: Tensor
    error: Tensor
    converged: Tensor
    evaluations: Tensor
    coarse: Tensor | None

    @classmethod
    def zeros(cls, F: Tensor, classes: int, concepts: int, *, fixed: bool) -> Integral:
        """Return the integral of images F [N, C, h, w] of which nothing is needed.

        Args:
            F: Feature maps.
            classes: T, the number of logits.
            concepts: K, the number of concepts.
            fixed: Whether it is that of a fixed rule.
        """
        IG = torch.zeros(len(F), classes, *F.shape[1:], dtype=torch.float32, device=F.device)
        return cls(
            IG,
            torch.zeros(len(F), classes, concepts, dtype=torch.float32),
            torch.ones(len(F), dtype=torch.bool),
            torch.zeros(len(F), dtype=torch.int64),
            torch.zeros_like(IG) if fixed else None,
        )

    def replace_cells(self, images: Tensor, classes: Tensor, part: Integral) -> None:
        """Write the integrals of some images [m] and some classes [n] over earlier ones."""
        self.IG[images[:, None], classes] = part.IG
        if self.coarse is not None and part.coarse is not None:
            self.coarse[images[:, None], classes] = part.coarse
        images, classes = images.cpu(), classes.cpu()
        error = part.error.cpu().expand(-1, len(classes), self.error.shape[2])
        self.error[images[:, None], classes] = error
        self.converged[images], self.evaluations[images] = part.converged, part.evaluations

    def replace_images(self, images: Tensor, part: Integral) -> None:
        """Write the integrals of some images [m] over earlier ones; the cost of both counts."""
        self.IG[images.to(self.IG.device)] = part.IG
        self.error[images], self.converged[images] = part.error, part.converged
        self.evaluations[images] += part.evaluations


def trapezoid(steps: int) -> tuple[Tensor, Tensor]:
    """Return points and weights of the trapezoid rule.

    Args:
        steps: Number of intervals.

    Returns:
        alpha [steps + 1] from 0 to 1 and the weights [steps + 1], which sum to 1.

    Example:
        >>> trapezoid(2)
        (tensor([0.0000, 0.5000, 1.0000]), tensor([0.2500, 0.5000, 0.2500]))
    """
    alpha = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
    weight = torch.full_like(alpha, 1.0 / steps)
    weight[0] = weight[-1] = 0.5 / steps
    return alpha.float(), weight.float()


def coarser(steps: int) -> Tensor:
    """Return weights of a coarser rule at the points of `trapezoid`, relative to its weights.

    It is the trapezoid rule on every second point; with an odd number of steps the last interval
    stays. A single step has the gradient at the feature maps to compare with.

    Args:
        steps: Number of intervals.

    Returns:
        Factors [steps + 1]; times the weights they sum to 1.

    Example:
        >>> coarser(4), coarser(3), coarser(1)
        (tensor([2., 0., 2., 0., 2.]), tensor([2.0000, 0.0000, 1.5000, 1.0000]), tensor([0., 2.]))
    """
    factor = torch.zeros(steps + 1, dtype=torch.float32)
    factor[0::2] = 2
    if steps % 2:
        factor[-2:] = torch.tensor([1.5, 1.0] if steps > 1 else [0.0, 2.0], dtype=torch.float32)
    return factor


def integrate(
    head: Head,
    F: Tensor,
    classes: Tensor,
    alpha: Tensor,
    weight: Tensor,
    *,
    batch_size: int | BatchSize,
    coarse: Tensor | None = None,
) -> Integral:
    """Integrate with a fixed rule.

    Args:
        head: The network after the layer.
        F: Feature maps [N, C, h, w].
        classes: Indices of the logits to differentiate, per image [N, T].
        alpha: Points of the rule [P].
        weight: Weights of the rule [P].
        batch_size: Feature maps per pass through the head.
        coarse: Factors of the weights [P] that make them those of a coarser rule (`coarser`), to
            integrate with it from the same gradients.

    Returns:
        IG [N, T, C, h, w] and its cost.
    """
    N, T = classes.shape
    points, weights = alpha.expand(N, -1), weight.expand(N, -1)
    IG = torch.zeros(N, T, *F.shape[1:], dtype=torch.float32, device=F.device)
    rough = None if coarse is None else torch.zeros_like(IG)
    factors = None if coarse is None else coarse.to(F.device)
    for n, t, here, G in _gradients(head, F, classes, points, weights, batch_size):
        IG[n, t] += G.sum(0)
        if rough is not None and factors is not None:
            rough[n, t] += torch.tensordot(factors[here], G, 1)
    return Integral(
        IG,
        torch.full((N, 1, 1), torch.nan, dtype=torch.float32),
        torch.ones(N, dtype=torch.bool),
        torch.full((N,), len(alpha)),
        rough,
    )


def weighted_gradients(
    head: Head,
    F: Tensor,
    classes: Tensor,
    alpha: Tensor,
    weight: Tensor,
    batch_size: int | BatchSize,
) -> Tensor:
    """Return sum_p weight_p dz_t/dF(alpha_p F) [N, T, C, h, w], for points and weights [N, P]."""
    total = torch.zeros(*classes.shape, *F.shape[1:], dtype=torch.float32, device=F.device)
    for n, t, _, G in _gradients(head, F, classes, alpha, weight, batch_size):
        total[n, t] += G.sum(0)
    return total


def _gradients(
    head: Head,
    F: Tensor,
    classes: Tensor,
    alpha: Tensor,
    weight: Tensor,
    batch_size: int | BatchSize,
) -> Iterator[tuple[int, int, slice, Tensor]]:
    """Yield weighted gradients [p, C, h, w] of some points, with their image, class and points.

    Every (image, point) pair is one feature map of a pass, so batches are full for any number of
    images and points.
    """
    T = classes.shape[1]
    N, P = alpha.shape
    image = to_device(torch.arange(N).repeat_interleave(P), F.device)
    flat_alpha, flat_weight = (to_device(each.flatten(), F.device) for each in (alpha, weight))

    def work(part: slice) -> tuple[slice, list[Tensor]]:
        rows = image[part]
        maps = F[rows] * broadcast(flat_alpha[part], F)
        own, again = rows_of(head, rows), recomputes(head)
        gradients: list[Tensor] = []
        # what runs again may do so only once: then each class has a pass of its own
        for wanted in classes[rows].chunk(T if again else 1, 1):
            with held(own) as once:
                gradients += logit_gradients(
                    once, maps, wanted, flat_weight[part], recomputes=again
                )
        return part, gradients

    for part, gradients in BatchSize.from_(batch_size).run(len(image), work):
        # the rows of an image are adjacent: slicing takes a tenth of the time of index_add_
        for n in range(part.start // P, (part.stop - 1) // P + 1):
            first, last = max(n * P, part.start), min((n + 1) * P, part.stop)
            for t, G in enumerate(gradients):
                yield (
                    n,
                    t,
                    slice(first - n * P, last - n * P),
                    G[first - part.start : last - part.start],
                )


def completeness_gap(IG: Tensor, F: Tensor, logit_difference: Tensor) -> Tensor:
    """Return how far sum(IG F) is from z(F) - z(0), relative to what moves the logits [n]."""
    D = IG * F[:, None]
    gap = (D.sum(axes(D, 2)) - logit_difference).abs().amax(1)
    moved = torch.maximum(D.abs().sum(axes(D, 2)), logit_difference.abs()).amax(1)
    return (gap / torch.where(moved > 0, moved, 1.0)).cpu()


def fixed_rule_error(gap: Tensor, a: Tensor, coarse: Tensor, B: Tensor, coarse_B: Tensor) -> Tensor:
    """Return a conservative estimate of the relative error of a fixed rule [n, T, K].

    The largest of three: the completeness gap; three times the change of the attribution from the
    coarser rule, relative to the attribution or to 0.01; and, as this may be small by chance, the
    share of the relevance that lies elsewhere with the coarser rule.

    Args:
        gap: Completeness gaps [n].
        a: Attributions [n, T, K].
        coarse: Attributions with the coarser rule [n, T, K].
        B: Relevance [n, T, C, h, w] (step 6).
        coarse_B: Relevance with the coarser rule; overwritten.

    Example:
        >>> gap, a, coarse = torch.tensor([0.01]), torch.tensor([[[0.3]]]), torch.tensor([[[0.27]]])
        >>> B, coarse_B = torch.ones(1, 1, 1, 1, 2), torch.tensor([[[[[1.0, 3.0]]]]])
        >>> fixed_rule_error(gap, a, coarse, B, coarse_B)  # half of the relevance lies elsewhere
        tensor([[[0.5000]]])
    """
    change = (a - coarse).abs() / a.clamp(min=FLOOR)
    total, other = B.sum(axes(B, 2)), coarse_B.sum(axes(B, 2))
    scale = total / torch.where(other > 0, other, 1.0)
    moved = coarse_B.mul_(broadcast(scale, B)).sub_(B).abs_().sum(axes(B, 2))
    moved /= torch.where(total > 0, total, 1.0)
    error = torch.maximum(constants.SAFETY * change, moved[:, :, None])
    return torch.maximum(error.cpu(), gap[:, None, None])


def rows_of(head: Head, index: Tensor) -> Head:
    """Return the head for some of the images; a plain callable serves all of them."""
    return head.rows(index) if hasattr(head, "rows") else head


def to_device(numbers: Tensor, device: torch.device) -> Tensor:
    """Copy a few numbers to a device, without holding up the work of a CUDA GPU."""
    return numbers.to(device, non_blocking=device.type == "cuda")
