"""The model of a `torch.nn.Module` that classifies images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from vtcav.errors import LayerError, ModelError, warn
from vtcav.images.preprocess import Preprocess, to_tensor
from vtcav.images.signature import probe_picture, tensor_of_rgb
from vtcav.models.base import LayerInfo, Model
from vtcav.models.classifier_checks import check_arguments, checked_names
from vtcav.models.foreign_errors import network_errors
from vtcav.models.heads.channels_last import images_channels_last
from vtcav.models.heads.resumed import ModuleHead, resume
from vtcav.models.inspection.ambient import unaffected
from vtcav.models.inspection.fingerprint import checksums, fingerprint
from vtcav.models.inspection.layout import Layout
from vtcav.models.inspection.logits import LogitReader, Score, find_logits
from vtcav.models.inspection.network import open_network
from vtcav.models.inspection.probing import (
    COMMON_SHAPES,
    first_pass,
    noise,
    shape_of,
    with_channels,
)
from vtcav.models.inspection.unwrapping import eager, place, tensors_of
from vtcav.models.inspection.usable_layers import UsableLayers
from vtcav.models.memory import BatchSize
from vtcav.models.passes.forward import Forward
from vtcav.models.second_input import SecondInput, TwoInputs, Values, with_second
from vtcav.models.settings import Runtime, Task


class Classifier(Model):
    """A PyTorch network with its class names and its preprocessing.

    The module is never changed: a private copy of its modules runs, which shares its weights, in
    one thread at a time. Where no copy is possible (`network.is_private` is False) the module is
    borrowed: evaluation mode, hooks and gradient flags are set for a pass and put back
    afterwards, also after an exception.

    Args:
        module: Any `torch.nn.Module` that maps images [N, C, H, W] to class scores [N, T]. Scores
            before a final softmax or sigmoid are found and used (see `logits_source`). The module
            inside `nn.DataParallel` or `torch.compile` is unwrapped.
        class_names: T names by class index. For a binary network [negative, positive].
        preprocess: A `Preprocess`, or any callable from a PIL image to a tensor [C, H, W], which
            gets pictures of many channels as `BandPicture`, whose `values` [H, W, C] are those of
            the file. None takes pictures at their own size, scaled to [0, 1], and warns.
        binary: Whether the network has a single logit, positive above 0.
        device: Where to compute. "auto" is where the module's weights are. For another device the
            module is copied and the original stays where it is.
        layouts: The layout of layers where it cannot be detected, by layer name or pattern:
            {"stem": "NHWC", "blocks.*": "tokens(1+14x14)"}. A pattern applies where it fits.
        task: The kind of scores: "classes", of which one is right (softmax); "labels", each of
            which is right or not (sigmoid); or "regression", one number, explained towards lower
            and higher values, which `class_names` then name. "auto" recognises labels by a final
            sigmoid.
        output: Which of several outputs holds the scores: its index, key or attribute. None takes
            the `logits`, or the only output that can be scores.
        runtime: What computes forward passes on a processor. "auto" takes ONNX Runtime (extra
            `fast`) for passes that are worth it, where it is installed and gives the same numbers.
            "torch" never takes it; "onnxruntime" is an error where it is not installed.
        score: A score of your own: a function of the network's output for N images that returns
            scores [N, T], which are explained as they are; or one of `vtcav.scores`, for
            detectors, segmentation and embeddings. `class_names` then name the scores. They have
            no probabilities, unless `task` says so.
        second: The second input of `module(images, second)` for each image, by its name: a
            mapping, a table or a `SecondInput`. It is held fixed along the integral, and where a
            region is erased. Names of layers then begin with "network.".

    Raises:
        ModelError: When the network's output is not a vector of scores, does not fit `class_names`
            or `binary`, cannot be computed for the preprocessing's size, or differs between an
            image alone and in a batch; or when the module is not an eager one with loaded weights.
        ExtraError: When `runtime` asks for ONNX Runtime and it is not installed.

    Example:
        >>> import torch, vtcav
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(),
        ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2))
        >>> model = vtcav.Classifier(net, ["cat", "dog"], vtcav.Preprocess(32))
        >>> [(layer.name, layer.kind, layer.shape) for layer in model.layers()]
        [('0', 'Conv2d', (8, 30, 30)), ('1', 'ReLU', (8, 30, 30))]
    """

    _runs_a_copy = True
    _layers_of = UsableLayers

    @unaffected
    def __init__(
        self,
        module: nn.Module,
        class_names: Sequence[str] | None = None,
        preprocess: Callable[[Image.Image], Tensor] | None = None,
        binary: bool = False,
        device: str | torch.device = "auto",
        *,
        layouts: Mapping[str, str | Layout] | None = None,
        task: Task = "auto",
        output: int | str | None = None,
        runtime: Runtime = "auto",
        score: Score | None = None,
        second: SecondInput | Values | None = None,
    ) -> None:
        check_arguments(module, preprocess, binary, task, runtime, score)
        self.second = second
        if second is not None:
            module, preprocess = with_second(eager(module), preprocess, second)
        self.module, self.device = place(eager(module), device)
        self.dtype = next(
            (t.dtype for t in tensors_of(self.module) if t.is_floating_point()), torch.float32
        )
        self.output, self.score, self._runtime = output, score, runtime
        self.task, self.binary = task, binary or task == "regression"
        self.preprocess, shapes = self._preprocessing(preprocess)
        self.network, (self._probe, self._reader) = open_network(
            self.module,
            lambda network: first_pass(network, self._input, shapes, self._find_logits),
            private=self._runs_a_copy,
        )
        self.logits_source = self._reader.source
        self.class_names = checked_names(
            class_names, 2 if self.binary else self._reader.classes, self._ends
        )
        count = sum(p.numel() for p in self.module.parameters())
        self.described = f"{self._name} ({count:,} weights, {len(self.class_names)} classes)"
        with torch.no_grad(), self.network.running() as network:
            self._channels_last = images_channels_last(
                network, lambda x: self._reader.run(network, x), self._probe
            )
        self._fingerprint: tuple[tuple[object, ...], str] | None = None
        self._heads: dict[str, ModuleHead] = {}
        self._pass = BatchSize(sys.maxsize, "images")  # all at once, until memory runs out
        self.layouts = dict(layouts or {})
        self._layers = self._layers_of(self.network, self._reader, self._probe[-1:], self.layouts)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._name}, {len(self.class_names)} classes, "
            f"preprocess={self.preprocess!r}, binary={self.binary}, device='{self.device}')"
        )

    # -- inspection ---------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the architecture (its repr) and all weights; recomputed when they change."""
        state = checksums(self.module)
        if self._fingerprint is None or self._fingerprint[0] != state:
            self._fingerprint = state, fingerprint(self.module)
        return self._fingerprint[1]

    @property
    def runtime(self) -> str:
        """What computes forward passes, and which batch norms are folded, in words."""
        return self.forward.described

    @property
    def runtime_differences(self) -> dict[str, dict[str, float]]:
        """How far its first results were from those of the plain pass, by what computed them."""
        return self.forward.measured

    @network_errors("while its layers are inspected")
    def layers(self) -> list[LayerInfo]:
        """Return the layers that can be explained, in the order in which they compute.

        A layer is usable when its output holds feature maps with more than one position, computed
        once a pass, that every path from the input to the scores crosses. Maps may have their
        channels first or last, or be tokens (`LayerInfo.layout`). The recommended layers are the
        last of each stage, from a quarter of the input's size on. In a network with a single
        resolution (a transformer) they are the last of each quarter of its blocks.
        """
        return list(self._layers.infos.values())

    @network_errors("while its layers are inspected")
    def check_layers(self, names: Sequence[str] | None) -> list[LayerInfo]:
        """Return the named layers in the order of the network (None: the recommended ones).

        Raises:
            LayerError: For a name that is unknown or a layer that cannot be explained; the
                message names the closest usable ones.
        """
        return self._layers.check(names)

    @network_errors("while its layers are inspected")
    def layout(self, layer: str) -> Layout:
        """Return how the output of a layer holds its feature maps."""
        return self._layers.layout_of(layer)

    @property
    def picture_channels(self) -> int | None:
        """How many channels of the input are the picture's; None for all."""
        return self.module.channels if isinstance(self.module, TwoInputs) else None

    # -- computation --------------------------------------------------------------------------

    @network_errors("in a pass")
    def activations(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return F [N, C, h, w] (float32) of each layer, from one pass that stops early.

        Args:
            images: Preprocessed images [N, 3, H, W].
            layers: Names from `layers()`.

        Raises:
            LayerError: For a layer that cannot be explained, or that does not run this time.
        """
        self.check_layers(layers)

        def work(rows: slice) -> dict[str, Tensor]:
            return self.forward.run(self._batch(images[rows]), layers, whole=False).maps

        return _joined(list(self._pass.run(len(images), work)))

    @network_errors("in a pass")
    def activations_and_logits(
        self, images: Tensor, layers: Sequence[str]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return F [N, C, h, w] of each layer and the logits z [N, T], from one whole pass."""
        self.check_layers(layers)
        return self._whole_pass(images, layers)

    @network_errors("when it runs on from a layer")
    def head(self, layer: str) -> ModuleHead:
        """Return the network after `layer`; the first time, check it against the plain pass.

        Raises:
            LayerError: When the layer cannot be explained, or the check fails.
        """
        if layer not in self._heads:
            self.check_layers([layer])
            try:
                self._heads[layer] = resume(
                    self.network,
                    layer,
                    self.layout(layer),
                    self._layers.trace,
                    self._reader,
                    self._probe[-1:],
                    self._probes,
                )
            except LayerError as error:
                names = list(self._layers.infos)
                later = ", ".join(map(repr, names[names.index(layer) + 1 :][:3])) or "none"
                raise LayerError(f"{error}. The next usable layers: {later}") from error
        return self._heads[layer]

    @network_errors("in a pass")
    def logits(self, images: Tensor) -> Tensor:
        """Return the pre-softmax scores z [N, T] (float32) of preprocessed images."""
        return self._whole_pass(images, ())[1]

    def images_together(self, count: int) -> int:
        """Return how many images to give to `logits` where there is memory for `count`."""
        return self.forward.together(count)

    @contextmanager
    def differentiable(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Yield the function from images to logits through which gradients reach the images.

        The images [N, 3, H, W] must be on the network's device and in its precision.
        """
        with network_errors("in a pass"), self.network.running() as network, torch.enable_grad():
            yield lambda x: self._reader.run(network, x)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities [N, T] of logits; [N, 2] (negative, positive) when binary.

        For a regression, which has none, the predicted number and before it its negative [N, 2];
        for scores of one's own, these.
        """
        if self.task == "regression":
            return torch.cat([-logits[:, :1], logits[:, :1]], 1)
        if self.binary:
            positive = torch.sigmoid(logits[:, :1])
            return torch.cat([1 - positive, positive], 1)
        activation = self._reader.activation if self.task == "auto" else ""
        if activation == "none":
            return logits
        if self.task == "labels" or activation == "sigmoid":
            return torch.sigmoid(logits)
        return torch.softmax(logits, 1)

    def predict(self, images: Iterable[Image.Image]) -> Tensor:
        """Return probabilities [N, T] of RGB pictures, on the CPU, one picture after another."""
        inputs = (to_tensor(self.preprocess, p, f"image[{i}]") for i, p in enumerate(images))
        return torch.cat([self.probabilities(self.logits(x[None])).cpu() for x in inputs])

    # -- inside -------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return type(self.module).__name__

    @property
    def _ends(self) -> tuple[str, str] | None:
        """The default names of the two ends of a single logit."""
        if not self.binary:
            return None
        return ("lower", "higher") if self.task == "regression" else ("negative", "positive")

    def _input(self, images: Tensor) -> Tensor:
        if self.device.type == "cuda" and images.device.type == "cpu":
            # a copy from pinned memory does not block
            return images.pin_memory().to(self.device, non_blocking=True).to(self.dtype)
        return images.to(self.device, self.dtype)

    def _batch(self, images: Tensor) -> Tensor:
        """Return images as the network takes them fastest."""
        order = torch.channels_last if self._channels_last else torch.contiguous_format
        return self._input(images).contiguous(memory_format=order)

    def _whole_pass(
        self, images: Tensor, layers: Sequence[str]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return F of each layer (none, if none is asked for) and the logits."""

        def work(rows: slice) -> tuple[dict[str, Tensor], Tensor]:
            maps, z = self.forward.run(self._batch(images[rows]), layers)
            assert z is not None
            return maps, z

        maps, logits = zip(*self._pass.run(len(images), work), strict=True)
        return _joined(maps), torch.cat(logits) if len(logits) > 1 else logits[0]

    def _maps(
        self, outputs: Mapping[str, Any], layers: Sequence[str], images: Sequence[int]
    ) -> dict[str, Tensor]:
        """Return F (float32) from the layers' outputs for images [N, C, H, W], as asked for."""
        missing = [name for name in layers if name not in outputs]
        if missing:
            raise LayerError(
                f"layer {missing[0]!r} ran when the network was first run, but did not run for "
                "these images; expected a network that runs the same modules for all images"
            )
        maps = {name: self.layout(name).to_maps(outputs[name], images[2:]) for name in layers}
        for name, F in maps.items():
            if len(F) != images[0]:
                raise LayerError(
                    f"layer {name!r} gives maps of {len(F)} images in a pass over {images[0]}; "
                    "expected a network that computes the images of a batch together"
                )
        return {name: F.float().contiguous() for name, F in maps.items()}

    def _preprocessing(
        self, preprocess: Callable[[Image.Image], Tensor] | None
    ) -> tuple[Callable[[Image.Image], Tensor], Sequence[tuple[int, ...]]]:
        """Return the preprocessing, and the shapes of input that it may make."""
        if preprocess is None:
            self.assumed = "pictures are used at their own size, scaled to [0, 1]"
            warn(
                f"no preprocess given: {self.assumed}. "
                "Pass the preprocessing the network was trained with, for example "
                "vtcav.Preprocess(224, mean=..., std=...)"
            )
            return Preprocess(None), COMMON_SHAPES
        preprocess = with_channels(preprocess, self.module)
        # not square, so that a preprocessing that keeps the shape of the picture shows
        return preprocess, [shape_of(preprocess, 320, 288)]

    def _find_logits(self, network: nn.Module, probe: Tensor) -> LogitReader:
        try:
            return find_logits(
                network, probe, binary=self.binary, output=self.output, score=self.score
            )
        except ModelError as error:
            if self.task == "regression" and "binary=True expects" in str(error):
                raise ModelError(
                    'task="regression" explains one predicted number, and the network gives '
                    "several: wrap it in a module that returns one of them, output[:, i]"
                ) from error
            raise

    @cached_property
    def forward(self) -> Forward:
        """The forward passes."""
        probe = self._probe[:1]
        with suppress(Exception):  # a user's preprocessing may not take the picture
            x = tensor_of_rgb(self.preprocess, probe_picture(), "a test picture")
            probe = self._input(x[None]) if x.shape == probe.shape[1:] else probe
        layers = self._cuts
        return Forward(self.network, self._reader, self._maps, layers, probe, self._runtime)

    def _cuts(self) -> frozenset[str]:
        """Return the layers that every path crosses: usable ones are among them."""
        return self._layers.trace.cuts

    @cached_property
    def _probes(self) -> list[Tensor]:
        """Images to check heads with: of a second size too, where pictures keep their own."""
        probes = [self._probe[:-1]]
        height, width = self._probe.shape[-2:]
        shape = shape_of(self.preprocess, width * 5 // 4, height)
        if shape != self._probe.shape[1:]:
            images = self._input(noise(2, shape))
            with suppress(Exception):  # the network takes images of one size only
                self.logits(images)
                probes.append(images)
        return probes


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the feature maps of all images, joined from those of some at a time."""
    if len(parts) == 1:
        return parts[0]
    return {name: torch.cat([maps[name] for maps in parts]) for name in parts[0]}
