"""Effects of erasure: drops, shares and their chance distribution (erasure 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.method.significance import finite

__all__ = ["class_scores", "mean_test", "placebo_p_value", "pooled_logits", "share"]


def class_scores(z: Tensor, classes: list[int], *, binary: bool) -> Tensor:
    """Return the scores of classes [..., T] of logits [..., T_all].

    The negative class of a network with a single logit has its negative.

    Example:
        >>> class_scores(torch.tensor([[2.0]]), [0, 1], binary=True)
        tensor([[-2.,  2.]])
    """
    if binary:
        z = torch.cat([-z, z], -1)
    return z[..., classes]


def pooled_logits(negatives: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Return the logits that shares refer to, over several sets of negatives of the same weight.

    Args:
        negatives: Mean and standard deviation of the logits over each set, [T] each; empty where
            they are not known.

    Returns:
        Mean and standard deviation [2, T], the second NaN where it is not known; None without
        means.

    Example:
        >>> pooled_logits([(torch.tensor([1.0]), torch.tensor([1.0])),
        ...                   (torch.tensor([3.0]), torch.tensor([1.0]))])
        tensor([[2.0000],
                [1.4142]])
    """
    means, deviations = [mean for mean, _ in negatives], [deviation for _, deviation in negatives]
    if not means or not all(map(len, means)):
        return None
    mean, between = torch.stack(means).mean(0), torch.stack(means).var(0, correction=0)
    if not all(map(len, deviations)):
        return torch.stack([mean, torch.full_like(mean, torch.nan)])
    within = torch.stack(deviations).square().mean(0)
    return torch.stack([mean, (within + between).sqrt()])


def share(drop: float, before: float, reference: float, spread: float = 0.0) -> float:
    """Return a drop as a share of z_t(x) - z_t(reference).

    Args:
        drop: z_t(x) - z_t(filled x), in logits; below 0 where the concept speaks against the class.
        before: z_t(x).
        reference: The mean of z_t over the negatives.
        spread: Their standard deviation; NaN where it is not known.

    Returns:
        NaN where the class does not score higher than for the reference by more than the spread:
        the score is that of a negative, and there is nothing to share.

    Example:
        >>> share(1.0, 3.0, 1.0), share(1.0, 0.5, 1.0), share(1.0, 1.5, 1.0, spread=0.6)
        (0.5, nan, nan)
    """
    gap = before - reference
    return math.nan if gap <= 0 or gap <= spread else drop / gap


def placebo_p_value(drop: float, placebos: NDArray[np.float64]) -> float:
    """Return the p-value of an image's drop against its placebos, two-sided.

    Under the null hypothesis the concept's region is one more placebo. Counted are the regions
    whose drop is as far from the mean of all as that of the concept's.

    Args:
        drop: The drop of the concept's region.
        placebos: Drops of the placebos [J].

    Returns:
        At least 1 / (J + 1); NaN where any of the numbers is NaN or infinite.

    Example:
        >>> placebo_p_value(2.0, np.linspace(-1, 1, 19))
        0.05
    """
    if not finite(drop, placebos):
        return math.nan
    away = np.abs(placebos - (drop + placebos.sum()) / (1 + len(placebos)))
    own = abs(drop - (drop + placebos.sum()) / (1 + len(placebos)))
    # rounding must not break ties
    count = np.count_nonzero(away >= own * (1 - 1e-9))
    return float((1 + count) / (1 + len(placebos)))


def mean_test(
    drops: NDArray[np.float64],
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    placebos: NDArray[np.float64],
) -> tuple[float, float]:
    """Test the mean drop of several images against their placebos, two-sided.

    Under the null hypothesis each image's drop is drawn from its own J + 1 regions, so the mean
    over images has a known mean and variance, and is nearly normal. The p-value is never below the
    product of 1 / (J + 1) that the draws allow.

    Args:
        drops: Drops of the images [n].
        means: Mean drops of their placebos [n].
        deviations: Standard deviations of these drops, with divisor J [n].
        placebos: The number of placebos of each image, J [n].

    Returns:
        The effect, in standard deviations of the mean by chance, and the p-value in (0, 1]; NaN
        and 1 where all regions of all images have the same drop, NaN both where any number is NaN.

    Example:
        >>> J = np.array([20, 20])
        >>> effect, p = mean_test(np.array([1.0, 1.0]), np.zeros(2), np.ones(2), J)
        >>> round(effect, 3), round(p, 3)
        (1.348, 0.178)
    """
    away = (drops - means) * placebos / (1 + placebos)
    variance = (deviations**2 + (drops - means) ** 2 / (1 + placebos)) * placebos / (1 + placebos)
    total = float(variance.sum())
    if not math.isfinite(total):
        return math.nan, math.nan
    if total <= 0:
        return math.nan, 1.0
    effect = float(away.sum()) / math.sqrt(total)
    p = math.erfc(abs(effect) / math.sqrt(2))
    return effect, max(p, float(np.prod(1 / (1 + placebos))))
