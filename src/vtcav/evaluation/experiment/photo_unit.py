"""Unit of the experiment on a user's photographs: the truth is the effect of removing the tag.

```
photographs -> tags in a share q of those for training -> network
test photographs with and without their class's tag    -> effect of the tag   (the truth)
                                                        -> Visual-TCAV and its peers
```

There is no mask of the rest of a photograph, so only the tag is compared with the truth. Its effect
is a share of the logit gap between the photographs of other classes without tags, which show
nothing of the class, and the class's own photographs with tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vtcav.evaluation.experiment.concept_sets import ConceptSets
from vtcav.evaluation.experiment.network import LAYERS, Training
from vtcav.evaluation.experiment.photo_network import (
    BLOCKS,
    Frozen,
    Samples,
    input_of,
    photo_network,
    train_photo_network,
)
from vtcav.evaluation.experiment.photographs import Photographs
from vtcav.evaluation.experiment.tags import ABSENT, GLYPHS, PutCue, put_tags
from vtcav.evaluation.experiment.trial import Trial
from vtcav.evaluation.experiment.unit import Experiment, ExperimentSettings
from vtcav.images.preprocess import Preprocess
from vtcav.models.classifier import Classifier

CUE = "tag"
_TEST, _EXAMPLES, _NEGATIVES = 1, 2, 3  # purposes that tags are drawn for


@dataclass(frozen=True)
class PhotoSettings(ExperimentSettings):
    """Settings for photographs, which are repeated among training samples and examples.

    Attributes:
        photo_agreement: Share of training samples whose photograph is of their class. The others
            show a photograph of any class, or the network would hardly need tags.
        steps: Quadrature points of the peers' integrated gradients.
    """

    training: Training = field(default_factory=lambda: Training(scenes=1200, epochs=12))
    examples: int = 60
    test_images: int = 30
    photo_agreement: float = 0.4
    steps: int = 32

    @property
    def options(self) -> dict[str, Any]:
        """The options of `compare` for methods other than Visual-TCAV."""
        return super().options | {"steps": self.steps}


class PhotoExperiment(Experiment):
    """The experiment on a user's photographs.

    Args:
        photographs: Photographs of two classes or more.
        frozen: A given network up to a layer; None trains networks from scratch.
        preprocess: The preprocessing that cropped the photographs.
        settings: Everything else that the numbers depend on.
        put: Puts the cue of a class on its photographs.
    """

    settings: PhotoSettings

    def __init__(
        self,
        photographs: Photographs,
        frozen: Frozen | None,
        preprocess: Preprocess,
        settings: PhotoSettings,
        put: PutCue = put_tags,
    ) -> None:
        super().__init__(settings, LAYERS if frozen is None else ("stem", *BLOCKS))
        self.photographs, self.frozen, self.put = photographs, frozen, put
        # the photographs are cropped to the right size already
        self.preprocess = replace(preprocess, resize="stretch", crop_pct=1.0, window=None)
        self._names = tuple(f"tag {x}" for x, _ in zip(GLYPHS, photographs.classes, strict=False))
        self._samples: Samples | None = None

    @property
    def steps(self) -> int:
        """How often a unit advances."""
        return super().steps + (0 if self.frozen is None else Samples.STEPS)

    def identity(self) -> dict[str, Any]:
        """Return everything that every unit's numbers depend on, as JSON data."""
        return {
            "kind": "photographs",
            **super().identity(),
            "photographs": self.photographs.to_dict(),
            "model": None if self.frozen is None else self.frozen.describe(),
        }

    def trained(
        self, seed: int, agreement: float, device: torch.device | str, advance: Callable[[], None]
    ) -> Classifier:
        """Train a network on photographs with tags."""
        samples, training = self._samples_of(seed), self.settings.training
        net = train_photo_network(samples, agreement, training, device=device, advance=advance)
        return self._model(net, device)

    def restored(self, seed: int, weights: Mapping[str, torch.Tensor]) -> Classifier:
        """Return a unit's network with its trained weights."""
        net = photo_network(self.frozen, len(self.photographs.classes), seed)
        net.load_state_dict(dict(weights))
        return self._model(net.eval(), "cpu")

    def trial(self, seed: int, each: int | None = None) -> Trial:
        """Return test photographs with their class's tag, and the same without."""
        positions, classes = self._split(seed)[1], self.photographs.classes
        if each is not None:
            labels = self.photographs.labels[positions]
            few = [positions[labels == t][:each] for t in range(len(classes))]
            positions = np.concatenate(few)
        plain, labels = self.photographs.pictures[positions], self.photographs.labels[positions]
        others = (labels + 1) % len(classes)
        tagged, masks = self.put(plain, labels, _tag_seed(seed, _TEST))
        against, _ = self.put(plain, others, _tag_seed(seed, _TEST))
        versions = {"whole": tagged, f"without_{CUE}": plain, "against": against}
        x = self.input(tagged)
        return Trial(classes, labels, versions, x, {CUE: masks}, {CUE: self._names}, others)

    def concepts(self, seed: int, *, generic: bool = False) -> ConceptSets:
        """Return examples and negatives of every class's tag, made as those of drawn scenes.

        Half of the examples show the tag on photographs of its own class, half on those of others;
        negatives are photographs of the class with another tag or none, so that the content of the
        class's photographs is not mistaken for the tag. Generic sets have photographs of all
        classes alike.
        """
        learn, _ = self._split(seed)
        count, K = self.settings.examples, len(self.photographs.classes)
        labels = self.photographs.labels[learn]
        rng = np.random.default_rng([seed, 9])
        examples, negatives = {}, {}
        for t, name in enumerate(self._names):
            own, others = learn[labels == t], learn[labels != t]
            if generic:
                own = others = learn
            half = np.arange(count) % 2 == 0
            on = np.where(half, _drawn(own, count, rng), _drawn(others, count, rng))
            letters, its_seed = np.full(count, t), _tag_seed(seed, _EXAMPLES, t)
            examples[name], _ = self.put(self.photographs.pictures[on], letters, its_seed)
            rest = np.delete(np.arange(K), t)
            letters = np.where(half, ABSENT, rng.permutation(np.resize(rest, count)))
            on, its_seed = _drawn(own, count, rng), _tag_seed(seed, _NEGATIVES, t)
            negatives[name], _ = self.put(self.photographs.pictures[on], letters, its_seed)
        return ConceptSets(examples, negatives)

    def input(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Return pictures as the network's input [N, 3, H, W]."""
        return input_of(pictures, self.preprocess)

    def nothing(
        self, z: Mapping[str, NDArray[np.float64]], labels: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the mean logits [N, T] of other classes' photographs without tags."""
        plain, K = z[f"without_{CUE}"], len(self.photographs.classes)
        return np.stack([plain[labels != t].mean(0) for t in range(K)])[labels]

    def design(self, agreement: float) -> dict[str, float]:
        """Return how often the tag goes with the class in training."""
        return {CUE: agreement}

    def facts(self, seed: int) -> dict[str, Any]:
        """Return how many photographs and samples there are."""
        learn, test = self._split(seed)
        return {
            "photographs": {"learned": len(learn), "tested": len(test)},
            "samples": len(self._samples_of(seed).labels),
        }

    def shown(self, seed: int, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Return the images of the report, and the given network in words."""
        about = {"frozen": "", "layer": ""}
        if self.frozen is not None:
            about = {"frozen": self.frozen.model.described, "layer": repr(self.frozen.layer)}
        return super().shown(seed, weights) | about

    # -- inside -------------------------------------------------------------------------------

    def _model(self, net: torch.nn.Module, device: torch.device | str) -> Classifier:
        return Classifier(net, self.photographs.classes, self.preprocess, device=str(device))

    def _split(self, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the positions of photographs to learn from, and of those to test."""
        return self.photographs.split(self.settings.test_images, seed)

    def _samples_of(self, seed: int) -> Samples:
        """Return the training photographs of a seed; every agreement shares them."""
        if self._samples is None or self._samples.seed != seed:
            learn, count = self._split(seed)[0], self.settings.training.scenes
            self._samples = Samples(
                self.photographs,
                learn,
                seed,
                count,
                self.frozen,
                self.preprocess,
                self.settings.photo_agreement,
                self.put,
            )
        return self._samples


def _drawn(positions: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return each position about as often as any other, in random order [count]."""
    return rng.permutation(np.resize(rng.permutation(positions), count))


def _tag_seed(seed: int, purpose: int, t: int = 0) -> int:
    """Return the seed of tags for one purpose; training uses those below 500 of each thousand."""
    return seed * 1000 + 500 + 20 * purpose + t
