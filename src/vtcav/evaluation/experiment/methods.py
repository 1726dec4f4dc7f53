"""Methods of the experiment, and their values on test images.

To add a method, write a function from an `Explained` network and the names of methods to a table,
and add it to `_SOURCES`, with a title in `TITLES`. No other module of the experiment names a
method, except that Visual-TCAV comes first and is always there.

A table has the columns method, layer, concept, class_index, value and note. For each method, layer,
concept and class it has one row for the class, or one for each image of the class, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from vtcav.evaluation.compare.compute import compare
from vtcav.evaluation.compare.methods import MAPS, METHODS, OURS, TCAV, VARIANT_OF
from vtcav.evaluation.compare.methods import TITLES as NAMES
from vtcav.evaluation.experiment.concept_sets import ConceptSets
from vtcav.evaluation.experiment.trial import Trial
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.models.base import Model
from vtcav.parameters import Words, check

VARIANT_STEPS = 24
"""Quadrature points of the variants' integrals."""
GIVEN_TRUE_MASKS = MAPS
"""Methods that know no concepts, and are given the true masks of the cues."""
TITLES = {
    name: f"{title}, true masks"
    if name in MAPS
    else f"{title} ({value})"
    if name in TCAV
    else title
    for name, (title, value) in NAMES.items()
}
"""The name of each method in tables and figures."""

_SHARED: dict[str, Any] = {"batch_size": 32, "progress": False}


@dataclass(frozen=True, eq=False)
class Explained:
    """A trained network with its concepts and test images.

    Attributes:
        explainers: Visual-TCAV and those of its variants that are wanted, by method.
        trial: The test images.
        seed: Seeds every draw.
        options: Options of `compare` for methods other than Visual-TCAV.
    """

    explainers: Mapping[str, VisualTCAV]
    trial: Trial
    seed: int
    options: Mapping[str, Any]

    @property
    def images(self) -> dict[str, Any]:
        """The test images by class."""
        trial = self.trial
        return {name: trial.pictures[trial.of_class(t)] for t, name in enumerate(trial.classes)}


def fitted(
    model: Model, layers: Sequence[str], sets: ConceptSets, methods: Sequence[str] = ()
) -> dict[str, VisualTCAV]:
    """Return explainers of Visual-TCAV and of its variants that are among the methods."""
    found = {"visual_tcav": VisualTCAV(model, list(layers), **_SHARED)}
    for name, variant in VARIANT_OF.items():
        if name in methods:
            found[name] = VisualTCAV(model, list(layers), VARIANT_STEPS, variant=variant, **_SHARED)
    for explainer in found.values():
        explainer.fit(sets.examples, sets.negatives, null_cavs=0, bootstraps=0)
    return found


def method_values(network: Explained, methods: Sequence[str]) -> pd.DataFrame:
    """Return the values of the methods, in the order of `ALL_METHODS`.

    Raises:
        ExplanationError: For an unknown method.
    """
    tables = []
    for method in methods:
        check("method", method, Words(*ALL_METHODS))
    for source, names in _SOURCES.items():
        if wanted := [name for name in names if name in methods]:
            tables.append(source(network, wanted))
    return pd.concat(tables, ignore_index=True)


def _attributions(network: Explained, methods: Sequence[str]) -> pd.DataFrame:
    """Return the attributions of Visual-TCAV and its variants."""
    options: dict[str, Any] = {"methods": ["visual_tcav"], "seed": network.seed, **_SHARED}
    explainers = [network.explainers[method] for method in methods]
    tables = [compare(explainer, network.images, **options).table for explainer in explainers]
    return pd.concat(tables, ignore_index=True)


def _peers(network: Explained, methods: Sequence[str]) -> pd.DataFrame:
    """Return the values of published methods; saliency methods get the true masks."""
    trial = network.trial
    nowhere = np.zeros(trial.pictures.shape[1:3], bool)
    masks = {
        trial.concepts[cue][own]: {
            name: [trial.masks[cue][i] if t == own else nowhere for i in trial.of_class(t)]
            for t, name in enumerate(trial.classes)
        }
        for cue in trial.cues
        for own in range(len(trial.classes))
    }
    return compare(
        network.explainers["visual_tcav"],
        network.images,
        methods=methods,
        masks=masks,
        seed=network.seed,
        **_SHARED,
        **network.options,
    ).table


Source: TypeAlias = Callable[[Explained, Sequence[str]], pd.DataFrame]

_SOURCES: dict[Source, tuple[str, ...]] = {
    _attributions: OURS,
    _peers: tuple(name for name in METHODS if name != "visual_tcav"),
}
ALL_METHODS = tuple(name for names in _SOURCES.values() for name in names)
"""All methods, in the order of tables."""
