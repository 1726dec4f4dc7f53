"""Forward passes: faster than as the network is written, where that agrees with the plain pass.

There are two ways: in ONNX Runtime (`onnx_runtime`), for passes of several images that take long
enough, and in PyTorch with batch norm folded into convolutions (`folding`). The first
images that pass in either way also pass as the network is written. A way whose results differ by
more than rounding is left from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from vtcav.models.inspection.activations import outputs_of, recording
from vtcav.models.inspection.logits import LogitReader
from vtcav.models.inspection.network import Network
from vtcav.models.inspection.probing import first_line
from vtcav.models.inspection.torch_internals import forward_hooks
from vtcav.models.passes import onnx_runtime
from vtcav.models.passes.folding import FoldedNorms, find_folds, structure
from vtcav.models.passes.onnx_runtime import OnnxSession
from vtcav.models.passes.snapshot import Snapshot
from vtcav.models.settings import Runtime

IMAGES = 2
"""Images that also pass as the network is written."""

FEWEST, LEAST_WORK = 4, 2e9
"""Images, and multiply-adds, of a pass in ONNX Runtime: it must be worth starting it."""

MOST = 256  # images of a pass, to tell whether it can ever be worth it
_TOGETHER, _BYTES = 4, 1 << 26  # of a pass of images that are computed one after another

_log = logging.getLogger("vtcav")

MapsOf: TypeAlias = Callable[[Mapping[str, Any], Sequence[str], Sequence[int]], dict[str, Tensor]]
"""Takes the outputs of layers to their feature maps F, for images of a shape [N, C, H, W]."""


class Passed(NamedTuple):
    """What images give: F [N, C, h, w] by layer, and the logits z [N, T] of a whole pass."""

    maps: dict[str, Tensor]
    z: Tensor | None

    def first(self, count: int) -> Passed:
        """Return what the first images give."""
        maps = {layer: F[:count] for layer, F in self.maps.items()}
        return Passed(maps, None if self.z is None else self.z[:count])


@dataclass(frozen=True)
class Difference:
    """How far two passes of the same images differ.

    Attributes:
        maps: The largest difference of a value of the maps, relative to a layer's largest value.
        logits: That of a logit, relative to the largest logit.
        directions: The difference of the direction from one image to the other (of an image's
            pooled maps, where there is one), relative to its length.
    """

    maps: float
    logits: float
    directions: float

    @property
    def is_rounding(self) -> bool:
        """Whether it is no more than rounding may do."""
        return self.maps <= 1e-4 and self.logits <= 1e-4 and self.directions <= 1e-5

    @classmethod
    def between(cls, found: Passed, expected: Passed) -> Difference:
        """Measure it.

        Example:
            >>> one = Passed({"a": torch.ones(1, 2, 3, 3)}, torch.tensor([[1.0, 2.0]]))
            >>> other = Passed({"a": torch.ones(1, 2, 3, 3)}, torch.tensor([[1.0, 2.5]]))
            >>> Difference.between(other, one)
            Difference(maps=0.0, logits=0.25, directions=0.0)
        """
        pairs = [(found.maps[layer], expected.maps[layer]) for layer in expected.maps]
        logits = [] if found.z is None or expected.z is None else [(found.z, expected.z)]
        return cls(
            max((_relative(a, b) for a, b in pairs), default=0.0),
            max((_relative(a, b) for a, b in logits), default=0.0),
            max((_relative(_direction(a), _direction(b)) for a, b in pairs), default=0.0),
        )


def _relative(found: Tensor, expected: Tensor) -> float:
    most = float(expected.abs().max())
    gap = float((found - expected).abs().max())
    return gap / most if most > 0 else gap


def _direction(F: Tensor) -> Tensor:
    """Return from where one image's pooled maps lie to the other's; of one image, its own."""
    gap = F.double().flatten(2).mean(2)
    alike = len(gap) < 2 or bool((gap[0] - gap[1]).norm() <= 1e-3 * gap[0].norm())
    return gap[0] if alike else gap[0] - gap[1]


class Forward:
    """The forward passes of a network.

    Attributes:
        differences: How far the first images' results differed from those of the plain pass, by
            the way that they were computed in.

    Args:
        network: The network.
        reader: How its logits are read.
        maps_of: Takes the outputs of layers to their maps.
        layers: Returns the layers whose maps may be asked for.
        probe: A picture as the network takes it [1, C, H, W].
        runtime: What may compute.
    """

    def __init__(
        self,
        network: Network,
        reader: LogitReader,
        maps_of: MapsOf,
        layers: Callable[[], Collection[str]],
        probe: Tensor,
        runtime: Runtime,
    ) -> None:
        self.differences: dict[str, Difference] = {}
        self._network, self._probe, self._runtime = network, probe, runtime
        self._plain, self._layers = _Plain(network, reader, maps_of), layers
        self._opened: dict[str, list[_Way]] = {}
        self._checked: set[tuple[str, bool]] = set()  # ways, and whether to the logits

    @property
    def described(self) -> str:
        """What computes, in words, for provenance."""
        return ", else ".join([way.described for way in self.ways()] or ["torch"])

    @property
    def measured(self) -> dict[str, dict[str, float]]:
        """The differences as plain data."""
        return {name: asdict(difference) for name, difference in self.differences.items()}

    def ways(self) -> list[_Way]:
        """Return the ways that are open, the fastest first."""
        return [*self._open(_InRuntime.name), *self._open(_Folded.name)]

    def together(self, count: int) -> int:
        """Return how many images to pass to the logits where there is memory for `count`.

        Where each passes by itself there may be more, so that fewer passes are compared.
        """
        image = self._probe[0].numel() * self._probe.element_size()
        most = min(_TOGETHER * count, _BYTES // image)
        return max(count, most) if count >= FEWEST and self._open(_InRuntime.name) else count

    def _open(self, name: str) -> list[_Way]:
        """Return a way, found out at its first use; none where it is not open."""
        if _is_hooked(self._network.original):
            return []
        if name not in self._opened:
            self._opened[name] = []  # for good, if this is interrupted
            way = self._in_runtime() if name == _InRuntime.name else self._folded()
            self._opened[name] = [] if way is None else [way]
        return self._opened[name]

    def run(self, x: Tensor, layers: Sequence[str], *, whole: bool = True) -> Passed:
        """Pass images through the network.

        Args:
            x: Images [N, C, H, W] as the network takes them.
            layers: Layers whose maps are asked for.
            whole: Whether to pass on to the logits.
        """
        # few images pass without finding out what only many need
        for way in self.ways() if len(x) >= FEWEST else self._open(_Folded.name):
            if way.takes(x):
                try:
                    found = way.run(x, layers, whole=whole)
                except RefusedError:
                    continue
                if self._agrees(way, found, x, layers, whole=whole):
                    return found
        return self._plain.run(x, layers, whole=whole)

    def _agrees(
        self, way: _Way, found: Passed, x: Tensor, layers: Sequence[str], *, whole: bool
    ) -> bool:
        """Compare the first results of a way with the plain pass; leave it if they differ.

        What is exported does not follow everything that the network's code may read: an object
        that a module holds, a global variable. So the first image of every later pass is compared.
        """
        known = (way.name, whole) in self._checked
        if known and way.name != _InRuntime.name:
            return True
        count = 1 if known else IMAGES
        plain = self._plain.run(x[:count], layers, whole=whole)
        difference = Difference.between(found.first(count), plain)
        if difference.is_rounding:
            self._checked |= {(way.name, whole), (way.name, False)}
            self.differences.setdefault(way.name, difference)
            return True
        _log.warning("not in %s: the results differ too much, %s", way.name, difference)
        self._opened[way.name] = []
        return False

    def _folded(self) -> _Folded | None:
        """Return passes with folded norms, where there are norms to fold."""
        precise = self._probe.dtype in (torch.float32, torch.float64)
        if not self._network.is_private or self._probe.device.type != "cpu" or not precise:
            return None
        try:
            with self._network.running() as module:
                folds = find_folds(module, self._probe, self._plain.read, self._layers)
                norms = FoldedNorms(folds, structure(module)) if folds else None
        except Exception as error:  # noqa: BLE001  (a user's forward may raise anything)
            _log.info("batch norms are not folded: %s", first_line(error))
            return None
        return _Folded(norms, self._plain) if norms else None

    def _in_runtime(self) -> _InRuntime | None:
        """Return passes in ONNX Runtime, where it is there and the network fits."""
        version = None if self._runtime == "torch" else onnx_runtime.runtime_version()
        if (
            version is None
            or self._probe.device.type != "cpu"
            or self._probe.dtype != torch.float32
        ):
            return None
        try:
            with self._network.running() as module:
                work = onnx_runtime.multiply_adds(lambda: module(self._probe))
                if work < LEAST_WORK / MOST:
                    return None
                onnx_runtime.reads_no_values(lambda: module(self._probe))
        except Exception as error:  # noqa: BLE001  (a user's forward may raise anything)
            _log.info("not in ONNX Runtime: %s", first_line(error))
            return None
        return _InRuntime(version, self._network, self._plain, work / self._probe[0].numel())


class _Plain:
    """Passes through the modules of a network, as it is written."""

    def __init__(self, network: Network, reader: LogitReader, maps_of: MapsOf) -> None:
        self._network, self._reader, self._maps_of = network, reader, maps_of

    def read(self, output: Any) -> Tensor:
        """Return the logits [1, T] in the network's output for one image."""
        return self._reader.read(output, 1)

    def run(
        self,
        x: Tensor,
        layers: Sequence[str],
        *,
        whole: bool,
        norms: FoldedNorms | None = None,
    ) -> Passed:
        """Pass images, by default without folded norms."""
        with (
            torch.no_grad(),
            self._network.running() as module,
            nullcontext() if norms is None else norms.applied(module),
        ):
            return self.through(module, x, layers, whole=whole)

    def through(
        self, module: nn.Module, x: Tensor, layers: Sequence[str], *, whole: bool
    ) -> Passed:
        """Pass images through the module that runs."""
        if not whole:
            outputs = outputs_of(module, x, set(layers))
            return Passed(self._maps_of(outputs, layers, x.shape), None)
        with recording(module, set(layers)) as outputs:
            z = self._reader.run(module, x).float()
        return Passed(self._maps_of(outputs, layers, x.shape), z)


class RefusedError(Exception):
    """A way does not take these images."""


class _Way(Protocol):
    """A fast way to pass images."""

    name: str

    @property
    def described(self) -> str: ...

    def takes(self, x: Tensor) -> bool: ...

    def run(self, x: Tensor, layers: Sequence[str], *, whole: bool) -> Passed: ...


class _Folded:
    """Passes in PyTorch with batch norm folded into convolutions."""

    name = "torch with batch norm folded"

    def __init__(self, norms: FoldedNorms, plain: _Plain) -> None:
        self._norms, self._plain = norms, plain

    @property
    def described(self) -> str:
        return f"torch, {len(self._norms)} batch norms folded"

    def takes(self, x: Tensor) -> bool:
        return True

    def run(self, x: Tensor, layers: Sequence[str], *, whole: bool) -> Passed:
        return self._plain.run(x, layers, whole=whole, norms=self._norms)


class _InRuntime:
    """Passes in ONNX Runtime.

    Args:
        version: Its version.
        network: The network.
        plain: Its passes.
        work: Multiply-adds of a pass for each number of an image.
    """

    name = "ONNX Runtime"

    def __init__(self, version: str, network: Network, plain: _Plain, work: float) -> None:
        self._of_runtime, self._network, self._plain, self._work = version, network, plain, work
        self._sessions: dict[_Key, OnnxSession | None] = {}
        self._snapshot: Snapshot | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sessions": {}, "_snapshot": None}

    @property
    def described(self) -> str:
        least = f"{FEWEST} images and {LEAST_WORK:.0e} multiply-adds"
        return f"ONNX Runtime {self._of_runtime} for {least} or more"

    def takes(self, x: Tensor) -> bool:
        return len(x) >= FEWEST and x.numel() * self._work >= LEAST_WORK

    def run(self, x: Tensor, layers: Sequence[str], *, whole: bool) -> Passed:
        found = self._session(x, layers, whole=whole).run(x)
        z = found.pop() if whole else None
        return Passed(dict(zip(layers, found, strict=True)), z)

    def _session(self, x: Tensor, layers: Sequence[str], *, whole: bool) -> OnnxSession:
        """Return the session for these outputs, anew if the network has changed.

        Raises:
            RefusedError: When the network cannot be exported.
        """
        network = self._network.original
        if self._snapshot is None or not self._snapshot.holds(network):
            self._sessions.clear()
            self._snapshot = Snapshot(network)
        key = (tuple(layers), whole, tuple(x.shape[1:]))
        if key not in self._sessions:
            self._sessions[key] = None  # if it fails

            def outputs(module: nn.Module, x: Tensor) -> list[Tensor]:
                maps, z = self._plain.through(module, x, layers, whole=whole)
                return [*maps.values(), *([] if z is None else [z])]

            try:
                with self._network.running() as module:
                    program = onnx_runtime.export(module, outputs, x[:1])
                self._sessions[key] = OnnxSession(program)
            except Exception as error:  # noqa: BLE001  (a user's forward may raise anything)
                _log.info("not in %s: %s", self.name, first_line(error))
        session = self._sessions[key]
        if session is None:
            raise RefusedError
        return session


def _is_hooked(module: nn.Module) -> bool:
    """Whether a network has forward hooks, which run with its modules only."""
    inside = getattr(module, "layers_inside", ())  # of a Keras network
    return any(forward_hooks(part) for part in (*module.modules(), *inside))


_Key: TypeAlias = tuple[tuple[str, ...], bool, tuple[int, ...]]
