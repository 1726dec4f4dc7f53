"""Regions of concepts in the picture: where their maps exceed a level (erasure 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from vtcav.method.erasure.joined_map import seen_map
from vtcav.method.erasure.place_filter import Answers
from vtcav.method.erasure.rivals import RegionParts, Rivals

__all__ = [
    "LEVEL",
    "elsewhere",
    "grown",
    "highest_elsewhere",
    "overlapping_regions",
    "region",
    "resized",
]

LEVEL = 0.25
GROWTH = 0.05
"""The share of the side by which a region of several layers grows."""
SAME = 0.5
"""The share of the smaller region above which erasing one erases the other as well."""
_TRIES = 32


def grown(H: Tensor, pixels: int) -> Tensor:
    """Return regions grown by some pixels in every direction.

    Args:
        H: Regions [n, K, H, W] of 0 and 1.
        pixels: At least 0.

    Example:
        >>> grown(torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]]), 1)
        tensor([[[[0., 0., 1., 1.]]]])
    """
    return _dilated(H, [0, 0, pixels, pixels])


def _grown_by(H: Tensor, growth: float) -> Tensor:
    """Return regions grown by a share of the shorter side; of volumes, of the slices too."""
    pixels = round(growth * min(H.shape[-2:]))
    slices = [round(growth * side) for side in H.shape[2:-2]]
    return _dilated(H, [0, 0, *slices, pixels, pixels])


def _dilated(H: Tensor, reach: Sequence[int]) -> Tensor:
    """Return regions of 0 and 1 grown along every axis by its reach."""
    for axis, pixels in enumerate(reach):
        if pixels:
            # by running sums, whose cost does not depend on the reach
            ends = [0, 0] * (H.ndim - 1 - axis) + [pixels + 1, pixels]
            count = functional.pad(H, ends).cumsum(axis, dtype=torch.int32)
            side = H.shape[axis]
            wide = 2 * pixels + 1
            H = (count.narrow(axis, wide, side) > count.narrow(axis, 0, side)).to(H)
    return H


def resized(M: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps [n, K, h, w] at the size of the network's input [n, K, H, W], linear."""
    mode = "bilinear" if M.ndim == 4 else "trilinear"
    return functional.interpolate(M, tuple(size), mode=mode, align_corners=False)


def region(
    maps: Sequence[Tensor],
    seen: Sequence[Tensor],
    level: float = LEVEL,
    growth: float = GROWTH,
    answers: Sequence[Answers | None] = (),
    heights: Sequence[Tensor] = (),
) -> Tensor:
    """Return the regions of concepts from the maps of several layers.

    A region is where the joined map is above the level, grown by a share of the shorter side,
    without the connected parts that belong to another concept (`Rivals`). Concepts that no layer
    sees have none.

    Args:
        maps: Concept maps of each layer at the size of the input [n, K, H, W].
        seen: Held-out AUC of each layer [K].
        level: In (0, 1).
        growth: A share of the shorter side.
        answers: What the filters of each layer answer to each concept; None, or left out, where it
            is not known.
        heights: The maps of each layer before they are clipped [n, K, h, w]; left out, the maps.

    Returns:
        H [n, K, H, W] of 0 and 1.
    """
    H = (seen_map(maps, seen) > level).float()
    rivals = Rivals(seen, answers or [None] * len(maps), level)
    for n, own in enumerate(H):
        found = own.flatten(1).any(1).nonzero().flatten().tolist()
        if not found:
            continue
        M, r = _of_image(maps, n, H), _of_image(heights or maps, n, H)
        for k in found:
            parts, _ = ndimage.label(own[k].cpu().numpy())
            kept = np.append(True, ~rivals.own(RegionParts.of(parts, M, r), k))
            own[k] *= torch.from_numpy(kept[parts]).to(own)
    return _grown_by(H, growth)


def _of_image(maps: Sequence[Tensor], n: int, H: Tensor) -> NDArray[np.float32]:
    """Return the maps of one image at the size of its regions [L, K, H, W]."""
    same = [each[n : n + 1] for each in maps]
    full = [M if M.shape[2:] == H.shape[2:] else resized(M, H.shape[2:]) for M in same]
    return torch.cat(full).cpu().numpy()


def overlapping_regions(H: Tensor) -> list[list[int]]:
    """Return for each concept the others that are erased with it, those that overlap most first.

    Regions overlap where more than half of the smaller one is part of the other.

    Args:
        H: Regions of one image [K, H, W] of 0 and 1.

    Example:
        >>> overlapping_regions(torch.tensor(
        ...     [[[1.0, 1.0, 1.0]], [[1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]))
        [[1], [0], []]
    """
    if not len(H):
        return []
    flat = H.flatten(1)
    common, area = flat @ flat.T, flat.sum(1)
    share = (common / torch.minimum(area[:, None], area).clamp(min=1)).fill_diagonal_(0)
    return [
        [j for j in own.argsort(descending=True, stable=True).tolist() if own[j] > SAME]
        for own in share.cpu()
    ]


def elsewhere(H: Tensor, count: int, seed: int, avoid: Tensor | None = None) -> Tensor:
    """Return placebos of a region: its shape, turned over at random, at random positions.

    Of several random positions the one that overlaps least with the region, and with what else is
    to be avoided, is taken, so that a large region gets the best placebos that there are.

    Args:
        H: A region [H, W] of 0 and 1.
        count: The number of placebos.
        seed: Seeds the draws.
        avoid: What else is to be avoided [H, W] of 0 and 1: the regions of other concepts.

    Returns:
        [count, H, W], each with as many pixels as the region.

    Example:
        >>> elsewhere(torch.tensor([[1.0, 0.0, 0.0]]), 2, seed=0).sum((1, 2))
        tensor([1., 1.])
    """
    placebos, inside = H.new_zeros(count, *H.shape), H.nonzero()
    if not len(inside):
        return placebos
    kept = (H if avoid is None else torch.maximum(H, avoid)).cpu().numpy() > 0
    first, last = inside.amin(0).tolist(), inside.amax(0).tolist()
    box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    shape = H[box].cpu().numpy() > 0
    generator = torch.Generator().manual_seed(seed)
    tries = torch.rand(count, _TRIES, 2 * H.ndim, generator=generator)
    for placebo, draws in zip(placebos, tries.tolist(), strict=True):
        best = None
        for draw in draws:
            positions, flips = draw[: H.ndim], draw[H.ndim :]
            turned = np.flip(shape, tuple(axis for axis, flip in enumerate(flips) if flip < 0.5))
            at = tuple(
                slice(start := int(position * (whole - side + 1)), start + side)
                for position, whole, side in zip(positions, H.shape, shape.shape, strict=True)
            )
            overlap = np.count_nonzero(turned & kept[at])
            if best is None or overlap < best[0]:
                best = overlap, turned, at
            if not overlap:
                break
        assert best is not None
        _, turned, at = best
        placebo[at] = torch.from_numpy(turned.copy()).to(H)
    return placebos


def highest_elsewhere(H: Tensor, responses: Tensor, avoid: Tensor) -> Tensor:
    """Return placebos of a region where random concepts respond most, outside of all regions.

    Args:
        H: A region [H, W] of 0 and 1.
        avoid: The regions of all concepts [H, W]; the region's own where these leave too little.
        responses: Responses to random concepts at the size of the input [J, H, W].

    Returns:
        [J, H, W], each with as many pixels as the region, or as many as there are outside of it.

    Example:
        >>> H = torch.tensor([[1.0, 0.0, 0.0]])
        >>> highest_elsewhere(H, torch.tensor([[[9.0, 1.0, 2.0]]]), avoid=H)
        tensor([[[0., 0., 1.]]])
    """
    outside = torch.maximum(H, avoid).flatten() == 0
    if outside.sum() < H.sum():
        outside = H.flatten() == 0
    count = min(int(H.sum()), int(outside.sum()))
    ranked = responses.flatten(1).masked_fill(~outside, -torch.inf)
    placebos = torch.zeros_like(ranked).scatter_(1, ranked.topk(count, 1).indices, 1.0)
    return placebos.reshape(responses.shape)
