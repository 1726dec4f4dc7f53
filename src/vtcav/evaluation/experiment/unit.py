"""Unit of the experiment: a network trained at one agreement q, its truth and its explanations.

```
scenes -> network -> effects of removing tag and texture         (the truth)
                  -> Visual-TCAV and its peers on the same images (compared with the truth)
                  -> concept maps against the true masks
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from vtcav.evaluation.compare.methods import FILTER
from vtcav.evaluation.compare.settings import CompareSettings
from vtcav.evaluation.experiment.concept_sets import ConceptSets, concept_name, draw_concept_sets
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
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.images.preprocess import Preprocess
from vtcav.models.base import Model
from vtcav.models.classifier import Classifier

__all__ = [
    "DrawnExperiment",
    "MethodSettings",
    "TrainedNetwork",
    "UnitResult",
    "UnitSettings",
    "draw_test_scenes",
    "fitted",
    "trial_of",
    "unit_result",
]

VARIANT_STEPS = 24
"""Quadrature points of the variant's integral."""


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """The methods of an experiment.

    Attributes:
        methods: The methods compared, Visual-TCAV first; `FILTER` is its variant whose map is
            drawn by a linear discriminant (`vtcav.method.discriminant_map`).
        tcav_runs: CAVs of each concept for TCAV.
    """

    methods: tuple[str, ...] = ("visual_tcav",)
    tcav_runs: int = 10

    def identity(self) -> dict[str, Any]:
        """Return everything that a unit's numbers depend on, as JSON data."""
        return {"vtcav": version("vtcav"), "settings": asdict(self)}


@dataclass(frozen=True)
class UnitSettings(MethodSettings):
    """Everything that a unit's numbers depend on, beside its seed and agreement.

    Attributes:
        training: How the network is trained.
        texture_agreement: Share of training scenes with their class's texture. Below 1, or the
            network would hardly need tags.
        examples: Examples of each concept, and as many negatives.
        test_images: Test images of each class.
    """

    training: Training = field(default_factory=Training)
    texture_agreement: float = 0.9
    examples: int = 80
    test_images: int = 40


@dataclass(frozen=True, eq=False)
class UnitResult:
    """Tables of a unit.

    Attributes:
        classes: One row per class, cue, method and layer: value, share, effect, gap, ...
        images: The same per image.
        maps: One row per image, cue and layer: the metrics of the concept map, and a note.
        facts: Accuracies with and without the cues, and other single numbers.
        weights: The weights of the trained network.
    """

    classes: pd.DataFrame
    images: pd.DataFrame
    maps: pd.DataFrame
    facts: dict[str, Any]
    weights: dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network with the measured truth.

    Attributes:
        model: The network.
        layers: The layers to explain.
        trial: The test images.
        effects: The truth, by cue.
        facts: Accuracies and other single numbers.
        sets: Examples and negatives of the concepts.
    """

    model: Classifier
    layers: Sequence[str]
    trial: Trial
    effects: Mapping[str, Effects]
    facts: dict[str, Any]
    sets: ConceptSets


def unit_result(
    network: TrainedNetwork,
    settings: MethodSettings,
    seed: int,
    agreement: float,
    advance: Callable[[], None],
    *,
    steps: int = CompareSettings.steps,
) -> UnitResult:
    """Compare the methods with the truth.

    Args:
        network: A network and its truth.
        settings: The methods.
        seed: The unit's seed.
        agreement: The unit's agreement q.
        advance: Called three times.
        steps: Quadrature points of integrated gradients.
    """
    advance()
    explainers = fitted(network.model, network.layers, network.sets, settings.methods)
    trial, effects = network.trial, network.effects
    images = image_values(
        explainers,
        trial,
        effects,
        settings.methods,
        runs=settings.tcav_runs,
        seed=seed,
        steps=steps,
    )
    advance()
    maps = map_table(explainers, trial)
    advance()
    tables = {"classes": class_means(images, effects, trial), "images": images, "maps": maps}
    for table in tables.values():
        table.insert(0, "q", agreement)
        table.insert(0, "seed", seed)
    state = network.model.module.state_dict()
    weights = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    return UnitResult(**tables, facts=network.facts, weights=weights)


def fitted(
    model: Model, layers: Sequence[str], sets: ConceptSets, methods: Sequence[str] = ()
) -> dict[str, VisualTCAV]:
    """Return explainers of Visual-TCAV and, where it is among the methods, its variant."""
    shared: dict[str, Any] = {"batch_size": 32, "progress": False}
    found = {"visual_tcav": VisualTCAV(model, list(layers), **shared)}
    if FILTER in methods:
        found[FILTER] = VisualTCAV(model, list(layers), VARIANT_STEPS, variant="filter", **shared)
    for explainer in found.values():
        explainer.fit(sets.examples, sets.negatives, null_cavs=0, bootstraps=0)
    return found


@dataclass(frozen=True)
class DrawnExperiment:
    """The experiment on drawn scenes.

    Attributes:
        settings: Everything that the numbers depend on.
    """

    settings: UnitSettings

    @property
    def steps(self) -> int:
        """How often a unit advances."""
        return self.settings.training.epochs + 3

    def identity(self) -> dict[str, Any]:
        """Return everything that every unit's numbers depend on, as JSON data."""
        return self.settings.identity()

    def run(
        self,
        seed: int,
        agreement: float,
        device: torch.device | str = "cpu",
        advance: Callable[[], None] = lambda: None,
    ) -> UnitResult:
        """Train a network, measure the truth, and compare the methods with it.

        Args:
            seed: Seeds everything.
            agreement: q, the share of training scenes with their class's tag, in [0, 1].
            device: Where to compute.
            advance: Called after every epoch and every later step.
        """
        net = _trained(seed, agreement, self.settings, device, advance)
        test = draw_test_scenes(self.settings.test_images, seed)
        effects, facts = _truth(net, test)
        sets = draw_concept_sets(self.settings.examples, seed)
        network = TrainedNetwork(_model(net), LAYERS, trial_of(test), effects, facts, sets)
        return unit_result(network, self.settings, seed, agreement, advance)

    def sample_maps(
        self, weights: Mapping[str, torch.Tensor], seed: int
    ) -> tuple[Trial, dict[str, dict[str, NDArray[np.float32]]]]:
        """Return a test image of each class, and its own cues' maps by layer and cue [N, h, w].

        Args:
            weights: The weights of a unit's network.
            seed: The unit's seed.
        """
        net = build(len(CLASSES), seed)
        net.load_state_dict(dict(weights))
        sets = draw_concept_sets(self.settings.examples, seed)
        explainers = fitted(_model(net.eval()), LAYERS, sets)
        trial = trial_of(draw_test_scenes(1, seed))
        return trial, own_maps(explainers["visual_tcav"], trial)


def draw_test_scenes(per_class: int, seed: int) -> Scenes:
    """Return test scenes of all classes in turn, each with its class's tag."""
    labels = np.arange(per_class * len(CLASSES)) % len(CLASSES)
    own = scene_seed(seed, "test")
    return with_tags(draw_scenes(labels, own), labels, own)


def trial_of(test: Scenes) -> Trial:
    """Return scenes as test images."""
    concepts = {cue: tuple(concept_name(cue, t) for t in range(len(CLASSES))) for cue in CUES}
    masks = {"tag": test.tag_mask, "texture": test.texture_mask}
    pictures = test.images()
    return Trial(CLASSES, test.labels, pictures, to_input(pictures), masks, concepts)


def _model(net: nn.Module) -> Classifier:
    return Classifier(net, CLASSES, Preprocess(SIDE, mean=0.5, std=0.5))


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
        "without_tag": test.images(tag=False),
        "without_texture": test.images(texture=False),
        "without_both": test.images(tag=False, texture=False),
    }
    z = {name: logits(net, pictures) for name, pictures in versions.items()}
    without = {cue: z[f"without_{cue}"] for cue in CUES}
    effects = causal_effects(z["whole"], without, z["without_both"], test.labels)
    right = {name: float((z[name].argmax(1) == test.labels).mean()) for name in z}
    return effects, {"accuracy": right, "mean_gap": float(effects["tag"].gap.mean())}
