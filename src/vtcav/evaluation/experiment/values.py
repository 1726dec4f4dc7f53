"""The values of every method on the test images of a unit, beside the causal effects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vtcav.errors import ExplanationError
from vtcav.evaluation.experiment.effects import Effects

if TYPE_CHECKING:
    from vtcav.evaluation.experiment.trial import Trial
    from vtcav.explainer.visual_tcav import VisualTCAV

__all__ = ["NO_GAP", "class_means", "image_values"]

NO_GAP = "taking all cues out does not lower the logit, so there is no gap to share"


def image_values(
    explainers: Mapping[str, VisualTCAV],
    trial: Trial,
    effects: Mapping[str, Effects],
    methods: Sequence[str],
    tcav_runs: int,
    seed: int,
    **options: Any,
) -> pd.DataFrame:
    """Return one row per image, cue, method and layer; class-level values stand at every image.

    Args:
        explainers: "visual_tcav", and `FILTER` where the variant is wanted.
        trial: The test images.
        effects: By cue.
        methods: The methods, among them those of the explainers.
        tcav_runs: CAVs of each concept for TCAV.
        seed: Seeds their draws.
        options: Others of `compare`.
    """
    from vtcav.evaluation.compare.compute import compare

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
        runs=tcav_runs,
        **shared,
        **options,
    ).table
    for name, explainer in explainers.items():
        if name != "visual_tcav":
            variant = compare(explainer, pictures, methods=["visual_tcav"], **shared).table
            ours = table["method"] == "visual_tcav"
            table = pd.concat([table[ours], variant, table[~ours]], ignore_index=True)
    parts = [
        _of_cue(table, trial, cue, t, effects[cue])
        for cue in trial.cues
        for t in range(len(trial.classes))
    ]
    return pd.concat(parts, ignore_index=True)


def _of_cue(table: pd.DataFrame, trial: Trial, cue: str, t: int, truth: Effects) -> pd.DataFrame:
    """Return the rows of a class's own cue, beside the effects on its images."""
    images = trial.of_class(t)
    own = table[(table["concept"] == trial.concepts[cue][t]) & (table["class_index"] == t)]
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
                    "class_name": trial.classes[t],
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


def class_means(images: pd.DataFrame, effects: Mapping[str, Effects], trial: Trial) -> pd.DataFrame:
    """Return one row per class, cue, method and layer: mean values and the class's effects."""
    rows = []
    keys = ["class_index", "class_name", "cue", "method", "layer"]
    for key, group in images.groupby(keys, sort=False):
        chosen, truth = trial.labels == key[0], effects[str(key[2])]
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
