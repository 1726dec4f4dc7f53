"""Values of every method on the test images of a unit, beside the causal effects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from vtcav.errors import ExplanationError
from vtcav.evaluation.compare.result import weighted_mean
from vtcav.evaluation.experiment.effects import Effects
from vtcav.evaluation.experiment.trial import Trial
from vtcav.evaluation.result import by_group
from vtcav.results.words import counted_notes

NO_GAP = "removing all cues does not lower the logit, so there is no gap to take a share of"


def image_values(table: pd.DataFrame, trial: Trial, effects: Mapping[str, Effects]) -> pd.DataFrame:
    """Return one row per image, cue, method and layer; values of a class stand at every image.

    Args:
        table: The values; see `vtcav.evaluation.experiment.methods`.
        trial: The test images.
        effects: By cue.
    """
    parts = [
        part
        for cue in trial.cues
        for t in range(len(trial.classes))
        for part in _of_cue(table, trial, cue, t, effects[cue])
    ]
    return pd.concat(parts, ignore_index=True)


def _of_cue(
    table: pd.DataFrame, trial: Trial, cue: str, t: int, truth: Effects
) -> Iterator[pd.DataFrame]:
    """Yield the rows of a class's own cue, by method and layer, beside the effects."""
    images = trial.of_class(t)
    shares = truth.shares[images]
    own = table[(table["concept"] == trial.concepts[cue][t]) & (table["class_index"] == t)]
    for (method, layer), rows in own.groupby(["method", "layer"], sort=False):
        if len(rows) not in (1, len(images)):
            raise ExplanationError(
                f"expected a value of {method!r} for the class or for each of its {len(images)} "
                f"images, got {len(rows)}"
            )
        repeated = rows.iloc[np.arange(len(images)) % len(rows)]
        # the reason of a missing share too
        reasons = [NO_GAP * math.isnan(share) for share in shares]
        notes = [*map(_joined, repeated["note"], reasons)]
        yield pd.DataFrame(
            {
                "class_index": t,
                "class_name": trial.classes[t],
                "cue": cue,
                "method": method,
                "layer": layer,
                "image": images,
                "per_image": len(rows) > 1,
                "value": repeated["value"].to_numpy(np.float64),
                "weight": repeated["weight"].to_numpy(np.float64),
                "effect": truth.effect[images],
                "share": shares,
                "gap": truth.gap[images],
                "note": notes,
            }
        )


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def class_means(images: pd.DataFrame, effects: Mapping[str, Effects], trial: Trial) -> pd.DataFrame:
    """Return one row per class, cue, method and layer: mean values and the class's effects."""

    def means(group: pd.DataFrame) -> dict[str, Any]:
        cue, t = group[["cue", "class_index"]].iloc[0]
        truth, chosen = effects[cue], trial.labels == t
        values, share = group["value"].dropna(), truth.share(chosen)
        lost = len(group) - len(values)
        notes = [f"{lost} of {len(group)} images have no value"] * (lost > 0)
        notes += [*counted_notes(group["note"]), *[NO_GAP] * math.isnan(share)]
        return {
            "n": len(values),
            "value": weighted_mean(group),
            "share": share,
            "centred_share": truth.share(chosen, centred=True),
            "effect": float(truth.effect[chosen].mean()),
            "centred_effect": float(truth.centred[chosen].mean()),
            "gap": float(truth.gap[chosen].mean()),
            "note": _joined(*dict.fromkeys(notes)),
        }

    return by_group(images, ["class_index", "class_name", "cue", "method", "layer"], means)
