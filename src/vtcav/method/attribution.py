"""Concept attributions: how much a concept contributes to a class (steps 6 to 9 of the method).

Letters and shapes as everywhere in vtcav: F [N, C, h, w] feature maps, IG [N, T, C, h, w]
integrated gradients, z [N, T_all] logits, s [N, T] class shares, B [N, T, C, h, w] relevance,
A [N, T, C, h, w] attribution maps, M [N, K, h, w] concept maps, p [N, K, C] pooled CAVs,
a [N, T, K] concept attributions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtcav.method.guard import guarded
from vtcav.method.positions import axes

__all__ = [
    "attribution_scale",
    "binary_relevance",
    "class_share",
    "concept_attribution",
    "pooled_cav",
    "positive_relevance",
    "relevance_share",
]


def positive_relevance(IG: Tensor, F: Tensor) -> Tensor:
    """Return B = ReLU(IG * F), the first half of step 6.

    Args:
        IG: Integrated gradients [N, T, C, h, w].
        F: Feature maps [N, C, h, w].

    Returns:
        B [N, T, C, h, w], at least 0, in units of the logit.
    """
    return (IG * F[:, None]).relu_()


def binary_relevance(IG: Tensor, F: Tensor) -> Tensor:
    """Return B of both classes of a single-logit network, step 9.

    Args:
        IG: Integrated gradients of the one logit [N, 1, C, h, w].
        F: Feature maps [N, C, h, w].

    Returns:
        B [N, 2, C, h, w]: ReLU(-D) for the negative class (index 0) and ReLU(D) for the positive
        (index 1), with D = IG * F.
    """
    D = IG * F[:, None]
    return torch.cat([(-D).relu_(), D.relu()], 1)


def class_share(z: Tensor, z0: Tensor) -> Tensor:
    """Return s = ReLU(z(F) - z(0)) over its maximum over all classes, step 6.

    Args:
        z: Logits at the feature maps [N, T_all].
        z0: Logits at zero feature maps, [1, T_all] or [N, T_all].

    Returns:
        s [N, T_all] in [0, 1]: the logit difference of each class, relative to the largest;
        all 0 where no logit increased.

    Example:
        >>> import torch
        >>> class_share(torch.tensor([[3.0, 2.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0]]))
        tensor([[1.0000, 0.5000, 0.0000]])
    """
    gain = (z - z0).relu()
    highest = gain.amax(1, keepdim=True)
    return gain / torch.where(highest > 0, highest, 1.0)


def relevance_share(B: Tensor) -> Tensor:
    """Return s of a single-logit network: the sum of each class's B over the larger, step 9.

    Args:
        B: Relevance of both classes [N, 2, C, h, w].

    Returns:
        s [N, 2] in [0, 1].
    """
    total = B.sum(axes(B, 2))
    highest = total.amax(1, keepdim=True)
    return total / torch.where(highest > 0, highest, 1.0)


def attribution_scale(B: Tensor, s: Tensor) -> Tensor:
    """Return s / (sum(B) + 1e-7), the second half of step 6 (`guard`: 1e-7 in the units of B).

    The attribution map A is B times this number. It is never formed: the concept attribution needs
    only B and the number.

    Args:
        B: Relevance [N, T, C, h, w].
        s: Class shares [N, T].

    Returns:
        Factors [N, T]. The sum of A over C, h, w is s where there is any relevance.

    Example:
        >>> B = torch.tensor([[[[[3.0, 1.0]]]]])
        >>> attribution_scale(B, torch.tensor([[0.5]]))
        tensor([[0.1250]])
    """
    return s / guarded(B.sum(axes(B, 2)))


def pooled_cav(v: Tensor, F: Tensor, M: Tensor) -> Tensor:
    """Return the rectified, max-normalised directions p, step 7.

    For an image whose feature maps are nowhere negative, p = ReLU(v). Otherwise the sign of v_c is
    flipped for every channel c that is negative inside the concept map (sum_hw(F_c M) < 0).

    Args:
        v: Directions [K, C].
        F: Feature maps [N, C, h, w].
        M: Concept maps [N, K, h, w].

    Returns:
        p [N, K, C] in [0, 1]; all 0 for a direction with no positive entry.
    """
    has_negative = (F.amin(axes(F, 1)) < 0)[:, None, None]
    p = v[None].relu()
    if has_negative.any():
        inside = torch.einsum("nc...,nk...->nkc", F, M)
        p = torch.where((inside < 0) & has_negative, -v, v).relu()
    highest = p.amax(2, keepdim=True)
    return (p / torch.where(highest > 0, highest, 1.0)).expand(len(F), -1, -1)


def concept_attribution(B: Tensor, s: Tensor, M: Tensor, p: Tensor) -> Tensor:
    """Return a = sum_c p_c sum_hw(A_c M), steps 6 and 8, as matrix products.

    A is B times `attribution_scale`.

    Args:
        B: Relevance [N, T, C, h, w].
        s: Class shares [N, T].
        M: Concept maps [N, K, h, w].
        p: Pooled CAVs [N, K, C].

    Returns:
        Concept attributions a [N, T, K], at least 0 and at most s.
    """
    pooled_maps = torch.matmul(p[:, None], B.flatten(3))  # [N, T, K, h w]
    pooled = (pooled_maps * M.flatten(2)[:, None]).sum(3)
    # p and M are at most 1, so a exceeds s by rounding alone
    return torch.minimum(pooled * attribution_scale(B, s)[:, :, None], s[:, :, None])
