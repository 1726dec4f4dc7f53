"""What the explorer computes: the library's steps, with what a new patch leaves as it was kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vtcav.errors import ConceptError, ExplanationError
from vtcav.explainer.layer_analysis import LayerResult, analyse
from vtcav.explainer.learning.learn import learn
from vtcav.explainer.settings import IntegralSettings
from vtcav.explorer.answers import Found, Learned, Progress, Seen
from vtcav.explorer.default_negatives import Negatives, find_negatives
from vtcav.explorer.feature_cache import FeatureMemory
from vtcav.explorer.first_concepts import given_concepts
from vtcav.explorer.integral_cache import Integrals
from vtcav.explorer.lru import Recent
from vtcav.explorer.pictures import KnownRef, Pictures
from vtcav.explorer.scheduling import Latest, Turns
from vtcav.explorer.schemas import ConceptSpec, Example
from vtcav.images.concepts import Concept, ImageSet
from vtcav.images.input_box import shown_picture
from vtcav.images.preprocess import Preprocess, signature, to_tensor
from vtcav.images.references import ImageSource, Skipped, collect
from vtcav.method.cav import LayerCavs
from vtcav.method.integral.trapezoid import Integral
from vtcav.models.base import LayerInfo, Model
from vtcav.models.finite import check_finite
from vtcav.results.bank import CavBank
from vtcav.results.rows import Row
from vtcav.results.tables import LEARNED_FROM

if TYPE_CHECKING:
    from vtcav.diagnostics.result import Diagnostics

__all__ = ["Session"]

NULL_CAVS, BOOTSTRAPS = 500, 100
_MEMORY = 1 << 30
_SEEN = 12
_BANKS = 12

Check = Callable[[], None]


class Session:
    """A network, pictures, concepts, and what was computed of them.

    Args:
        model: A `Classifier`, or what `load_model` returns.
        layers: Layer names; None takes the recommended ones.
        concepts: Concepts to begin with: a folder with one folder for each, or images by name.
        negatives: Images that show no concept, one set for all or folders by concept; None takes
            a stand-in, and the page says so.
        cavs: Learned concepts to look at.
        steps: Of the trapezoid rule.
        batch_size: Images per pass through the network.
        seed: Seeds stand-in negatives and the draws of null and bootstrap CAVs.
        memory: Bytes of feature maps to keep, and a quarter of that of integrated gradients.
        samples: Pictures to offer.

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
    ) -> None:
        self.rule = IntegralSettings(steps, batch_size=batch_size)
        self._batch_size = self.rule.images
        self.model = model
        if cavs is not None:
            cavs.check_fits(model, signature(model.preprocess))
            layers = list(cavs.layers) if layers is None else layers
        self.layers: list[LayerInfo] = model.check_layers(layers)
        self._bank = cavs.select([layer.name for layer in self.layers]) if cavs else None
        self.seed = seed
        self.turns, self.latest, self.progress = Turns(), Latest(), Progress()
        self.pictures = Pictures()
        self.negatives: Negatives = find_negatives(negatives, seed)
        self.shared = tuple(KnownRef(r.name, r.source) for r in collect(self.negatives.images))
        self._features = FeatureMemory(model, memory, self.shared)
        self._integrals = Integrals(int(self.rule.steps), self._batch_size, memory // 4)
        self._seen: Recent[str, Seen] = Recent(_SEEN)
        self._banks: Recent[tuple[object, ...], CavBank] = Recent(_BANKS)
        self.work: list[ConceptSpec] = []
        self.skipped: list[Skipped] = []
        for name, source in (samples or {}).items():
            self.pictures.add(collect(source)[0], name, "sample")
        if concepts is not None:
            self.work, self.skipped = given_concepts(concepts, negatives, self.pictures)

    @property
    def names(self) -> list[str]:
        """The layers' names, in the order of the network."""
        return [layer.name for layer in self.layers]

    @cached_property
    def learned(self) -> list[Learned]:
        """The concepts of the file of CAVs."""
        records = self._bank.concepts if self._bank else ()
        return [Learned(r.name, len(r.examples), len(r.negatives)) for r in records]

    # -- looking ------------------------------------------------------------------------------

    def warm(self) -> None:
        """Take the negatives through the network before someone waits for them."""
        self._look_at(self.shared, self.names, urgent=False)

    def look(self, picture: str, layers: Sequence[str] | None = None) -> Seen:
        """Return what the network makes of a picture, with its feature maps at layers.

        Raises:
            ImageError: When the picture is not known or cannot be used.
            ModelError: When the network gives infinite values or NaN.
        """
        layers = self.names if layers is None else list(layers)
        known = self._seen.find(picture)
        if known is not None and all(layer in known.maps for layer in layers):
            return known
        shown = self.pictures.decoded(picture)
        name = self.pictures.get(picture).name
        x = to_tensor(self.model.preprocess, shown, name)[None]
        with self.turns.take():
            maps, z = self.model.activations_and_logits(x, layers)
        check_finite([name], maps, z)
        pixels, box = shown_picture(shown, x[0], self.model.preprocess)
        own = None if isinstance(self.model.preprocess, Preprocess) else pixels
        seen = Seen(x, z, self.model.probabilities(z)[0].cpu(), box, own, maps)
        self._seen.keep(picture, seen)
        return seen

    def remove(self, picture: str) -> None:
        """Forget a picture that was uploaded, and what was computed of it and its patches.

        Raises:
            ImageError: For one that is not known, or not uploaded.
        """
        self._features.forget(self.pictures.remove(picture))
        self._seen.clear()
        self._banks.clear()
        self._integrals.forget(picture)

    def integrate(
        self, picture: str, layer: str, classes: Sequence[int], check: Check = lambda: None
    ) -> None:
        """Integrate the gradients of classes at a layer, where that is not done yet.

        Raises:
            SupersededError: When `check` says that nobody waits any more.
        """
        self._check_layer(layer)
        seen = self.look(picture, [layer])
        missing = self._integrals.missing(picture, layer, self._logits(classes))
        if not missing:
            return

        def tell(done: int, total: int) -> None:
            check()
            self.progress = Progress("integrating gradients", done, total)

        try:
            with self.turns.take(urgent=False):
                head = self.model.head(layer).of(seen.x)
            F = seen.maps[layer]
            self._integrals.compute(picture, head, F, missing, self.turns, tell)
        finally:
            self.progress = Progress()

    # -- concepts -----------------------------------------------------------------------------

    def explain(
        self,
        picture: str,
        concept: ConceptSpec | str,
        layer: str,
        classes: Sequence[int],
        *,
        null_cavs: int = NULL_CAVS,
        bootstraps: int = BOOTSTRAPS,
        check: Check = lambda: None,
    ) -> Found:
        """Return where a concept is on a picture and how much it counts.

        Args:
            picture: The key of the picture.
            concept: The concept, or the name of one that is learned.
            layer: The layer.
            classes: Class indices.
            null_cavs: As `VisualTCAV.fit` takes them.
            bootstraps: The same.
            check: Raises when nobody waits for the answer any more.

        Raises:
            ConceptError: When there are no examples or no negatives.
            ImageError: When one of them is not known or cannot be read.
        """
        self._check_layer(layer)
        seen = self.look(picture, [layer])
        bank = self.bank(concept, [layer], null_cavs=null_cavs, bootstraps=bootstraps, check=check)
        check()
        missing = self._integrals.missing(picture, layer, self._logits(classes))
        ready = [t for t in classes if not missing or (not self.model.binary and t not in missing)]
        with self.turns.take():
            check()
            if ready:
                fine, rough = self._analyse(picture, seen, bank, layer, ready)
                M = fine.M
            else:
                F = seen.maps[layer]
                M = bank.layers[layer].to(F.device).maps(F)
        k = bank.names.index(concept if isinstance(concept, str) else _named(concept))
        name = bank.names[k]
        ref = self.pictures.get(picture)
        rows: list[Row] = []
        if ready:
            found = fine.rows(ref.name, ready, self.model.class_names)
            rows = [self._marked(row, bank, picture) for row in found if row.concept == name]
        return Found(
            concept=name,
            layer=layer,
            M=M[0, k].cpu().numpy(),
            separated=bool(bank.layers[layer].separated[k]),
            rows=tuple(rows),
            rough={t: float(rough.a[0, i, k]) for i, t in enumerate(ready)}
            if ready and rough
            else {},
            pending=tuple(t for t in classes if t not in ready),
            record=bank.concepts[k],
        )

    def bank(
        self,
        concept: ConceptSpec | str,
        layers: Sequence[str],
        *,
        null_cavs: int = NULL_CAVS,
        bootstraps: int = BOOTSTRAPS,
        check: Check = lambda: None,
    ) -> CavBank:
        """Return a concept learned at layers, as `VisualTCAV.fit` learns it.

        Raises:
            ConceptError: When there are no examples or no negatives.
        """
        if isinstance(concept, str):
            return self._learned_bank(concept)
        examples = self._refs(concept.examples)
        own = self._refs(concept.negatives)
        negatives = [*(self.shared if concept.shared else ()), *own]
        name = _named(concept)
        key = (name, tuple(examples), tuple(negatives), tuple(layers), null_cavs, bootstraps)
        known = self._banks.find(key)
        if known is not None:
            return known
        if not examples:
            raise ConceptError("cut a patch out of a photo, or add a picture, to begin")
        if not negatives:
            raise ConceptError("there are no counter-examples: add some, or use the common ones")
        self._look_at([*examples, *negatives], layers, check=check)
        sets = (
            ImageSet(f"concept {name!r}", tuple(examples)),
            ImageSet("negatives", tuple(negatives)),
        )
        passes = {images: self._features.learned(images, layers) for images in sets}
        for images, found in passes.items():
            if len(found.used) + len(found.skipped) < len(images.refs):
                raise ConceptError("pictures were removed meanwhile; try again")
            if not found.used:
                reasons = "; ".join(f"{s.name!r}: {s.reason}" for s in found.skipped[:3])
                raise ConceptError(f"no image of the {images.role} can be read ({reasons})")
        with self.turns.take():
            check()
            bank = learn(
                self.model,
                list(layers),
                [Concept(name, *sets)],
                batch_size=self._batch_size,
                min_examples=1,
                null_cavs=null_cavs,
                bootstraps=bootstraps,
                seed=self.seed,
                settings={"limit": None, "seed": self.seed, "explorer": True},
                shown=False,
                passes=passes,
            )
        self._banks.keep(key, bank)
        return bank

    def diagnose(self, concept: ConceptSpec | str, layers: Sequence[str]) -> Diagnostics:
        """Find out how far a concept can be trusted, as `VisualTCAV.diagnostics` does."""
        from vtcav.diagnostics.diagnosis import diagnose

        bank = self.bank(concept, layers)
        return diagnose(bank.select(list(layers)), seed=self.seed)

    def refs_of(self, concept: ConceptSpec) -> tuple[list[KnownRef], list[KnownRef]]:
        """Return the examples and negatives of a concept that can be read, in order."""
        own = [*(self.shared if concept.shared else ()), *self._refs(concept.negatives)]
        examples = self._refs(concept.examples)
        self._look_at([*examples, *own], self.names[:1])
        readable = self._features.readable
        return [r for r in readable(examples) if isinstance(r, KnownRef)], [
            r for r in readable(own) if isinstance(r, KnownRef)
        ]

    # -- inside -------------------------------------------------------------------------------

    def _look_at(
        self,
        refs: Sequence[KnownRef],
        layers: Sequence[str],
        *,
        urgent: bool = True,
        check: Check = lambda: None,
    ) -> None:
        """Take images through the network that were not yet, a few at a time."""
        total = len(self._features.missing(refs, layers))
        try:
            while missing := self._features.missing(refs, layers):
                if total > self._batch_size:
                    self.progress = Progress("looking at images", total - len(missing), total)
                with self.turns.take(urgent=urgent):
                    check()
                    few = self._features.missing(missing[: self._batch_size], layers)
                    if few:
                        self._features.look(few, layers)
        finally:
            if total > self._batch_size:
                self.progress = Progress()

    def _analyse(
        self, picture: str, seen: Seen, bank: CavBank, layer: str, classes: Sequence[int]
    ) -> tuple[LayerResult, LayerResult | None]:
        """Return steps 4 to 9, and the same with half the steps of the rule."""
        pair = self._integrals.find(picture, layer, self._logits(classes))
        head = self.model.head(layer).of(seen.x)
        cavs, F = bank.layers[layer], seen.maps[layer]

        def run(cavs: LayerCavs, integral: Integral) -> LayerResult:
            return analyse(
                head,
                cavs,
                bank.names,
                F,
                seen.z,
                classes,
                self.rule,
                binary=self.model.binary,
                resampling=bank.resampling,
                integral=integral,
            )

        rough = pair.rough()
        bare = cavs.to(F.device)
        return run(cavs, pair.integral()), None if rough is None else run(bare, rough)

    def _marked(self, row: Row, bank: CavBank, picture: str) -> Row:
        """Return a row with a note where the concept was learned from the picture."""
        known = self.pictures.get(picture).ref.digest()
        if row.concept not in bank.concepts_of(known):
            return row
        return row._replace(note="; ".join(filter(None, [row.note, LEARNED_FROM])))

    def _learned_bank(self, name: str) -> CavBank:
        if self._bank is None or name not in self._bank.names:
            raise ConceptError(f"there is no learned concept {name!r}")
        return self._bank

    def _refs(self, examples: Sequence[Example]) -> list[KnownRef]:
        return [self.pictures.ref(example.picture, example.box) for example in examples]

    def _logits(self, classes: Sequence[int]) -> list[int]:
        return [0] if self.model.binary else list(classes)

    def _check_layer(self, layer: str) -> None:
        if layer not in self.names:
            raise ExplanationError(f"expected one of the layers {self.names}, got {layer!r}")


def _named(concept: ConceptSpec) -> str:
    """Return a name that CAVs can have."""
    return concept.name.strip() or "unnamed"
