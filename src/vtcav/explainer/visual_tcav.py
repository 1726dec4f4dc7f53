"""`VisualTCAV`: learns concepts once, then explains images and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtcav.errors import CavError, ModelError
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.by_hand import HandEraser
from vtcav.explainer.erasure import Targets
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.learning.example_passes import Pass, look_at
from vtcav.explainer.learning.learn import learn
from vtcav.explainer.one_image import OneImage, wanted_classes
from vtcav.explainer.settings import ErasureSettings, FitSettings, IntegralSettings
from vtcav.files.cache import Cache
from vtcav.files.cache_location import cache_of
from vtcav.images.concepts import ImageSet, gather
from vtcav.images.listing import ImageSource, collect
from vtcav.images.marked_region import RegionSource
from vtcav.images.signature import signature
from vtcav.method.erasure.effect import pooled_logits
from vtcav.method.erasure.fill import Fill
from vtcav.method.variants import PAPER, Variant, check_variant
from vtcav.models.base import Model
from vtcav.models.inspection.ambient import unaffected
from vtcav.models.memory import examples_per_pass
from vtcav.models.settings import Precision
from vtcav.results.bank import CavBank
from vtcav.results.erasure import Erasure
from vtcav.results.explanation import GlobalExplanation, LocalExplanation
from vtcav.results.image_set import ImageSetRecord
from vtcav.results.provenance import Provenance
from vtcav.results.tables import resampled_means

if TYPE_CHECKING:
    from vtcav.diagnostics.result import Diagnostics


class VisualTCAV:
    """Explains a classifier with concepts.

    Args:
        model: A `Classifier`, or what `load_model` returns.
        layers: Layer names; None takes the recommended ones.
        steps: "adaptive" refines the integral until the attributions of each image and layer
            have converged (docs/method.md); a number n takes the paper's trapezoid rule with n
            steps (the paper uses 50).
        tolerance: The relative error that "adaptive" aims at, for attributions above 0.01. For
            smaller ones it is relative to 0.01.
        cavs: CAVs learned before, instead of `fit`.
        variant: How a concept is found in an image: "paper" takes the direction v of the
            definition, "filter" Fisher's linear discriminant, "places" the place filters that
            erasure finds regions with (docs/variants.md). None takes the variant of `cavs`, or
            "paper" without `cavs`.
        batch_size: Images, or feature maps, per pass through the network; None takes as many as
            are fast and fit into memory. It is lowered where memory runs out.
        precision: None computes gradients in the network's own precision, "bf16" and "fp16" in
            mixed precision, which is faster and less accurate. The error is measured at the first
            image explained and kept in the provenance. A warning names it where it exceeds the
            tolerance.
        fill: How the region of a concept is filled in when it is erased (docs/erasure.md):
            "convolution", "mean", "blur", with OpenCV "telea" and "navier-stokes", or a callable
            of the network's inputs x [n, c, H, W] and the regions H [n, 1, H, W] that returns
            filled inputs. None erases nothing.
        placebos: Regions of the same size elsewhere that the effect of each concept is compared
            with: in an image, or in the images of a class together.
        features: Whether concepts are also taken out of the feature maps of every layer, which is
            more specific than filling in and finds less (docs/erasure.md); `effects` then has rows
            of single layers.
        progress: Whether to show progress bars; None shows them where the output is a terminal.
        cache: Where to keep intermediate results of `fit`, so that fitting again, or adding a
            concept, is fast: a folder or a `vtcav.Cache`, True for the user's cache folder, False
            for none. None follows the environment variable VTCAV_CACHE, and means none where it
            is not set.

    Attributes:
        model: The network.
        layers: The layers' names, in the order of the network.
        variant: How a concept is found in an image.
        progress: Whether to show progress bars.

    Raises:
        LayerError: For a layer that is unknown or cannot be explained.
        CavError: When `cavs` were learned with another network, layer, preprocessing or variant.
        ExplanationError: For settings out of range.
        ExtraError: For a fill that needs OpenCV, when it is not installed.

    Example:
        >>> import numpy as np, torch, vtcav
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU(),
        ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
        >>> model = vtcav.Classifier(net, ["cat", "dog", "fox"], vtcav.Preprocess(32))
        >>> explainer = vtcav.VisualTCAV(model, layers=["1"])
        >>> noise = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3)).astype(np.uint8)
        >>> bank = explainer.fit({"dark": noise[:10] // 4}, negatives=noise[10:]).cavs
        >>> local = explainer.explain(noise[0], classes=["cat", "fox"])
        >>> local.attributions[["layer", "concept", "class_name"]].values.tolist()
        [['1', 'dark', 'cat'], ['1', 'dark', 'fox']]
    """

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
        self.progress = progress
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
        if cavs is not None:
            self._attributor = Attributor(
                model, cavs.select(self.layers), self._settings, self._erasure
            )

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
        concepts: Mapping[str, ImageSource],
        negatives: ImageSource | Mapping[str, ImageSource] | None = None,
        *,
        limit: int | None = None,
        seed: int = 0,
        strict: bool = False,
        min_examples: int = FitSettings.min_examples,
        null_cavs: int | None = FitSettings.null_cavs,
        bootstraps: int = FitSettings.bootstraps,
    ) -> VisualTCAV:
        """Learn concepts (steps 1 to 3), with null and bootstrap CAVs to judge them by.

        Args:
            concepts: Example images by concept name: a folder, paths, a glob, a URI, a Parquet
                file, PIL images or a uint8 array [N, H, W, 3]; see `vtcav.images.collect`.
            negatives: Images that do not show the concepts, one set for all or a set for each
                concept by its name.
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
            ConceptError: For a concept without negatives, or with too few images.
            ExplanationError: For `null_cavs` or `bootstraps` below 0.
            ImageError: For a set without readable images, or an unreadable one when `strict`.
            ModelError: When the network gives infinite values or NaN.

        Warns:
            CacheWarning: When the cache cannot be used; the result is the same.
        """
        fit = FitSettings(limit, seed, min_examples, strict, null_cavs, bootstraps)
        gathered = gather(
            concepts, negatives, limit=fit.limit, seed=fit.seed, min_examples=fit.min_examples
        )
        batch_size = self._settings.batch_size or examples_per_pass(self.model.device)
        run = Pass(self.model, self.layers, batch_size, erasure=self._erasure.asked)
        cavs = learn(run, gathered, fit, self.variant, cache=self._cache, shown=self.progress)
        self._attributor = Attributor(self.model, cavs, self._settings, self._erasure)
        return self

    @unaffected
    def explain(
        self, image: ImageSource, classes: int | str | Sequence[str | int] = 3
    ) -> LocalExplanation:
        """Explain one image (steps 4 to 9).

        Args:
            image: A path, URI, PIL image or uint8 array [H, W, 3].
            classes: A number n for the n most probable classes, or class names or indices in a
                list (`[281]`, not `281`, for one class by its index).

        Returns:
            The explanation.

        Raises:
            ImageError: When the image cannot be read.
            ModelError: For an unknown class, or when the network gives infinite values or NaN.
            ExplanationError: For `classes` that are neither a number nor a list.
            CavError: Before `fit`, or when the weights have changed since.
        """
        self.check_cavs()
        one = OneImage.read(image, self.model)
        images = self.attributor.forward([one.name], one.x[None])
        wanted = wanted_classes(self.model, classes, images.probabilities[0])
        return one.explained(self.attributor, images, wanted)

    @unaffected
    def erase(
        self,
        image: ImageSource,
        region: RegionSource,
        classes: int | str | Sequence[str | int] = 3,
        *,
        negatives: ImageSource | None = None,
    ) -> Erasure:
        """Erase a region that you mark from an image, and see how far the scores fall.

        It needs no concepts. The region is filled in, compared with regions elsewhere and told as
        that of a concept is (docs/erasure.md).

        Args:
            image: A path, URI, PIL image or uint8 array [H, W, 3].
            region: A box (left, top, right, bottom) in pixels of the picture as it is displayed, or
                a mask of its size, white where to erase: a file, PIL image or array [H, W].
            classes: As for `explain`.
            negatives: Images that scores are compared with, for shares. None takes the negatives
                of the concepts; before `fit` there are no shares.

        Returns:
            The effects, with the picture without the region.

        Raises:
            ImageError: When the image cannot be read, or the region does not fit it.
            ModelError: For an unknown class, or when the network gives infinite values or NaN.
            ExplanationError: For `classes` that are neither a number nor a list, and with
                `fill=None`.
            CavError: When the weights have changed since `fit`.
        """
        cavs = None if self._attributor is None else self.cavs
        if cavs is not None:
            self.check_cavs()
        one = OneImage.read(image, self.model, erases=True)
        images = ForwardPass.of(self.model, [], [one.name], one.x[None])
        wanted = wanted_classes(self.model, classes, images.probabilities[0])
        known = Targets.of(cavs) if cavs is not None and negatives is None else None
        reference = None if known is None else known.reference
        if negatives is not None:
            found = self._look("negatives", negatives, self.layers[:1], erasure=True)
            reference = pooled_logits([(found.logits, found.logits_std)])
        hand = HandEraser(self.model, self._erasure, self._settings.images, reference)
        return one.erased(hand, region, images, wanted, cavs)

    @unaffected
    def explain_class(
        self,
        class_name: str | int,
        images: ImageSource,
        *,
        limit: int | None = None,
        seed: int = 0,
        strict: bool = False,
        run: str | Path | None = None,
        engine: Literal["local", "ray"] = "local",
        ray_options: Mapping[str, Any] | None = None,
    ) -> GlobalExplanation:
        """Explain a class with many of its images (step 10).

        Args:
            class_name: A class by name or index.
            images: Images of the class, in any form that `fit` takes. All are used, whatever the
                network predicts for them; the table says what it predicts.
            limit: At most this many images, drawn at random with `seed`.
            seed: Seeds the draw.
            strict: Whether an unreadable image is an error.
            run: A folder that keeps finished parts. The same call resumes where it was
                interrupted, and gives the same table to the last bit.
            engine: "local" computes in this process, "ray" on a Ray cluster or in several
                processes on this machine.
            ray_options: Options of the Ray engine: address, workers, ...

        Returns:
            The explanation, with one row per image, layer and concept.

        Raises:
            ImageError: When no image can be read, or one cannot when `strict`.
            ModelError: For an unknown class, or when the network gives infinite values or NaN.
            CavError: Before `fit`, or when the weights have changed since.
            ExplanationError: When `run` holds a run with other settings, is in use or cannot be
                written, and for an unknown engine or option.
            ExtraError: When Ray is asked for and not installed.
        """
        from vtcav.explainer.runs.class_pictures import erased_examples
        from vtcav.explainer.runs.class_table import explain_images
        from vtcav.explainer.runs.part import Task
        from vtcav.explainer.runs.ray_engine import engine_of

        self.check_cavs()
        index = self.model.class_index(class_name)
        refs = collect(images, limit=limit, seed=seed)
        self.attributor.measure_precision_at(refs, index)
        task = Task(self.attributor, index, strict, len(refs))
        done = explain_images(
            task, refs, engine_of(engine, ray_options), run=run, shown=self.progress
        )
        effects = done.effects()
        return GlobalExplanation(
            class_index=index,
            class_name=self.model.class_names[index],
            layers=tuple(self.layers),
            concepts=self.cavs.names,
            skipped=tuple(done.skipped),
            thumbnails=dict(self.cavs.thumbnails),
            provenance=self.provenance(
                {"class": index, "limit": limit and int(limit), "seed": int(seed)}
            ),
            _rows=done.rows(),
            _resampled=resampled_means(self.cavs, done.sums, done.used),
            _effects=effects,
            erased=erased_examples(self.attributor, refs, effects, index),
            best_layers=self.cavs.best_layers,
        )

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

    def _record(self, role: str, source: ImageSource | None) -> ImageSetRecord | None:
        """Return the record of an image set that diagnostics need."""
        return None if source is None else self._look(role, source, self.layers)

    def _look(
        self, role: str, source: ImageSource, layers: Sequence[str], *, erasure: bool = False
    ) -> ImageSetRecord:
        run = Pass(self.model, layers, self._settings.images, erasure=erasure)
        return look_at(run, ImageSet(role, tuple(collect(source))), self.progress)
