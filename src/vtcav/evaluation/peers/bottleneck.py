"""Post-hoc concept bottleneck: a sparse classifier that predicts a network's output from concepts.

Letters and shapes: X [n, D] GAP activations of n images, U [K, D] unit CAVs of K concepts
(`peers.linear_cav`), P = X U^T [n, K] their concept scores, W [T, K] the weights of a
sparse linear classifier from concept scores to the classes that the network predicts.

Source: Yuksekgonul, Wang, Zou, "Post-hoc Concept Bottleneck Models", ICLR 2023, arXiv 2205.15480:
the projections are its section 2.1, the elastic net its equation 1. There the classifier learns
the true labels of a data set; here it learns the network's predictions, which it is to explain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.evaluation.peers.extras import fitted, needed

OTHER = -1
"""Stands for every predicted class that is not among those compared."""

FOLDS = 5
NEVER = "the network predicts this class for none of the images"
ONE_CLASS = "the network predicts one class for all images: there is nothing to separate"
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
            fidelity of an uninformative classifier.
        note: How well it reproduces the predictions, or why there is none.
    """

    classes: tuple[int, ...]
    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    fidelity: float
    majority: float
    note: str

    def values(self, P: NDArray[np.float64], index: int) -> tuple[NDArray[np.float64], str]:
        """Return weight times centred score of each image for a class, with a note.

        Args:
            P: Concept scores [N, K].
            index: A class.

        Returns:
            Values [N, K] in logits of the bottleneck: how much each concept adds to the
            class beyond the mean image; NaN, with the reason, where there is no bottleneck
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
    classifier = _classifier(strength, l1_ratio, seed)
    fidelity = _fidelity(classifier, standard, predicted, int(counts.min()), seed)
    weights = np.asarray(fitted(classifier, standard, predicted).coef_, np.float64)
    if len(classes) == 2:
        # one row for the difference of two scores: half of it is each class's own
        weights = np.concatenate([-weights, weights]) / 2
    note = (
        "fidelity not measured, as a class has a single image"
        if math.isnan(fidelity)
        else f"fidelity {fidelity:.2f} held out (always the most frequent class: {majority:.2f})"
    )
    if int(np.max(classifier.n_iter_)) >= classifier.max_iter:
        note += "; the solver stopped before it converged"
    return Bottleneck(tuple(map(int, classes)), weights, mean, scale, fidelity, majority, note)


def check_scikit_learn() -> None:
    """Refuse to start without scikit-learn.

    Raises:
        ExtraError: With the line that installs it.
    """
    needed("sklearn", "the concept bottleneck needs scikit-learn")


# -- inside -----------------------------------------------------------------------------------


def _classifier(strength: float, l1_ratio: float, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    options: dict[str, Any] = {"C": strength, "l1_ratio": l1_ratio, "random_state": seed}
    # scikit-learn 1.8 and later see from l1_ratio that an elastic net is meant
    if getattr(LogisticRegression(), "penalty", None) == "l2":
        options["penalty"] = "elasticnet"
    return LogisticRegression(solver="saga", max_iter=2000, tol=1e-4, **options)


def _fidelity(
    classifier: Any, X: NDArray[np.float64], y: NDArray[np.int64], rarest: int, seed: int
) -> float:
    """Return the share of held-out images for which the bottleneck agrees with the network."""
    from sklearn.model_selection import StratifiedKFold

    if rarest < 2:
        return math.nan
    folds = StratifiedKFold(min(FOLDS, rarest), shuffle=True, random_state=seed).split(X, y)
    right = [fitted(classifier, X[a], y[a]).predict(X[b]) == y[b] for a, b in folds]
    return float(np.concatenate(right).mean())
