"""One unit of the experiment: a network trained at one agreement q, its truth and its explanations.

```
scenes -> network -> effects of taking tag and texture out        (the truth)
                  -> Visual-TCAV and its peers on the same images  (what is held against it)
                  -> concept maps against the true masks
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from vtcav.evaluation.compare.methods import FILTER
from vtcav.evaluation.experiment.concept_sets import concept_name, draw_concept_sets
from vtcav.evaluation.experiment.effects import CUES, Effects, causal_effects
from vtcav.evaluation.experiment.network import (
    LAYERS,
    Training,
    build,
    draw_cue,
    logits,
    to_input,
    train,
)
from vtcav.evaluation.experiment.scenes import (
    CLASSES,
    SIDE,
    Scenes,
    draw_scenes,
    scene_seed,
    with_tags,
)
from vtcav.evaluation.experiment.trial import Trial, map_table, own_maps
from vtcav.evaluation.experiment.values import class_means, image_values

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.models.base import Model

__all__ = [
    "Comparing",
    "UnitResult",
    "UnitSettings",
    "draw_test_scenes",
    "fitted",
    "held_against",
    "run_unit",
    "sample_maps",
    "unit_steps",
]


VARIANT_STEPS = 24
"""Of the variant's integral."""


class Comparing(Protocol):
    """What the methods that are compared depend on."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Their names."""
        ...

    @property
    def tcav_runs(self) -> int:
        """CAVs of each concept for TCAV."""
        ...


@dataclass(frozen=True)
class UnitSettings:
    """What a unit's numbers depend on, beside its seed and agreement.

    Attributes:
        training: How the network is trained.
        texture_agreement: Share of training scenes whose texture is the class's. Below 1, or the
            network would hardly need tags.
        examples: Examples of each concept, and as many negatives.
        test_images: Test images of each class.
        methods: The methods compared, Visual-TCAV first; `FILTER` is its variant whose map is
            drawn by a filter (`vtcav.method.discriminant_map`).
        tcav_runs: CAVs of each concept for TCAV.
    """

    training: Training = field(default_factory=Training)
    texture_agreement: float = 0.9
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
    explainers = _explainers(net, settings, seed)
    return held_against(
        explainers, trial_of(test), to_input(test.images()), effects, facts, net.state_dict(),
        settings, {"seed": seed, "q": agreement}, advance,
    )  # fmt: skip


def held_against(
    explainers: Mapping[str, VisualTCAV],
    trial: Trial,
    x: torch.Tensor,
    effects: Mapping[str, Effects],
    facts: dict[str, Any],
    weights: Mapping[str, torch.Tensor],
    settings: Comparing,
    keys: dict[str, Any],
    advance: Callable[[], None],
    **options: Any,
) -> UnitResult:
    """Hold the methods against the truth.

    Args:
        explainers: By method, with the concepts learned.
        trial: The test images.
        x: The same as the network's input.
        effects: The truth, by cue.
        facts: Kept.
        weights: Kept.
        settings: The methods.
        keys: Seed and agreement.
        advance: Called twice.
        options: Of `compare`.
    """
    images = image_values(
        explainers, trial, effects, settings.methods, settings.tcav_runs, keys["seed"], **options
    )
    advance()
    maps = map_table(explainers, trial, x)
    advance()
    return UnitResult(
        classes=_keyed(class_means(images, effects, trial), keys),
        images=_keyed(images, keys),
        maps=_keyed(maps, keys),
        facts=facts,
        weights={name: tensor.cpu().contiguous() for name, tensor in weights.items()},
    )


def trial_of(test: Scenes) -> Trial:
    """Return scenes as test images."""
    concepts = {cue: tuple(concept_name(cue, t) for t in range(len(CLASSES))) for cue in CUES}
    masks = {"tag": test.tag_mask, "texture": test.texture_mask}
    return Trial(CLASSES, test.labels, test.images(), masks, concepts)


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


def _explainers(net: nn.Module, settings: UnitSettings, seed: int) -> dict[str, VisualTCAV]:
    """Return the explainers of the methods, with the concepts learned."""
    from vtcav.images.preprocess import Preprocess
    from vtcav.models.classifier import Classifier

    model = Classifier(net, CLASSES, Preprocess(SIDE, mean=0.5, std=0.5))
    sets = draw_concept_sets(settings.examples, seed)
    return fitted(model, LAYERS, sets.examples, sets.negatives, settings)


def fitted(
    model: Model,
    layers: Sequence[str],
    examples: Mapping[str, NDArray[np.uint8]],
    negatives: Mapping[str, NDArray[np.uint8]],
    settings: Comparing,
) -> dict[str, VisualTCAV]:
    """Return explainers of Visual-TCAV and, where it is wanted, its variant, by method."""
    from vtcav.explainer.visual_tcav import VisualTCAV

    shared: dict[str, Any] = {"batch_size": 32, "progress": False}
    found = {"visual_tcav": VisualTCAV(model, list(layers), **shared)}
    if FILTER in settings.methods:
        found[FILTER] = VisualTCAV(model, list(layers), VARIANT_STEPS, variant="filter", **shared)
    for explainer in found.values():
        explainer.fit(examples, negatives, null_cavs=0, bootstraps=0)
    return found


def sample_maps(
    weights: dict[str, torch.Tensor], settings: UnitSettings, seed: int
) -> tuple[Scenes, dict[str, dict[str, NDArray[np.float32]]]]:
    """Return a test image of each class, and its own cues' maps by layer and cue [N, h, w].

    Args:
        weights: Of a unit's network.
        settings: Of the unit.
        seed: Of the unit.
    """
    net = build(len(CLASSES), seed)
    net.load_state_dict(weights)
    explainers = _explainers(net.eval(), replace(settings, methods=()), seed)
    scenes = draw_test_scenes(1, seed)
    x = to_input(scenes.images())
    return scenes, own_maps(explainers["visual_tcav"], trial_of(scenes), x)
