"""Comparison of Visual-TCAV with other methods: the same images, layers, concepts and classes.

The methods share one pass for the feature maps of all layers, and one forward and backward pass
through each head, which TCAV and Grad-CAM both need.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.evaluation.compare.methods import ERASURE, INPUT_MAPS, METHODS, TCAV
from vtcav.evaluation.compare.observation import Observation, Observer
from vtcav.evaluation.compare.result import CompareRow, Comparison
from vtcav.evaluation.compare.settings import CompareSettings
from vtcav.evaluation.compare.true_masks import check_masks
from vtcav.evaluation.peers import saliency
from vtcav.evaluation.peers.bottleneck import OTHER, check_scikit_learn, fit_bottleneck, project
from vtcav.evaluation.peers.linear_cav import (
    CavDraws,
    LinearClassifier,
    cav_note,
    draw_cavs,
    learn_cav,
)
from vtcav.evaluation.peers.tcav import class_scores
from vtcav.images.listing import ImageSource, collect, draw
from vtcav.images.progress import check_progress, progress_bar
from vtcav.images.references import ImageRef
from vtcav.images.volumes import check_pictures
from vtcav.method.variants import method_of
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.provenance import versions

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV


NOTHING_ERASED = "nothing was erased: fill is None, or the CAVs were saved without place filters"


def compare(
    explainer: VisualTCAV,
    images: Mapping[str, ImageSource] | Mapping[int, ImageSource],
    *,
    methods: Sequence[str] = METHODS,
    masks: Mapping[str, Mapping[str, Sequence[NDArray[Any]]]] | None = None,
    limit: int | None = CompareSettings.limit,
    seed: int = CompareSettings.seed,
    runs: int = CompareSettings.runs,
    classifier: LinearClassifier = CompareSettings.classifier,
    baseline: saliency.Baseline = CompareSettings.baseline,
    steps: int = CompareSettings.steps,
    batch_size: int = CompareSettings.batch_size,
    strict: bool = CompareSettings.strict,
    progress: bool | None = None,
) -> Comparison:
    """Compute several methods beside Visual-TCAV.

    Values of different methods have different units (`evaluation.compare.methods.UNITS`): only
    their order can be compared between methods. What each measures is in docs/peers.md.

    Args:
        explainer: With its concepts learned; its layers, examples and negatives are used by
            every method.
        images: Images of each class, by its name or index. Each is explained for its own class.
        methods: The methods: "visual_tcav" (attribution), "erasure" (the drop without the
            concept's region, as a share), "erasure_drop" (in logits) and "erasure_own" (without the
            part of it that is told to be the concept's own), "tcav" (sign count),
            "tcav_magnitude", "tcav_derivative" (mean derivative along the CAV), "saliency"
            (gradient), "integrated_gradients", "grad_cam" (the last three as the share of their
            positive mass inside the concept's region) and "bottleneck" (post-hoc concept
            bottleneck). An explainer with a variant of Visual-TCAV gives it under that variant's
            name: "visual_tcav_filter".
        masks: The true location of concepts: by concept, by class, a mask [H, W] for every image of
            the class in order, boolean or in [0, 1], of the picture's size or of the network's
            input. Without a mask the region is the concept's map M at the layer, brought to the
            input's size; the shares then depend on Visual-TCAV's map.
        limit: At most this many images of each class, drawn with `seed`.
        seed: Seeds every draw.
        runs: CAVs of each concept for TCAV, and as many random ones.
        classifier: How the CAVs of TCAV and of the bottleneck are learned, on GAP activations.
        baseline: The starting point of integrated gradients.
        steps: Their quadrature points.
        batch_size: Images per pass.
        strict: Whether an unreadable image is an error.
        progress: Whether to show progress bars; None shows them on a terminal or in a notebook.

    Raises:
        CavError: Before `fit`, or when the weights have changed since.
        ConceptError: For too few examples or negatives to draw CAVs from.
        ExplanationError: For unknown methods, masks that do not fit, settings out of range.
        ExtraError: When Captum or scikit-learn is needed and absent.
        ImageError: When no image of a class can be read.
        ModelError: For an unknown class.

    Example:
        >>> import numpy as np, torch, vtcav
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU(),
        ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
        >>> model = vtcav.Classifier(net, ["cat", "dog", "fox"], vtcav.Preprocess(32))
        >>> noise = np.random.default_rng(0).integers(0, 255, (30, 32, 32, 3)).astype(np.uint8)
        >>> explainer = vtcav.VisualTCAV(model, ["1"]).fit({"dark": noise[:10] // 4}, noise[10:])
        >>> found = compare(explainer, {"cat": noise[:2]}, methods=["visual_tcav", "grad_cam"])
        >>> found.table.groupby("method")["value"].count().to_dict()
        {'grad_cam': 2, 'visual_tcav': 2}
    """
    settings = CompareSettings(limit, seed, runs, classifier, baseline, steps, batch_size, strict)
    progress = check_progress(progress)
    wanted = _wanted(methods)
    explainer.check_cavs()
    check_pictures(explainer.model.preprocess, "a comparison of methods")
    model, bank = explainer.model, explainer.cavs
    listed = _listed(explainer, images)
    true = {
        concept: {model.class_index(name): list(own) for name, own in given.items()}
        for concept, given in (masks or {}).items()
    }
    check_masks(true, bank.names, {t: len(refs) for t, refs in listed.items()})
    chosen = {
        t: draw(list(enumerate(refs)), settings.limit, settings.seed, ExplanationError)
        for t, refs in listed.items()
    }
    draws = _draws(explainer, settings) if set(wanted) & set(TCAV) else {}
    observer = Observer(model, bank, wanted, draws, true, settings)
    with progress_bar("comparing methods", sum(map(len, chosen.values())), shown=progress) as bar:
        observations = {t: observer.observe(t, own, bar) for t, own in chosen.items()}
    explains = bool(set(wanted) & {"visual_tcav", *ERASURE})
    refs = {t: seen.refs for t, seen in observations.items() if explains}
    explained = {t: explainer.explain_class(t, own) for t, own in refs.items()}
    rows = _Rows(explainer, wanted, settings, draws, observations, explained)
    names = {model.class_names[t]: seen.names for t, seen in observations.items()}
    about = {"methods": wanted, **asdict(settings), "masks": sorted(true), "images": names}
    return rows.comparison({"compare": about})


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of each method, from the observations of every class.

    Attributes:
        explainer: With its concepts learned.
        wanted: The methods wanted.
        settings: How the methods are computed.
        draws: TCAV's CAVs by layer and concept.
        observations: By class.
        explained: By class, where Visual-TCAV or erasure is wanted.
    """

    explainer: VisualTCAV
    wanted: Sequence[str]
    settings: CompareSettings
    draws: Mapping[str, Mapping[str, CavDraws]]
    observations: Mapping[int, Observation]
    explained: Mapping[int, GlobalExplanation]

    @property
    def ours(self) -> str:
        """The name of Visual-TCAV, or of its variant, in tables."""
        return method_of(self.explainer.cavs.variant)

    def comparison(self, settings: dict[str, Any]) -> Comparison:
        """Return the result, its rows ordered by method, layer, concept and class."""
        explainer = self.explainer
        methods = tuple(self.ours if name == "visual_tcav" else name for name in self.wanted)
        orders: dict[str, list[Any]] = {
            "method": list(methods),
            "layer": ["", *explainer.layers, TOGETHER],
            "concept": list(explainer.cavs.names),
            "class_index": list(self.observations),
        }
        table = pd.DataFrame(self._all(), columns=list(CompareRow._fields)).sort_values(
            list(orders),
            key=lambda column: column.map(orders[str(column.name)].index),
            ignore_index=True,
        )
        packages = ["scikit-learn", "scipy"] * bool(set(methods) & {*TCAV, "bottleneck"})
        packages += ["captum"] * bool(set(methods) & set(INPUT_MAPS))
        return Comparison(
            methods=methods,
            layers=tuple(explainer.layers),
            concepts=tuple(explainer.cavs.names),
            classes=tuple(map(self._name, self.observations)),
            skipped=tuple(skip for seen in self.observations.values() for skip in seen.skipped),
            provenance=replace(explainer.provenance(settings), versions=versions(*packages)),
            _rows=table,
            _class_p=self._class_p(),
        )

    def _all(self) -> Iterator[CompareRow]:
        """Yield the rows of all methods that are wanted."""
        for t, seen in self.observations.items():
            yield from seen.rows
            yield from self._tcav(t, seen)
        for t, glob in self.explained.items():
            if "visual_tcav" in self.wanted:
                yield from self._visual_tcav(t, glob)
            yield from self._erasure(t, glob)
        if "bottleneck" in self.wanted:
            for layer in self.explainer.layers:
                yield from self._bottleneck(layer)

    def _class_p(self) -> dict[tuple[Any, ...], float]:
        """Return the p-values of classes by method, layer, concept and class."""
        found = {}
        for t, glob in self.explained.items():
            if self.explainer.cavs.null_cavs:
                for row in glob.summary().to_dict("records"):
                    found[self.ours, row["layer"], row["concept"], t] = row["p_value"]
            erased = [method for method in ERASURE if method in self.wanted]
            effects = glob.class_effects().to_dict("records") if erased else []
            for method, row in product(erased, effects):
                p = row["p_apart" if method == "erasure_own" else "p_value"]
                found[method, row["layer"], row["concept"], t] = p
        return found

    def _name(self, index: int) -> str:
        return self.explainer.model.class_names[index]

    def _tcav(self, t: int, seen: Observation) -> Iterator[CompareRow]:
        """Yield the scores of TCAV, means over the CAVs of a concept."""
        for layer, parts in seen.S.items():
            for found in class_scores(torch.cat(parts), self.draws[layer]):
                key = layer, found.concept, t, self._name(t), ""
                for method, value, p in (
                    ("tcav", found.sign_count, found.p_value),
                    ("tcav_magnitude", found.magnitude, found.p_value_magnitude),
                    ("tcav_derivative", found.derivative, found.p_value_derivative),
                ):
                    if method in self.wanted:
                        yield CompareRow(method, *key, value, p, note=found.note)

    def _visual_tcav(self, t: int, glob: GlobalExplanation) -> Iterator[CompareRow]:
        """Yield the attributions."""
        # images in memory are named after their position in a list, and this list is another one
        block = len(glob.layers) * len(glob.concepts)
        images = np.repeat(np.array(self.observations[t].names, object), block)
        for image, row in zip(images, glob.attributions.to_dict("records"), strict=True):
            key = row["layer"], row["concept"], t, self._name(t), image
            p = row.get("p_value", math.nan)
            yield CompareRow(self.ours, *key, row["attribution"], p, note=row["note"])

    def _erasure(self, t: int, glob: GlobalExplanation) -> Iterator[CompareRow]:
        """Yield the effects of erasing concepts, as shares and in logits."""
        wanted = [method for method in ERASURE if method in self.wanted]
        names = self.observations[t].names
        pairs = [(image, concept) for image in names for concept in glob.concepts]
        rows = glob.effects.to_dict("records") or [{}] * len(pairs)
        for (image, concept), row in zip(pairs, rows, strict=True):
            key = TOGETHER, concept, t, self._name(t), image
            p, note = row.get("p_value", math.nan), row.get("note", NOTHING_ERASED)
            drop, share = row.get("drop", math.nan), row.get("share", math.nan)
            for method in wanted:
                if method == "erasure_drop":
                    yield CompareRow(method, *key, drop, p, note=note)
                elif method == "erasure_own":
                    yield CompareRow(method, *key, row.get("drop_apart", math.nan), note=note)
                else:
                    gap = 0.0 if math.isnan(share) else row["logit"] - row["reference"]
                    yield CompareRow(method, *key, share, p, weight=gap, note=note)

    def _bottleneck(self, layer: str) -> Iterator[CompareRow]:
        """Yield the values of a concept bottleneck at a layer, fitted to the predictions."""
        settings, gap = self.settings, _gap(self.explainer, layer)
        cavs = {
            concept: learn_cav(*sides, classifier=settings.classifier, seed=settings.seed)
            for concept, sides in gap.items()
        }
        notes = [cav_note([cav], min(map(len, gap[concept]))) for concept, cav in cavs.items()]
        U = torch.stack([cav.u for cav in cavs.values()])
        P = {t: project(torch.cat(seen.X[layer]), U) for t, seen in self.observations.items()}
        predicted = np.concatenate(
            [part for s in self.observations.values() for part in s.predicted]
        )
        predicted = np.where(np.isin(predicted, list(P)), predicted, OTHER)
        fitted = fit_bottleneck(np.concatenate(list(P.values())), predicted, seed=settings.seed)
        for t, own in P.items():
            values, note = fitted.values(own, t)
            for image, row in zip(self.observations[t].names, values, strict=True):
                for concept, value, of_cav in zip(gap, row, notes, strict=True):
                    key = layer, concept, t, self._name(t), image
                    doubts = "; ".join(filter(None, [of_cav, note]))
                    yield CompareRow("bottleneck", *key, float(value), note=doubts)


def _wanted(methods: Sequence[str]) -> tuple[str, ...]:
    """Return the methods in order; refuse what cannot work before anything runs."""
    if isinstance(methods, str):
        methods = [methods]
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        known = ", ".join(map(repr, METHODS))
        came = repr(unknown[0]) if unknown else "none"
        raise ExplanationError(f"expected methods among {known}, got {came}")
    wanted = tuple(method for method in METHODS if method in methods)
    if "bottleneck" in wanted:
        check_scikit_learn()
    if set(wanted) & set(INPUT_MAPS):
        saliency.check_captum()
    return wanted


def _listed(
    explainer: VisualTCAV, images: Mapping[str, ImageSource] | Mapping[int, ImageSource]
) -> dict[int, list[ImageRef]]:
    """Return the images of each class."""
    if not isinstance(images, Mapping) or not images:
        raise ExplanationError(
            "expected images as a mapping from class names to images, {'zebra': FOLDER, ...}, got "
            + ("an empty one" if isinstance(images, Mapping) else type(images).__name__)
        )
    listed: dict[int, list[ImageRef]] = {}
    for name, source in images.items():
        t = explainer.model.class_index(name)
        if t in listed:
            raise ExplanationError(f"images are given twice for class {t}, by name and by index")
        listed[t] = collect(source)
    return listed


def _draws(explainer: VisualTCAV, settings: CompareSettings) -> dict[str, dict[str, CavDraws]]:
    """Return TCAV's CAVs by layer and concept."""
    options = settings.runs, settings.classifier, settings.seed
    return {
        layer: {name: draw_cavs(a, b, *options) for name, (a, b) in _gap(explainer, layer).items()}
        for layer in explainer.layers
    }


def _gap(explainer: VisualTCAV, layer: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Return by concept the GAP activations [n, C] of its examples and of its negatives."""
    bank = explainer.cavs
    pairs = {name: bank.evidence(name) for name in bank.names}
    return {name: (own.gap[layer], others.gap[layer]) for name, (own, others) in pairs.items()}
