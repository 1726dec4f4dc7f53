"""Regions of concepts in the picture: where their maps exceed a level (erasure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from vtcav.method.erasure.place_filter import BETTER
from vtcav.method.positions import broadcast

__all__ = [
    "LEVEL",
    "SEEN",
    "below_seen",
    "elsewhere",
    "grown",
    "held_regions",
    "highest_elsewhere",
    "joined_map",
    "region",
    "resized",
    "seen_map",
]

LEVEL = 0.25
SEEN = 0.8
"""The held-out AUC below which a layer does not see a concept."""
GROWTH = 0.05
"""The share of the side by which a region of several layers grows."""
CONTEST = 0.75
"""How high a map must be, as a share of the highest of all concepts, for a location to count."""
FAINT = 0.1
"""The mean map below which a layer has nothing in a part of a region."""
SAME = 0.5
"""The share of another region above which erasing one erases the other as well."""
_TRIES = 32


def below_seen(auc: float) -> str:
    """Return that an AUC is below what a layer must reach to see a concept.

    It is never rounded up to the limit itself.

    Example:
        >>> below_seen(0.796)
        'held-out AUC 0.79, below 0.8'
    """
    return f"held-out AUC {min(auc, SEEN - 0.01):.2f}, below {SEEN:g}"


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


def joined_map(maps: Sequence[Tensor], seen: Sequence[Tensor]) -> Tensor:
    """Return the mean of several layers' maps, weighted by how well each sees the concept.

    Args:
        maps: Concept maps of each layer at one size [n, K, H, W].
        seen: Held-out AUC of each layer [K]; the weight of a layer is max(0, 2 AUC - 1)^2.

    Returns:
        [n, K, H, W] in [0, 1]; 0 for a concept that no layer sees.
    """
    weights = torch.stack([layer_weight(A).to(maps[0]) for A in seen])
    shares = weights / weights.sum(0).clamp(min=1e-6)
    return torch.einsum("lnk...,lk->nk...", torch.stack(list(maps)), shares)


def seen_map(maps: Sequence[Tensor], seen: Sequence[Tensor]) -> Tensor:
    """Return the `joined_map` of concepts that a layer sees, and 0 for the others.

    Args:
        maps: Concept maps of each layer at one size [n, K, H, W].
        seen: Held-out AUC of each layer [K]; one of them must be 0.8 or more.
    """
    known = torch.stack(list(seen)).amax(0) >= SEEN
    return joined_map(maps, seen) * broadcast(known.to(maps[0])[None], maps[0])


def layer_weight(seen: Tensor) -> Tensor:
    """Return the weight of a layer for each concept [K]: max(0, 2 AUC - 1)^2."""
    return (2 * seen - 1).clamp(min=0).square()


def region(
    maps: Sequence[Tensor],
    seen: Sequence[Tensor],
    level: float = LEVEL,
    growth: float = GROWTH,
    answers: Sequence[Tensor | None] = (),
) -> Tensor:
    """Return the regions of concepts from the maps of several layers.

    A region is where the joined map is above the level, grown by a share of the shorter side.
    Concepts that no layer sees have none. A filter that never met another concept may respond to
    it as well: a connected part of a region is left out where half of the layers or more, by
    weight, see another concept there that is higher by a third, and that they see as well. A
    filter that answers another concept more than its own counts for that much less beside it. The
    part is left out as well where another concept, clearly there, explains it: where its pattern
    makes the filter answer as much, and less than the filter's own concept does. What is everywhere
    alike, such as a tint, takes only what is everywhere, too.

    Args:
        maps: Concept maps of each layer at the size of the input [n, K, H, W].
        seen: Held-out AUC of each layer [K].
        level: In (0, 1).
        growth: A share of the shorter side.
        answers: What the filters of each layer answer to each concept [K, K]; None, or left out,
            where it is not known.

    Returns:
        H [n, K, H, W] of 0 and 1.
    """
    H = (seen_map(maps, seen) > level).float()
    aucs = torch.stack(list(seen)).cpu().numpy()
    heights = torch.stack(list(maps), 1).cpu().numpy()
    known = [None if not answers else answers[i] for i in range(len(aucs))]
    beside = _Answers.of(known, aucs.shape[1])
    overall = heights.reshape(*heights.shape[:3], -1).mean(3)
    for n, k in H.flatten(2).any(2).nonzero().tolist():
        parts, _ = ndimage.label(H[n, k].cpu().numpy())
        for part, box in enumerate(ndimage.find_objects(parts), 1):
            inside = parts[box] == part
            there = heights[n][(..., *box)][:, :, inside]
            if _is_anothers(there, overall[n], k, aucs, beside):
                H[n, k][box][torch.from_numpy(inside).to(H.device)] = 0
    return _grown_by(H, growth)


@dataclass(frozen=True, eq=False)
class _Answers:
    """What the filters of L layers answer to other concepts: row i, column j the filter of j to i.

    Attributes:
        excess: How many times more than its own concept a filter answers another [L, K, K], at
            least 1.
        explained: What a filter answers to another concept for each unit of that concept's own map
            [L, K, K]; 0 where that is not clearly less than what its own concept makes it answer,
            as the other concept's examples may then show its own.
    """

    excess: NDArray[np.float64]
    explained: NDArray[np.float64]

    @classmethod
    def of(cls, answers: Sequence[Tensor | None], K: int) -> _Answers:
        """Return them from what `PlaceFilters.answers` gives for each layer."""
        plain = torch.eye(K, dtype=torch.float64)
        known = torch.stack([plain if A is None else A.double().cpu() for A in answers])
        # its own counts as no less than the level of a region, as a quotient of next to nothing
        # would say little
        own = known.diagonal(dim1=1, dim2=2).clamp(min=LEVEL)
        excess = (known / own[:, None, :]).clamp(min=1)
        less = (known > 0) & (known < CONTEST * own[:, None, :])
        explained = torch.where(less, known / own[:, :, None], 0.0)
        for each, on_diagonal in ((excess, 1.0), (explained, 0.0)):
            each.diagonal(dim1=1, dim2=2).fill_(on_diagonal)
        return cls(excess.numpy(), explained.numpy())


def _is_anothers(
    heights: NDArray[np.float32],
    overall: NDArray[np.float32],
    k: int,
    seen: NDArray[np.float32],
    answers: _Answers,
) -> bool:
    """Whether a part of concept k's region belongs to another concept.

    Args:
        heights: All maps at the P pixels of the part [L, K, P].
        overall: Their means over the whole picture [L, K].
        k: The concept.
        seen: Held-out AUC by layer and concept [L, K].
        answers: What filters answer to other concepts.
    """
    means = heights.mean(2)
    # in row i, column j whether a layer sees i as well as j [L, K, K]
    rivals = seen[:, :, None] >= np.maximum(SEEN, seen[:, None] - BETTER)
    as_well = rivals[:, :, k]
    highest = np.where(as_well, means, 0).max(1)
    # a layer on which nothing is there has no say
    weights = layer_weight(torch.from_numpy(seen[:, k])).numpy() * (highest > FAINT)
    clear = np.where(heights.max(2) >= CONTEST, means, 0)
    by_others = np.einsum("li,lij->lj", clear, rivals * answers.explained)
    explained = CONTEST * means < by_others
    # of either filter, what the other concept alone would make it answer is taken off
    own, others = means[:, [k]] / answers.excess[:, :, k], means / answers.excess[:, k]
    # what is everywhere alike, such as a tint, says nothing of whose a single part is
    everywhere = overall >= CONTEST * means
    here = as_well & ~explained & (means > FAINT) & (~everywhere | everywhere[:, [k]])
    gone = explained[:, k] | (here & (own < CONTEST * others)).any(1)
    return bool(2 * (weights * gone).sum() >= weights.sum() > 0)


def held_regions(H: Tensor) -> list[int | None]:
    """Return for each concept the other one that is erased with it.

    A region holds another where it has more than half of it; of several others the one that it has
    most of is taken.

    Args:
        H: Regions of one image [K, H, W] of 0 and 1.

    Example:
        >>> held_regions(torch.tensor([[[1.0, 1.0, 1.0]], [[1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]))
        [1, None, None]
    """
    if not len(H):
        return []
    flat = H.flatten(1)
    common = flat @ flat.T
    common = (common / common.diagonal().clamp(min=1)).fill_diagonal_(0)
    most, other = common.max(1)
    return [j if m > SAME else None for m, j in zip(most.tolist(), other.tolist(), strict=True)]


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
    kept = H if avoid is None else torch.maximum(H, avoid)
    first, last = inside.amin(0).tolist(), inside.amax(0).tolist()
    shape = H[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))]
    generator = torch.Generator().manual_seed(seed)
    tries = torch.rand(count, _TRIES, 2 * H.ndim, generator=generator)
    for placebo, draws in zip(placebos, tries.tolist(), strict=True):
        best = None
        for draw in draws:
            positions, flips = draw[: H.ndim], draw[H.ndim :]
            turned = shape.flip([axis for axis, flip in enumerate(flips) if flip < 0.5])
            at = tuple(
                slice(start := int(position * (whole - side + 1)), start + side)
                for position, whole, side in zip(positions, H.shape, shape.shape, strict=True)
            )
            overlap = float((turned * kept[at]).sum())
            if best is None or overlap < best[0]:
                best = overlap, turned, at
            if not overlap:
                break
        assert best is not None
        _, turned, at = best
        placebo[at] = turned
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
