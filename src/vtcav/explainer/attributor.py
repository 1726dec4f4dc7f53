"""The attributor: steps 4 to 9 for batches of images, from a network, its CAVs and the settings.

`VisualTCAV`, the explorer and the workers of a cluster all compute explanations with it, and need
nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from math import nan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ImageError, VtcavError
from vtcav.explainer.erasing.allotment import Allotment
from vtcav.explainer.erasing.eraser import Eraser, Regions
from vtcav.explainer.erasing.feature_removal import FeatureRemoval
from vtcav.explainer.erasing.targets import Targets
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.gradient_precision import GradientPrecision
from vtcav.explainer.layer_images import LayerImages
from vtcav.explainer.layer_result import LayerResult
from vtcav.explainer.settings import ErasureSettings, IntegralSettings
from vtcav.images.preprocess import to_tensor
from vtcav.images.references import ImageRef
from vtcav.method.integral.trapezoid import FLOOR
from vtcav.models.base import Head, Model
from vtcav.models.foreign_errors import network_errors
from vtcav.models.memory import Budget
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.provenance import Provenance
from vtcav.results.rows import EffectRow

_log = logging.getLogger("vtcav")


class Attributor:
    """Steps 4 to 9 for batches of images, at every layer of a bank.

    It keeps what does not depend on the images: the logits at zero feature maps, the batch sizes
    that fit into memory, and the precision of the gradients with its measured error.

    Args:
        model: The network.
        cavs: Concepts learned with this network, at the layers to explain.
        settings: How to integrate.
        erasure: How to erase concepts; None erases nothing.

    Attributes:
        erasure: How to erase concepts.
        eraser: Erases them.
        layers: The layers to explain, in the order of the network.
        precision: The precision of the gradients at each layer.

    Raises:
        LayerError: When the network has no such layer, or it cannot be explained.

    Example:
        >>> import numpy as np, torch, vtcav
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU(),
        ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
        >>> model = vtcav.Classifier(net, ["cat", "dog", "fox"], vtcav.Preprocess(32))
        >>> noise = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3)).astype(np.uint8)
        >>> explainer = vtcav.VisualTCAV(model, layers=["1"], steps=2)
        >>> bank = explainer.fit({"dark": noise[:10] // 4}, negatives=noise[10:]).cavs
        >>> attributor = Attributor(model, bank, IntegralSettings(2))
        >>> images = attributor.forward(["a", "b"], torch.rand(2, 3, 32, 32))
        >>> [result.a.shape for result in attributor.results(images, classes=[0, 2])]
        [torch.Size([2, 2, 1])]
    """

    def __init__(
        self,
        model: Model,
        cavs: CavBank,
        settings: IntegralSettings,
        erasure: ErasureSettings | None = None,
    ) -> None:
        self.model = model
        self.cavs = cavs
        self.settings = settings
        self.erasure = erasure or ErasureSettings(fill=None)
        self.eraser = Eraser(model, Targets.of(cavs), self.erasure, settings.images)
        self.removal = FeatureRemoval(model, cavs, self.erasure, settings.images)
        self.layers = model.check_layers(list(cavs.layers))
        self.precision = GradientPrecision.of(settings.precision, model.device)
        self._budget = Budget(settings.batch_size)
        self._zero_logits: dict[tuple[object, ...], Tensor] = {}

    def forward(self, names: Sequence[str], x: Tensor) -> ForwardPass:
        """Pass preprocessed images [N, 3, H, W] through the network.

        Raises:
            ModelError: When the network gives infinite values or NaN.
        """
        with network_errors(f"for {names[0]!r}" if len(names) == 1 else f"in {len(names)} images"):
            return ForwardPass.of(self.model, [layer.name for layer in self.layers], names, x)

    def results(self, images: ForwardPass, classes: Sequence[int]) -> Iterator[LayerResult]:
        """Yield the result at each layer and drop its feature maps, which frees their memory.

        Args:
            images: A pass of N images; its `maps` are empty in the end.
            classes: T class indices.

        Raises:
            ExplanationError: For a layer after which the network is not finite.
        """
        for layer in self.layers:
            result = self._result(layer.name, images, classes)
            del images.maps[layer.name]
            yield result

    def effects(
        self,
        images: ForwardPass,
        regions: Regions,
        classes: Sequence[int],
        allotment: Allotment,
        shown: dict[tuple[int, int], Tensor] | None = None,
    ) -> list[EffectRow]:
        """Return the effects of erasing regions, without q-values: `Eraser.rows`.

        Raises:
            ModelError: When the network gives infinite values or NaN.
        """
        with network_errors("for an image without a concept"):
            found = self.eraser.rows(images, regions, classes, allotment, shown)
            return found + self.removal.rows(images, classes)

    def class_rows(
        self,
        names: Sequence[str],
        digests: Sequence[str],
        x: Tensor,
        index: int,
        allotment: Allotment,
    ) -> tuple[list[tuple[Any, ...]], list[EffectRow], dict[str, NDArray[np.float64]]]:
        """Explain one class for a batch of images.

        Args:
            names: The N images' names.
            digests: SHA-256 of their content.
            x: The network's inputs [N, 3, H, W].
            index: The class.
            allotment: The placebos and ways to fill that are due at these images.

        Returns:
            The table rows, image by image, with the class's probability and the name of the most
            probable class; the rows of effects; and by layer the sums over the images of the
            resampled CAVs' attributions [J].

        Raises:
            ModelError: When the network gives infinite values or NaN.
            ExplanationError: For a layer after which the network is not finite.
        """
        class_names = self.model.class_names
        images = self.forward(names, x)
        effects = self.effects(images, self.eraser.regions(images), [index], allotment)
        sources = [self.cavs.concepts_of(digest) for digest in digests]
        best = [class_names[int(row.argmax())] for row in images.probabilities]
        rows: list[list[tuple[Any, ...]]] = [[] for _ in names]
        sums = {}
        for result in self.results(images, [index]):
            sums[result.layer] = result.a_resampled[:, 0].double().sum(0).numpy()
            for n, name in enumerate(names):
                prediction = float(images.probabilities[n, index]), best[n]
                own = result.rows(name, class_names, n, sources[n])
                rows[n] += [(*row, *prediction) for row in own]
        return [row for image in rows for row in image], effects, sums

    def layer_images(self, layer: str, images: ForwardPass, classes: Sequence[int]) -> LayerImages:
        """Return images at one layer, ready for the integral."""
        head, F = self.model.head(layer).of(images.x), images.maps[layer]
        z0 = self._at_zero(head, F)
        precision = self.precision.at(layer)
        binary = self.model.binary
        return LayerImages(head, self.cavs, F, images.z, z0, tuple(classes), binary, precision)

    def measure_precision(self, passes: Iterable[ForwardPass], classes: Sequence[int]) -> None:
        """Measure how far mixed precision moves the attributions of some images, once.

        The worst error over images, concepts and classes is kept for each layer.

        Args:
            passes: Passes of images, as many as `precision.images`.
            classes: T class indices.

        Raises:
            ExplanationError: For a layer after which the network is not finite.

        Warns:
            UserWarning: When it exceeds the tolerance.
        """
        if not self.precision.is_due:
            return
        errors: dict[str, float] = {}
        for images in passes:
            for layer in images.maps:
                moved = self._moved(layer, images, classes)
                errors[layer] = float(np.fmax(moved, errors.get(layer, nan)))
        if errors:
            self.precision = self.precision.measured(errors, self.settings.tolerance)

    def measure_precision_at(self, refs: Sequence[ImageRef], index: int) -> None:
        """Measure it at the first readable images of a list, for one class."""
        readable = self._readable(refs) if self.precision.is_due else iter(())
        self.measure_precision(islice(readable, self.precision.images), [index])

    def _readable(self, refs: Sequence[ImageRef]) -> Iterator[ForwardPass]:
        """Yield the pass of each image that can be read."""
        for ref in refs:
            try:
                x = to_tensor(self.model.preprocess, ref.load(), ref.name)[None]
            except ImageError:  # reported later, with all others
                continue
            yield self.forward([ref.name], x)

    def _moved(self, layer: str, images: ForwardPass, classes: Sequence[int]) -> float:
        """Return the error of mixed precision at a layer, relative to attributions or `FLOOR`.

        For "auto" NaN where no attribution is large enough to tell, and infinity where the network
        cannot be computed so.
        """
        settings = self.precision.rule(self.settings)
        with network_errors(f"at layer {layer!r}"):
            here = replace(self.layer_images(layer, images, classes), precision=None)
            exact = self._integrated(here, settings).a
        automatic = self.precision.asked == "auto"
        if automatic and exact.max() < FLOOR:
            return nan
        try:
            with network_errors(f"at layer {layer!r} with precision={self.precision.asked!r}"):
                rough = replace(here, precision=self.precision.candidate)
                a = self._integrated(rough, settings).a
        except VtcavError as error:
            if not automatic:
                raise
            _log.info("%s; its gradients keep the network's own precision", error)
            return float("inf")
        return float(((a - exact).abs() / exact.clamp(min=FLOOR)).max())

    def provenance(self, settings: dict[str, Any], *, measured: bool = True) -> Provenance:
        """Return what a result depends on, with its own settings.

        Args:
            settings: The result's settings.
            measured: Whether to include the measured error of mixed precision.
        """
        integral = self.settings
        settings = {
            "steps": integral.steps,
            "tolerance": integral.tolerance if integral.steps == "adaptive" else None,
            "batch_size": integral.batch_size,
            **self.precision.describe(measured=measured),
            **self.erasure.describe(),
            "fit": dict(self.cavs.settings),
            **settings,
        }
        return Provenance.of(self.model, self.layers, self.cavs, settings)

    def _result(self, layer: str, images: ForwardPass, classes: Sequence[int]) -> LayerResult:
        with network_errors(f"at layer {layer!r}"):
            return self._integrated(self.layer_images(layer, images, classes), self.settings)

    def _integrated(self, here: LayerImages, settings: IntegralSettings) -> LayerResult:
        size = self._budget.of(here.head, here.F, len(here.classes))
        return here.result(here.integral(settings, size))

    def _at_zero(self, head: Head, F: Tensor) -> Tensor:
        """Return the logits at zero feature maps [1, T_all], or [N, T_all] of a head per image."""
        key = (head.layer, *F.shape[1:])
        if key in self._zero_logits:
            return self._zero_logits[key]
        with torch.no_grad():
            z0 = head(torch.zeros_like(F if head.per_image else F[:1]))
        if not head.per_image:
            self._zero_logits[key] = z0
        return z0
