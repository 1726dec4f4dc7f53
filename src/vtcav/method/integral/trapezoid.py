"""Integrated gradients at a layer (step 5) with a fixed rule.

The integral over alpha in [0, 1] of dz_t/dF(alpha F) is taken along the straight line from zero
feature maps to F. The paper's rule is the trapezoid rule with 50 equidistant steps, 51 points.
`vtcav.method.integral.adaptive` takes it as finely as an image asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.models.base import Head, held, recomputes
from vtcav.models.heads.batch_size import BatchSize
from vtcav.models.heads.gradient import gradient

__all__ = ["FLOOR", "Integral", "integrate", "moved", "rows_of", "trapezoid", "weighted_gradients"]

FLOOR = 0.01
"""Attributions below this need to be right only to the tolerance times this."""


@dataclass(frozen=True, eq=False)
class Integral:
    """Integrated gradients and what they cost.

    Attributes:
        IG: Integrated gradients [N, T, C, h, w].
        error: Estimate, on the safe side, of the relative error of the concept attributions
            [N, T, K], or of all of an image [N, 1, 1]; NaN for a fixed rule, which gives none.
        converged: Whether the tolerance was reached [N]; true for a fixed rule.
        evaluations: Forward and backward passes through the head that each image took [N].
    """

    IG: Tensor
    error: Tensor
    converged: Tensor
    evaluations: Tensor


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


def integrate(
    head: Head,
    F: Tensor,
    classes: Tensor,
    alpha: Tensor,
    weight: Tensor,
    *,
    batch_size: int | BatchSize,
) -> Integral:
    """Integrate with a fixed rule.

    Args:
        head: The network after the layer.
        F: Feature maps [N, C, h, w].
        classes: Indices of the logits to differentiate, per image [N, T].
        alpha: Points of the rule [P].
        weight: Weights of the rule [P].
        batch_size: Feature maps per pass through the head.

    Returns:
        IG [N, T, C, h, w] and its cost.
    """
    N = len(F)
    points, weights = alpha.expand(N, -1), weight.expand(N, -1)
    IG = weighted_gradients(head, F, classes, points, weights, batch_size)
    return Integral(
        IG,
        torch.full((N, 1, 1), torch.nan),
        torch.ones(N, dtype=torch.bool),
        torch.full((N,), len(alpha)),
    )


def weighted_gradients(
    head: Head,
    F: Tensor,
    classes: Tensor,
    alpha: Tensor,
    weight: Tensor,
    batch_size: int | BatchSize,
) -> Tensor:
    """Return sum_p weight_p dz_t/dF(alpha_p F) [N, T, C, h, w], for points and weights [N, P].

    Every (image, point) pair is one feature map of a pass, so that the batches are full however
    many images and points there are.
    """
    N, T = classes.shape
    P = alpha.shape[1]
    total = torch.zeros(N, T, *F.shape[1:], device=F.device)
    image = moved(torch.arange(N).repeat_interleave(P), F.device)
    flat_alpha, flat_weight = (moved(each.flatten(), F.device) for each in (alpha, weight))

    def work(part: slice) -> tuple[slice, list[Tensor]]:
        rows = image[part]
        maps = F[rows] * flat_alpha[part][:, None, None, None]
        own = rows_of(head, rows)
        return part, _plain(own, maps, classes[rows], flat_weight[part])

    for part, found in BatchSize.from_(batch_size).run(len(image), work):
        # rows of an image lie side by side; index_add_ takes ten times as long
        for n in range(part.start // P, (part.stop - 1) // P + 1):
            own = slice(max(n * P - part.start, 0), (n + 1) * P - part.start)
            for t, G in enumerate(found):
                total[n, t] += G[own].sum(0)
    return total


def rows_of(head: Head, index: Tensor) -> Head:
    """Return the head for some of the images; any callable is one head for all."""
    return head.rows(index) if hasattr(head, "rows") else head


def moved(numbers: Tensor, device: torch.device) -> Tensor:
    """Return a few numbers on a device; a GPU of CUDA goes on with its work while they come."""
    return numbers.to(device, non_blocking=device.type == "cuda")


def _plain(head: Head, maps: Tensor, classes: Tensor, weight: Tensor) -> list[Tensor]:
    """Return weight dz_t/dF at some feature maps, one [n, C, h, w] per class, from one forward."""
    maps = maps.detach().requires_grad_()
    with torch.enable_grad(), held(head) as own:
        z = own(maps).gather(1, classes)
        T = z.shape[1]
        return [
            gradient(
                z[:, t], maps, weight, retain_graph=t < T - 1, recomputes=recomputes(head)
            ).float()
            for t in range(T)
        ]
