"""The values of every method on the test images of a unit, beside the causal effects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vtcav.errors import ExplanationError
from vtcav.evaluation.concept_sets import concept_name
from vtcav.evaluation.effects import CUES, Effects
from vtcav.evaluation.filter_map import FILTER, FilterMaps
from vtcav.evaluation.network import to_input
from vtcav.evaluation.scenes import CLASSES, Scenes
from vtcav.layer_analysis import NOT_SEPARATED

if TYPE_CHECKING:
    from vtcav.explainer import VisualTCAV

__all__ = ["NO_GAP", "class_means", "image_values"]

NO_GAP = "taking both cues out does not lower the logit, so there is no gap to share"


def image_values(
    explainer: VisualTCAV,
    filters: FilterMaps | None,
    test: Scenes,
    effects: dict[str, Effects],
    methods: Sequence[str],
    tcav_runs: int,
    seed: int,
) -> pd.DataFrame:
    """Return one row per image, cue, method and layer; class-level values stand at every image."""
    from vtcav.evaluation.compare import compare

    of_class = [np.flatnonzero(test.labels == t) for t in range(len(CLASSES))]
    pictures, empty = test.images(), np.zeros(test.tag_mask.shape[1:], bool)
    truth = {"tag": test.tag_mask, "texture": test.texture_mask}
    masks = {
        concept_name(cue, own): {
            CLASSES[t]: [truth[cue][i] if t == own else empty for i in of_class[t]]
            for t in range(len(CLASSES))
        }
        for cue in CUES
        for own in range(len(CLASSES))
    }
    table = compare(
        explainer,
        {CLASSES[t]: pictures[of_class[t]] for t in range(len(CLASSES))},
        methods=[name for name in methods if name != FILTER],
        masks=masks,
        runs=tcav_runs,
        seed=seed,
        batch_size=32,
        progress=False,
    ).table
    if filters is not None:
        variant = _filter_table(filters, test, of_class)
        ours = table["method"] == "visual_tcav"
        table = pd.concat([table[ours], variant, table[~ours]], ignore_index=True)
    parts = [
        _of_cue(table, cue, t, of_class[t], effects[cue])
        for cue in CUES
        for t in range(len(CLASSES))
    ]
    return pd.concat(parts, ignore_index=True)


def _filter_table(
    filters: FilterMaps, test: Scenes, of_class: list[np.ndarray[Any, Any]]
) -> pd.DataFrame:
    """Return the variant's attributions in the columns of `compare` that are used here."""
    found = filters.attributions(to_input(test.images()), test.labels.tolist())
    names = filters.explainer.cavs.names
    parts = [
        pd.DataFrame(
            {
                "method": FILTER,
                "layer": layer,
                "concept": name,
                "class_index": t,
                "value": a[images, k],
                "note": "" if filters.separated(layer)[k] else NOT_SEPARATED,
            }
        )
        for layer, a in found.items()
        for t, images in enumerate(of_class)
        for k, name in enumerate(names)
    ]
    return pd.concat(parts, ignore_index=True)


def _of_cue(
    table: pd.DataFrame, cue: str, t: int, images: np.ndarray[Any, Any], truth: Effects
) -> pd.DataFrame:
    """Return the rows of a class's own cue, beside the effects on its images."""
    own = table[(table["concept"] == concept_name(cue, t)) & (table["class_index"] == t)]
    parts = []
    for (method, layer), rows in own.groupby(["method", "layer"], sort=False):
        if len(rows) not in (1, len(images)):
            raise ExplanationError(
                f"expected a value of {method!r} for the class or for each of its {len(images)} "
                f"images, got {len(rows)}"
            )
        repeat = len(images) // len(rows)
        parts.append(
            pd.DataFrame(
                {
                    "class_index": t,
                    "class_name": CLASSES[t],
                    "cue": cue,
                    "method": method,
                    "layer": layer,
                    "image": images,
                    "per_image": len(rows) > 1,
                    "value": np.repeat(rows["value"].to_numpy(np.float64), repeat),
                    "effect": truth.effect[images],
                    "share": truth.shares[images],
                    "gap": truth.gap[images],
                    "note": _with_gap(
                        np.repeat(rows["note"].to_numpy(object), repeat), truth, images
                    ),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _with_gap(
    notes: np.ndarray[Any, Any], truth: Effects, images: np.ndarray[Any, Any]
) -> list[str]:
    """Return notes that give the reason of a missing share too."""
    missing = np.isnan(truth.shares[images])
    return [
        "; ".join(filter(None, [note, NO_GAP])) if none else note
        for note, none in zip(notes, missing, strict=True)
    ]


def class_means(images: pd.DataFrame, effects: dict[str, Effects], test: Scenes) -> pd.DataFrame:
    """Return one row per class, cue, method and layer: mean values and the class's effects."""
    rows = []
    keys = ["class_index", "class_name", "cue", "method", "layer"]
    for key, group in images.groupby(keys, sort=False):
        t, cue = CLASSES.index(str(key[1])), str(key[2])
        chosen, truth = test.labels == t, effects[cue]
        values = group["value"].dropna()
        lost = len(group) - len(values)
        notes = [f"{lost} of {len(group)} images have no value"] * (lost > 0)
        notes += [f"{n} of {len(group)} images: {note}" for note, n in _counts(group["note"])]
        share = truth.share(chosen)
        notes += [NO_GAP] * math.isnan(share)
        rows.append(
            dict(zip(keys, key, strict=True))
            | {
                "n": len(values),
                "value": float(values.mean()) if len(values) else float("nan"),
                "share": share,
                "centred_share": truth.share(chosen, centred=True),
                "effect": float(truth.effect[chosen].mean()),
                "centred_effect": float(truth.centred[chosen].mean()),
                "gap": float(truth.gap[chosen].mean()),
                "note": "; ".join(notes),
            }
        )
    return pd.DataFrame(rows)


def _counts(notes: pd.Series[str]) -> list[tuple[str, int]]:
    return [(str(note), int(n)) for note, n in notes[notes != ""].value_counts().items()]
