"""One unit of the experiment: a network trained at one agreement q, its truth and its explanations.

```
scenes -> network -> effects of taking tag and texture out        (the truth)
                  -> Visual-TCAV and its peers on the same images  (what is held against it)
                  -> concept maps against the true masks
```
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from vtcav.concept_map import concept_map, raw_map
from vtcav.errors import ExplanationError
from vtcav.evaluation.concept_sets import concept_name, draw_concept_sets
from vtcav.evaluation.effects import CUES, Effects, causal_effects
from vtcav.evaluation.metrics import at_resolution, localise
from vtcav.evaluation.network import LAYERS, Training, draw_cue, logits, to_input, train
from vtcav.evaluation.scenes import CLASSES, Scenes, draw_scenes, scene_seed, with_tags
from vtcav.layer_analysis import NOT_SEPARATED

if TYPE_CHECKING:
    from vtcav.explainer import VisualTCAV

__all__ = ["UnitResult", "UnitSettings", "draw_test_scenes", "run_unit", "unit_steps"]


NO_GAP = "taking both cues out does not lower the logit, so there is no gap to share"


@dataclass(frozen=True)
class UnitSettings:
    """What a unit's numbers depend on, beside its seed and agreement.

    Attributes:
        training: How the network is trained.
        texture_agreement: Share of training scenes whose texture is the class's. Below 1, or the
            network would hardly need tags.
        examples: Examples of each concept, and as many negatives.
        test_images: Test images of each class.
        methods: The methods compared, Visual-TCAV first.
        tcav_runs: CAVs of each concept for TCAV.
    """

    training: Training = field(default_factory=Training)
    texture_agreement: float = 0.7
    examples: int = 80
    test_images: int = 40
    methods: tuple[str, ...] = ("visual_tcav",)
    tcav_runs: int = 10


@dataclass(frozen=True, eq=False)
class UnitResult:
    """What a unit found.

    Attributes:
        classes: One row per class, cue, method and layer: value, share, effect, gap, ...
        images: The same per image.
        maps: One row per image, cue and layer: the metrics of the concept map, and a note.
        facts: Accuracies with and without the cues, and other single numbers.
        weights: Of the trained network.
    """

    classes: pd.DataFrame
    images: pd.DataFrame
    maps: pd.DataFrame
    facts: dict[str, Any]
    weights: dict[str, torch.Tensor]


def unit_steps(settings: UnitSettings) -> int:
    """Return how often `run_unit` says that it advanced."""
    return settings.training.epochs + 3


def draw_test_scenes(per_class: int, seed: int) -> Scenes:
    """Return test scenes of all classes in turn, each with its class's tag."""
    labels = np.arange(per_class * len(CLASSES)) % len(CLASSES)
    own = scene_seed(seed, "test")
    return with_tags(draw_scenes(labels, own), labels, own)


def run_unit(
    seed: int,
    agreement: float,
    settings: UnitSettings,
    *,
    device: torch.device | str = "cpu",
    advance: Callable[[], None] = lambda: None,
) -> UnitResult:
    """Train a network, measure the truth, and hold the methods against it.

    Args:
        seed: Seeds everything.
        agreement: q, the share of training scenes whose tag is the class's, in [0, 1].
        settings: The rest.
        device: Where to compute.
        advance: Called after every epoch and every later step.
    """
    net = _trained(seed, agreement, settings, device, advance)
    test = draw_test_scenes(settings.test_images, seed)
    effects, facts = _truth(net, test)
    advance()
    explainer = _explainer(net, settings, seed)
    images = _values(explainer, test, effects, settings, seed)
    advance()
    maps = _map_table(explainer, test)
    advance()
    keys = {"seed": seed, "q": agreement}
    weights = {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}
    return UnitResult(
        classes=_keyed(_class_means(images, effects, test), keys),
        images=_keyed(images, keys),
        maps=_keyed(maps, keys),
        facts=facts,
        weights=weights,
    )


def _keyed(table: pd.DataFrame, keys: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame({**{k: [v] * len(table) for k, v in keys.items()}, **table})


def _trained(
    seed: int,
    agreement: float,
    settings: UnitSettings,
    device: torch.device | str,
    advance: Callable[[], None],
) -> nn.Module:
    labels = np.arange(settings.training.scenes) % len(CLASSES)
    own = scene_seed(seed, "train")
    rng = np.random.default_rng([own, 3])
    letters = draw_cue(labels, agreement, len(CLASSES), rng)
    textures = draw_cue(labels, settings.texture_agreement, len(CLASSES), rng)
    scenes = with_tags(draw_scenes(labels, own, textures=textures), letters, own)
    return train(scenes, len(CLASSES), seed, settings.training, device=device, advance=advance)


def _truth(net: nn.Module, test: Scenes) -> tuple[dict[str, Effects], dict[str, Any]]:
    """Return the effects by cue, and how well the network classifies each version."""
    versions = {
        "whole": test.images(),
        "tag": test.images(tag=False),
        "texture": test.images(texture=False),
        "neither": test.images(tag=False, texture=False),
    }
    z = {name: logits(net, pictures) for name, pictures in versions.items()}
    effects = causal_effects(z["whole"], {cue: z[cue] for cue in CUES}, z["neither"], test.labels)
    names = {"whole": "whole", "tag": "without_tag", "texture": "without_texture"}
    names["neither"] = "without_both"
    right = {names[key]: float((z[key].argmax(1) == test.labels).mean()) for key in z}
    return effects, {"accuracy": right, "mean_gap": float(effects["tag"].gap.mean())}


def _explainer(net: nn.Module, settings: UnitSettings, seed: int) -> VisualTCAV:
    from vtcav import Classifier, Preprocess, VisualTCAV

    model = Classifier(net, CLASSES, Preprocess(None, mean=0.5, std=0.5))
    explainer = VisualTCAV(model, list(LAYERS), batch_size=32, progress=False)
    sets = draw_concept_sets(settings.examples, seed)
    return explainer.fit(sets.examples, sets.negatives)


def _values(
    explainer: VisualTCAV,
    test: Scenes,
    effects: dict[str, Effects],
    settings: UnitSettings,
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
        methods=settings.methods,
        masks=masks,
        runs=settings.tcav_runs,
        seed=seed,
        batch_size=32,
        progress=False,
    ).table
    parts = [
        _of_cue(table, cue, t, of_class[t], effects[cue])
        for cue in CUES
        for t in range(len(CLASSES))
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


def _class_means(images: pd.DataFrame, effects: dict[str, Effects], test: Scenes) -> pd.DataFrame:
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


def _map_table(explainer: VisualTCAV, test: Scenes) -> pd.DataFrame:
    """Return how well the map of each image's own tag and texture agrees with the true mask."""
    x = to_input(test.images())
    truth = {"tag": test.tag_mask, "texture": test.texture_mask}
    rows = []
    for layer, F in explainer.model.activations(x, explainer.layers).items():
        cavs = explainer.cavs.layers[layer]
        v, e_pos, e_neg = (t.to(F.device) for t in (cavs.v, cavs.e_pos, cavs.e_neg))
        M = concept_map(raw_map(F, v), e_pos, e_neg).cpu().numpy()
        for i, t in enumerate(test.labels.tolist()):
            for cue in CUES:
                k = explainer.cavs.names.index(concept_name(cue, t))
                found = localise(M[i, k], at_resolution(truth[cue][i], M.shape[2:]))
                note = found.note if cavs.separated[k] else NOT_SEPARATED
                key = {"class_index": t, "class_name": CLASSES[t], "cue": cue, "layer": layer}
                rows.append(key | {"image": i} | found.to_dict() | {"note": note})
    return pd.DataFrame(rows)
