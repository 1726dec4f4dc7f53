"""Raw maps and concept maps: where the network sees a concept (steps 2 to 4 of the method).

Letters and shapes as everywhere in vtcav: F [N, C, h, w] feature maps, v [K, C] directions,
R [N, K, h, w] raw maps, e+ and e- [K] emblems, M [N, K, h, w] concept maps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtcav.method.guard import guarded
from vtcav.method.positions import axes, broadcast

__all__ = ["concept_map", "contraharmonic_mean", "presence", "raw_map", "response"]

_SMALL = 1e-12


def raw_map(F: Tensor, v: Tensor) -> Tensor:
    """Return R = ReLU(sum_c v_c F_c), step 2.

    Args:
        F: Feature maps [N, C, h, w].
        v: Directions [K, C].

    Returns:
        Raw maps R [N, K, h, w], at least 0, in the units of v times F.

    Example:
        >>> import torch
        >>> F = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
        >>> raw_map(F, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        tensor([[[[4., 1.]],
        <BLANKLINE>
                 [[0., 3.]]]])
    """
    return torch.einsum("kc,nc...->nk...", v, F).relu()


def response(F: Tensor, w: Tensor, offset: Tensor) -> Tensor:
    """Return r = w.F - offset: the response of place filters, which is not rectified.

    Args:
        F: Feature maps [N, C, h, w].
        w: Filters [K, C].
        offset: w.m- [K], the mean response over all locations of the negatives.

    Returns:
        r [N, K, h, w].

    Example:
        >>> import torch
        >>> F = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])
        >>> response(F, torch.tensor([[1.0, 0.5]]), torch.tensor([2.0]))
        tensor([[[[0.5000, 0.0000]]]])
    """
    r = torch.einsum("kc,nc...->nk...", w, F)
    return r - broadcast(offset[None], r)


def contraharmonic_mean(R: Tensor, sides: int = 2) -> Tensor:
    """Return sum(R^2) / (sum(R) + 1e-7) of each map, step 3 (`guard`: 1e-7 in the units of R).

    Args:
        R: Raw maps [..., h, w].
        sides: The number of axes of positions: 2, or 3 of maps [..., d, h, w].

    Returns:
        One value per map [...], close to the map's high values; 0 for an empty map.

    Example:
        >>> import torch
        >>> contraharmonic_mean(torch.tensor([[[0.0, 2.0], [2.0, 0.0]]]))
        tensor([2.])
    """
    highest = float(R.amax()) if R.numel() else 0.0
    # squares must stay in the range of float32
    scale = highest if highest > 0 and not _SMALL < highest < 1 / _SMALL else 1.0
    R = R / scale if scale != 1.0 else R
    positions = axes(R, R.ndim - sides)
    return R.square().sum(positions) / guarded(R.sum(positions)) * scale


def concept_map(R: Tensor, e_pos: Tensor, e_neg: Tensor) -> Tensor:
    """Return M = (clip(R, e-, e+) - e-) / (e+ - e-), step 4.

    Args:
        R: Raw maps, or responses of place filters [N, K, h, w].
        e_pos: Emblems of the concepts' examples [K].
        e_neg: Emblems of the negatives [K].

    Returns:
        Concept maps M [N, K, h, w] in [0, 1]; 0 everywhere for a concept with e+ <= e-, which the
        layer does not separate from its negatives.

    Example:
        >>> import torch
        >>> R = torch.tensor([[[[0.0, 1.0, 2.0, 9.0]]]])
        >>> concept_map(R, torch.tensor([3.0]), torch.tensor([1.0]))
        tensor([[[[0.0000, 0.0000, 0.5000, 1.0000]]]])
    """
    low, high = broadcast(e_neg[None], R), broadcast(e_pos[None], R)
    separated = high > low
    width = torch.where(separated, high - low, 1.0)
    # minimum before maximum: the clip is defined even if e+ < e-
    M = (torch.maximum(torch.minimum(R, high), low) - low) / width
    return torch.where(separated, M, 0.0).clamp(0.0, 1.0)


PRESENT = 0.5
"""M above which a location counts as showing the concept."""


def presence(M: Tensor, separated: Tensor) -> Tensor:
    """Return how strongly an image shows each concept: sum(M^2) / sum(M).

    It is M's mean weighted by M: the value that emblems are medians of (step 3), taken of M instead
    of R, so that images and concepts compare: 0 where the map is empty, 1 where every location that
    responds does so as the concept's examples do.

    Args:
        M: Concept maps [K, h, w] in [0, 1].
        separated: Whether the layer separates each concept, e+ > e- [K].

    Returns:
        One value in [0, 1] per map [K]; NaN for a concept that the layer does not separate,
        whose maps are empty whatever the image shows.

    Example:
        >>> import torch
        >>> M = torch.tensor([[[0.0, 0.5]], [[0.2, 0.8]], [[0.0, 0.0]], [[0.0, 0.0]]])
        >>> presence(M, torch.tensor([True, True, True, False]))
        tensor([0.5000, 0.6800, 0.0000,    nan])
    """
    return contraharmonic_mean(M, M.ndim - 1).masked_fill(~separated.to(M.device), torch.nan)
