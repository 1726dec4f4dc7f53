"""Coverage: the part of a class's attribution that no concept accounts for, and where it is.

With one concept what is covered is its concept attribution, step 8. With several, each channel at
each place counts with the concept that covers it most, so that nothing is covered twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtcav.method.attribution import attribution_scale
from vtcav.method.positions import broadcast


def coverage(B: Tensor, s: Tensor, M: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the attribution of classes at each place, and what concepts cover of it.

    Args:
        B: Relevance [N, T, C, h, w].
        s: Class shares [N, T].
        M: Concept maps [N, K, h, w].
        p: Pooled CAVs [N, K, C].

    Returns:
        The sum over channels of A, and of A times the highest p_c M of the K concepts, both
        [N, T, h, w]. The sum of the first over places is s where there is any relevance.

    Example:
        >>> B, s = torch.tensor([[[[[3.0, 1.0]]]]]), torch.ones(1, 1)
        >>> M, p = torch.tensor([[[[1.0, 0.0]], [[0.5, 0.0]]]]), torch.ones(1, 2, 1)
        >>> [part.flatten().tolist() for part in coverage(B, s, M, p)]
        [[0.75, 0.25], [0.75, 0.0]]
    """
    A = B * broadcast(attribution_scale(B, s), B)
    highest = torch.zeros_like(B[:, 0])
    for k in range(M.shape[1]):
        highest = torch.maximum(highest, broadcast(p[:, k], highest) * M[:, k, None])
    return A.sum(2), (A * highest[:, None]).sum(2)
