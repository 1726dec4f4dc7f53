"""Separability: how well a direction tells apart images that it was not learned from.

A direction learned from an image points towards it, so that the image's own projection means
nothing. Leave-pair-out cross-validation leaves out one example and one negative, learns from the
others and compares the projections of the two, for every pair. For directions that are differences
of means this has a closed form, so that there are no folds to draw and no seed.

Letters and shapes: X [n, C] and Y [m, C] the GAP activations of examples and negatives, D [n, m]
margins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtcav.errors import CavError

Z95 = 1.959963984540054


def held_out_margins(X: Tensor, Y: Tensor) -> Tensor:
    """Return D: how far examples project above negatives on directions learned without both.

    D_ij = (x_i - y_j) . v_ij with v_ij the mean of the other examples minus the mean of the other
    negatives (Airola et al. 2011, leave-pair-out).

    Args:
        X: GAP activations of the examples [n, C], n at least 2.
        Y: GAP activations of the negatives [m, C], m at least 2.

    Returns:
        D [n, m], in double precision.

    Raises:
        CavError: For fewer than 2 of either.

    Example:
        >>> X, Y = torch.tensor([[4.0], [6.0]]), torch.tensor([[1.0], [2.0]])
        >>> held_out_margins(X, Y)  # the first: 4 above 1, on the direction 6 - 2
        tensor([[12., 10.],
                [10., 12.]], dtype=torch.float64)
    """
    n, m = len(X), len(Y)
    if n < 2 or m < 2:
        raise CavError(
            f"expected at least 2 examples and 2 negatives to leave a pair out, got {n} and {m}"
        )
    X, Y = X.double(), Y.double()
    X, Y = X - Y[0], Y - Y[0]  # margins are differences; this keeps them exact near 0
    sum_x, sum_y = X.sum(0), Y.sum(0)
    xy = X @ Y.T
    xx, yy = X.square().sum(1)[:, None], Y.square().sum(1)
    towards = (X @ sum_x)[:, None] - xx - Y @ sum_x + xy
    away = (X @ sum_y)[:, None] - xy - Y @ sum_y + yy
    return towards / (n - 1) - away / (m - 1)


def margins_from(X: Tensor, Y: Tensor, B: Tensor) -> Tensor:
    """Return how far each example projects above other images, on a direction learned without it.

    Args:
        X: GAP activations of the examples [n, C], n at least 2.
        Y: GAP activations of the negatives [m, C].
        B: GAP activations of images that the direction was not learned from [k, C].

    Returns:
        Margins (x_i - b_j) . v_i [n, k], v_i learned without example i.

    Raises:
        CavError: For fewer than 2 examples.
    """
    n = len(X)
    if n < 2:
        raise CavError(f"expected at least 2 examples to leave one out, got {n}")
    X, Y, B = X.double(), Y.double(), B.double()
    X, B, Y = X - Y[0], B - Y[0], Y - Y[0]
    sum_x, mean_y = X.sum(0), Y.mean(0)
    own = (X @ sum_x - X.square().sum(1)) / (n - 1) - X @ mean_y
    other = (B @ sum_x - X @ B.T) / (n - 1) - B @ mean_y
    return own[:, None] - other


def auc_interval(value: float, n: int, m: int, z: float = Z95) -> tuple[float, float]:
    """Return the interval of an AUC from its size and the numbers of images.

    Newcombe's method 5 (Statistics in Medicine 2006, 25:559-573): the values t for which
    |AUC - t| is at most z standard errors, with the variance that Hanley and McNeil give for t
    and (n + m) / 2 - 1 in place of n - 1 and m - 1. Unlike DeLong's, it has a width at AUC 1.

    It ignores that directions differ between studies. For held-out margins it covers the truth in
    91 to 98 of 100 simulated studies, and in about 85 to 90 where there is nothing to tell apart.

    Args:
        value: The AUC.
        n: Images on one side.
        m: Images on the other.
        z: Standard errors; 1.96 for 95 %.

    Returns:
        Low and high end, within 0 to 1.

    Example:
        >>> low, high = auc_interval(1.0, 20, 20)
        >>> round(low, 3), high
        (0.899, 1.0)
    """
    from scipy.optimize import brentq

    N = (n + m) / 2 - 1
    scale = z * z / (n * m)

    def outside(t: float) -> float:
        spread = t * (1 - t) * (1 + N * (1 - t) / (2 - t) + N * t / (1 + t))
        return (value - t) ** 2 - scale * spread

    edge = 1e-9
    low = 0.0 if value <= edge else float(brentq(outside, 0.0, min(value, 1 - edge)))
    high = 1.0 if value >= 1 - edge else float(brentq(outside, max(value, edge), 1.0))
    return low, high


def held_out_scores(D: Tensor) -> Tensor:
    """Return one held-out projection per image: examples, then negatives [n + m].

    It is the mean margin of each image, with an offset that gives the negatives a mean of 0.
    (Scores of images left out one by one have different offsets in the two sets; margins have
    none.)

    Example:
        >>> held_out_scores(torch.tensor([[3.0, 1.0]]))
        tensor([ 2., -1.,  1.])
    """
    return torch.cat([D.mean(1), D.mean() - D.mean(0)])
