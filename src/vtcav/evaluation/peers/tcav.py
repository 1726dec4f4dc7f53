"""TCAV: in what share of a class's images does the class score rise towards the concept?

The mathematics is in `peers.linear_cav` (the CAVs) and `peers.sensitivity`
(what they say of a class); here images go in and tables come out.

Source: Kim et al., "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept
Activation Vectors (TCAV)", ICML 2018, arXiv 1711.11279.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.evaluation.peers.linear_cav import (
    CavDraws,
    LinearClassifier,
    check_draws,
    draw_cavs,
    set_features,
)
from vtcav.evaluation.peers.sensitivity import class_gradients, score_test, scores, sensitivities
from vtcav.explainer.settings import FitSettings
from vtcav.images.batches import Batches
from vtcav.images.concepts import gather
from vtcav.images.listing import ImageSource, collect
from vtcav.images.progress import progress_bar
from vtcav.models.base import Model
from vtcav.models.finite import check_finite

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RunRow",
    "ScoreRow",
    "TcavResult",
    "class_scores",
    "concept_draws",
    "stacked",
    "tcav",
]

NO_SENSITIVITY = "every sensitivity is 0, so the magnitude is undefined"
ONE_IMAGE = "one image: the sign count of a CAV is 0 or 1"


@dataclass(frozen=True, eq=False)
class TcavResult:
    """TCAV scores of classes.

    Attributes:
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        runs: One row per layer, concept, class and CAV: kind ("concept" or "random"), run,
            sign_count, magnitude, mean, accuracy (held out, of the CAV).
        cavs: The CAVs by layer and concept.
    """

    layers: tuple[str, ...]
    concepts: tuple[str, ...]
    cavs: Mapping[str, Mapping[str, CavDraws]] = field(repr=False)
    _table: pd.DataFrame = field(repr=False)
    _runs: pd.DataFrame = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row per layer, concept and class, means over the concept's CAVs.

        Columns: layer, concept, class_index, class_name, n (images), sign_count, magnitude, mean,
        p_value (of the sign count against random CAVs), p_value_magnitude, accuracy, note (the
        reason of every NaN, and what is doubtful). p-values are not corrected for their number.
        """
        return self._table.copy()

    @property
    def runs(self) -> pd.DataFrame:
        """One row per CAV, the unit of the test."""
        return self._runs.copy()


def tcav(
    model: Model,
    images: Mapping[str, ImageSource],
    concepts: Mapping[str, ImageSource],
    negatives: ImageSource | Mapping[str, ImageSource],
    layers: Sequence[str] | None = None,
    *,
    classifier: LinearClassifier = "sgd",
    pooled: bool = True,
    runs: int = 20,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    min_examples: int = FitSettings.min_examples,
    strict: bool = False,
    progress: bool | None = None,
) -> TcavResult:
    """Compute TCAV scores of classes.

    Args:
        model: A `Classifier`, or what `load_model` returns.
        images: Images of each class, by its name or index.
        concepts: Example images by concept name, as `VisualTCAV.fit` takes them.
        negatives: One set for all concepts, or a set for each by its name.
        layers: Layer names; None takes the recommended ones.
        classifier: How CAVs are learned; "sgd" is the authors'.
        pooled: Learn CAVs on GAP activations [C], the default: with tens of images and tens of
            thousands of flattened values almost any classifier separates its training images,
            the CAV then depends on the draw, and a concept that may be anywhere in the picture
            has no position to learn. False flattens [C h w], as the authors' code does.
        runs: Draws of negatives, each with one CAV of the concept and one random CAV.
        limit: At most this many images of each class, drawn with `seed`.
        seed: Seeds all draws.
        batch_size: Images per pass.
        min_examples: The fewest readable images of a set of examples or negatives.
        strict: Whether an unreadable image is an error.
        progress: Whether to show progress bars; None where someone may be watching.

    Raises:
        ConceptError: For a concept without negatives, or with too few images.
        ImageError: When no image of a class or set can be read.
        ModelError: For an unknown class or layer.
        ExplanationError: For settings out of range.
        ExtraError: When scikit-learn is absent.

    Example:
        >>> import numpy as np, torch, vtcav
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU(),
        ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
        >>> model = vtcav.Classifier(net, ["cat", "dog", "fox"], vtcav.Preprocess(32))
        >>> noise = np.random.default_rng(0).integers(0, 255, (30, 32, 32, 3)).astype(np.uint8)
        >>> result = tcav(model, {"cat": noise[:4]}, {"dark": noise[4:14] // 4}, noise[14:], ["1"])
        >>> [str(value) for value in result.table.loc[0, ["layer", "concept", "class_name"]]]
        ['1', 'dark', 'cat']
    """
    check_draws(classifier, runs)
    gathered = gather(concepts, negatives, min_examples=min_examples)
    names = [layer.name for layer in model.check_layers(layers)]
    classes = {model.class_index(name): source for name, source in images.items()}
    if not classes:
        raise ExplanationError("images is empty: give the images of at least one class by its name")
    refs = {t: collect(source, limit=limit, seed=seed) for t, source in classes.items()}
    sets = dict.fromkeys(s for c in gathered for s in (c.examples, c.negatives))
    total = sum(map(len, refs.values())) + sum(len(s.refs) for s in sets)
    with progress_bar("TCAV", total, shown=progress) as bar:
        features = set_features(
            model,
            names,
            gathered,
            pooled=pooled,
            batch_size=batch_size,
            strict=strict,
            min_examples=min_examples,
            progress=bar,
        )
        contrasted = {c.name: (features[c.examples], features[c.negatives]) for c in gathered}
        cavs = concept_draws(contrasted, names, classifier=classifier, runs=runs, seed=seed)
        rows: list[ScoreRow] = []
        details: list[RunRow] = []
        for t, listed in refs.items():
            S: dict[str, list[Tensor]] = {layer: [] for layer in names}
            for batch in Batches(listed, model.preprocess, batch_size, strict=strict, progress=bar):
                maps = model.activations(batch.x, names)
                check_finite(batch.names, maps)
                for layer, F in maps.items():
                    head, targets = model.head(layer).of(batch.x), torch.full((len(F),), t)
                    G = class_gradients(head, F, targets, binary=model.binary)
                    S[layer].append(sensitivities(G, stacked(cavs[layer])).cpu())
            for layer in names:
                found = class_scores(
                    torch.cat(S[layer]), cavs[layer], layer, t, model.class_names[t]
                )
                rows += found[0]
                details += found[1]
    return _result(names, [c.name for c in gathered], cavs, rows, details)


def concept_draws(
    sets: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor]]],
    layers: Sequence[str],
    *,
    classifier: LinearClassifier,
    runs: int,
    seed: int,
) -> dict[str, dict[str, CavDraws]]:
    """Return the CAVs of every concept at every layer, by layer and concept.

    Args:
        sets: By concept the activations of its examples and of its negatives, each by layer [n, D].
        layers: Layer names.
        classifier: How CAVs are learned.
        runs: CAVs of each concept.
        seed: Seeds all draws.
    """
    return {
        layer: {
            name: draw_cavs(
                examples[layer], negatives[layer], runs=runs, classifier=classifier, seed=seed
            )
            for name, (examples, negatives) in sets.items()
        }
        for layer in layers
    }


class ScoreRow(NamedTuple):
    """A row of `TcavResult.table`."""

    layer: str
    concept: str
    class_index: int
    class_name: str
    n: int
    sign_count: float
    magnitude: float
    mean: float
    p_value: float
    p_value_magnitude: float
    accuracy: float
    note: str


class RunRow(NamedTuple):
    """A row of `TcavResult.runs`."""

    layer: str
    concept: str
    class_index: int
    class_name: str
    kind: str
    run: int
    sign_count: float
    magnitude: float
    mean: float
    accuracy: float


def stacked(cavs: Mapping[str, CavDraws]) -> Tensor:
    """Return all CAVs of a layer: concept by concept, its own then the random ones."""
    return torch.cat([part for draws in cavs.values() for part in (draws.concept, draws.random)])


def class_scores(
    S: Tensor, cavs: Mapping[str, CavDraws], layer: str, index: int, class_name: str
) -> tuple[list[ScoreRow], list[RunRow]]:
    """Return the table rows of a class at a layer, and the rows of every CAV.

    Args:
        S: Sensitivities of N images to all CAVs, in the order of `stacked`.
        cavs: The layer's CAVs by concept.
        layer: Its name.
        index: The class.
        class_name: Its name.
    """
    table: list[ScoreRow] = []
    details: list[RunRow] = []
    start = 0
    for concept, draws in cavs.items():
        R = len(draws.concept)
        own, random = (scores(S[:, start + k * R : start + (k + 1) * R]) for k in (0, 1))
        start += 2 * R
        for kind, found, accuracy in (
            ("concept", own, draws.accuracy),
            ("random", random, draws.accuracy_random),
        ):
            numbers = zip(*found, accuracy, strict=True)
            details += [
                RunRow(layer, concept, index, class_name, kind, run, *map(float, row))
                for run, row in enumerate(numbers)
            ]
        count, magnitude = (score_test(own[k], random[k]) for k in (0, 1))
        unknown = int(np.isnan(own.magnitude).sum())
        notes = [draws.note, ONE_IMAGE if len(S) == 1 else "", count.note]
        notes += [
            NO_SENSITIVITY if unknown == R else f"{unknown} of {R} CAVs: {NO_SENSITIVITY}"
        ] * (unknown > 0)
        notes += [f"magnitude: {magnitude.note}" if magnitude.note else ""]
        table.append(
            ScoreRow(
                layer,
                concept,
                index,
                class_name,
                len(S),
                float(own.sign_count.mean()),
                math.nan if unknown == R else float(np.nanmean(own.magnitude)),
                float(own.mean.mean()),
                count.p_value,
                magnitude.p_value,
                float(draws.accuracy.mean()),
                "; ".join(filter(None, notes)),
            )
        )
    return table, details


def _result(
    layers: Sequence[str],
    concepts: Sequence[str],
    cavs: Mapping[str, Mapping[str, CavDraws]],
    rows: Sequence[ScoreRow],
    details: Sequence[RunRow],
) -> TcavResult:
    import pandas as pd

    return TcavResult(
        tuple(layers),
        tuple(concepts),
        cavs,
        pd.DataFrame(rows, columns=list(ScoreRow._fields)),
        pd.DataFrame(details, columns=list(RunRow._fields)),
    )
