"""Metrics of the agreement between a concept map and a mask of the concept.

Letters: M [h, w] is a map in [0, 1], G [h, w] the mask on the same cells. A boolean mask marks the
cells that belong to the concept; values between 0 and 1 are shares of each cell's area
(`at_resolution` computes them). Energy inside, Soft-IoU, balanced MSE and AUC of such a G equal
those of a pixel mask and the map with each cell enlarged to its pixels, without interpolation: the
coarseness of a layer counts against it.

An undefined number is NaN; `localise` returns all numbers, with the reason for each NaN.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vtcav.errors import ExplanationError, brief
from vtcav.parameters import as_list

METRICS = ("pointing_game", "energy_inside", "soft_iou", "balanced_mse", "cell_auc")
"""The names of the metrics, in the order of tables."""

EMPTY_MASK = "the mask is empty at this layer: there is nothing to find"
FULL_MASK = "the mask covers everything: only Soft-IoU is meaningful"
EMPTY_MAP = "the map is 0 everywhere: it has no maximum and no energy"
CONSTANT_MAP = "the map is constant, so all metrics but Soft-IoU and MSE are at chance"

NAN = float("nan")
_ROUNDING = 1e-10


@dataclass(frozen=True)
class Localisation:
    """Agreement of one map with one mask.

    Attributes:
        pointing_game: Whether the map's maximum lies in the mask, 0 to 1 (between them for ties);
            it says nothing of the rest of the map.
        energy_inside: The share of the map inside the mask, 0 to 1. It does not measure coverage:
            one bright cell inside gives 1.
        soft_iou: Overlap over union, 0 to 1. It does not say which of the two failed.
        balanced_mse: Squared error, half inside and half outside, 0 (best) to 1. A map of 0 gives
            0.5, and so does a map of 1.
        cell_auc: The probability that a point inside has a higher value than one outside, 0 to 1.
            It does not measure the size of the values.
        area: The share of the map that the mask covers: the pointing game and the energy inside
            of an uninformative map.
        note: Why a number is NaN or has little meaning; empty otherwise.
    """

    pointing_game: float
    energy_inside: float
    soft_iou: float
    balanced_mse: float
    cell_auc: float
    area: float
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers and the note by name, as a row of a table."""
        return asdict(self)


def localise(M: ArrayLike, G: ArrayLike) -> Localisation:
    """Return every metric of a map and a mask, and why one of them is NaN or has little meaning.

    Args:
        M: Map [h, w] in [0, 1].
        G: Mask [h, w], boolean or shares in [0, 1].

    Returns:
        The numbers. Without a mask (G is 0 everywhere) all are NaN; with a full one only Soft-IoU
        is a number; for a map that is 0 everywhere the pointing game and the energy are NaN.

    Raises:
        ExplanationError: For shapes that differ, or values outside [0, 1].

    Example:
        >>> found = localise([[0.0, 1.0], [0.0, 0.5]], [[False, True], [False, False]])
        >>> found.pointing_game, round(found.energy_inside, 3), found.area, found.note
        (1.0, 0.667, 0.25, '')
        >>> localise([[0.0, 0.0]], [[True, False]]).note
        'the map is 0 everywhere: it has no maximum and no energy'
    """
    M, G = _pair(M, G)
    return Localisation(
        pointing_game=pointing_game(M, G),
        energy_inside=energy_inside(M, G),
        soft_iou=soft_iou(M, G),
        balanced_mse=balanced_mse(M, G),
        cell_auc=cell_auc(M, G),
        area=float(G.mean()),
        note=_note(M, G),
    )


def pointing_game(M: ArrayLike, G: ArrayLike) -> float:
    """Return whether the map's maximum lies in the mask.

    Zhang et al., "Top-Down Neural Attention by Excitation Backprop", IJCV 126 (2018), without
    their tolerance of 15 pixels: a cell is in the mask or not (`covered`). Clipping at the emblem
    makes ties usual, so of several maxima each counts as much: the result is the probability that
    one of them, drawn at random, lies in the mask. (Counting any hit, as Quantus does, would let
    a constant map always win.)

    Args:
        M: Map [h, w] in [0, 1].
        G: Mask [h, w], boolean or shares in [0, 1].

    Returns:
        1 for a hit, 0 for a miss, between them for ties; for a constant map the mask's share of
        the cells. NaN for a map that is 0 everywhere, an empty mask or a full one.

    Raises:
        ExplanationError: For shapes that differ, or values outside [0, 1].

    Example:
        >>> pointing_game([[1.0, 1.0], [0.2, 0.0]], [[True, False], [False, False]])
        0.5
    """
    M, G = _pair(M, G)
    if not _partial(G) or not M.any():
        return NAN
    return float(covered(G)[M.max() == M].mean())


def energy_inside(M: ArrayLike, G: ArrayLike) -> float:
    """Return sum(M G) / sum(M): the share of the map that lies inside the mask.

    The energy-based pointing game of Wang et al., "Score-CAM", CVPR Workshops 2020; the relevance
    mass accuracy of Arras et al., "CLEVR-XAI", Information Fusion 81 (2022).

    Args:
        M: Map [h, w] in [0, 1].
        G: Mask [h, w], boolean or shares in [0, 1].

    Returns:
        0 to 1; for a constant map the mask's share of the area. NaN for a map that is 0
        everywhere, an empty mask or a full one.

    Raises:
        ExplanationError: For shapes that differ, or values outside [0, 1].

    Example:
        >>> energy_inside([[0.75, 0.25]], [[True, False]])
        0.75
    """
    M, G = _pair(M, G)
    if not _partial(G) or not M.any():
        return NAN
    return float((M * G).sum() / M.sum())


def soft_iou(M: ArrayLike, G: ArrayLike) -> float:
    """Return sum(M G) / (sum(M) + sum(G) - sum(M G)): overlap over union of a soft map.

    Rahman and Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks for Image
    Segmentation", ISVC 2016. Unlike the pointing game it rewards covering the whole region with
    high values.

    Args:
        M: Map [h, w] in [0, 1].
        G: Mask [h, w], boolean or shares in [0, 1].

    Returns:
        0 (no overlap, also for a map that is 0 everywhere) to 1 (the map is the boolean mask).
        NaN for an empty mask.

    Raises:
        ExplanationError: For shapes that differ, or values outside [0, 1].

    Example:
        >>> soft_iou([[1.0, 1.0, 0.0]], [[False, True, True]])
        0.3333333333333333
    """
    M, G = _pair(M, G)
    if not G.any():
        return NAN
    common = (M * G).sum()
    return float(common / (M.sum() + G.sum() - common))


def balanced_mse(M: ArrayLike, G: ArrayLike) -> float:
    """Return half the mean of (1 - M)^2 inside the mask plus half the mean of M^2 outside.

    The squared error to the mask; the two sides have equal weight however small the mask is. A
    cell with a share G inside counts with weight G inside and 1 - G outside.

    Args:
        M: Map [h, w] in [0, 1].
        G: Mask [h, w], boolean or shares in [0, 1].

    Returns:
        0 (the map is the boolean mask) to 1 (its opposite); 0.5 for a map that is 0 everywhere or
        1 everywhere, 0.25 for one that is 0.5 everywhere. NaN for an empty or a full mask.

    Raises:
        ExplanationError: For shapes that differ, or values outside [0, 1].

    Example:
        >>> balanced_mse([[0.5, 0.0, 1.0]], [[True, False, False]])
        0.375
    """
    M, G = _pair(M, G)
    if not _partial(G):
        return NAN
    inside = (G * (1 - M) ** 2).sum() / G.sum()
    outside = ((1 - G) * M**2).sum() / (1 - G).sum()
    return float((inside + outside) / 2)


def cell_auc(M: ArrayLike, G: ArrayLike) -> float:
    """Return the area under the ROC curve of the map's cells as scores for being in the mask.

    The probability that a point inside the mask has a higher value than one outside; ties count
    half (Hanley and McNeil, Radiology 143, 1982). It depends only on the order of the values. A
    cell with a share G inside counts with weight G as a positive and 1 - G as a negative.

    Args:
        M: Map [h, w] in [0, 1].
        G: Mask [h, w], boolean or shares in [0, 1].

    Returns:
        0 to 1, 0.5 for a constant map. NaN for an empty or a full mask.

    Raises:
        ExplanationError: For shapes that differ, or values outside [0, 1].

    Example:
        >>> cell_auc([[0.9, 0.4, 0.4, 0.1]], [[True, True, False, False]])
        0.875
    """
    M, G = _pair(M, G)
    if not _partial(G):
        return NAN
    _, rank = np.unique(M.ravel(), return_inverse=True)
    positive = np.bincount(rank, weights=G.ravel())
    negative = np.bincount(rank, weights=1 - G.ravel())
    below = np.cumsum(negative) - negative
    wins = (positive * (below + negative / 2)).sum()
    return float(wins / (positive.sum() * negative.sum()))


def covered(G: ArrayLike) -> NDArray[np.bool_]:
    """Return the cells that belong to a mask: covered half as much as the best covered, or more.

    This keeps a mask that is smaller than a cell, or lies on the border of several, at a coarse
    layer. A boolean mask is returned unchanged.

    Args:
        G: Mask [h, w], boolean or shares in [0, 1].

    Returns:
        [h, w]; False everywhere for an empty mask.

    Raises:
        ExplanationError: For values outside [0, 1], or another shape.

    Example:
        >>> covered([[0.3, 0.2, 0.1]])
        array([[ True,  True, False]])
    """
    shares = _cells(G, "mask")
    # shares of areas are rounded, and half of the best is a usual one
    inside: NDArray[np.bool_] = (shares >= shares.max() / 2 - _ROUNDING) & (shares > 0)
    return inside


def at_resolution(
    mask: ArrayLike,
    shape: tuple[int, int],
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
) -> NDArray[np.float64]:
    """Bring a mask to the cells of a map: the share of each cell's area that the mask covers.

    The cells divide the rectangle that the network sees evenly, as they do in the figures. The
    sizes need not be multiples: a pixel shared by two cells counts for each with its part.

    Args:
        mask: [H, W] boolean or in [0, 1].
        shape: (h, w) of the map.
        box: Where the network's input, and so the map, lies on the mask: left, top, right and
            bottom as shares of its sides, like `LocalExplanation.box`. What lies beyond the mask
            (the padding around a picture) is not in it.

    Returns:
        G [h, w] in [0, 1]; for the whole box its mean is the mask's.

    Raises:
        ExplanationError: For a mask, shape or box of another kind.

    Example:
        >>> mask = [[True, False, False, False], [True, True, False, False]]
        >>> at_resolution(mask, (1, 2))
        array([[0.75, 0.  ]])
        >>> at_resolution(mask, (1, 2), box=(0.0, 0.0, 0.5, 1.0))
        array([[1. , 0.5]])
    """
    values = _cells(mask, "mask")
    sides = as_list("shape", shape)
    numbers = all(isinstance(side, int | float | np.number) for side in sides)
    if not numbers or len(sides) != 2 or any(int(side) != side or side < 1 for side in sides):
        raise ExplanationError(f"expected the (height, width) of a map, got {brief(shape)}")
    left, top, right, bottom = box
    if not (left < right and top < bottom):
        raise ExplanationError(
            f"expected a box of left, top, right and bottom with an area, got {brief(box)}"
        )
    rows = _overlap(int(sides[0]), values.shape[0], top, bottom)
    columns = _overlap(int(sides[1]), values.shape[1], left, right)
    G: NDArray[np.float64] = (rows @ values @ columns.T).clip(0.0, 1.0)
    # a sum of rounded parts is not exactly 0 or 1, on which "empty" and "full" rest
    G[G < _ROUNDING] = 0.0
    G[G > 1 - _ROUNDING] = 1.0
    return G


def _overlap(cells: int, pixels: int, low: float, high: float) -> NDArray[np.float64]:
    """Return the share of each cell's side that lies on each pixel [cells, pixels].

    The cells divide the stretch from `low` to `high`, in shares of the pixels' side.
    """
    edges = (low + (high - low) * np.arange(cells + 1) / cells) * pixels
    pixel = np.arange(pixels)
    common = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    share: NDArray[np.float64] = common.clip(0) / np.diff(edges)[:, None]
    return share


def _note(M: NDArray[np.float64], G: NDArray[np.float64]) -> str:
    """Return why a number is NaN or has little meaning."""
    notes = []
    if not G.any():
        notes.append(EMPTY_MASK)
    elif not _partial(G):
        notes.append(FULL_MASK)
    if not M.any():
        notes.append(EMPTY_MAP)
    elif M.min() == M.max():
        notes.append(CONSTANT_MAP)
    return "; ".join(notes)


def _partial(G: NDArray[np.float64]) -> bool:
    """Tell whether the mask has an inside and an outside."""
    return bool(G.any() and (G < 1).any())


def _pair(M: ArrayLike, G: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return map and mask as numbers on the same cells."""
    values, mask = _cells(M, "map"), _cells(G, "mask")
    if values.shape != mask.shape:
        raise ExplanationError(
            f"expected a map and a mask of one shape, got {list(values.shape)} and "
            f"{list(mask.shape)}; bring the mask to the map: at_resolution(mask, M.shape)"
        )
    return values, mask


def _cells(array: ArrayLike, what: str) -> NDArray[np.float64]:
    """Return a map or mask as float64 [h, w], checked."""
    cells = np.asarray(array)
    if cells.ndim != 2 or not cells.size or cells.dtype.kind not in "fiub":
        raise ExplanationError(
            f"expected a {what} [h, w] of numbers, got {cells.dtype} of shape {list(cells.shape)}"
        )
    values = cells.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    # NaN fails the comparison too
    if not (low >= 0 and high <= 1):
        advice = "divide it by its maximum" if what == "map" else "compare it: mask > 0"
        raise ExplanationError(
            f"expected a {what} with values from 0 to 1, got {low:g} to {high:g}; {advice}"
        )
    return values
