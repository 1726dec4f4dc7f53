"""Visual-TCAV beside other methods: the same images, layers, concepts and classes, one table.

What the methods share is computed once: one pass for the feature maps of all layers, one forward
and backward pass through each head, which TCAV and Grad-CAM both need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from vtcav.errors import ExplanationError
from vtcav.evaluation.compare.methods import METHODS
from vtcav.evaluation.compare.observation import INPUT_MAPS, TCAV, Looker, Seen
from vtcav.evaluation.compare.result import CompareRow, Comparison
from vtcav.evaluation.compare.true_masks import check_masks
from vtcav.evaluation.peers import saliency
from vtcav.evaluation.peers.bottleneck import (
    OTHER,
    Bottleneck,
    check_scikit_learn,
    fit_bottleneck,
    project,
)
from vtcav.evaluation.peers.linear_cav import (
    CavDraws,
    LinearClassifier,
    check_draws,
    doubts,
    learn_cav,
)
from vtcav.evaluation.peers.tcav import class_scores, concept_draws, stacked
from vtcav.images.listing import ImageSource, collect, draw
from vtcav.images.preprocess import signature
from vtcav.images.progress import progress_bar
from vtcav.images.references import ImageRef
from vtcav.method.variants import method_of

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV

__all__ = ["compare"]


def compare(
    explainer: VisualTCAV,
    images: Mapping[str, ImageSource] | Mapping[int, ImageSource],
    *,
    methods: Sequence[str] = METHODS,
    masks: Mapping[str, Mapping[str, Sequence[NDArray[Any]]]] | None = None,
    limit: int | None = None,
    seed: int = 0,
    runs: int = 20,
    classifier: LinearClassifier = "sgd",
    baseline: saliency.Baseline = "black",
    steps: int = 50,
    batch_size: int = 16,
    strict: bool = False,
    progress: bool | None = None,
) -> Comparison:
    """Compute several methods beside Visual-TCAV.

    Values of different methods have different units (`evaluation.compare.methods.UNITS`): only
    their order can be compared between methods. What each measures is in docs/peers.md.

    Args:
        explainer: With its concepts learned; its layers, examples and negatives are used by
            every method.
        images: Images of each class, by its name or index. Each is looked at for its own class.
        methods: Which methods: "visual_tcav" (attribution), "tcav" (sign count),
            "tcav_magnitude", "saliency" (gradient), "integrated_gradients", "grad_cam" (the last
            three as the share of their positive mass inside the concept's region) and
            "bottleneck" (post-hoc concept bottleneck). An explainer with a variant of Visual-TCAV
            gives it under that variant's name: "visual_tcav_filter".
        masks: Where a concept truly is: by concept, by class, a mask [H, W] for every image of
            the class in order, boolean or in [0, 1], of the picture's size or of the network's
            input. Without, the region is the concept's own map M at the layer, brought to the
            input's size; the shares then depend on Visual-TCAV's map.
        limit: At most this many images of each class, drawn with `seed`.
        seed: Seeds every draw.
        runs: CAVs of each concept for TCAV, and as many random ones.
        classifier: How the CAVs of TCAV and of the bottleneck are learned, on GAP activations.
        baseline: Where integrated gradients start.
        steps: Their quadrature points.
        batch_size: Images per pass.
        strict: Whether an unreadable image is an error.
        progress: Whether to show progress bars; None where someone may be watching.

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
    wanted = _check(methods, classifier, runs)
    model, bank = explainer.model, explainer.cavs
    bank.check_fits(model, signature(model.preprocess))
    classes = _classes(explainer, images, limit, seed)
    true = {
        concept: {model.class_index(name): list(own) for name, own in given.items()}
        for concept, given in (masks or {}).items()
    }
    check_masks(true, bank.names, {t: chosen.listed for t, chosen in classes.items()})
    draws: dict[str, dict[str, CavDraws]] = {}
    if set(wanted) & set(TCAV):
        draws = concept_draws(
            _gap(explainer), explainer.layers, classifier=classifier, runs=runs, seed=seed
        )
    looker = Looker(
        model=model,
        bank=bank,
        layers=explainer.layers,
        methods=wanted,
        U={layer: stacked(cavs) for layer, cavs in draws.items()},
        masks=true,
        baseline=baseline,
        steps=steps,
        batch_size=batch_size,
        strict=strict,
    )
    found = _Found(explainer, draws, {}, [], [])
    total = sum(len(chosen.refs) for chosen in classes.values())
    with progress_bar("comparing methods", total, shown=progress) as bar:
        for t, chosen in classes.items():
            found.seen[t] = looker.look(t, chosen.refs, chosen.places, bar)
    found.add(wanted, classifier, seed)
    settings = {
        "methods": wanted,
        "limit": limit,
        "seed": seed,
        "runs": runs,
        "classifier": classifier,
        "baseline": baseline,
        "steps": steps,
        "masks": sorted(true),
        "images": {model.class_names[t]: seen.names for t, seen in found.seen.items()},
    }
    ours = method_of(bank.variant)
    named = tuple(ours if method == "visual_tcav" else method for method in wanted)
    return found.comparison(named, {"compare": settings})


@dataclass(frozen=True, eq=False)
class _Class:
    """The images of a class: how many were listed, which were chosen, and where they stood."""

    listed: int
    refs: list[ImageRef]
    places: list[int]


@dataclass(frozen=True, eq=False)
class _Found:
    """The rows of all methods, as they are found."""

    explainer: VisualTCAV
    draws: Mapping[str, Mapping[str, CavDraws]]
    seen: dict[int, Seen]
    rows: list[CompareRow]
    class_p: list[tuple[str, str, str, int, float]]

    def _name(self, index: int) -> str:
        return self.explainer.model.class_names[index]

    def add(self, wanted: Sequence[str], classifier: LinearClassifier, seed: int) -> None:
        """Add the values of the methods that are wanted."""
        self.add_maps()
        if self.draws:
            self.add_tcav(wanted)
        if "visual_tcav" in wanted:
            self.add_visual_tcav()
        if "bottleneck" in wanted:
            self.add_bottleneck(classifier, seed)

    def add_maps(self) -> None:
        """Add what the saliency maps gave."""
        for seen in self.seen.values():
            self.rows.extend(seen.rows)

    def add_tcav(self, wanted: Sequence[str]) -> None:
        """Add sign counts and magnitudes, means over the CAVs of a concept."""
        for t, seen in self.seen.items():
            for layer, parts in seen.S.items():
                table, _ = class_scores(
                    torch.cat(parts), self.draws[layer], layer, t, self._name(t)
                )
                for row in table:
                    given = {
                        "tcav": (row.sign_count, row.p_value),
                        "tcav_magnitude": (row.magnitude, row.p_value_magnitude),
                    }
                    key = layer, row.concept, t, row.class_name, ""
                    self.rows.extend(
                        CompareRow(method, *key, value, p, note=row.note)
                        for method, (value, p) in given.items()
                        if method in wanted
                    )

    def add_visual_tcav(self) -> None:
        """Add the attributions, and the p-values of the classes."""
        ours = method_of(self.explainer.cavs.variant)
        for t, seen in self.seen.items():
            glob = self.explainer.explain_class(t, seen.refs)
            # in memory, images are named by their place in a list, which is another one here
            block = len(glob.layers) * len(glob.concepts)
            names = np.repeat(np.array(seen.names, dtype=object), block)
            table = glob.attributions
            p = table["p_value"] if "p_value" in table else np.full(len(table), math.nan)
            columns = [table[name] for name in ("layer", "concept", "attribution", "note")]
            self.rows.extend(
                CompareRow(ours, layer, concept, t, self._name(t), image, value, own, note=note)
                for layer, concept, value, note, image, own in zip(*columns, names, p, strict=True)
            )
            summary = glob.summary()
            if "p_value" in summary:
                keys = zip(summary["layer"], summary["concept"], summary["p_value"], strict=True)
                self.class_p.extend(
                    (ours, layer, concept, t, float(own)) for layer, concept, own in keys
                )

    def add_bottleneck(self, classifier: LinearClassifier, seed: int) -> None:
        """Add the values of the concept bottleneck, one for each layer."""
        predicted = np.concatenate([part for seen in self.seen.values() for part in seen.predicted])
        predicted = np.where(np.isin(predicted, list(self.seen)), predicted, OTHER)
        gap = _gap(self.explainer)
        for layer in self.explainer.layers:
            cavs = [
                learn_cav(examples[layer], negatives[layer], classifier=classifier, seed=seed)
                for examples, negatives in gap.values()
            ]
            sizes = [min(len(part[layer]) for part in both) for both in gap.values()]
            notes = [doubts([cav], size) for cav, size in zip(cavs, sizes, strict=True)]
            U = torch.stack([cav.u for cav in cavs])
            P = {t: project(torch.cat(seen.X[layer]), U) for t, seen in self.seen.items()}
            fitted = fit_bottleneck(np.concatenate(list(P.values())), predicted, seed=seed)
            for t, own in P.items():
                self._add_values(layer, t, own, fitted, notes)

    def _add_values(
        self, layer: str, t: int, P: NDArray[np.float64], fitted: Bottleneck, notes: list[str]
    ) -> None:
        values, note = fitted.values(P, t)
        for n, image in enumerate(self.seen[t].names):
            for k, concept in enumerate(self.explainer.cavs.names):
                key = layer, concept, t, self._name(t), image
                doubts = "; ".join(filter(None, [notes[k], note]))
                value = float(values[n, k])
                self.rows.append(CompareRow("bottleneck", *key, value, note=doubts))

    def comparison(self, methods: tuple[str, ...], settings: dict[str, Any]) -> Comparison:
        """Return the result, its rows ordered by method, layer, concept and class."""
        layers, concepts = ["", *self.explainer.layers], list(self.explainer.cavs.names)
        classes = list(self.seen)
        rows = sorted(
            self.rows,
            key=lambda row: (
                methods.index(row.method),
                layers.index(row.layer),
                concepts.index(row.concept),
                classes.index(row.class_index),
            ),
        )
        provenance = self.explainer.provenance(settings)
        return Comparison(
            methods=methods,
            layers=tuple(self.explainer.layers),
            concepts=tuple(concepts),
            classes=tuple(self._name(t) for t in classes),
            skipped=tuple(skip for seen in self.seen.values() for skip in seen.skipped),
            provenance=replace(provenance, versions={**provenance.versions, **_versions(methods)}),
            _rows=pd.DataFrame(rows, columns=list(CompareRow._fields)),
            _class_p=pd.DataFrame(
                self.class_p, columns=["method", "layer", "concept", "class_index", "p_value"]
            ),
        )


def _check(methods: Sequence[str], classifier: LinearClassifier, runs: int) -> tuple[str, ...]:
    """Return the methods in their order, or refuse what cannot work before anything runs."""
    if isinstance(methods, str):
        methods = [methods]
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        known = ", ".join(map(repr, METHODS))
        came = repr(unknown[0]) if unknown else "none"
        raise ExplanationError(f"expected methods among {known}, got {came}")
    wanted = tuple(method for method in METHODS if method in methods)
    check_draws(classifier, runs)
    if "bottleneck" in wanted:
        check_scikit_learn()
    if set(wanted) & set(INPUT_MAPS):
        saliency.check_captum()
    return wanted


def _classes(
    explainer: VisualTCAV,
    images: Mapping[str, ImageSource] | Mapping[int, ImageSource],
    limit: int | None,
    seed: int,
) -> dict[int, _Class]:
    """Return the images of each class by its index."""
    if not isinstance(images, Mapping) or not images:
        raise ExplanationError(
            "expected images as a mapping from class names to images, {'zebra': FOLDER, ...}, got "
            + ("an empty one" if isinstance(images, Mapping) else type(images).__name__)
        )
    classes: dict[int, _Class] = {}
    for name, source in images.items():
        t = explainer.model.class_index(name)
        if t in classes:
            raise ExplanationError(f"images are given twice for class {t}, by name and by index")
        refs = collect(source)
        places = draw(range(len(refs)), limit, seed, ExplanationError)
        classes[t] = _Class(len(refs), [refs[i] for i in places], places)
    return classes


def _gap(explainer: VisualTCAV) -> dict[str, tuple[Any, Any]]:
    """Return by concept the GAP activations [n, C] by layer of its examples and negatives."""
    evidence = {name: explainer.cavs.evidence(name) for name in explainer.cavs.names}
    return {name: (own.gap, others.gap) for name, (own, others) in evidence.items()}


def _versions(methods: Sequence[str]) -> dict[str, str]:
    """Return the versions of the libraries that the peers rest on."""
    used = {"scikit-learn", "scipy"} if set(methods) & {*TCAV, "bottleneck"} else set()
    used |= {"captum"} if set(methods) & set(INPUT_MAPS) else set()
    return {name: version(name) for name in sorted(used)}
