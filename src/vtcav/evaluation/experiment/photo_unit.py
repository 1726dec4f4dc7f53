"""A unit of the experiment on a user's photographs: the truth is the effect of taking the tag out.

```
photographs -> tags in a share q of those to learn from -> network
test photographs with and without their class's tag     -> effect of the tag   (the truth)
                                                         -> Visual-TCAV and its peers
```

What the photographs show beside the tag has no mask, so only the tag is held against the truth.
The logit gap that its effect is a share of is measured between classes: from photographs of other
classes without tags, which show nothing of the class, to the class's own with tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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
from vtcav.evaluation.experiment.unit import UnitResult, fitted, held_against
from vtcav.images.preprocess import Preprocess
from vtcav.models.classifier import Classifier

__all__ = ["PhotoExperiment", "PhotoSettings"]

CUE = "tag"
_TEST, _EXAMPLES, _NEGATIVES = 1, 2, 3  # what tags are drawn for


@dataclass(frozen=True)
class PhotoSettings:
    """What a unit's numbers depend on, beside photographs, seed and agreement.

    Attributes:
        training: How the network is trained; `scenes` is the number of samples, in which
            photographs come several times.
        examples: Examples of each tag, and as many negatives; photographs come several times.
        test_images: Test photographs of each class, at most.
        methods: The methods compared, Visual-TCAV first.
        tcav_runs: CAVs of each concept for TCAV.
        steps: Of the peers' integrated gradients.
    """

    training: Training = field(default_factory=lambda: Training(scenes=1200, epochs=12))
    examples: int = 60
    test_images: int = 30
    methods: tuple[str, ...] = ("visual_tcav",)
    tcav_runs: int = 10
    steps: int = 32


class PhotoExperiment:
    """The photographs, the network they are learned by, and the units of every seed and q.

    Args:
        photographs: Of two classes or more.
        frozen: A given network up to a layer; None trains networks from nothing.
        preprocess: That the photographs were cropped by.
        settings: The rest.
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
        """How often a unit says that it advanced."""
        return self.settings.training.epochs + 3 + (0 if self.frozen is None else STEPS)

    def run(
        self, seed: int, agreement: float, device: torch.device | str, advance: Callable[[], None]
    ) -> UnitResult:
        """Train a network, measure the truth, and hold the methods against it."""
        settings, classes = self.settings, self.photographs.classes
        learn, test = self.photographs.split(settings.test_images, seed)
        samples = self._samples_of(seed, learn)
        net = train_photo_network(
            samples, agreement, settings.training, device=device, advance=advance
        )
        trial, plain = self._trial(test, seed)
        model = Classifier(net, classes, self.preprocess, device=str(device))
        effects, facts = self._truth(model, trial, plain)
        facts["photographs"] = {"learned": len(learn), "tested": len(test)}
        facts["samples"] = len(samples.labels)
        advance()
        explainers = fitted(model, self.layers, *self._concepts(learn, seed), settings)
        return held_against(
            explainers, trial, input_of(trial.pictures, self.preprocess), effects, facts,
            net.state_dict(), settings, {"seed": seed, "q": agreement}, advance,
            steps=settings.steps,
        )  # fmt: skip

    def shown(
        self, weights: Mapping[str, torch.Tensor], seed: int, each: int
    ) -> tuple[Trial, NDArray[np.uint8], dict[str, dict[str, NDArray[np.float32]]]]:
        """Return a few test photographs, the same without tags, and a network's maps of the tags.

        Args:
            weights: Of a unit's network.
            seed: Of the unit.
            each: Photographs of each class.
        """
        learn, test = self.photographs.split(self.settings.test_images, seed)
        labels = self.photographs.labels[test]
        few = np.concatenate(
            [test[labels == t][:each] for t in range(len(self.photographs.classes))]
        )
        trial, plain = self._trial(few, seed)
        net = photo_network(self.frozen, len(self.photographs.classes), seed)
        net.load_state_dict(dict(weights))
        model = Classifier(net.eval(), self.photographs.classes, self.preprocess, device="cpu")
        examples, negatives = self._concepts(learn, seed)
        settings = PhotoSettings(methods=())
        explainer = fitted(model, self.layers, examples, negatives, settings)["visual_tcav"]
        return trial, plain, own_maps(explainer, trial, input_of(trial.pictures, self.preprocess))

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
        return Trial(classes, labels, tagged, {CUE: masks}, {CUE: self._names}), plain

    @property
    def _names(self) -> tuple[str, ...]:
        letters = list(GLYPHS)
        return tuple(f"tag {letters[t]}" for t in range(len(self.photographs.classes)))

    def _truth(
        self, model: Classifier, trial: Trial, plain: NDArray[np.uint8]
    ) -> tuple[dict[str, Effects], dict[str, Any]]:
        """Return the effects of the tag, and how well the network classifies."""
        whole, without = (self._logits(model, part) for part in (trial.pictures, plain))
        # what other classes' photographs give without tags stands for "nothing of the class"
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

    def _concepts(
        self, learn: NDArray[np.intp], seed: int
    ) -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.uint8]]]:
        """Return examples and negatives of every class's tag, made as those of drawn scenes.

        Examples show the tag on photographs of its own class in one half and of others in the
        other; negatives are photographs of the class with another tag or none, so that what the
        class's photographs show does not pass for the tag.
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
        return examples, negatives

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
