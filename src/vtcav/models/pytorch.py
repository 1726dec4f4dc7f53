"""Any `torch.nn.Module` that classifies images."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vtcav.errors import LayerError, ModelError
from vtcav.models.base import LayerInfo, Model
from vtcav.models.head import ModuleHead, resume
from vtcav.models.layers import refusal, usable_layers
from vtcav.models.output import LogitReader, find_logits
from vtcav.models.state import checksums, evaluating, fingerprint
from vtcav.models.trace import Trace, record
from vtcav.preprocess import Preprocess, to_tensor

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Classifier"]

# Tried in turn when no preprocessing tells the size of the network's input.
_COMMON_SHAPES = [(3, size, size) for size in (224, 299, 384, 256, 512, 128, 96, 64, 32, 28)]


class Classifier(Model):
    """A PyTorch network with its class names and its preprocessing.

    The module is borrowed, never changed: evaluation mode, hooks and gradient flags are set for
    a pass and put back afterwards, also after an exception.

    Args:
        module: Any `torch.nn.Module` that maps images [N, 3, H, W] to class scores [N, T]. Scores
            behind a final softmax or sigmoid are found and used (see `logits_source`). Of
            `nn.DataParallel` and `torch.compile` the module inside is taken.
        class_names: T names by class index. For a binary network [negative, positive].
        preprocess: A `Preprocess`, or any callable from a PIL image to a tensor [3, H, W]. None
            takes pictures at their own size, scaled to [0, 1], and warns.
        binary: Whether the network has a single logit, positive above 0.
        device: Where to compute. "auto" is where the module's weights are; for another device the
            module is copied, the original stays where it is.

    Raises:
        ModelError: When the network's output is no score vector, does not fit `class_names` or
            `binary`, cannot be computed for the preprocessing's size or is not the same for an
            image alone as in a batch; or when the module is no eager one with its weights loaded.

    Example:
        >>> import torch, vtcav
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(),
        ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2))
        >>> model = vtcav.Classifier(net, ["cat", "dog"], vtcav.Preprocess(32))
        >>> [(layer.name, layer.kind, layer.shape) for layer in model.layers()]
        [('0', 'Conv2d', (8, 30, 30)), ('1', 'ReLU', (8, 30, 30))]
    """

    def __init__(
        self,
        module: nn.Module,
        class_names: Sequence[str] | None = None,
        preprocess: Callable[[Image.Image], Tensor] | None = None,
        binary: bool = False,
        device: str | torch.device = "auto",
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ModelError(
                f"expected a torch.nn.Module, got {type(module).__name__}; "
                "for a model by name use vtcav.load_model"
            )
        if preprocess is not None and not callable(preprocess):
            raise ModelError(
                "preprocess must be vtcav.Preprocess(...) or a callable from a PIL image to a "
                f"tensor [3, H, W], got {type(preprocess).__name__}"
            )
        self.module, self.device = _place(_eager(module), device)
        self.dtype = next(
            (t.dtype for t in _tensors(self.module) if t.is_floating_point()), torch.float32
        )
        self.binary = binary
        if preprocess is None:
            warnings.warn(
                "no preprocess given: pictures are used at their own size, scaled to [0, 1]. "
                "Pass the preprocessing the network was trained with, for example "
                "vtcav.Preprocess(224, mean=..., std=...)",
                stacklevel=2,
            )
        self.preprocess = Preprocess(None) if preprocess is None else preprocess
        # not square, so that a preprocessing that keeps the shape of the picture shows
        shapes = _COMMON_SHAPES if preprocess is None else [_shape_of(preprocess, 320, 288)]
        self._probe, self._reader = self._first_pass(shapes)
        self.logits_source = self._reader.source
        self.class_names = _class_names(
            class_names, 2 if binary else self._reader.classes, binary=binary
        )
        count = sum(p.numel() for p in self.module.parameters())
        kind = type(self.module).__name__
        self.described = f"{kind} ({count:,} weights, {len(self.class_names)} classes)"
        self._fingerprint: tuple[tuple[object, ...], str] | None = None
        self._heads: dict[str, ModuleHead] = {}

    def __repr__(self) -> str:
        return (
            f"Classifier({type(self.module).__name__}, {len(self.class_names)} classes, "
            f"preprocess={self.preprocess!r}, binary={self.binary}, device='{self.device}')"
        )

    # -- what the network is ------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the architecture (its repr) and every weight, anew when these change."""
        state = checksums(self.module)
        if self._fingerprint is None or self._fingerprint[0] != state:
            self._fingerprint = state, fingerprint(self.module)
        return self._fingerprint[1]

    def layers(self) -> list[LayerInfo]:
        """Return the layers that can be explained, in the order in which they compute.

        A layer is usable when its output is one tensor [N, C, h, w] with more than one place,
        computed once a pass, that every path from the input to the scores crosses. The
        recommended ones are the last of each stage, from a quarter of the input's size on.
        """
        return list(self._layers.values())

    def check_layers(self, names: Sequence[str] | None) -> list[LayerInfo]:
        """Return the named layers in the order of the network (None: the recommended ones).

        Raises:
            LayerError: For a name that is unknown or a layer that cannot be explained; the
                message names the closest usable ones.
        """
        if isinstance(names, str):
            raise LayerError(f"layers must be a list of names, got the text {names!r}")
        if names is None:
            recommended = [layer for layer in self._layers.values() if layer.recommended]
            if not recommended:
                raise LayerError(
                    "this network has no usable layer: none gives feature maps [C, h, w] that "
                    "every path from the input to the scores crosses"
                )
            return recommended
        if not names:
            raise LayerError("layers is empty: name at least one layer, or pass None")
        for name in names:
            if not isinstance(name, str):
                raise LayerError(f"layers must be a list of names, got {name!r} in it")
            if name not in self._layers:
                modules = [name for name, _ in self.module.named_modules()]
                raise LayerError(refusal(name, self._trace, self._size, self._layers, modules))
        return [layer for name, layer in self._layers.items() if name in set(names)]

    # -- what the network computes ------------------------------------------------------------

    def activations(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return F [N, C, h, w] (float32) of each layer, from one pass that stops early.

        Args:
            images: Preprocessed images [N, 3, H, W].
            layers: Names from `layers()`.

        Raises:
            LayerError: For a layer that cannot be explained, or that does not run this time.
        """
        self.check_layers(layers)
        maps: dict[str, Tensor] = {}
        recording = self._recording(layers, maps, stop=True)
        with torch.no_grad(), evaluating(self.module), recording, suppress(_AllRecorded):
            self.module(self._input(images))
        return _in_order(maps, layers)

    def activations_and_logits(
        self, images: Tensor, layers: Sequence[str]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return F [N, C, h, w] of each layer and the logits z [N, T], from one whole pass."""
        self.check_layers(layers)
        maps: dict[str, Tensor] = {}
        with torch.no_grad(), evaluating(self.module), self._recording(layers, maps, stop=False):
            logits = self._reader.run(self.module, self._input(images)).float()
        return _in_order(maps, layers), logits

    def head(self, layer: str) -> ModuleHead:
        """Return the network after `layer`; the first time, check it against the plain pass.

        Raises:
            LayerError: When the layer cannot be explained, or the check fails.
        """
        if layer not in self._heads:
            self.check_layers([layer])
            try:
                self._heads[layer] = resume(
                    self.module, layer, self._trace, self._reader, self._probe[-1:], self._probes
                )
            except LayerError as error:
                names = list(self._layers)
                later = ", ".join(map(repr, names[names.index(layer) + 1 :][:3])) or "none"
                raise LayerError(f"{error}. The next usable layers: {later}") from error
        return self._heads[layer]

    def logits(self, images: Tensor) -> Tensor:
        """Return the pre-softmax scores z [N, T] (float32) of preprocessed images."""
        with torch.no_grad(), evaluating(self.module):
            return self._reader.run(self.module, self._input(images)).float()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities [N, T] of logits; [N, 2] (negative, positive) when binary."""
        if self.binary:
            positive = torch.sigmoid(logits[:, :1])
            return torch.cat([1 - positive, positive], 1)
        if self._reader.activation == "sigmoid":
            return torch.sigmoid(logits)
        return torch.softmax(logits, 1)

    def predict(self, images: Iterable[Image.Image]) -> Tensor:
        """Return probabilities [N, T] of RGB pictures, on the CPU, one picture after another."""
        inputs = (to_tensor(self.preprocess, p, f"image[{i}]") for i, p in enumerate(images))
        return torch.cat([self.probabilities(self.logits(x[None])).cpu() for x in inputs])

    # -- inside -------------------------------------------------------------------------------

    def _input(self, images: Tensor) -> Tensor:
        return images.to(self.device, self.dtype)

    def _first_pass(self, shapes: Sequence[tuple[int, ...]]) -> tuple[Tensor, LogitReader]:
        """Run a few noise images of the first shape that fits and see how the scores are read."""
        failure: Exception | None = None
        for shape in shapes:
            probe = self._input(_noise(3, shape))
            try:
                with evaluating(self.module):
                    return probe, find_logits(self.module, probe, binary=self.binary)
            except ModelError:
                raise
            except Exception as error:  # noqa: BLE001  (a user's forward may raise anything)
                failure = failure or error
        raise ModelError(
            f"the network cannot compute images of shape {' or '.join(map(str, shapes))}: "
            f"{type(failure).__name__}: {failure}; "
            "give the preprocess that makes the input the network expects"
        ) from failure

    @cached_property
    def _probes(self) -> list[Tensor]:
        """Images to check heads with: of a second size too, where pictures keep their own."""
        probes = [self._probe[:-1]]
        height, width = self._size
        shape = _shape_of(self.preprocess, width * 5 // 4, height)
        if shape != self._probe.shape[1:]:
            images = self._input(_noise(2, shape))
            with suppress(Exception):  # then the network takes images of one size alone
                self.logits(images)
                probes.append(images)
        return probes

    @cached_property
    def _size(self) -> tuple[int, int]:
        height, width = self._probe.shape[2:]
        return height, width

    @cached_property
    def _trace(self) -> Trace:
        with evaluating(self.module):
            return record(self.module, self._probe[-1:], lambda out: self._reader.read(out, 1))

    @cached_property
    def _layers(self) -> dict[str, LayerInfo]:
        return usable_layers(self._trace, self._size)

    @contextmanager
    def _recording(
        self, layers: Sequence[str], maps: dict[str, Tensor], *, stop: bool
    ) -> Iterator[None]:
        """Record the output of each layer into `maps` during a pass."""

        def keeper(name: str) -> Callable[..., None]:
            def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                # a clone, for the next layer may work in place
                maps[name] = output.detach().float().clone()
                if stop and len(maps) == len(set(layers)):
                    raise _AllRecorded

            return keep

        handles = []
        try:
            for name in layers:
                hook = keeper(name)
                handles.append(self.module.get_submodule(name).register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()


class _AllRecorded(BaseException):
    """Ends a pass after the deepest layer; no `except Exception` in a network stops it."""


def _in_order(maps: dict[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
    """Return the recorded maps in the order asked for."""
    missing = [name for name in layers if name not in maps]
    if missing:
        raise LayerError(
            f"layer {missing[0]!r} ran when the network was first seen and did not run for these "
            "images; expected a network that runs the same modules for all images"
        )
    return {name: maps[name] for name in layers}


def _eager(module: nn.Module) -> nn.Module:
    """Return the plain module inside wrappers, or raise where hooks or gradients cannot work."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile
            module = inner
        else:
            break
    for name, part in module.named_modules():
        where = f"its part {name!r}" if name else "it"
        if isinstance(part, torch.jit.ScriptModule):
            raise ModelError(
                f"expected an eager torch.nn.Module, but {where} is compiled by TorchScript, which "
                "hides its layers; use the network before torch.jit.script or torch.jit.trace"
            )
        if hasattr(part, "_orig_mod") or part._compiled_call_impl is not None:
            raise ModelError(
                f"expected an eager torch.nn.Module, but {where} is compiled by torch.compile, "
                "which may leave out hooks; use the network before that"
            )
    _check_weights(module)
    return module


def _check_weights(module: nn.Module) -> None:
    for weight in _tensors(module):
        if weight.is_meta or nn.parameter.is_lazy(weight):
            raise ModelError(
                "expected a network with its weights in memory, but some are not initialised "
                "(meta device or lazy modules); load them, or run the network once, before"
            )
        if weight.is_inference():
            raise ModelError(
                "expected a network that autograd can differentiate, but some of its weights were "
                "made under torch.inference_mode(); build or load it outside of that"
            )


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())


def _place(module: nn.Module, device: str | torch.device) -> tuple[nn.Module, torch.device]:
    """Return the module (a copy when it has to move) and the device it computes on."""
    current = next((tensor.device for tensor in _tensors(module)), torch.device("cpu"))
    if device == "auto":
        return module, current
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError, TypeError) as error:
        message = str(error).splitlines()[0]
        raise ModelError(
            f"device {str(device)!r} cannot be used: {message}; use 'auto' or 'cpu'"
        ) from error
    if wanted.type == current.type and wanted.index in (None, current.index):
        return module, current
    try:
        return copy.deepcopy(module).to(wanted), wanted
    except Exception as error:
        raise ModelError(
            f"the network cannot be copied to device {str(device)!r}: {error}; move it there "
            "yourself and leave device='auto'"
        ) from error


def _shape_of(
    preprocess: Callable[[Image.Image], Tensor], width: int, height: int
) -> tuple[int, ...]:
    """Return the shape [3, H, W] that the preprocessing makes of a picture."""
    from PIL import Image

    picture = Image.new("RGB", (width, height), (120, 130, 140))
    return tuple(to_tensor(preprocess, picture, "a grey probe picture").shape)


def _noise(count: int, shape: Sequence[int]) -> Tensor:
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.standard_normal((count, *shape), dtype=np.float32))


def _class_names(names: Sequence[str] | None, count: int, *, binary: bool) -> tuple[str, ...]:
    if names is None:
        return ("negative", "positive") if binary else tuple(f"class {i}" for i in range(count))
    if not isinstance(names, str):
        names = list(names)
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ModelError("class_names must be a list of texts, one per class index")
    if len(names) != count:
        order = " ([negative, positive])" if binary else ""
        raise ModelError(
            f"expected {count} class names{order}, one per score of the network, got {len(names)}"
        )
    return tuple(names)
