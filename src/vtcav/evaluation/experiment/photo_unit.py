"""Unit of the experiment on a user's photographs: the truth is the effect of removing the tag.

```
photographs -> tags in a share q of those for training -> network
test photographs with and without their class's tag    -> effect of the tag   (the truth)
                                                        -> Visual-TCAV and its peers
```

The rest of the photographs has no mask, so only the tag is compared with the truth. The logit gap
that its effect is a share of is measured between classes: from photographs of other classes without
tags, which show nothing of the class, to the class's own with tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vtcav.evaluation.experiment.concept_sets import ConceptSets
from vtcav.evaluation.experiment.effects import Effects, causal_effects
from vtcav.evaluation.experiment.network import LAYERS, Training
from vtcav.evaluation.experiment.photo_network import (
    BLOCKS,
    STEPS,
    Frozen,
    Samples,
    at_size,
    input_of,
    photo_network,
    train_photo_network,
)
from vtcav.evaluation.experiment.photographs import Photographs
from vtcav.evaluation.experiment.tags import ABSENT, GLYPHS, put_tags
from vtcav.evaluation.experiment.trial import Trial, own_maps
from vtcav.evaluation.experiment.unit import (
    MethodSettings,
    TrainedNetwork,
    UnitResult,
    fitted,
    unit_result,
)
from vtcav.images.preprocess import Preprocess
from vtcav.models.classifier import Classifier

__all__ = ["PhotoExperiment", "PhotoSettings"]

CUE = "tag"
_TEST, _EXAMPLES, _NEGATIVES = 1, 2, 3  # purposes that tags are drawn for


@dataclass(frozen=True)
class PhotoSettings(MethodSettings):
    """Everything that a unit's numbers depend on, beside photographs, seed and agreement.

    Attributes:
        training: How the network is trained; `scenes` is the number of samples, in which
            photographs are repeated.
        examples: Examples of each tag, and as many negatives; photographs are repeated.
        test_images: Test photographs of each class, at most.
        steps: Quadrature points of the peers' integrated gradients.
    """

    training: Training = field(default_factory=lambda: Training(scenes=1200, epochs=12))
    examples: int = 60
    test_images: int = 30
    steps: int = 32


class PhotoExperiment:
    """The experiment on a user's photographs.

    Args:
        photographs: Photographs of two classes or more.
        frozen: A given network up to a layer; None trains networks from scratch.
        preprocess: The preprocessing that cropped the photographs.
        settings: Everything else that the numbers depend on.
    """

    def __init__(
        self,
        photographs: Photographs,
        frozen: Frozen | None,
        preprocess: Preprocess,
        settings: PhotoSettings,
    ) -> None:
        self.photographs, self.frozen, self.settings = photographs, frozen, settings
        self.preprocess = at_size(preprocess)
        self._samples: Samples | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are explained."""
        return LAYERS if self.frozen is None else ("stem", *BLOCKS)

    @property
    def steps(self) -> int:
        """How often a unit advances."""
        return self.settings.training.epochs + 3 + (0 if self.frozen is None else STEPS)

    def identity(self) -> dict[str, Any]:
        """Return everything that every unit's numbers depend on, as JSON data."""
        return {
            "kind": "photographs",
            **self.settings.identity(),
            "photographs": self.photographs.to_dict(),
            "model": None if self.frozen is None else self.frozen.describe(),
        }

    def run(
        self, seed: int, agreement: float, device: torch.device | str, advance: Callable[[], None]
    ) -> UnitResult:
        """Train a network, measure the truth, and compare the methods with it."""
        settings = self.settings
        learn, test = self.photographs.split(settings.test_images, seed)
        samples = self._samples_of(seed, learn)
        net = train_photo_network(
            samples, agreement, settings.training, device=device, advance=advance
        )
        trial, plain = self._trial(test, seed)
        model = Classifier(net, trial.classes, self.preprocess, device=str(device))
        effects, facts = self._truth(model, trial, plain)
        facts["photographs"] = {"learned": len(learn), "tested": len(test)}
        facts["samples"] = len(samples.labels)
        sets = self._concepts(learn, seed)
        network = TrainedNetwork(model, self.layers, trial, effects, facts, sets)
        return unit_result(network, settings, seed, agreement, advance, steps=settings.steps)

    def shown(
        self, weights: Mapping[str, torch.Tensor], seed: int, each: int
    ) -> tuple[Trial, NDArray[np.uint8], dict[str, dict[str, NDArray[np.float32]]]]:
        """Return a few test photographs, the same without tags, and a network's maps of the tags.

        Args:
            weights: The weights of a unit's network.
            seed: The unit's seed.
            each: Photographs of each class.
        """
        learn, test = self.photographs.split(self.settings.test_images, seed)
        labels = self.photographs.labels[test]
        few = np.concatenate(
            [test[labels == t][:each] for t in range(len(self.photographs.classes))]
        )
        trial, plain = self._trial(few, seed)
        net = photo_network(self.frozen, len(trial.classes), seed)
        net.load_state_dict(dict(weights))
        model = Classifier(net.eval(), trial.classes, self.preprocess, device="cpu")
        explainers = fitted(model, self.layers, self._concepts(learn, seed))
        return trial, plain, own_maps(explainers["visual_tcav"], trial)

    # -- inside -------------------------------------------------------------------------------

    def _samples_of(self, seed: int, learn: NDArray[np.intp]) -> Samples:
        if self._samples is None or self._samples.seed != seed:
            self._samples = Samples(
                self.photographs.pictures[learn],
                self.photographs.labels[learn],
                len(self.photographs.classes),
                seed,
                self.settings.training.scenes,
                self.frozen,
                self.preprocess,
            )
        return self._samples

    def _trial(self, positions: NDArray[np.intp], seed: int) -> tuple[Trial, NDArray[np.uint8]]:
        """Return photographs with their class's tag, and the same photographs without."""
        classes = self.photographs.classes
        plain, labels = self.photographs.pictures[positions], self.photographs.labels[positions]
        tagged, masks = put_tags(plain, labels, _tag_seed(seed, _TEST))
        x = input_of(tagged, self.preprocess)
        return Trial(classes, labels, tagged, x, {CUE: masks}, {CUE: self._names}), plain

    @property
    def _names(self) -> tuple[str, ...]:
        letters = list(GLYPHS)
        return tuple(f"tag {letters[t]}" for t in range(len(self.photographs.classes)))

    def _truth(
        self, model: Classifier, trial: Trial, plain: NDArray[np.uint8]
    ) -> tuple[dict[str, Effects], dict[str, Any]]:
        """Return the effects of the tag, and how well the network classifies."""
        whole, without = (self._logits(model, part) for part in (trial.pictures, plain))
        # the logits of other classes' photographs without tags stand for "nothing of the class"
        nothing = np.stack([without[trial.labels != t].mean(0) for t in range(len(trial.classes))])
        effects = causal_effects(whole, {CUE: without}, nothing[trial.labels], trial.labels)
        right = {
            name: float((z.argmax(1) == trial.labels).mean())
            for name, z in (("whole", whole), ("without_tag", without))
        }
        return effects, {"accuracy": right, "mean_gap": float(effects[CUE].gap.mean())}

    def _logits(self, model: Classifier, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        batches = [pictures[i : i + 32] for i in range(0, len(pictures), 32)]
        parts = [model.logits(input_of(batch, self.preprocess)).double().cpu() for batch in batches]
        return torch.cat(parts).numpy()

    def _concepts(self, learn: NDArray[np.intp], seed: int) -> ConceptSets:
        """Return examples and negatives of every class's tag, made as those of drawn scenes.

        Half of the examples show the tag on photographs of its own class, half on those of others;
        negatives are photographs of the class with another tag or none, so that the content of the
        class's photographs does not pass for the tag.
        """
        count, K = self.settings.examples, len(self.photographs.classes)
        labels = self.photographs.labels[learn]
        rng = np.random.default_rng([seed, 9])
        examples, negatives = {}, {}
        for t, name in enumerate(self._names):
            own, others = learn[labels == t], learn[labels != t]
            half = np.arange(count) % 2 == 0
            on = np.where(half, _drawn(own, count, rng), _drawn(others, count, rng))
            letter = np.full(count, t)
            examples[name] = self._tagged(on, letter, _tag_seed(seed, _EXAMPLES, t))
            rest = np.delete(np.arange(K), t)
            letter = np.where(half, ABSENT, rng.permutation(np.resize(rest, count)))
            on = _drawn(own, count, rng)
            negatives[name] = self._tagged(on, letter, _tag_seed(seed, _NEGATIVES, t))
        return ConceptSets(examples, negatives)

    def _tagged(
        self, positions: NDArray[np.intp], letters: NDArray[np.intp], seed: int
    ) -> NDArray[np.uint8]:
        return put_tags(self.photographs.pictures[positions], letters, seed)[0]


def _drawn(positions: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return each position about as often as any other, in random order [count]."""
    return rng.permutation(np.resize(rng.permutation(positions), count))


def _tag_seed(seed: int, purpose: int, t: int = 0) -> int:
    """Return the seed of tags for one purpose; training uses those below 500 of each thousand."""
    return seed * 1000 + 500 + 20 * purpose + t
