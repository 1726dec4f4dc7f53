"""A post-hoc concept bottleneck: what a network predicts, told again by a few concepts.

Letters and shapes: X [n, D] GAP activations of n images, U [K, D] unit CAVs of K concepts
(`peers.linear_cav`), P = X U^T [n, K] their concept scores, W [T, K] the weights of a
sparse linear classifier from concept scores to the classes that the network predicts.

Source: Yuksekgonul, Wang, Zou, "Post-hoc Concept Bottleneck Models", ICLR 2023, arXiv 2205.15480:
the projections are its section 2.1, the elastic net its equation 1. There the classifier learns
the true labels of a data set; here the network's own predictions, for it is to explain them.
"""

from __future__ import annotations

import importlib
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ExplanationError, ExtraError

__all__ = ["OTHER", "Bottleneck", "check_scikit_learn", "fit_bottleneck", "project"]

OTHER = -1
"""Stands for every predicted class that is not among those compared."""

FOLDS = 5
NEVER = "the network predicts this class for none of the images"
ONE_CLASS = "the network predicts one class for all images: there is nothing to tell apart"
NO_WEIGHT = "the bottleneck uses no concept for this class: all its weights are 0"


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """A linear classifier from concept scores to the network's predictions.

    Attributes:
        classes: The predicted classes, `OTHER` among them [T].
        weights: W [T, K], in logits per standard deviation of a concept's score.
        mean: Of the concept scores over the images [K].
        scale: Their standard deviation [K]; 1 for a constant score.
        fidelity: Share of held-out images for which the bottleneck predicts what the network
            does, by stratified cross-validation; NaN where a class has a single image.
        majority: Share of the images that the network puts into its most frequent class: the
            fidelity of knowing nothing.
        note: How good a copy it is, or why there is none.
    """

    classes: tuple[int, ...]
    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    fidelity: float
    majority: float
    note: str

    def values(self, P: NDArray[np.float64], index: int) -> tuple[NDArray[np.float64], str]:
        """Return weight times centred score of each image for a class, and what is doubtful.

        Args:
            P: Concept scores [N, K].
            index: A class.

        Returns:
            Values [N, K] in logits of the bottleneck: how far each concept lifts the class
            above what the mean image gets; NaN, with the reason, where there is no bottleneck
            or the class is never predicted.
        """
        if len(self.classes) < 2 or index not in self.classes:
            reason = ONE_CLASS if len(self.classes) < 2 else NEVER
            return np.full(P.shape, math.nan), reason
        W = self.weights[self.classes.index(index)]
        notes = [NO_WEIGHT if not W.any() else "", self.note]
        return (P - self.mean) / self.scale * W, "; ".join(filter(None, notes))


def project(X: Tensor, U: Tensor) -> NDArray[np.float64]:
    """Return the concept scores P = X U^T [n, K].

    Args:
        X: GAP activations [n, D].
        U: Unit CAVs [K, D].
    """
    P: NDArray[np.float64] = (X.double().cpu() @ U.double().cpu().T).numpy()
    return P


def fit_bottleneck(
    P: NDArray[np.float64],
    predicted: NDArray[np.int64],
    *,
    strength: float = 1.0,
    l1_ratio: float = 0.99,
    seed: int = 0,
) -> Bottleneck:
    """Fit a logistic regression with an elastic net from concept scores to predictions.

    Scores are standardised, so that the penalty treats all concepts alike.

    Args:
        P: Concept scores [n, K].
        predicted: The class that the network predicts for each image [n].
        strength: C of scikit-learn, the inverse of the penalty.
        l1_ratio: Share of the penalty that is L1 (0.99 in the authors' code).
        seed: Seeds the solver and the folds.

    Raises:
        ExplanationError: For P and predictions that do not fit, or values that are not finite.
        ExtraError: When scikit-learn is absent.

    Example:
        >>> import numpy as np
        >>> P = np.array([[1.0, 0.3], [1.2, 0.1], [1.1, 0.2], [0.1, 0.3], [0.0, 0.1], [0.2, 0.2]])
        >>> found = fit_bottleneck(P, np.array([7, 7, 7, 2, 2, 2]))
        >>> found.classes, found.fidelity, bool(found.weights[1, 0] > 0), float(found.weights[1, 1])
        ((2, 7), 1.0, True, 0.0)
    """
    if P.ndim != 2 or len(P) != len(predicted) or not len(P) or not np.isfinite(P).all():
        raise ExplanationError(
            f"expected finite concept scores [n, K] and n predictions, got {list(P.shape)} and "
            f"{len(predicted)}"
        )
    check_scikit_learn()
    mean, spread = P.mean(0), P.std(0)
    scale = np.where(spread > 1e-9 * np.abs(P).max(initial=1e-30), spread, 1.0)
    classes, counts = np.unique(predicted, return_counts=True)
    majority = float(counts.max() / len(P))
    if len(classes) < 2:
        empty = np.zeros((1, P.shape[1]))
        only = (int(classes[0]),)
        return Bottleneck(only, empty, mean, scale, math.nan, majority, ONE_CLASS)
    standard = (P - mean) / scale
    fitted, converged = _fit(standard, predicted, strength, l1_ratio, seed)
    weights = np.asarray(fitted.coef_, np.float64)
    if len(classes) == 2:
        # one row for the difference of two scores: half of it is each class's own
        weights = np.concatenate([-weights, weights]) / 2
    fidelity = _fidelity(standard, predicted, strength, l1_ratio, seed, int(counts.min()))
    agrees = (
        "fidelity not measured, as a class has a single image"
        if math.isnan(fidelity)
        else f"fidelity {fidelity:.2f} held out (always the most frequent class: {majority:.2f})"
    )
    note = agrees if converged else f"{agrees}; the solver stopped before it converged"
    return Bottleneck(tuple(map(int, classes)), weights, mean, scale, fidelity, majority, note)


def check_scikit_learn() -> None:
    """Refuse to start without scikit-learn.

    Raises:
        ExtraError: With the line that installs it.
    """
    try:
        importlib.import_module("sklearn")
    except ImportError as error:
        raise ExtraError(
            "the concept bottleneck needs scikit-learn: pip install 'vtcav[evaluation]'"
        ) from error


# -- inside -----------------------------------------------------------------------------------


def _fit(
    X: NDArray[np.float64], y: NDArray[np.int64], strength: float, l1_ratio: float, seed: int
) -> tuple[Any, bool]:
    """Return the fitted classifier and whether it converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    options: dict[str, Any] = {"C": strength, "l1_ratio": l1_ratio, "random_state": seed}
    # scikit-learn 1.8 and later see from l1_ratio that an elastic net is meant
    if getattr(LogisticRegression(), "penalty", None) == "l2":
        options["penalty"] = "elasticnet"
    model = LogisticRegression(solver="saga", max_iter=2000, tol=1e-4, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    return model, int(np.max(model.n_iter_)) < model.max_iter


def _fidelity(
    X: NDArray[np.float64],
    y: NDArray[np.int64],
    strength: float,
    l1_ratio: float,
    seed: int,
    rarest: int,
) -> float:
    """Return the share of held-out images for which the bottleneck agrees with the network."""
    from sklearn.model_selection import StratifiedKFold

    if rarest < 2:
        return math.nan
    folds = StratifiedKFold(min(FOLDS, rarest), shuffle=True, random_state=seed)
    right = 0
    for train, test in folds.split(X, y):
        fitted, _ = _fit(X[train], y[train], strength, l1_ratio, seed)
        right += int((fitted.predict(X[test]) == y[test]).sum())
    return right / len(y)
