"""`VisualTCAV`: learns concepts once, then explains images and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtcav.errors import CavError
from vtcav.explainer.concept_auditor import ConceptAuditor
from vtcav.explainer.erasing.by_hand import HandEraser
from vtcav.explainer.erasing.targets import Targets
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.groups import Groups, group_pairs
from vtcav.explainer.learning.example_passes import Pass
from vtcav.explainer.one_image import OneImage, wanted_classes
from vtcav.explainer.settings import DiscoverySettings, RankSettings
from vtcav.images.listing import ImageSource, collect
from vtcav.images.marked_region import RegionSource
from vtcav.images.references import ImageRef
from vtcav.images.volumes import check_pictures
from vtcav.method.erasure.effect import pooled_logits
from vtcav.models.inspection.ambient import unaffected
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.discovery.discovery import Discovery
from vtcav.results.erasure import Erasure
from vtcav.results.explanation import GlobalExplanation, LocalExplanation
from vtcav.results.provenance import Provenance
from vtcav.results.ranking import Ranking
from vtcav.results.tables.class_summary import resampled_means
from vtcav.results.tables.image_groups import ImageGroups

if TYPE_CHECKING:
    from vtcav.explainer.discovery.naming import DiscoveryHome


class VisualTCAV(ConceptAuditor):
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
            tolerance. "auto" takes bf16 at the layers where the device has instructions for it and
            the error, at the first images, is at most a third of the tolerance.
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
        check_pictures(self.model.preprocess, "erasing a marked region")
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
        groups: Groups | None = None,
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
            groups: Which images are alike, because they are of one patient, scanner or
                photographer: a regular expression in the images' names, "TABLE:COLUMN" or a mapping
                from names. Intervals are then over groups, and `by_group` and `group_tests` tell
                them apart.
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
        from vtcav.explainer.runs.class_task import ClassTask
        from vtcav.explainer.runs.image_table import compute_images
        from vtcav.explainer.runs.ray_engine import engine_of

        self.check_cavs()
        index = self.model.class_index(class_name)
        refs = collect(images, limit=limit, seed=seed)
        by_name = ImageGroups(group_pairs((ref.name for ref in refs), groups))
        self.attributor.measure_precision_at(refs, index)
        task = ClassTask(self.attributor, strict, index, len(refs))
        done = compute_images(
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
            erased=erased_examples(self.attributor, refs, effects),
            best_layers=self.cavs.best_layers,
            groups=by_name,
        )

    @unaffected
    def rank(
        self,
        images: ImageSource,
        concept: str,
        layer: str | None = None,
        *,
        limit: int | None = None,
        seed: int = 0,
        strict: bool = False,
        pictures: int = RankSettings.pictures,
        run: str | Path | None = None,
        engine: Literal["local", "ray"] = "local",
        ray_options: Mapping[str, Any] | None = None,
    ) -> Ranking:
        """Rank images by how strongly they show a concept: forward passes alone, no gradients.

        Args:
            images: Images, in any form that `fit` takes.
            concept: A concept that was learned.
            layer: The layer whose maps are ranked. None takes the layers together: the map that
                erasure finds the concept's region with. It finds the images of a concept far better
                than the paper's map of one layer (docs/finding.md). Where no place filters were
                learned (`fill=None`, older CAVs), None takes `best_layer(concept)`.
            limit: At most this many images, drawn at random with `seed`.
            seed: Seeds the draw.
            strict: Whether an unreadable image is an error.
            pictures: How many images are kept with their maps: half of them the first, a quarter
                spread evenly over the rest, a quarter the last.
            run: A folder that keeps finished parts, as for `explain_class`.
            engine: As for `explain_class`.
            ray_options: As for `explain_class`.

        Returns:
            The images in order.

        Raises:
            ImageError: When no image can be read, or one cannot when `strict`.
            CavError: Before `fit`, when the weights have changed since, for an unknown concept or
                layer, and where no layer sees the concept, or the one named does not separate it.
            ModelError: When the network gives infinite values or NaN.
            ExplanationError: As for `explain_class`.
            ExtraError: When Ray is asked for and not installed.

        Warns:
            UserWarning: When the layer that is named does not see the concept, or no image responds
                nearly as the examples do.
            SkippedImageWarning: When images are left out.
        """
        from vtcav.explainer.runs.rank_task import RankTask
        from vtcav.explainer.runs.ranking import RankRun, rank_images
        from vtcav.explainer.runs.ray_engine import engine_of

        self.check_cavs()
        chosen = RankSettings(layer, pictures)
        task = RankTask.of(self.attributor, concept, chosen.layer, strict=strict)
        refs = collect(images, limit=limit, seed=seed)
        how = RankRun(chosen.pictures, engine_of(engine, ray_options), run, self.progress)
        settings = {"limit": limit and int(limit), "seed": int(seed), "pictures": chosen.pictures}
        return rank_images(task, refs, how, settings)

    @unaffected
    def discover(
        self,
        images: ImageSource,
        layers: Sequence[str] | None = None,
        k: int | Literal["auto"] = DiscoverySettings.k,
        seed: int = 0,
        *,
        limit: int | None = None,
        strict: bool = False,
    ) -> Discovery:
        """Find concepts that nobody named: what the network sees in images (docs/discovery.md).

        Feature maps at a few places of every image are factorised into parts that places are made
        of. It needs no concepts; where there are some, the nearest is told for each part.

        Args:
            images: The images, in any form that `fit` takes; a few dozen at least.
            layers: Layer names; None takes the explainer's.
            k: The number of concepts at each layer. "auto" takes the largest of which most are
                found again from other random starts and in halves of the images.
            seed: Seeds every draw.
            limit: At most this many images, drawn at random with `seed`.
            strict: Whether an unreadable image is an error.

        Returns:
            The found concepts; `name` puts one into the bank.

        Raises:
            ExplanationError: For a number of concepts that a layer cannot have.
            ExtraError: Without scikit-learn (`pip install 'vtcav[discover]'`).
            ImageError: For fewer than 10 readable images, or an unreadable one when `strict`.
            LayerError: For a layer that is unknown or cannot be explained.
            ModelError: When the network gives infinite values or NaN.
        """
        from vtcav.explainer.discovery.discover import discover

        check_pictures(self.model.preprocess, "discovery")
        settings = DiscoverySettings(k, attributed=0, seed=seed, strict=strict)
        names = [
            layer.name
            for layer in self.model.check_layers(self.layers if layers is None else layers)
        ]
        refs = collect(images, limit=limit, seed=seed)
        run = Pass(self.model, names, self._settings.images)
        bank = None if self._attributor is None else self.cavs
        found = discover(run, refs, settings, bank, self.progress)
        return replace(found, _home=self._home(refs))

    def discovered_in(self, images: ImageSource | None, provenance: Provenance) -> DiscoveryHome:
        """Return what a loaded discovery needs to name its concepts: this explainer and images.

        Raises:
            CavError: When it is a discovery of another network.
        """
        found = provenance.model["fingerprint"]
        if found != self.model.fingerprint:
            raise CavError(
                "the concepts were found in another network: expected "
                f"{provenance.model['network']} (fingerprint {found[:12]}), got "
                f"{self.model.described} (fingerprint {self.model.fingerprint[:12]})"
            )
        return self._home(None if images is None else collect(images))

    def _home(self, refs: Sequence[ImageRef] | None) -> DiscoveryHome:
        from vtcav.explainer.discovery.naming import DiscoveryHome

        return DiscoveryHome(
            self.model,
            lambda: self.layers,
            lambda *given, **more: self.fit_directions(*given, **more).cavs,
            self._look,
            self._beside,
            lambda: self._attributor,
            refs,
        )

    def _beside(self, layer: str, *, erased: bool, cavs: CavBank | None = None) -> VisualTCAV:
        """Return an explainer with these settings at one layer."""
        own = vars(self._settings) | {"progress": self.progress, "cache": False}
        # where it erases, attributions are not read
        own |= vars(self._erasure) | {"steps": 2} if erased else {"fill": None}
        return VisualTCAV(self.model, [layer], cavs=cavs, **own)
