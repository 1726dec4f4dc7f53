"""Optional packages that other methods need."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExtraError


def needed(module: str, who: str, otherwise: str = "") -> Any:
    """Return a module of the extra `vtcav[evaluation]`.

    Args:
        module: Its name.
        who: Who needs which package, for the error.
        otherwise: What can be done instead, for the error.

    Raises:
        ExtraError: When it is absent, with the line that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ExtraError(f"{who}: pip install 'vtcav[evaluation]'{otherwise}") from error


def fitted(classifier: Any, X: NDArray[np.float64], y: NDArray[np.integer]) -> Any:
    """Return a classifier of scikit-learn, fitted; it may have stopped before it converged."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(X, y)
