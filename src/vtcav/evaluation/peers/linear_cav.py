"""Classifier CAVs: the normals of linear classifiers between a concept and its negatives.

TCAV and the concept bottleneck use them; Visual-TCAV does not (its direction is a difference of
means, `method.cav`). X [n, D] are activations of n images at a layer: D = C for GAP activations,
D = C h w for flattened ones. u [D] is a unit normal, U [R, D] are those of R draws.

Source: Kim et al., "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept
Activation Vectors (TCAV)", ICML 2018, arXiv 1711.11279, sections 3.1 and 3.5.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ConceptError, ExtraError
from vtcav.images.batches import Batches
from vtcav.images.concepts import Concept, ImageSet, check_enough
from vtcav.images.progress import Progress
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.parameters import Whole, Words, check

__all__ = [
    "CavDraws",
    "LinearCav",
    "LinearClassifier",
    "check_draws",
    "doubts",
    "draw_cavs",
    "learn_cav",
    "set_features",
]

LinearClassifier = Literal["sgd", "logistic", "svm", "difference of means"]
"""How a CAV is learned.

"sgd": hinge loss by stochastic gradient descent with alpha = 0.01, as the authors' code does it;
"logistic": logistic regression; "svm": a linear support vector machine; "difference of means":
the direction of Visual-TCAV, normalised.
"""

TEST_SHARE = 1 / 3
FEW = 10  # images a side below which a CAV is noted to rest on few
CHANCE = 0.6  # held-out accuracy up to which a CAV is noted as not separating
NO_DIRECTION = "the classifier finds no direction: examples and negatives look the same here"


@dataclass(frozen=True, eq=False)
class LinearCav:
    """One classifier CAV.

    Attributes:
        u: The unit normal, pointing to the concept [D]; all 0 where there is none.
        accuracy: Mean of the shares of held-out examples and of held-out negatives on the right
            side, between 0 and 1; 0.5 is chance whatever the counts.
        note: What is doubtful; empty where all is well.
    """

    u: Tensor
    accuracy: float
    note: str


@dataclass(frozen=True, eq=False)
class CavDraws:
    """CAVs of a concept against draws of its negatives, and of negatives against negatives.

    Attributes:
        concept: U of the concept [R, D].
        random: U of one half of a draw of negatives against the other [R, D].
        accuracy: Held-out accuracy of each CAV of the concept [R].
        accuracy_random: Held-out accuracy of each random CAV [R].
        size: Images on each side of every classifier.
        note: What is doubtful; empty where all is well.
    """

    concept: Tensor
    random: Tensor
    accuracy: NDArray[np.float64]
    accuracy_random: NDArray[np.float64]
    size: int
    note: str


def check_draws(classifier: str, runs: int = 1) -> None:
    """Refuse settings that cannot work, before the minutes that activations may take.

    Raises:
        ExplanationError: For an unknown classifier or fewer than one run.
        ExtraError: When scikit-learn is needed and absent.
    """
    check("classifier", classifier, Words(*get_args(LinearClassifier)))
    check("runs", runs, Whole(1))
    if classifier != "difference of means":
        _classifier(classifier, 0)


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
        positives: Activations of the concept's examples [n1, D], n1 at least 2.
        negatives: Activations of the negatives [n2, D], n2 at least 2.
        classifier: See `LinearClassifier`.
        seed: Seeds the split and the classifier.

    Raises:
        ConceptError: For fewer than two images on a side.
        ExplanationError: For an unknown classifier.
        ExtraError: When scikit-learn is needed and absent.

    Example:
        >>> import torch
        >>> here, there = torch.tensor([[1.0, 5.0]]), torch.tensor([[0.0, 5.0]])
        >>> cav = learn_cav(here.repeat(6, 1), there.repeat(6, 1), classifier="svm")
        >>> cav.u, cav.accuracy
        (tensor([1., 0.]), 1.0)
    """
    check_draws(classifier)
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
        return LinearCav(torch.zeros(len(w)), 0.5, NO_DIRECTION)
    return LinearCav(torch.from_numpy(w / length).float(), float(np.mean(right)), note)


def draw_cavs(
    positives: Tensor,
    negatives: Tensor,
    *,
    runs: int,
    classifier: LinearClassifier = "sgd",
    seed: int = 0,
) -> CavDraws:
    """Learn CAVs from draws of m = min(n1, n2 // 2) images a side.

    Run r draws 2m of the negatives without replacement. Its concept CAV separates m of the
    examples from the first half, its random CAV the second half from the first. Both therefore
    rest on as many images, and a random CAV is what a concept that says nothing would give.

    Args:
        positives: Activations of the concept's examples [n1, D].
        negatives: Activations of its negatives [n2, D].
        runs: R, at least 1.
        classifier: See `LinearClassifier`.
        seed: Seeds all draws.

    Raises:
        ConceptError: For fewer than 2 examples or 4 negatives.
        ExplanationError: For an unknown classifier or fewer than one run.
    """
    m = min(len(positives), len(negatives) // 2)
    if m < 2:
        raise ConceptError(
            "drawing CAVs needs at least 2 examples and 4 negatives, which are split in two; got "
            f"{len(positives)} and {len(negatives)}"
        )
    check_draws(classifier, runs)
    concept, random = [], []
    for run in range(runs):
        rng = np.random.default_rng((seed, run))
        some = torch.from_numpy(rng.choice(len(positives), m, replace=False))
        others = torch.from_numpy(rng.choice(len(negatives), 2 * m, replace=False))
        first, second = negatives[others[:m]], negatives[others[m:]]
        own = int(rng.integers(2**31))
        concept.append(learn_cav(positives[some], first, classifier=classifier, seed=own))
        random.append(learn_cav(second, first, classifier=classifier, seed=own))
    accuracy = np.array([cav.accuracy for cav in concept])
    return CavDraws(
        torch.stack([cav.u for cav in concept]),
        torch.stack([cav.u for cav in random]),
        accuracy,
        np.array([cav.accuracy for cav in random]),
        m,
        doubts(concept, m),
    )


def doubts(cavs: Sequence[LinearCav], size: int) -> str:
    """Return what is doubtful about the CAVs of a concept; empty where all is well.

    Args:
        cavs: The CAVs.
        size: Images on the smaller side of each.
    """
    notes = [n if c == len(cavs) else f"{c} of {len(cavs)} CAVs: {n}" for n, c in _count(cavs)]
    accuracy = float(np.mean([cav.accuracy for cav in cavs]))
    if accuracy <= CHANCE and NO_DIRECTION not in notes:
        notes.append(
            "the CAVs do not separate the concept from its negatives (held-out accuracy "
            f"{math.floor(accuracy * 100) / 100:.2f})"
        )
    if size < FEW:
        notes.append(f"each CAV rests on {size} images a side")
    return "; ".join(notes)


def set_features(
    model: Model,
    layers: Sequence[str],
    concepts: Sequence[Concept],
    *,
    pooled: bool = True,
    batch_size: int = 16,
    strict: bool = False,
    min_examples: int = 2,
    progress: Progress | None = None,
) -> dict[ImageSet, dict[str, Tensor]]:
    """Return the activations of every set of examples and negatives, in one pass for all layers.

    Args:
        model: The network.
        layers: Layer names.
        concepts: Concepts with their negatives; a shared set passes once.
        pooled: GAP activations [n, C], or else flattened ones [n, C h w].
        batch_size: Images per pass.
        strict: Whether an unreadable image is an error.
        min_examples: The fewest readable images of a set.
        progress: Told of every image.

    Returns:
        X by set and layer, on the CPU.

    Raises:
        ConceptError: For a set with too few readable images.
        ImageError: When no image of a set can be read, or one cannot when `strict`.
        ModelError: When the network gives infinite values or NaN.
    """
    features: dict[ImageSet, dict[str, Tensor]] = {}
    for images in dict.fromkeys(s for c in concepts for s in (c.examples, c.negatives)):
        parts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        batches = Batches(
            images.refs, model.preprocess, batch_size, strict=strict, progress=progress
        )
        for batch in batches:
            maps = model.activations(batch.x, layers)
            check_finite(batch.names, maps)
            for layer, F in maps.items():
                parts[layer].append((F.mean((2, 3)) if pooled else F.flatten(1)).cpu())
        check_enough(images.role, len(batches.used), min_examples, skipped=len(batches.skipped))
        features[images] = {layer: torch.cat(part) for layer, part in parts.items()}
    return features


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
    """Return w [D] and b of the classifier w x + b > 0, and what is doubtful about it."""
    if kind == "difference of means":
        high, low = X[y == 1].mean(0), X[y == 0].mean(0)
        return high - low, float(-(high - low) @ (high + low) / 2), ""
    from sklearn.exceptions import ConvergenceWarning

    fitted = _classifier(kind, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(X, y)
    spent = kind != "svm" and int(np.max(fitted.n_iter_)) >= fitted.max_iter
    note = "the classifier stopped before it converged" if spent else ""
    return np.asarray(fitted.coef_[0], np.float64), float(fitted.intercept_[0]), note


def _classifier(kind: str, seed: int) -> Any:
    """Return an unfitted classifier of scikit-learn; both sides count the same."""
    try:
        from sklearn.linear_model import LogisticRegression, SGDClassifier
        from sklearn.svm import SVC
    except ImportError as error:
        raise ExtraError(
            "classifier CAVs need scikit-learn: pip install 'vtcav[evaluation]', or use "
            "classifier='difference of means'"
        ) from error
    if kind == "sgd":
        return SGDClassifier(
            alpha=0.01, max_iter=1000, tol=1e-3, class_weight="balanced", random_state=seed
        )
    if kind == "logistic":
        return LogisticRegression(max_iter=1000, class_weight="balanced", random_state=seed)
    return SVC(kernel="linear", class_weight="balanced", random_state=seed)


def _count(cavs: Sequence[LinearCav]) -> list[tuple[str, int]]:
    notes = [cav.note for cav in cavs if cav.note]
    return [(note, notes.count(note)) for note in dict.fromkeys(notes)]
