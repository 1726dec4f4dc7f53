"""Location in the image at which a concept's examples activate.

A direction is learned from means over locations, so it contains no location. But something that all
examples show at one location (a mark in a corner, an object in the middle) may be what was learned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEAR = 0.2
_BRIGHT = 0.5


def effective_share(mean_map: NDArray[np.floating]) -> float:
    """Return the share of the image that an even map as concentrated as this would fill.

    The participation ratio 1 / (cells * sum q^2) of the shares q of the cells (the inverse of
    Simpson's index).

    Args:
        mean_map: Mean map over images [h, w], at least 0.

    Returns:
        1 where the map is even, 1 / (h w) where it is one cell; NaN for an empty map.

    Example:
        >>> effective_share(np.ones((4, 4))), effective_share(np.eye(4) * [1, 0, 0, 0])
        (1.0, 0.0625)
    """
    q = mean_map.astype(np.float64).ravel()
    if q.sum() <= 0:
        return float("nan")
    q = q / q.sum()
    return float(1 / (q.size * np.square(q).sum()))


def place(mean_map: NDArray[np.floating]) -> str:
    """Return where a map is brightest, in words: the place of its highest cell, or several places.

    Of a volume [d, h, w] it is the place in its slices.

    Example:
        >>> place(np.array([[0.0, 0, 0], [0, 0, 3], [0, 0, 0]]))
        'the right'
        >>> place(np.array([[2.0, 0, 0, 0, 3], [2, 0, 0, 0, 3]]))
        'several places'
    """
    from scipy import ndimage

    mean_map = mean_map if mean_map.ndim == 2 else mean_map.mean(0)
    above = mean_map.astype(np.float64) - np.median(mean_map)
    # areas are apart where what lies between falls below half of the highest cell
    if ndimage.label(above >= _BRIGHT * above.max(), np.ones((3, 3)))[1] > 1:
        return "several places"
    h, w = mean_map.shape
    row, column = np.unravel_index(int(above.argmax()), mean_map.shape)
    return f"the {words((column + 0.5) / w * 2 - 1, (row + 0.5) / h * 2 - 1)}"


def words(right: float, down: float) -> str:
    """Return a location in words.

    Example:
        >>> words(-0.7, -0.6), words(0.0, 0.1), words(0.5, 0.0)
        ('upper left', 'middle', 'right')
    """
    vertical = "upper" if down < -_NEAR else "lower" if down > _NEAR else ""
    side = "left" if right < -_NEAR else "right" if right > _NEAR else ""
    if vertical and not side:
        return f"{vertical} middle"
    return f"{vertical} {side}".strip() or "middle"
