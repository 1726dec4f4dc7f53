"""Methods of the experiment, and their values on test images.

To add a method, write a function from an `Explained` network and the names of methods to a table,
and add it to `_SOURCES`, with a title in `TITLES`. No other module of the experiment names a
method, except that Visual-TCAV comes first and is always there. A variant of Visual-TCAV is added
by its title in `compare.methods`.

A table has the columns method, layer, concept, class_index, value, note, and weight where images of
a class do not count alike. For each method, layer, concept and class it has one row for the class,
or one for each image of the class, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from vtcav.evaluation.compare.compute import compare
from vtcav.evaluation.compare.methods import ERASURE, MAPS, METHODS, OURS, TCAV, VARIANT_OF
from vtcav.evaluation.compare.methods import TITLES as NAMES
from vtcav.evaluation.experiment.concept_sets import ConceptSets
from vtcav.evaluation.experiment.trial import Trial
from vtcav.explainer.erasing.allotment import Allotment
from vtcav.explainer.erasing.effect_rows import gap_note
from vtcav.explainer.erasing.targets import reference_logits
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.method.erasure.fill import Fill, filled
from vtcav.models.base import Model
from vtcav.parameters import Words, check

VARIANT_STEPS = 24
"""Quadrature points of the integrals of variants, and with generic negatives."""
_GENERIC = "_generic"
GENERIC = tuple(name + _GENERIC for name in ("visual_tcav", *ERASURE))
"""Visual-TCAV and erasure with concepts learned from generic sets."""


class _Ceiling(NamedTuple):
    """Erasure of the true mask of a cue: its title, the fill, and whether it is a share."""

    title: str
    fill: Fill
    is_share: bool


_CEILINGS = {
    "true_masks": _Ceiling("erasure, true masks (share)", "convolution", True),
    "true_masks_drop": _Ceiling("erasure, true masks (drop)", "convolution", False),
    "true_masks_mean": _Ceiling("the same, mean fill (drop)", "mean", False),
    "true_masks_blur": _Ceiling("the same, blur fill (drop)", "blur", False),
}
_DESIGN = "design"
_PEERS = tuple(name for name in METHODS if name not in (*OURS, *ERASURE))

GIVEN_TRUE_MASKS = (*MAPS, *_CEILINGS)
"""Methods that are given the true masks of the cues: they know no concepts, or are ceilings."""
CONTROLS = (*GENERIC, *_CEILINGS, _DESIGN)
"""What the others are to be seen beside; they have no figures of their own."""
SHARES = (*OURS, "erasure", f"visual_tcav{_GENERIC}", f"erasure{_GENERIC}", "true_masks")
"""Methods whose values are shares of a logit difference, as the truth of the headline is."""
_DROPS = {"erasure_drop": "drop", "erasure_own": "drop_apart"}
"""Methods that are drops of a logit, and their columns in effects."""
LOGITS = (
    *_DROPS,
    *(name + _GENERIC for name in _DROPS),
    *(name for name, ceiling in _CEILINGS.items() if not ceiling.is_share),
)
"""Methods whose values are drops of a logit, as the effect is."""


def _titles() -> dict[str, str]:
    titles = {
        name: f"{title}, true masks"
        if name in MAPS
        else f"{title} ({value})"
        if name in (*TCAV, *ERASURE)
        else title
        for name, (title, value) in NAMES.items()
    }
    titles |= {
        name: f"{titles[name.removesuffix(_GENERIC)]}, generic negatives" for name in GENERIC
    }
    titles |= {name: ceiling.title for name, ceiling in _CEILINGS.items()}
    return titles | {_DESIGN: "cue and q alone, no network"}


TITLES = _titles()
"""The name of each method in tables and figures."""

_SHARED: dict[str, Any] = {"batch_size": 32, "progress": False}


@dataclass(frozen=True, eq=False)
class Explained:
    """A trained network with its concepts and test images.

    Attributes:
        explainers: Visual-TCAV and, where they are wanted, its variants, by method; as `_GENERIC`
            Visual-TCAV with concepts learned from generic sets.
        trial: The test images.
        seed: Seeds every draw.
        options: Options of `compare` for methods other than Visual-TCAV.
        design: What the experiment's design alone says of each cue: how often it goes with the
            class in training.
    """

    explainers: Mapping[str, VisualTCAV]
    trial: Trial
    seed: int
    options: Mapping[str, Any]
    design: Mapping[str, float]

    def images(self, version: str = "whole", each: slice = slice(None)) -> dict[str, Any]:
        """Return the test images by class: a version of them, and some of each class."""
        trial = self.trial
        pictures = trial.versions[version]
        return {name: pictures[trial.of_class(t)[each]] for t, name in enumerate(trial.classes)}


def fitted(
    model: Model,
    layers: Sequence[str],
    sets: ConceptSets,
    methods: Sequence[str] = (),
    generic: ConceptSets | None = None,
) -> dict[str, VisualTCAV]:
    """Return explainers of Visual-TCAV and, where they are wanted, of its variants.

    Args:
        model: The trained network.
        layers: Its layers.
        sets: Examples and matched negatives.
        methods: The methods wanted.
        generic: Examples and generic negatives, for the methods that take them.
    """
    found = {"visual_tcav": VisualTCAV(model, list(layers), placebos=0, **_SHARED)}
    for name, variant in VARIANT_OF.items():
        if name in methods:
            found[name] = VisualTCAV(
                model, list(layers), VARIANT_STEPS, variant=variant, fill=None, **_SHARED
            )
    for explainer in found.values():
        explainer.fit(sets.examples, sets.negatives, null_cavs=0, bootstraps=0)
    if generic is not None and set(methods) & set(GENERIC):
        other = VisualTCAV(model, list(layers), VARIANT_STEPS, placebos=0, **_SHARED)
        other.fit(generic.examples, generic.negatives, null_cavs=0, bootstraps=0)
        found[_GENERIC] = other
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
    table = pd.concat(tables, ignore_index=True).assign(weight=_filled_weights)
    return table.sort_values(
        "method", key=lambda column: column.map(ALL_METHODS.index), kind="stable", ignore_index=True
    )


def _filled_weights(table: pd.DataFrame) -> pd.Series[float]:
    """Return the weights; images whose source gives none count alike."""
    return table["weight"].astype(float).fillna(1.0)


def absent_values(network: Explained, methods: Sequence[str]) -> pd.DataFrame:
    """Return the values of Visual-TCAV, its variants and erasure for cues that have been removed.

    Args:
        network: The network.
        methods: The methods wanted; others have no values.

    Returns:
        The columns of a table of values, image (the position among all test images) and cue: one
        row for every second image of a class, for the class's own cue, without which it is shown.
    """
    trial, some = network.trial, slice(1, None, 2)
    wanted = [name for name in (*OURS, *ERASURE, *GENERIC) if name in methods]
    tables = []
    for cue in trial.cues:
        found = _ours(network, wanted, network.images(f"without_{cue}", some))
        for t in range(len(trial.classes)):
            own = (found["concept"] == trial.concepts[cue][t]) & (found["class_index"] == t)
            rows = found[own]
            positions = np.resize(trial.of_class(t)[some], len(rows))
            tables.append(rows.assign(cue=cue, image=positions))
    return pd.concat(tables, ignore_index=True)


def opposition_values(network: Explained, x: torch.Tensor, methods: Sequence[str]) -> pd.DataFrame:
    """Return the drops without another class's tag, in images that show it instead of their own.

    Args:
        network: The network.
        x: These images as its input [N, 3, H, W].
        methods: The methods wanted; only drops of erasure have values.

    Returns:
        Columns class_index, method, image (the position), value, note.
    """
    trial, rows = network.trial, []
    for name, explainer in network.explainers.items():
        ending = name if name == _GENERIC else ""
        wanted = [method for method in _DROPS if method + ending in methods]
        if not wanted or name in VARIANT_OF:
            continue
        attributor, (cue, *_) = explainer.attributor, trial.cues
        for i, t in enumerate(trial.labels.tolist()):
            images = attributor.forward([str(i)], x[i : i + 1])
            regions = attributor.eraser.regions(images)
            effects = attributor.effects(images, regions, [t], Allotment(0, filled=0))
            [own] = [e for e in effects if e.concept == trial.concepts[cue][trial.others[i]]]
            rows += [
                (t, method + ending, i, getattr(own, _DROPS[method]), own.note) for method in wanted
            ]
    return pd.DataFrame(rows, columns=["class_index", "method", "image", "value", "note"])


def _attributions(network: Explained, methods: Sequence[str]) -> pd.DataFrame:
    """Return attributions and effects of erasure on the whole images."""
    return _ours(network, methods, network.images())


def _ours(network: Explained, methods: Sequence[str], images: Mapping[str, Any]) -> pd.DataFrame:
    """Return the values of Visual-TCAV, its variants and erasure for images of each class."""
    tables = []
    for name, explainer in network.explainers.items():
        ending = name if name == _GENERIC else ""
        given = [name] if name in VARIANT_OF else [f"{own}{ending}" for own in (OURS[0], *ERASURE)]
        wanted = [method.removesuffix(_GENERIC) for method in methods if method in given]
        if not wanted:
            continue
        asked = [OURS[0] if method in OURS else method for method in wanted]
        table = compare(explainer, images, methods=asked, seed=network.seed, **_SHARED).table
        tables.append(table.assign(method=table["method"] + ending))
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
        network.images(),
        methods=methods,
        masks=masks,
        seed=network.seed,
        **_SHARED,
        **network.options,
    ).table


def _ceilings(network: Explained, methods: Sequence[str]) -> pd.DataFrame:
    """Return the effects of filling in the true masks: what erasure could reach at most."""
    explainer, trial = network.explainers["visual_tcav"], network.trial
    before = _scores(explainer.model, trial.x, trial.labels)
    reference = reference_logits(explainer.cavs)
    assert reference is not None  # the logits of negatives are learned where concepts are erased
    mean, spread = reference.double().numpy()[:, trial.labels]
    whys = np.array([gap_note(*pair) for pair in zip(before - mean, spread, strict=True)])
    gaps = np.where(whys == "", before - mean, np.nan)
    tables = []
    for method, cue in product(methods, trial.cues):
        ceiling = _CEILINGS[method]
        x = filled(trial.x, torch.from_numpy(trial.masks[cue]), ceiling.fill)
        drops = before - _scores(explainer.model, x, trial.labels)
        values = drops / gaps if ceiling.is_share else drops
        for t, concept in enumerate(trial.concepts[cue]):
            own = trial.of_class(t)
            table = pd.DataFrame({"value": values[own]})
            notes = whys[own] if ceiling.is_share else ""
            weights = np.nan_to_num(gaps[own]) if ceiling.is_share else 1.0
            table = table.assign(method=method, layer="", concept=concept, class_index=t)
            tables.append(table.assign(weight=weights, note=notes))
    return pd.concat(tables, ignore_index=True)


def _scores(model: Model, x: torch.Tensor, labels: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the logit of each image's class [N]."""
    with torch.no_grad():
        z = torch.cat([model.logits(part).cpu() for part in torch.split(x, _SHARED["batch_size"])])
    scores: NDArray[np.float64] = z.double().numpy()[np.arange(len(labels)), labels]
    return scores


def _design(network: Explained, methods: Sequence[str]) -> pd.DataFrame:
    """Return what the design alone says, without any network: the same for all classes."""
    trial = network.trial
    key = {"method": _DESIGN, "layer": "", "note": ""}
    return pd.DataFrame(
        [
            key | {"concept": trial.concepts[cue][t], "class_index": t, "value": value}
            for cue, value in network.design.items()
            for t in range(len(trial.classes))
        ]
    )


Source: TypeAlias = Callable[[Explained, Sequence[str]], pd.DataFrame]

_SOURCES: dict[Source, tuple[str, ...]] = {
    _attributions: (*OURS, *ERASURE, *GENERIC),
    _peers: _PEERS,
    _ceilings: tuple(_CEILINGS),
    _design: (_DESIGN,),
}
ALL_METHODS = tuple(name for names in _SOURCES.values() for name in names)
"""All methods, in the order of tables."""
