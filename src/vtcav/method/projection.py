"""Projection: feature maps without concepts, whatever the class.

Letters and shapes: F [N, C, h, w] feature maps, and for K concepts

- w [K, C], offset [K]: place filters, whose response r = w.F - offset is 0 on average over the
  locations of the negatives;
- d [K, C]: their patterns, what each concept adds to the maps, with w_k.d_k = 1;
- P [K, C]: the joint patterns, with w_j.P_k = 1 where j = k, and 0 elsewhere.

    F' = F - sum_k r_k P_k

so that no filter responds to F': at each location, the maps are moved along the patterns to the
typical response of the negatives. This is the projection of P-ClArC (Anders et al., 2022) with the
patterns of Pahde et al. (2023): what does not go along with the concept stays as it is. Unlike
`concept_part.without`, it does not stop at 0, or a part of the concept would stay.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtcav.method.positions import broadcast


def joint_patterns(w: Tensor, d: Tensor) -> Tensor:
    """Return P [K, C]: patterns by which several concepts are taken out at once.

    Args:
        w: Filters [K, C].
        d: Their patterns [K, C].

    Returns:
        P, in double precision. For one concept it is its pattern.

    Example:
        >>> w = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
        >>> P = joint_patterns(w, torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
        >>> (w.double() @ P.T).round(decimals=9).abs()
        tensor([[1., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    w, d = w.double(), d.double()
    P: Tensor = torch.linalg.pinv(w @ d.T).T @ d
    return P


def projected(F: Tensor, r: Tensor, P: Tensor) -> Tensor:
    """Return F' = F - sum_k r_k P_k.

    Args:
        F: Feature maps [N, C, h, w].
        r: Responses of the filters [N, K, h, w].
        P: Joint patterns [K, C].

    Example:
        >>> F, w = torch.tensor([[[[4.0, 1.0]], [[2.0, 0.0]]]]), torch.tensor([[0.5, 0.5]])
        >>> left = projected(F, torch.einsum("kc,nchw->nkhw", w, F), torch.tensor([[1.0, 1.0]]))
        >>> left[0, :, 0]
        tensor([[ 1.0000,  0.5000],
                [-1.0000, -0.5000]])
    """
    return F - torch.einsum("nk...,kc->nc...", r, P)


def beyond(r: Tensor, level: Tensor) -> Tensor:
    """Return where a response of any filter exceeds its level [N, 1, h, w].

    Args:
        r: Responses [N, K, h, w].
        level: One for each filter [K].
    """
    return (r > broadcast(level[None], r)).any(1, keepdim=True)
