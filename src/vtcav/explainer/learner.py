"""`ConceptLearner`: the network, layers and settings of an explainer, and the concepts it learned.

`VisualTCAV` adds what is done with the concepts.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from vtcav.errors import CavError, ConceptError, ModelError, brief, warn
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.erasing.feature_removal import unmeasured
from vtcav.explainer.learning.example_passes import Pass, look_at
from vtcav.explainer.learning.given import Vectors, given_concepts, given_directions
from vtcav.explainer.learning.learn import CLASSES, learn
from vtcav.explainer.learning.words import Texts, word_concepts
from vtcav.explainer.settings import (
    NEUTRAL,
    SHARE,
    ErasureSettings,
    FitSettings,
    IntegralSettings,
)
from vtcav.files.cache import Cache
from vtcav.files.cache_location import cache_of
from vtcav.images.concepts import Concept, ImageSet, gather
from vtcav.images.cropping import warn_of_cropping
from vtcav.images.listing import ImageSource, collect
from vtcav.images.progress import check_progress
from vtcav.images.signature import signature
from vtcav.method.erasure.fill import Fill
from vtcav.method.significance import enough_null_cavs
from vtcav.method.variants import PAPER, Variant, check_variant
from vtcav.models.base import Model
from vtcav.models.inspection.ambient import unaffected
from vtcav.models.joint_model import JointModel
from vtcav.models.memory import examples_per_pass
from vtcav.models.settings import Precision
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.image_set import ImageSetRecord
from vtcav.results.provenance import Provenance
from vtcav.results.words import named_layers

if TYPE_CHECKING:
    from vtcav.diagnostics.result import Diagnostics


class ConceptLearner:
    """A network with the concepts that are learned at its layers; see `VisualTCAV`."""

    @unaffected
    def __init__(
        self,
        model: Model,
        layers: Sequence[str] | None = None,
        steps: int | Literal["adaptive"] = IntegralSettings.steps,
        *,
        tolerance: float = IntegralSettings.tolerance,
        cavs: CavBank | None = None,
        variant: Variant | None = None,
        batch_size: int | None = None,
        precision: Precision | None = None,
        fill: Fill | None = ErasureSettings.fill,
        placebos: int = ErasureSettings.placebos,
        features: bool = ErasureSettings.features,
        progress: bool | None = None,
        cache: bool | str | Path | Cache | None = None,
    ) -> None:
        if not isinstance(model, Model):
            raise ModelError(
                f"expected a vtcav model, got {type(model).__name__}; wrap the network: "
                "vtcav.Classifier(module, class_names, preprocess)"
            )
        self._settings = IntegralSettings(steps, tolerance, batch_size, precision)
        self._erasure = ErasureSettings(fill, placebos, features)
        self.model = model
        self.progress = check_progress(progress)
        self._cache = cache_of(cache, unset=False)
        self._preprocessing = signature(model.preprocess)
        self.variant = check_variant(variant or (cavs.variant if cavs is not None else PAPER))
        if cavs is not None:
            cavs.check_fits(model, self._preprocessing)
            cavs.check_behaviour(model)
            cavs.check_variant(self.variant)
            layers = list(cavs.layers) if layers is None else layers
        self.layers = [layer.name for layer in model.check_layers(layers)]
        self._attributor: Attributor | None = None
        self._examples: dict[str, Concept] = {}  # of what is learned in this process
        if cavs is not None:
            self._attributor = Attributor(
                model, cavs.select(self.layers), self._settings, self._erasure
            )
            erases, removes = self._attributor.eraser.works, self._attributor.removal.works
            for sentence in unmeasured(self._erasure, erases=erases, removes=removes):
                warn(sentence)

    def __repr__(self) -> str:
        learned = f", concepts={list(self.cavs.names)}" if self._attributor else ""
        variant = "" if self.variant == PAPER else f", variant={self.variant!r}"
        return f"VisualTCAV({self.model.described}, layers={self.layers}{variant}{learned})"

    @property
    def attributor(self) -> Attributor:
        """The attributor, which computes explanations with the learned CAVs.

        Raises:
            CavError: Before `fit`.
        """
        if self._attributor is None:
            raise CavError("no concepts are learned yet: call fit(concepts, negatives) first")
        return self._attributor

    @property
    def cavs(self) -> CavBank:
        """The learned CAVs.

        Raises:
            CavError: Before `fit`.
        """
        return self.attributor.cavs

    def check_cavs(self) -> None:
        """Check that the CAVs still fit the network.

        Raises:
            CavError: Before `fit`, or when the weights have changed since.
        """
        self.cavs.check_fits(self.model, self._preprocessing)

    @unaffected
    def fit(
        self,
        concepts: Mapping[str, ImageSource] | None = None,
        negatives: ImageSource | Mapping[str, ImageSource] | None = None,
        *,
        texts: Mapping[str, str | Sequence[str]] | None = None,
        images: ImageSource | None = None,
        text_model: str | Path | JointModel | None = None,
        neutral: Sequence[str] = NEUTRAL,
        share: float = SHARE,
        limit: int | None = None,
        seed: int = 0,
        strict: bool = False,
        min_examples: int = FitSettings.min_examples,
        null_cavs: int | None = FitSettings.null_cavs,
        bootstraps: int = FitSettings.bootstraps,
    ) -> Self:
        """Learn concepts (steps 1 to 3), with null and bootstrap CAVs to judge them by.

        Args:
            concepts: Example images by concept name: a folder, paths, a glob, a URI, a Parquet
                file, PIL images or a uint8 array [N, H, W, 3]; see `vtcav.images.collect`.
            negatives: Images that do not show the concepts, one set for all or a set for each
                concept by its name. For `texts` None takes the other probe images.
            texts: Concepts as words: for each a text, or several of one meaning. An image-text
                model tells how similar the probe images are to it; the direction is what the
                layer does as that rises (docs/words.md).
            images: The probe images of `texts`, in the same forms: some hundred of the kind to
                explain, of which some show each concept.
            text_model: The image-text model: a folder of transformers with CLIP or SigLIP, or a
                `vtcav.JointModel`. None takes the network itself, where it is one.
            neutral: The texts that each text is compared with.
            share: The share of the probe images, those most similar to a text, that are its
                examples.
            limit: At most this many images of each set, drawn at random with `seed`.
            seed: Seeds every draw.
            strict: Whether an unreadable image is an error. Otherwise it is named in a warning
                and in `cavs.concepts`.
            min_examples: The fewest readable images a set may have.
            null_cavs: The number of null CAVs, which p-values are computed against: CAVs of
                pseudo-concepts drawn from the negatives, as large as the concept. The smallest
                possible p-value is 1 / (null_cavs + 1). None takes 500, or 40 for every value
                that is tested together (layers, concepts, three classes), so that one true effect
                can show. With fewer than twice as many negatives as examples, smaller CAVs
                are tested, and every row says so.
            bootstraps: The number of bootstrap CAVs, which the intervals from `cav_low` to
                `cav_high` come from: CAVs of examples and negatives drawn with replacement.

        Returns:
            This explainer.

        Raises:
            ConceptError: For a concept without negatives, or with too few images; for texts
                without probe images or image-text model.
            ExplanationError: For `null_cavs` or `bootstraps` below 0.
            ImageError: For a set without readable images, or an unreadable one when `strict`.
            ModelError: When the network gives infinite values or NaN, and for an image-text model
                that cannot be loaded.

        Warns:
            CacheWarning: When the cache cannot be used; the result is the same.
            UserWarning: For a text that a layer is not shown to know.
        """
        fit = FitSettings(limit, seed, min_examples, strict, null_cavs, bootstraps)
        if texts is not None and not isinstance(texts, Mapping):
            raise ConceptError(f"expected texts by the names of concepts, got {brief(texts)}")
        banks: list[CavBank] = []
        if concepts is not None or not texts:
            gathered = gather(
                {} if concepts is None else concepts,
                _negatives_of(negatives, set(texts or ()), inside=False),
                limit=fit.limit,
                seed=fit.seed,
                min_examples=fit.min_examples,
            )
            fit = self._settled(fit, self.layers, len(gathered) + len(texts or {}))
            banks.append(self._learned(gathered, self.layers, fit))
        if texts:
            words = Texts.of(self.model, texts, images, text_model, neutral, share)
            others = _negatives_of(negatives, set(texts), inside=True)
            banks.append(self._learned_words(words, others, fit))
        self._take(banks[0] if len(banks) == 1 else banks[0].followed_by(banks[1]))
        return self

    @unaffected
    def fit_directions(
        self,
        directions: Vectors,
        layer: str | None = None,
        *,
        images: ImageSource | Mapping[str, ImageSource],
        negatives: ImageSource | Mapping[str, ImageSource],
        origin: str = "",
        limit: int | None = None,
        seed: int = 0,
        strict: bool = False,
        min_examples: int = FitSettings.min_examples,
        null_cavs: int | None = FitSettings.null_cavs,
        bootstraps: int = FitSettings.bootstraps,
    ) -> Self:
        """Make concepts of vectors of any origin: linear probes, dictionary atoms, CAVs.

        Emblems, null CAVs and all else are taken from the images as `fit` takes them (steps 2 and
        3); only step 1 is left out. The concepts join those that are learned already, in place of
        any of the same name. Given the v that `fit` learned, and its images, the results are the
        same.

        Args:
            directions: For each concept its vector v [C], in the units of the layer's pooled
                feature maps; or its vectors by layer. Its length does not count, its sign does:
                the concept is where v·F is high.
            layer: The layer of single vectors. None takes the explainer's, where it has one.
            images: Images that show the concepts, from which e+ comes: one set for all, or a set
                for each by its name, in any form that `fit` takes. A single set for all is right
                only where it shows all of them.
            negatives: Images that do not, from which e- and the null CAVs come, as for `fit`.
            origin: Where the vectors come from, in words, for the provenance: "a linear probe on
                the layer".
            limit: As for `fit`.
            seed: As for `fit`.
            strict: As for `fit`.
            min_examples: As for `fit`.
            null_cavs: As for `fit`.
            bootstraps: As for `fit`. The vector stays the same in bootstrap CAVs, unless it is the
                one that `fit` learns from these images: then the interval from `cav_low` to
                `cav_high` holds the choice of images for the emblems, and not how sure the vector
                is.

        Returns:
            This explainer. Without concepts before, it explains at the layers of the vectors.

        Raises:
            CavError: For a vector of the wrong length, of zeros or not finite; for other layers
                than those of concepts learned before, or another variant than "paper".
            ConceptError: For a concept with too few images.
            LayerError: For a layer that is unknown or cannot be explained.

        Example:
            >>> import numpy as np, torch, vtcav
            >>> net = torch.nn.Sequential(
            ...     torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU(),
            ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
            >>> model = vtcav.Classifier(net, ["cat", "dog", "fox"], vtcav.Preprocess(32))
            >>> noise = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3)).astype(np.uint8)
            >>> explainer = vtcav.VisualTCAV(model, layers=["1"])
            >>> probe = np.ones(8)  # as a linear probe learned it
            >>> bank = explainer.fit_directions(
            ...     {"bright": probe}, images=noise[:10], negatives=noise[10:] // 4,
            ...     origin="a linear probe").cavs
            >>> bank.table()[["concept", "separated", "direction"]].values.tolist()
            [['bright', True, 'a linear probe']]
        """
        self._check_paper("a direction that is given")
        given = given_directions(directions, layer, self.model, self.layers)
        layers = list(next(iter(given.values())))
        others = self._others(given, layers)
        fit = FitSettings(limit, seed, min_examples, strict, null_cavs, bootstraps)
        concepts = given_concepts(given, images, negatives, fit, origin)
        fit = self._settled(fit, layers, len(concepts) + (len(others.names) if others else 0))
        new = self._learned(concepts, layers, fit)
        self.layers = layers
        self._take(others.followed_by(new) if others else new)
        return self

    def best_layer(self, concept: str) -> str:
        """Return the layer to read first for a concept, as `CavBank.best_layer` does.

        Raises:
            CavError: Before `fit`, for an unknown concept, and with CAVs that were learned before
                what the choice needs was kept.
        """
        return self.cavs.best_layer(concept)

    @unaffected
    def diagnostics(
        self,
        images: ImageSource | None = None,
        negatives: ImageSource | None = None,
        *,
        seed: int = 0,
        resamples: int = 100,
    ) -> Diagnostics:
        """Diagnose how far each concept can be trusted at each layer.

        Args:
            images: Images to explain, which are searched for among those of the concepts.
            negatives: Another set of negatives, to compare the directions with.
            seed: Seeds the resampling.
            resamples: Draws of each kind, at least 20.

        Returns:
            Findings, each with a level: fine, look, do not use.

        Raises:
            CavError: Before `fit`, or when the weights have changed since.
            ImageError: When no image of a set can be read.
        """
        from vtcav.diagnostics.diagnosis import diagnose

        self.check_cavs()
        return diagnose(
            self.cavs,
            images=self._record("images", images),
            other_negatives=self._record("other negatives", negatives),
            seed=seed,
            resamples=resamples,
        )

    def provenance(self, settings: dict[str, Any]) -> Provenance:
        """Return what a result of this explainer depends on, with its own settings.

        Raises:
            CavError: Before `fit`.
        """
        return self.attributor.provenance(settings)

    # -- inside -------------------------------------------------------------------------------

    def _pass(self, layers: Sequence[str]) -> Pass:
        batch_size = self._settings.batch_size or self.model.images_together(
            examples_per_pass(self.model.device)
        )
        return Pass(self.model, layers, batch_size, erasure=self._erasure.asked)

    def _learned(
        self, concepts: Sequence[Concept], layers: Sequence[str], fit: FitSettings
    ) -> CavBank:
        run = self._pass(layers)
        sets = dict.fromkeys(s.refs for c in concepts for s in (c.examples, c.negatives))
        warn_of_cropping(sets, self.model.preprocess)
        found = learn(run, concepts, fit, self.variant, cache=self._cache, shown=self.progress)
        self._examples |= {concept.name: concept for concept in concepts}
        return found

    def _learned_words(
        self,
        words: Texts,
        negatives: ImageSource | Mapping[str, ImageSource] | None,
        fit: FitSettings,
    ) -> CavBank:
        """Return the bank of concepts that are texts.

        Raises:
            CavError: For another variant than "paper".
        """
        self._check_paper("the direction of a text")
        run = self._pass(self.layers)
        found = word_concepts(run, words, negatives, fit, shown=self.progress)
        fit = self._settled(fit, self.layers, len(found.concepts))
        return found.noted(self._learned(found.concepts, self.layers, fit))

    def _settled(self, fit: FitSettings, layers: Sequence[str], concepts: int) -> FitSettings:
        """Return settings with a number of null CAVs, which is to suffice for all concepts."""
        if fit.null_cavs is not None:
            return fit
        return replace(fit, null_cavs=enough_null_cavs(len(layers) * concepts * CLASSES))

    def _check_paper(self, what: str) -> None:
        if self.variant != PAPER:
            raise CavError(
                f"{what} finds its concept itself: expected variant='paper', got an explainer of "
                f"variant={self.variant!r}, which learns a filter from examples"
            )

    def _take(self, cavs: CavBank) -> None:
        self._attributor = Attributor(self.model, cavs, self._settings, self._erasure)

    def _others(self, names: Container[str], layers: Sequence[str]) -> CavBank | None:
        """Return the bank of the concepts that are learned and stay beside new ones.

        Raises:
            CavError: When they were learned at other layers, or with other weights.
        """
        if self._attributor is None:
            return None
        kept = [name for name in self.cavs.names if name not in names]
        if not kept:
            return None
        self.check_cavs()
        if list(self.cavs.layers) != list(layers):
            raise CavError(
                f"the concepts {', '.join(map(repr, kept))} are learned at "
                f"{named_layers(self.layers)}, and the new directions are at "
                f"{named_layers(layers)}: a bank has all of its concepts at the same layers. "
                "Give a vector for each of these layers, {NAME: {LAYER: v, ...}}, or begin with a "
                "new vtcav.VisualTCAV"
            )
        return self.cavs.of_concepts(kept)

    def _record(self, role: str, source: ImageSource | None) -> ImageSetRecord | None:
        """Return the record of an image set that diagnostics need."""
        return None if source is None else self._look(role, source, self.layers)

    def _look(
        self, role: str, source: ImageSource, layers: Sequence[str], *, erasure: bool = False
    ) -> ImageSetRecord:
        run = Pass(self.model, layers, self._settings.images, erasure=erasure)
        return look_at(run, ImageSet(role, tuple(collect(source))), self.progress)


def _negatives_of(
    negatives: ImageSource | Mapping[str, ImageSource] | None, names: set[str], *, inside: bool
) -> ImageSource | Mapping[str, ImageSource] | None:
    """Return negatives by concept for these names, or for all others; one set is for all."""
    if not isinstance(negatives, Mapping):
        return negatives
    return {name: source for name, source in negatives.items() if (name in names) is inside} or None
