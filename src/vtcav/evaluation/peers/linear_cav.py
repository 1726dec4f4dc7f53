"""Classifier CAVs: the normals of linear classifiers between a concept and its negatives.

TCAV and the concept bottleneck use them; Visual-TCAV does not (its direction is a difference of
means, `method.cav`). X [n, C] are GAP activations of n images at a layer, u [C] is a unit normal,
U [R, C] are those of R draws.

GAP is used because almost any classifier separates tens of images with tens of thousands of
flattened activations, and because a concept that may be anywhere has no position to learn.

Source: Kim et al., "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept
Activation Vectors (TCAV)", ICML 2018, arXiv 1711.11279, sections 3.1 and 3.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ConceptError
from vtcav.evaluation.peers.extras import fitted, needed
from vtcav.results.words import counted_notes

LinearClassifier = Literal["sgd", "logistic", "svm", "difference of means"]
"""How a CAV is learned.

"sgd": hinge loss by stochastic gradient descent with alpha = 0.01, as the authors' code does it;
"logistic": logistic regression; "svm": a linear support vector machine; "difference of means":
the direction of Visual-TCAV, normalised.
"""

TEST_SHARE = 1 / 3
FEW = 10  # images a side; a CAV from fewer gets a note
CHANCE = 0.6  # held-out accuracy; a CAV up to this gets a note
NO_DIRECTION = "the classifier finds no direction: examples and negatives do not differ here"


@dataclass(frozen=True, eq=False)
class LinearCav:
    """One classifier CAV.

    Attributes:
        u: The unit normal, pointing to the concept [C]; all 0 where there is none.
        accuracy: Balanced accuracy on held-out images: the mean of the shares of examples and of
            negatives on the right side.
        note: A reason for caution; empty otherwise.
    """

    u: Tensor
    accuracy: float
    note: str


@dataclass(frozen=True, eq=False)
class CavDraws:
    """CAVs of a concept against draws of its negatives, and of negatives against negatives.

    Attributes:
        concept: U of the concept [R, C].
        random: U of one half of a draw of negatives against the other [R, C].
        note: A reason for caution with the concept's CAVs; empty otherwise.
    """

    concept: Tensor
    random: Tensor
    note: str


def learn_cav(
    positives: Tensor,
    negatives: Tensor,
    *,
    classifier: LinearClassifier = "sgd",
    seed: int = 0,
) -> LinearCav:
    """Learn the normal of a linear classifier on two thirds of the images.

    A third of each side is held out for the accuracy, as in the authors' code. Activations are
    taken as they are, without standardising, so that the normal belongs to the layer's own space.

    Args:
        positives: Activations of the concept's examples [n1, C], n1 at least 2.
        negatives: Activations of the negatives [n2, C], n2 at least 2.
        classifier: See `LinearClassifier`.
        seed: Seeds the split and the classifier.

    Raises:
        ConceptError: For fewer than two images on a side.
        ExtraError: When scikit-learn is needed and absent.

    Example:
        >>> import torch
        >>> here, there = torch.tensor([[1.0, 5.0]]), torch.tensor([[0.0, 5.0]])
        >>> cav = learn_cav(here.repeat(6, 1), there.repeat(6, 1), classifier="svm")
        >>> cav.u, cav.accuracy
        (tensor([1., 0.]), 1.0)
    """
    if min(len(positives), len(negatives)) < 2:
        raise ConceptError(
            "a classifier CAV needs at least 2 images on each side, one to learn from and one held "
            f"out; got {len(positives)} examples and {len(negatives)} negatives"
        )
    rng = np.random.default_rng(seed)
    sides = [side.double().cpu().numpy() for side in (positives, negatives)]
    split = [_split(side, rng) for side in sides]
    X = np.concatenate([train for train, _ in split])
    y = np.repeat([1, 0], [len(train) for train, _ in split])
    order = rng.permutation(len(X))
    w, b, note = _normal(X[order], y[order], classifier, int(rng.integers(2**31)))
    right = [np.mean((split[0][1] @ w + b) > 0), np.mean((split[1][1] @ w + b) <= 0)]
    length = float(np.linalg.norm(w))
    if not length > 1e-12 * float(np.abs(X).max(initial=0.0)):
        return LinearCav(torch.zeros(len(w), dtype=torch.float32), 0.5, NO_DIRECTION)
    return LinearCav(torch.from_numpy(w / length).float(), float(np.mean(right)), note)


def draw_cavs(
    positives: Tensor,
    negatives: Tensor,
    runs: int,
    classifier: LinearClassifier = "sgd",
    seed: int = 0,
) -> CavDraws:
    """Learn CAVs from draws of m = min(n1, n2 // 2) images a side.

    Run r draws 2m of the negatives without replacement. Its concept CAV separates m of the
    examples from the first half, its random CAV the second half from the first. Both use the
    same number of images, and a random CAV is what a meaningless concept would give.

    Args:
        positives: Activations of the concept's examples [n1, C].
        negatives: Activations of its negatives [n2, C].
        runs: R, at least 1.
        classifier: See `LinearClassifier`.
        seed: Seeds all draws.

    Raises:
        ConceptError: For fewer than 2 examples or 4 negatives.
        ExtraError: When scikit-learn is needed and absent.
    """
    m = min(len(positives), len(negatives) // 2)
    if m < 2:
        raise ConceptError(
            "drawing CAVs needs at least 2 examples and 4 negatives, which are split in two; got "
            f"{len(positives)} and {len(negatives)}"
        )
    concept, random = [], []
    for run in range(runs):
        rng = np.random.default_rng((seed, run))
        some = torch.from_numpy(rng.choice(len(positives), m, replace=False))
        others = torch.from_numpy(rng.choice(len(negatives), 2 * m, replace=False))
        first, second = negatives[others[:m]], negatives[others[m:]]
        own = int(rng.integers(2**31))
        concept.append(learn_cav(positives[some], first, classifier=classifier, seed=own))
        random.append(learn_cav(second, first, classifier=classifier, seed=own))
    U, U_random = (torch.stack([cav.u for cav in cavs]) for cavs in (concept, random))
    return CavDraws(U, U_random, cav_note(concept, m))


def cav_note(cavs: Sequence[LinearCav], size: int) -> str:
    """Return the reasons for caution with the CAVs of a concept; empty when there are none.

    Args:
        cavs: The CAVs.
        size: Images on the smaller side of each.
    """
    notes = counted_notes([cav.note for cav in cavs], "CAVs")
    accuracy = float(np.mean([cav.accuracy for cav in cavs]))
    if accuracy <= CHANCE and NO_DIRECTION not in notes:
        notes.append(
            "the CAVs do not separate the concept from its negatives (held-out accuracy "
            f"{math.floor(accuracy * 100) / 100:.2f})"
        )
    if size < FEW:
        notes.append(f"each CAV rests on {size} images a side")
    return "; ".join(notes)


# -- inside -----------------------------------------------------------------------------------


def _split(
    side: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the training and the held-out part of one side, at least one image each."""
    held = min(max(1, round(len(side) * TEST_SHARE)), len(side) - 1)
    order = rng.permutation(len(side))
    return side[order[held:]], side[order[:held]]


def _normal(
    X: NDArray[np.float64], y: NDArray[np.int_], kind: str, seed: int
) -> tuple[NDArray[np.float64], float, str]:
    """Return w [D] and b of the classifier w x + b > 0, and a reason for caution."""
    if kind == "difference of means":
        high, low = X[y == 1].mean(0), X[y == 0].mean(0)
        return high - low, float(-(high - low) @ (high + low) / 2), ""
    found = fitted(_classifier(kind, seed), X, y)
    spent = kind != "svm" and int(np.max(found.n_iter_)) >= found.max_iter
    note = "the classifier stopped before it converged" if spent else ""
    return np.asarray(found.coef_[0], np.float64), float(found.intercept_[0]), note


def _classifier(kind: str, seed: int) -> Any:
    """Return an unfitted classifier of scikit-learn; both sides count the same."""
    linear_model = needed(
        "sklearn.linear_model",
        "classifier CAVs need scikit-learn",
        ", or use classifier='difference of means'",
    )
    shared: dict[str, Any] = {"class_weight": "balanced", "random_state": seed}
    if kind == "sgd":
        return linear_model.SGDClassifier(alpha=0.01, max_iter=1000, tol=1e-3, **shared)
    if kind == "logistic":
        return linear_model.LogisticRegression(max_iter=1000, **shared)
    return needed("sklearn.svm", "classifier CAVs need scikit-learn").SVC(kernel="linear", **shared)
