"""Values of every method on the test images of a unit, beside the causal effects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vtcav.errors import ExplanationError
from vtcav.evaluation.compare.compute import compare
from vtcav.evaluation.experiment.effects import Effects
from vtcav.evaluation.experiment.trial import Trial
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.results.words import counted_notes

__all__ = ["NO_GAP", "class_means", "image_values"]

NO_GAP = "removing all cues does not lower the logit, so there is no gap to take a share of"


def image_values(
    explainers: Mapping[str, VisualTCAV],
    trial: Trial,
    effects: Mapping[str, Effects],
    methods: Sequence[str],
    *,
    seed: int,
    **options: Any,
) -> pd.DataFrame:
    """Return one row per image, cue, method and layer; values of a class stand at every image.

    Args:
        explainers: "visual_tcav", and `FILTER` where the variant is wanted.
        trial: The test images.
        effects: By cue.
        methods: The methods, among them those of the explainers.
        seed: Seeds every draw.
        options: Other options of `compare`, for all methods but Visual-TCAV.
    """
    of_class = {name: trial.of_class(t) for t, name in enumerate(trial.classes)}
    empty = np.zeros(trial.pictures.shape[1:3], bool)
    masks = {
        trial.concepts[cue][own]: {
            name: [trial.masks[cue][i] if t == own else empty for i in of_class[name]]
            for t, name in enumerate(trial.classes)
        }
        for cue in trial.cues
        for own in range(len(trial.classes))
    }
    pictures = {name: trial.pictures[chosen] for name, chosen in of_class.items()}
    shared: dict[str, Any] = {"seed": seed, "batch_size": 32, "progress": False}
    table = compare(
        explainers["visual_tcav"],
        pictures,
        methods=[name for name in methods if name not in explainers or name == "visual_tcav"],
        masks=masks,
        **shared,
        **options,
    ).table
    for name, explainer in explainers.items():
        if name != "visual_tcav":
            variant = compare(explainer, pictures, methods=["visual_tcav"], **shared).table
            ours = table["method"] == "visual_tcav"
            table = pd.concat([table[ours], variant, table[~ours]], ignore_index=True)
    parts = [
        part
        for cue in trial.cues
        for t in range(len(trial.classes))
        for part in _of_cue(table, trial, cue, t, effects[cue])
    ]
    return pd.concat(parts, ignore_index=True)


def _of_cue(
    table: pd.DataFrame, trial: Trial, cue: str, t: int, truth: Effects
) -> list[pd.DataFrame]:
    """Return the rows of a class's own cue, beside the effects on its images."""
    images = trial.of_class(t)
    shares = truth.shares[images]
    own = table[(table["concept"] == trial.concepts[cue][t]) & (table["class_index"] == t)]
    parts = []
    for (method, layer), rows in own.groupby(["method", "layer"], sort=False):
        if len(rows) not in (1, len(images)):
            raise ExplanationError(
                f"expected a value of {method!r} for the class or for each of its {len(images)} "
                f"images, got {len(rows)}"
            )
        repeat = len(images) // len(rows)
        notes = np.repeat(rows["note"].to_numpy(object), repeat)
        parts.append(
            pd.DataFrame(
                {
                    "class_index": t,
                    "class_name": trial.classes[t],
                    "cue": cue,
                    "method": method,
                    "layer": layer,
                    "image": images,
                    "per_image": len(rows) > 1,
                    "value": np.repeat(rows["value"].to_numpy(np.float64), repeat),
                    "effect": truth.effect[images],
                    "share": shares,
                    "gap": truth.gap[images],
                    # the reason of a missing share too
                    "note": [
                        "; ".join(filter(None, [note, NO_GAP * math.isnan(share)]))
                        for note, share in zip(notes, shares, strict=True)
                    ],
                }
            )
        )
    return parts


def class_means(images: pd.DataFrame, effects: Mapping[str, Effects], trial: Trial) -> pd.DataFrame:
    """Return one row per class, cue, method and layer: mean values and the class's effects."""
    rows = []
    keys = ["class_index", "class_name", "cue", "method", "layer"]
    for key, group in images.groupby(keys, sort=False):
        chosen, truth = trial.labels == key[0], effects[str(key[2])]
        values = group["value"].dropna()
        lost = len(group) - len(values)
        share = truth.share(chosen)
        notes = [f"{lost} of {len(group)} images have no value"] * (lost > 0)
        notes += [*counted_notes(group["note"]), *[NO_GAP] * math.isnan(share)]
        rows.append(
            dict(zip(keys, key, strict=True))
            | {
                "n": len(values),
                "value": float(values.mean()) if len(values) else math.nan,
                "share": share,
                "centred_share": truth.share(chosen, centred=True),
                "effect": float(truth.effect[chosen].mean()),
                "centred_effect": float(truth.centred[chosen].mean()),
                "gap": float(truth.gap[chosen].mean()),
                "note": "; ".join(dict.fromkeys(notes)),
            }
        )
    return pd.DataFrame(rows)
