"""The attributor: steps 4 to 9 for batches of images, from a network, its CAVs and the settings.

`VisualTCAV`, the explorer and the workers of a cluster all compute explanations with it, and need
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ImageError, warn
from vtcav.explainer.layer_analysis import LayerImages, LayerResult, analyse
from vtcav.explainer.settings import IntegralSettings
from vtcav.images.preprocess import Preprocess, to_tensor
from vtcav.images.references import ImageRef
from vtcav.method.integral.trapezoid import FLOOR
from vtcav.models.base import Head, Model
from vtcav.models.finite import check_finite
from vtcav.models.foreign_errors import network_errors
from vtcav.models.heads.batch_size import Budget
from vtcav.results.bank import CavBank
from vtcav.results.provenance import Provenance, versions

__all__ = ["Attributor", "ForwardPass"]


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """One pass of N images through the network.

    Attributes:
        names: The images' names.
        x: The network's inputs [N, 3, H, W].
        maps: Feature maps F [N, C, h, w] by layer.
        z: Logits [N, T].
        probabilities: Class probabilities [N, T], in the computer's main memory.
    """

    names: tuple[str, ...]
    x: Tensor
    maps: dict[str, Tensor]
    z: Tensor
    probabilities: Tensor

    @classmethod
    def of(
        cls, model: Model, layers: Sequence[str], names: Sequence[str], x: Tensor
    ) -> ForwardPass:
        """Pass images through a network.

        Raises:
            ModelError: When the network gives infinite values or NaN.
        """
        maps, z = model.activations_and_logits(x, layers)
        check_finite(names, maps, z)
        return cls(tuple(names), x, maps, z, model.probabilities(z).cpu())


class Attributor:
    """Steps 4 to 9 for batches of images, at every layer of a bank.

    It keeps what does not depend on the images: the logits at zero feature maps, the batch sizes
    that fit into memory, and the measured error of mixed precision.

    Args:
        model: The network.
        cavs: Concepts learned with this network, at the layers to explain.
        settings: How to integrate.

    Attributes:
        layers: The layers to explain, in the order of the network.
        precision_error: For each layer, how far mixed precision moves attributions, relative to
            the attribution or to 0.01 for smaller ones; None until it is measured.

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

    def __init__(self, model: Model, cavs: CavBank, settings: IntegralSettings) -> None:
        self.model = model
        self.cavs = cavs
        self.settings = settings
        self.layers = model.check_layers(list(cavs.layers))
        self.precision_error: dict[str, float] | None = None
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
            result = self._result(layer.name, images, classes, self.settings)
            del images.maps[layer.name]
            yield result

    def class_rows(
        self, names: Sequence[str], digests: Sequence[str], x: Tensor, index: int
    ) -> tuple[list[tuple[Any, ...]], dict[str, NDArray[np.float64]]]:
        """Explain one class for a batch of images.

        Args:
            names: The N images' names.
            digests: SHA-256 of their content.
            x: The network's inputs [N, 3, H, W].
            index: The class.

        Returns:
            The table rows, image by image, with the class's probability and the name of the most
            probable class; and by layer the sums over the images of the resampled CAVs'
            attributions [J].

        Raises:
            ModelError: When the network gives infinite values or NaN.
            ExplanationError: For a layer after which the network is not finite.
        """
        class_names = self.model.class_names
        images = self.forward(names, x)
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
        return [row for image in rows for row in image], sums

    def layer_images(self, layer: str, images: ForwardPass, classes: Sequence[int]) -> LayerImages:
        """Return images at one layer, ready for the integral."""
        head, F = self.model.head(layer).of(images.x), images.maps[layer]
        z0 = self._at_zero(head, F)
        return LayerImages(head, self.cavs, F, images.z, z0, tuple(classes), self.model.binary)

    def measure_precision(self, images: ForwardPass, classes: Sequence[int]) -> None:
        """Measure how far mixed precision moves the attributions of some images.

        This is done once, as it costs as much as explaining them; the worst error over concepts
        and classes is kept for each layer.

        Warns:
            UserWarning: When it exceeds the tolerance.
        """
        if self.settings.precision is None or self.precision_error is not None:
            return
        exact = replace(self.settings, precision=None)
        errors: dict[str, float] = {}
        for layer in images.maps:
            a, b = (self._result(layer, images, classes, r).a for r in (self.settings, exact))
            errors[layer] = float(((a - b).abs() / b.clamp(min=FLOOR)).max())
        self.precision_error = errors
        worst = max(errors, key=lambda layer: errors[layer])
        if errors[worst] > self.settings.tolerance:
            warn(
                f"precision={self.settings.precision!r} moves attributions by up to "
                f"{errors[worst]:.1%} (layer {worst!r}, measured at the first image), more than "
                f"the tolerance of {self.settings.tolerance:.1%}; precision=None computes them as "
                "the network does"
            )

    def measure_precision_at(self, refs: Sequence[ImageRef], index: int) -> None:
        """Measure it at the first readable image of a list, for one class."""
        if self.settings.precision is None or self.precision_error is not None:
            return
        for ref in refs:
            try:
                x = to_tensor(self.model.preprocess, ref.load(), ref.name)[None]
            except ImageError:  # reported later, with all others
                continue
            self.measure_precision(self.forward([ref.name], x), [index])
            return

    def provenance(self, settings: dict[str, Any], *, measured: bool = True) -> Provenance:
        """Return what a result depends on, with its own settings.

        Args:
            settings: The result's settings.
            measured: Whether to include the measured error of mixed precision.
        """
        model, integral = self.model, self.settings
        precision: dict[str, Any] = {"precision": integral.precision} if integral.precision else {}
        if self.precision_error and measured:
            precision["precision_error"] = self.precision_error
        preprocess = model.preprocess
        return Provenance(
            versions=versions(),
            model={
                "network": model.described,
                "fingerprint": model.fingerprint,
                "logits": model.logits_source,
                "binary": model.binary,
                "device": str(model.device),
                "preprocess": (
                    preprocess.describe()
                    if isinstance(preprocess, Preprocess)
                    else repr(preprocess)
                ),
            },
            layers=tuple(
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "shape": list(layer.shape),
                    "resume": model.head(layer.name).resume,
                }
                for layer in self.layers
            ),
            concepts=self.cavs.concepts,
            settings={
                "steps": integral.steps,
                "tolerance": integral.tolerance if integral.steps == "adaptive" else None,
                "batch_size": integral.batch_size,
                **precision,
                "fit": dict(self.cavs.settings),
                **settings,
            },
            from_cache={role: dict(kinds) for role, kinds in self.cavs.from_cache.items()},
        )

    def _result(
        self, layer: str, images: ForwardPass, classes: Sequence[int], settings: IntegralSettings
    ) -> LayerResult:
        with network_errors(f"at layer {layer!r}"):
            here = self.layer_images(layer, images, classes)
            size = self._budget.of(here.head, here.F, len(classes))
            return analyse(here, here.integral(settings, size))

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
