"""Unit of the experiment: a network trained at one agreement q, its truth and its explanations.

```
training images -> network -> effects of removing cues               (the truth)
                           -> methods on the same images, their maps (compared with the truth)
```

`DrawnExperiment` and `PhotoExperiment` supply images and networks; everything after that is done
here, for both alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from vtcav.evaluation.compare.methods import OURS
from vtcav.evaluation.experiment.concept_sets import ConceptSets
from vtcav.evaluation.experiment.effects import Effects, causal_effects
from vtcav.evaluation.experiment.methods import (
    ALL_METHODS,
    Explained,
    absent_values,
    fitted,
    method_values,
    opposition_values,
)
from vtcav.evaluation.experiment.network import Training
from vtcav.evaluation.experiment.trial import Trial, map_table, own_maps
from vtcav.evaluation.experiment.values import class_means, image_values
from vtcav.models.classifier import Classifier

DESIGN = 2
"""The version of the design: of what is drawn and trained for a seed. In the first the tags of
epoch 1 had the noise of the test tags, and every photograph was of its sample's class."""


@dataclass(frozen=True)
class ExperimentSettings:
    """Everything that a unit's numbers depend on, beside its images, seed and agreement.

    Attributes:
        training: How the network is trained.
        examples: Examples of each concept, and as many negatives.
        test_images: Test images of each class.
        methods: The methods compared, Visual-TCAV first.
        tcav_runs: CAVs of each concept for TCAV.
    """

    training: Training = field(default_factory=Training)
    examples: int = 80
    test_images: int = 40
    methods: tuple[str, ...] = field(default=ALL_METHODS, kw_only=True)
    tcav_runs: int = field(default=10, kw_only=True)

    @property
    def options(self) -> dict[str, Any]:
        """The options of `compare` for methods other than Visual-TCAV."""
        return {"runs": self.tcav_runs}


@dataclass(frozen=True, eq=False)
class UnitResult:
    """Tables of a unit.

    Attributes:
        classes: One row per class, cue, method and layer: value, share, effect, gap, ...
        images: The same per image.
        absent: Values of concept methods for every second image, shown without the cue.
        against: One row per image that shows another class's tag: the drop without that tag, and
            its effect.
        maps: One row per image, cue and layer: the metrics of the concept map, and a note.
        facts: Accuracies with and without the cues, and other single numbers.
        weights: The weights of the trained network.
    """

    classes: pd.DataFrame
    images: pd.DataFrame
    absent: pd.DataFrame
    against: pd.DataFrame
    maps: pd.DataFrame
    facts: dict[str, Any]
    weights: dict[str, torch.Tensor]


class Experiment(ABC):
    """Images with known cues, and networks trained on them.

    Args:
        settings: Everything that the numbers depend on, beside the images.
        layers: The layers of the networks that are explained.
    """

    BATCH: ClassVar[int] = 32
    """Test images per pass."""

    def __init__(self, settings: ExperimentSettings, layers: tuple[str, ...]) -> None:
        self.settings, self.layers = settings, layers

    @property
    def steps(self) -> int:
        """The number of times a unit calls `advance`."""
        return self.settings.training.epochs + 4

    def identity(self) -> dict[str, Any]:
        """Return everything that every unit's numbers depend on, as JSON data."""
        about = {"vtcav": version("vtcav"), "design": DESIGN}
        return about | {"settings": asdict(self.settings)}

    @abstractmethod
    def trained(
        self, seed: int, agreement: float, device: torch.device | str, advance: Callable[[], None]
    ) -> Classifier:
        """Train a network; `advance` is called after every epoch."""

    @abstractmethod
    def restored(self, seed: int, weights: Mapping[str, torch.Tensor]) -> Classifier:
        """Return a unit's network with its trained weights."""

    @abstractmethod
    def trial(self, seed: int, each: int | None = None) -> Trial:
        """Return the test images, or `each` of every class."""

    @abstractmethod
    def concepts(self, seed: int, *, generic: bool = False) -> ConceptSets:
        """Return the examples and negatives of all concepts, matched or generic."""

    @abstractmethod
    def design(self, agreement: float) -> dict[str, float]:
        """Return what the design alone says of each cue, without any network."""

    @abstractmethod
    def input(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Return pictures as the network's input [N, 3, H, W]."""

    @abstractmethod
    def nothing(
        self, z: Mapping[str, NDArray[np.float64]], labels: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the logits [N, T] that stand for "nothing of the image's class".

        Args:
            z: Logits of each version of the test images.
            labels: Their classes [N].
        """

    def facts(self, seed: int) -> dict[str, Any]:
        """Return further facts about a unit, as JSON data."""
        return {}

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
            agreement: q, the share of training images with their class's tag, in [0, 1].
            device: Where to compute.
            advance: Called after every epoch and every later step.
        """
        settings = self.settings
        model, trial = self.trained(seed, agreement, device, advance), self.trial(seed)
        z = {name: self._logits(model, pictures) for name, pictures in trial.versions.items()}
        effects, facts = self._truth(z, trial)
        advance()
        explainers = fitted(
            model,
            self.layers,
            self.concepts(seed),
            settings.methods,
            self.concepts(seed, generic=True),
        )
        network = Explained(explainers, trial, seed, settings.options, self.design(agreement))
        images = image_values(method_values(network, settings.methods), trial, effects)
        advance()
        absent = absent_values(network, settings.methods)
        against = self._against(network, z)
        advance()
        maps = map_table({name: explainers[name] for name in OURS if name in explainers}, trial)
        advance()
        classes = class_means(images, effects, trial)
        tables = {"classes": classes, "images": images, "absent": absent, "against": against}
        tables["maps"] = maps
        for table in tables.values():
            table.insert(0, "q", agreement)
            table.insert(0, "seed", seed)
        state = model.module.state_dict()
        weights = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
        return UnitResult(**tables, facts=facts | self.facts(seed), weights=weights)

    def shown(self, seed: int, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Return the images of the report: versions of some, and a network's maps of a few.

        Args:
            seed: A unit's seed.
            weights: The weights of its network.
        """
        explainers = fitted(self.restored(seed, weights), self.layers, self.concepts(seed))
        trial = self.trial(seed, 1)
        maps = own_maps(explainers["visual_tcav"], trial)
        return {"versions": self.trial(seed, 2).versions, "trial": trial, "maps": maps}

    def _truth(
        self, z: Mapping[str, NDArray[np.float64]], trial: Trial
    ) -> tuple[dict[str, Effects], dict[str, Any]]:
        """Return the effects by cue, and how well the network classifies each version.

        Args:
            z: Logits of each version [N, T].
            trial: The test images.
        """
        labels = trial.labels
        without = {cue: z[f"without_{cue}"] for cue in trial.cues}
        effects = causal_effects(z["whole"], without, self.nothing(z, labels), labels)
        right = {name: float((z[name].argmax(1) == labels).mean()) for name in z}
        return effects, {"accuracy": right, "mean_gap": float(effects["tag"].gap.mean())}

    def _against(self, network: Explained, z: Mapping[str, NDArray[np.float64]]) -> pd.DataFrame:
        """Return the drops without another class's tag, beside its effects."""
        trial = network.trial
        x = self.input(trial.versions["against"])
        table = opposition_values(network, x, self.settings.methods)
        effects = (z["against"] - z["without_tag"])[np.arange(len(x)), trial.labels]
        return table.assign(effect=effects[table["image"].to_numpy(int)])

    def _logits(self, model: Classifier, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the logits [N, T] of pictures."""
        batches = [pictures[i : i + self.BATCH] for i in range(0, len(pictures), self.BATCH)]
        return torch.cat([model.logits(self.input(b)).double().cpu() for b in batches]).numpy()
