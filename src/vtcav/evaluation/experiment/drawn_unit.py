"""Unit of the experiment on drawn scenes: a tag and a texture can each be removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vtcav.evaluation.experiment.concept_sets import ConceptSets, concept_name, draw_concept_sets
from vtcav.evaluation.experiment.effects import CUES
from vtcav.evaluation.experiment.network import LAYERS, build, draw_cue, to_input, train
from vtcav.evaluation.experiment.scenes import (
    CLASSES,
    PREPROCESS,
    draw_scenes,
    scene_seed,
    with_tags,
)
from vtcav.evaluation.experiment.trial import Trial
from vtcav.evaluation.experiment.unit import Experiment, ExperimentSettings
from vtcav.models.classifier import Classifier


@dataclass(frozen=True)
class UnitSettings(ExperimentSettings):
    """Settings for drawn scenes.

    Attributes:
        texture_agreement: Share of training scenes with their class's texture. Below 1, or the
            network would hardly need tags.
    """

    texture_agreement: float = 0.9


class DrawnExperiment(Experiment):
    """The experiment on drawn scenes.

    Args:
        settings: Everything that the numbers depend on.
    """

    settings: UnitSettings
    BATCH = 64

    def __init__(self, settings: UnitSettings) -> None:
        super().__init__(settings, LAYERS)

    def trained(
        self, seed: int, agreement: float, device: torch.device | str, advance: Callable[[], None]
    ) -> Classifier:
        """Train a network on scenes; tags and textures agree in their shares with the classes."""
        training, classes = self.settings.training, len(CLASSES)
        labels = np.arange(training.scenes) % classes
        own = scene_seed(seed, "train")
        rng = np.random.default_rng([own, 3])
        letters = draw_cue(labels, agreement, classes, rng)
        textures = draw_cue(labels, self.settings.texture_agreement, classes, rng)
        scenes = with_tags(draw_scenes(labels, own, textures=textures), letters, own)
        net = train(scenes, classes, seed, training, device=device, advance=advance)
        return Classifier(net, CLASSES, PREPROCESS)

    def restored(self, seed: int, weights: Mapping[str, torch.Tensor]) -> Classifier:
        """Return a unit's network with its trained weights."""
        net = build(len(CLASSES), seed)
        net.load_state_dict(dict(weights))
        return Classifier(net.eval(), CLASSES, PREPROCESS)

    def trial(self, seed: int, each: int | None = None) -> Trial:
        """Return test scenes of all classes in turn, each with its class's tag."""
        labels = np.arange((each or self.settings.test_images) * len(CLASSES)) % len(CLASSES)
        own = scene_seed(seed, "test")
        test = with_tags(draw_scenes(labels, own), labels, own)
        others = (labels + 1) % len(CLASSES)
        versions = {
            "whole": test.images(),
            "without_tag": test.images(tag=False),
            "without_texture": test.images(texture=False),
            "without_both": test.images(tag=False, texture=False),
            "against": with_tags(test, others, own).images(),
        }
        masks = {"tag": test.tag_mask, "texture": test.texture_mask}
        concepts = {cue: tuple(concept_name(cue, t) for t in range(len(CLASSES))) for cue in CUES}
        x = self.input(versions["whole"])
        return Trial(CLASSES, labels, versions, x, masks, concepts, others)

    def concepts(self, seed: int, *, generic: bool = False) -> ConceptSets:
        """Draw the examples and negatives of all concepts."""
        return draw_concept_sets(self.settings.examples, seed, generic=generic)

    def design(self, agreement: float) -> dict[str, float]:
        """Return how often each cue goes with the class in training, relative to both."""
        texture = self.settings.texture_agreement
        total = agreement + texture
        return {"tag": agreement / total, "texture": texture / total} if total else {}

    def input(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Return pictures as the network's input [N, 3, 64, 64]."""
        return to_input(pictures)

    def nothing(
        self, z: Mapping[str, NDArray[np.float64]], labels: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the logits [N, T] of the same scenes without both cues."""
        return z["without_both"]
