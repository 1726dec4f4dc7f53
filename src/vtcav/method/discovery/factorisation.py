"""Factorisation of feature maps: parts, and how much each place has of each.

Letters and shapes: X [n, C] feature maps at n places, one place a row,

- U [n, k]: amounts, at least 0: how much of each part a place has;
- W [k, C]: the parts;
- v [k, C]: directions, which concept maps are made with.

Where no feature map is negative (after a ReLU), X = UW with W at least 0 as well (non-negative
matrix factorisation). Other feature maps (GELU, outputs of residual blocks, before an activation)
are first taken apart into what lies above the mean of each channel and what lies below it: two
non-negative channels for one, as Hoyer (2004) does for images with "on" and "off" cells.

v is step 1 of the method with places instead of images: the mean of the places, each weighted with
its amount of the part, minus the mean of all places.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExtraError

NMF, SPLIT_NMF = "NMF", "split NMF"
"""Non-negative matrix factorisation: of feature maps, or of what is above and below their means."""

ITERATIONS = 200
_SMALL = 1e-12

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Factorisation:
    """k parts of feature maps.

    Attributes:
        U: Amounts [n, k].
        v: Directions [k, C].
        error: Frobenius norm of what is not explained, as a share of that of the data factorised.
    """

    U: Array
    v: Array
    error: float


def method_of(X: Array) -> str:
    """Return how feature maps [n, C] are factorised: NMF, or split NMF if some are negative.

    Example:
        >>> method_of(np.array([[0.0, 1.0]])), method_of(np.array([[-0.1, 1.0]]))
        ('NMF', 'split NMF')
    """
    return SPLIT_NMF if X.min() < 0 else NMF


def non_negative(X: Array) -> Array:
    """Return what is factorised of feature maps: themselves, or both sides of the channels' means.

    Args:
        X: Feature maps [n, C].

    Returns:
        X itself where nothing is negative; otherwise [n, 2 C].

    Example:
        >>> non_negative(np.array([[-1.0, 2.0], [3.0, 4.0]])).tolist()
        [[0.0, 0.0, 2.0, 1.0], [2.0, 1.0, 0.0, 0.0]]
    """
    if method_of(X) == NMF:
        return X
    centred = X - X.mean(0)
    return np.concatenate([centred.clip(0), (-centred).clip(0)], 1)


def factorise(X: Array, k: int, seed: int) -> Factorisation:
    """Factorise feature maps into k parts, from a random start.

    Args:
        X: Feature maps at n places [n, C].
        k: The number of parts, at least 1.
        seed: Seeds the start.

    Raises:
        ExtraError: Without scikit-learn.

    Example:
        >>> amounts = np.eye(2, dtype=np.float32).repeat(20, 0)
        >>> X = amounts @ np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]], np.float32)
        >>> found = factorise(X, 2, seed=0)
        >>> found.error < 1e-3, np.abs(found.v).round(1).tolist()
        (True, [[0.5, 1.5, 1.0], [0.5, 1.5, 1.0]])
    """
    Y = non_negative(X)
    size = float(np.linalg.norm(Y))
    if not size:
        U, v = np.zeros((len(X), k), np.float32), np.zeros((k, X.shape[1]), np.float32)
        return Factorisation(U, v, 0.0)
    nmf = _sklearn_nmf()(k, init="random", random_state=seed, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        # how well the iterations converged shows in the stability, and in the error
        warnings.filterwarnings("ignore", "Maximum number of iterations", UserWarning)
        U = nmf.fit_transform(Y)
    return Factorisation(U, directions(X, U), float(nmf.reconstruction_err_) / size)


def directions(X: Array, U: Array) -> Array:
    """Return v: the mean of places, weighted with their amounts, minus the mean of all places.

    Args:
        X: Feature maps [n, C].
        U: Amounts [n, k].

    Returns:
        v [k, C]; 0 for a part that no place has.

    Example:
        >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
        >>> directions(X, np.array([[2.0], [0.0], [0.0], [0.0]])).tolist()
        [[0.75, -1.0]]
    """
    total = U.sum(0)[:, None]
    means = U.T @ X / np.maximum(total, _SMALL)
    found: Array = np.where(total > _SMALL, means - X.mean(0), 0.0).astype(X.dtype)
    return found


def check_installed() -> None:
    """Check that scikit-learn is there, before feature maps are computed.

    Raises:
        ExtraError: Without it, with the line that installs it.
    """
    _sklearn_nmf()


def _sklearn_nmf() -> Any:
    """Return scikit-learn's class."""
    try:
        decomposition = import_module("sklearn.decomposition")
    except ImportError as error:
        raise ExtraError(
            "finding concepts that nobody named needs scikit-learn: pip install 'vtcav[discover]'"
        ) from error
    return decomposition.NMF
