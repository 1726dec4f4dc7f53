"""The session of an explorer: the library's steps, and caches for what a new patch leaves valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtcav.diagnostics.diagnosis import diagnose
from vtcav.diagnostics.result import Diagnostics
from vtcav.errors import ConceptError, ExplanationError
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.erasing.targets import RANDOM_CONCEPTS
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.learning.example_passes import LearnedSet, Pass
from vtcav.explainer.learning.learn import learn
from vtcav.explainer.settings import FitSettings, IntegralSettings
from vtcav.explorer.caches import FeatureCache, IntegralCache, RecentlyUsed
from vtcav.explorer.concept_sets import (
    FOUND,
    Given,
    check_is_learned,
    examples_of,
    gathered,
    name_of,
    negatives_of,
    nothing_found,
)
from vtcav.explorer.initial_sets import Negatives, find_negatives, first_concepts
from vtcav.explorer.kept_concepts import KeptConcepts
from vtcav.explorer.pictures import PictureRef, Pictures
from vtcav.explorer.scheduling import LatestRequests, PriorityLock
from vtcav.explorer.schemas import ConceptSpec
from vtcav.images.concepts import Concept, ImageSet
from vtcav.images.input_box import shown_picture
from vtcav.images.listing import ImageSource, collect
from vtcav.images.preprocess import Preprocess, to_tensor
from vtcav.images.references import ImageRef, with_reasons
from vtcav.images.signature import signature
from vtcav.images.volumes import check_pictures
from vtcav.method.erasure.effect import pooled_logits
from vtcav.models.base import LayerInfo, Model
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.image_set import ConceptRecord
from vtcav.results.rows import Row

_JUDGED = FitSettings(min_examples=1, null_cavs=500, bootstraps=100)
_FAST = replace(_JUDGED, null_cavs=0, bootstraps=0)
_MEMORY = 1 << 30
_VIEWS, _BANKS = 12, 12  # kept in memory

Check = Callable[[], None]


@dataclass(frozen=True, eq=False)
class PictureView:
    """A picture as the network sees it.

    Attributes:
        images: The pass of this one image, with its feature maps at all layers.
        box: Where the input lies on the picture, as fractions of its sides.
        input: The input itself, uint8 [H, W, 3], where its location on the picture is unknown
            because the preprocessing is not vtcav's. Maps are then drawn on the input.
    """

    images: ForwardPass
    box: tuple[float, float, float, float]
    input: NDArray[np.uint8] | None

    def top(self, count: int) -> list[int]:
        """Return the most probable classes."""
        order = self.images.probabilities[0].argsort(descending=True, stable=True)
        return [int(i) for i in order[:count]]


@dataclass(frozen=True, eq=False)
class Answer:
    """One concept on one picture at one layer.

    Attributes:
        concept: Its name.
        layer: The layer.
        M: The concept map [h, w].
        separated: Whether the layer separates the concept from its negatives.
        rows: The rows of `LocalExplanation.attributions`, without q-values, for the classes whose
            integral is known.
        rough: Attributions with half the steps, by class.
        pending: Classes whose integral is not known yet.
        record: The images that the concept was learned from.
    """

    concept: str
    layer: str
    M: NDArray[np.float32]
    separated: bool
    rows: tuple[Row, ...]
    rough: Mapping[int, float]
    pending: tuple[int, ...]
    record: ConceptRecord


@dataclass
class Status:
    """The computation in progress, for a page that waits."""

    what: str = ""
    done: int = 0
    total: int = 0


class Session:
    """A network, pictures and concepts, and caches of what was computed from them.

    Args:
        model: A `Classifier`, or what `load_model` returns.
        layers: Layer names; None takes the recommended ones.
        concepts: The first concepts: a folder with one folder for each, or images by name.
        negatives: Images that show no concept, one set for all or folders by concept; None takes
            a stand-in, and the page says so.
        cavs: Learned concepts to show.
        steps: Steps of the trapezoid rule.
        batch_size: Images per pass through the network.
        seed: Seeds stand-in negatives and the draws of null and bootstrap CAVs.
        memory: Bytes of feature maps to keep, and four times the bytes of integrated gradients.
        samples: Pictures to choose from.
        images: More of them, such as a folder; the first 300.

    Raises:
        LayerError: For a layer that is unknown or cannot be explained.
        CavError: When `cavs` do not fit the network.
        ConceptError: For concepts or negatives that cannot be used.
    """

    def __init__(
        self,
        model: Model,
        layers: Sequence[str] | None = None,
        *,
        concepts: str | Path | Mapping[str, ImageSource] | None = None,
        negatives: ImageSource | None = None,
        cavs: CavBank | None = None,
        steps: int = 50,
        batch_size: int = 8,
        seed: int = 0,
        memory: int = _MEMORY,
        samples: Mapping[str, ImageSource] | None = None,
        images: ImageSource | None = None,
    ) -> None:
        self.settings = IntegralSettings(steps, batch_size=batch_size)
        self.model = model
        check_pictures(model.preprocess, "the explorer")
        if cavs is not None:
            cavs.check_fits(model, signature(model.preprocess))
            cavs.check_behaviour(model)
            layers = list(cavs.layers) if layers is None else layers
        self.layers: list[LayerInfo] = model.check_layers(layers)
        self._bank = cavs.select(self.names) if cavs else None
        self.seed = seed
        self.lock, self.latest, self.status = PriorityLock(), LatestRequests(), Status()
        self.pictures = Pictures(model.preprocess)
        self.skipped = [] if images is None else self.pictures.add_all(collect(images))
        self.negatives: Negatives = find_negatives(negatives, seed, self.pictures)
        self.shared = tuple(map(PictureRef.of, collect(self.negatives.images)))
        self._features = FeatureCache(model, memory, self.shared)
        self._integrals = IntegralCache(steps, batch_size, memory // 4, self.lock)
        self._views: RecentlyUsed[str, PictureView] = RecentlyUsed(_VIEWS)
        self._banks: RecentlyUsed[tuple[object, ...], CavBank] = RecentlyUsed(_BANKS)
        self.work = KeptConcepts()
        self.given: Given = nothing_found
        for name, source in (samples or {}).items():
            self.pictures.add(collect(source)[0], name, "sample")
        if concepts is not None:
            self.work.concepts, skipped = first_concepts(concepts, negatives, self.pictures)
            self.skipped += skipped

    @property
    def names(self) -> list[str]:
        """The layers' names, in the order of the network."""
        return [layer.name for layer in self.layers]

    @property
    def learned(self) -> tuple[str, ...]:
        """The names of the concepts in the file of CAVs, which can be shown but not changed."""
        return self._bank.names if self._bank else ()

    # -- pictures -----------------------------------------------------------------------------

    def warm(self, check: Check = lambda: None) -> None:
        """Pass the negatives through the network before they are needed.

        Args:
            check: Called before every pass; it raises an error where they are needed no more.
        """
        self._pass(self.shared, self.names, urgent=False, check=check, logits=True)

    def look(self, picture: str) -> PictureView:
        """Pass a picture through the network, and return its feature maps and probabilities.

        Args:
            picture: The key of the picture.

        Raises:
            ImageError: For an unknown picture, or one that cannot be used.
            ModelError: When the network gives infinite values or NaN.
        """
        if (known := self._views.get(picture)) is not None:
            return known
        shown = self.pictures.decoded(picture)
        name = self.pictures.get(picture).name
        x = to_tensor(self.model.preprocess, shown, name)
        with self.lock.hold():
            images = ForwardPass.of(self.model, self.names, [name], x[None])
        pixels, box = shown_picture(shown, x, self.model.preprocess)
        own = None if isinstance(self.model.preprocess, Preprocess) else pixels
        view = PictureView(images, box, own)
        self._views.put({picture: view})
        return view

    def remove(self, picture: str) -> None:
        """Forget an uploaded picture, and what was computed of it and its patches.

        Raises:
            ImageError: For an unknown picture, or one that was not uploaded.
        """
        self._features.forget(self.pictures.remove(picture))
        self._views.forget()
        self._banks.forget()
        self._integrals.forget(picture)

    def integrate(
        self, picture: str, layer: str, classes: Sequence[int], check: Check = lambda: None
    ) -> None:
        """Integrate the gradients of classes at a layer, unless that is done already.

        Raises:
            SupersededError: When `check` raises it, as a newer request has come.
        """
        self._check_layer(layer)
        images = self.look(picture).images
        missing = self._integrals.missing(picture, layer, self._logits(classes))
        if not missing:
            return

        def report(done: int, total: int) -> None:
            check()
            self.status = Status("integrating gradients", done, total)

        try:
            with self.lock.hold(urgent=False):
                head = self.model.head(layer).of(images.x)
            F = images.maps[layer]
            self._integrals.compute(picture, head, F, missing, report)
        finally:
            self.status = Status()

    # -- concepts -----------------------------------------------------------------------------

    def explain(
        self,
        picture: str,
        concept: ConceptSpec | str,
        layer: str,
        classes: Sequence[int],
        *,
        judge: bool = True,
        check: Check = lambda: None,
    ) -> Answer:
        """Return where a concept is on a picture and how much it contributes.

        Args:
            picture: The key of the picture.
            concept: The concept, or the name of a learned one.
            layer: The layer.
            classes: Class indices.
            judge: Whether p-values and intervals are needed.
            check: Called between steps; raises when the answer is no longer needed.

        Raises:
            ConceptError: When there are no examples or no negatives.
            ImageError: For an unknown picture, or one that cannot be read.
        """
        self._check_layer(layer)
        images = self.look(picture).images
        bank = self.bank(concept, [layer], judge=judge, check=check)
        check()
        missing = self._integrals.missing(picture, layer, self._logits(classes))
        ready = [t for t in classes if not missing or (not self.model.binary and t not in missing)]
        integral = self._integrals.find(picture, layer, self._logits(ready)) if ready else None
        name = concept if isinstance(concept, str) else name_of(concept)
        k = bank.names.index(name)
        rows: list[Row] = []
        rough: dict[int, float] = {}
        with self.lock.hold():
            check()
            if integral is not None:
                attributor = Attributor(self.model, bank, self.settings)
                here = attributor.layer_images(layer, images, ready)
                ref = self.pictures.get(picture).ref
                rows = here.result(integral).rows(
                    ref.name, self.model.class_names, learned_from=bank.concepts_of(ref.digest())
                )
                if integral.coarse is not None:
                    a = here.attributions(integral.coarse, here.all)[0, :, k].tolist()
                    rough = dict(zip(ready, a, strict=True))
                M = here.concept_maps
            else:
                M = bank.layers[layer].maps(images.maps[layer])
        return Answer(
            concept=name,
            layer=layer,
            M=M[0, k].cpu().numpy(),
            separated=bool(bank.layers[layer].separated[k]),
            rows=tuple(row for row in rows if row.concept == name),
            rough=rough,
            pending=tuple(t for t in classes if integral is None or t not in ready),
            record=bank.concepts[k],
        )

    def bank(
        self,
        concept: ConceptSpec | str,
        layers: Sequence[str],
        *,
        beside: Sequence[ConceptSpec] = (),
        judge: bool = True,
        erasure: bool = False,
        check: Check = lambda: None,
    ) -> CavBank:
        """Return a concept learned at layers, as `VisualTCAV.fit` learns it.

        Args:
            concept: The concept, or the name of a learned one.
            layers: The layers.
            beside: Other concepts, which are learned with it.
            judge: Whether to learn null and bootstrap CAVs, too.
            erasure: Whether to learn what erasure needs.
            check: Called between steps; raises when the bank is no longer needed.

        Raises:
            ConceptError: When there are no examples or no negatives.
        """
        if isinstance(concept, str):
            return self._learned_bank(concept)
        every = [(each, *self._sets(each)) for each in (concept, *beside)]
        key = (*((each, *map(tuple, sets)) for each, *sets in every), *layers, judge, erasure)
        if (known := self._banks.get(key)) is not None:
            return known
        learned = [gathered(*each) for each in every]
        if concept.found:
            learned[0] = replace(learned[0], directions=self.given(concept, check), origin=FOUND)
        fit = replace(_JUDGED if judge else _FAST, seed=self.seed)
        # placebos of erasure lie where random concepts respond, too
        fit = replace(fit, null_cavs=RANDOM_CONCEPTS) if erasure else fit
        passes = self._first_passes(learned, layers, check, erasure=erasure)
        with self.lock.hold(urgent=not erasure):
            check()
            run = Pass(self.model, list(layers), self.settings.images, erasure=erasure)
            bank = learn(run, learned, fit, passes=passes, shown=False)
            bank = replace(bank, settings={**bank.settings, "explorer": True})
        self._banks.put({key: bank})
        return bank

    def reference(self, check: Check = lambda: None) -> Tensor | None:
        """Return mean and deviation of the common negatives' logits [2, T_all]; None for none."""
        self._pass(self.shared, self.names, check=check, logits=True)
        images = ImageSet("negatives", self.shared)
        learned = self._features.learned(images, self.names)
        return pooled_logits([(learned.logits, learned.logits_std)])

    def diagnose(self, concept: ConceptSpec | str, layers: Sequence[str]) -> Diagnostics:
        """Find out how far a concept can be trusted, as `VisualTCAV.diagnostics` does."""
        return diagnose(self.bank(concept, layers).select(list(layers)), seed=self.seed)

    def refs_of(self, concept: ConceptSpec) -> dict[str, list[PictureRef]]:
        """Return the examples ("concepts") and negatives of a concept that can be read.

        Raises:
            ConceptError: For a found concept, whose direction is not that of its images.
        """
        check_is_learned(concept)
        sets = dict(zip(("concepts", "negatives"), self._sets(concept), strict=True))
        self._pass([*sets["concepts"], *sets["negatives"]], self.names[:1])
        skipped = self._features.skipped
        return {part: [ref for ref in refs if not skipped([ref])] for part, refs in sets.items()}

    # -- inside -------------------------------------------------------------------------------

    def _first_passes(
        self, concepts: Sequence[Concept], layers: Sequence[str], check: Check, *, erasure: bool
    ) -> dict[ImageSet, LearnedSet]:
        """Return the passes of examples and negatives that learning starts from."""
        sets = [images for each in concepts for images in (each.examples, each.negatives)]
        refs = [ref for images in sets for ref in images.refs]
        self._pass(refs, layers, check=check, logits=erasure)
        passes = {images: self._features.learned(images, layers) for images in sets}
        for images, learned in passes.items():
            if len(learned.used) + len(learned.skipped) < len(images.refs):
                raise ConceptError("pictures were removed meanwhile; try again")
            if not learned.used:
                reasons = with_reasons(learned.skipped)
                raise ConceptError(f"no image of the {images.role} can be read: {reasons}")
        return passes

    def _pass(
        self,
        refs: Sequence[ImageRef],
        layers: Sequence[str],
        *,
        urgent: bool = True,
        check: Check = lambda: None,
        logits: bool = False,
    ) -> None:
        """Pass images through the network, a few at a time, unless that is done already."""
        total = len(self._features.missing(refs, layers, logits=logits))
        try:
            while missing := self._features.missing(refs, layers, logits=logits):
                if total > self.settings.images:
                    done = total - len(missing)
                    self.status = Status("passing images through the network", done, total)
                with self.lock.hold(urgent=urgent):
                    check()
                    first = missing[: self.settings.images]
                    few = self._features.missing(first, layers, logits=logits)
                    if few:
                        self._features.look(few, layers, logits=logits)
        finally:
            if total > self.settings.images:
                self.status = Status()

    def _learned_bank(self, name: str) -> CavBank:
        if self._bank is None or name not in self._bank.names:
            raise ConceptError(f"there is no learned concept {name!r}")
        return self._bank

    def _sets(self, concept: ConceptSpec) -> tuple[list[PictureRef], list[PictureRef]]:
        """Return the examples and the negatives of a concept."""
        negatives = negatives_of(concept, self.pictures, self.shared)
        return examples_of(concept, self.pictures), negatives

    def _logits(self, classes: Sequence[int]) -> list[int]:
        return [0] if self.model.binary else list(classes)

    def _check_layer(self, layer: str) -> None:
        if layer not in self.names:
            raise ExplanationError(f"expected one of the layers {self.names}, got {layer!r}")
