"""The network after a layer, run on feature maps of our own.

The whole module is called with one dummy image while the layer's output is replaced, so that
arbitrary `forward` code keeps working. The modules that would run before the layer hand back
what they gave for the dummy image instead of computing again. Three ways, cheapest first:

- `single`: the dummy is one image; only what follows the layer sees the batch of feature maps.
- `expanded`: everything sees the batch size of the feature maps. For networks that read the
  input's batch size after the layer. The modules before it still do not compute.
- `replay`: as `expanded`, but the modules before the layer compute again. Always possible.

`resume` picks the first whose logits agree with the plain forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.errors import LayerError
from vtcav.models.output import LogitReader
from vtcav.models.state import evaluating
from vtcav.models.trace import Trace

__all__ = ["WAYS", "ModuleHead", "resume"]

WAYS = ("single", "expanded", "replay")


@dataclass(eq=False)
class ModuleHead:
    """The network after `layer` as a function of its feature maps.

    Attributes:
        layer: Module path of the layer.
        resume: One of `WAYS`.
        module: The whole network.
        reader: How its logits are read.
        dummy: One image [1, 3, H, W].
        like: A tensor of the dtype and on the device of the layer's feature maps.
        outputs: By module path, what each module before the layer (and the layer itself) gave
            for the dummy image, run by run.
    """

    layer: str
    resume: str
    module: nn.Module
    reader: LogitReader
    dummy: Tensor
    like: Tensor
    outputs: dict[str, list[Any]]

    def __call__(self, F: Tensor) -> Tensor:
        """Return the logits z [N, T] (float32) for feature maps F [N, C, h, w]."""
        return self.native(F).float()

    def native(self, F: Tensor) -> Tensor:
        """Return the logits z [N, T] in the network's own precision."""
        size = 1 if self.resume == "single" else len(F)
        images = self.dummy.expand(size, *self.dummy.shape[1:])
        layer = self.module.get_submodule(self.layer)

        def replace(_module: nn.Module, _inputs: Any, _output: Any) -> Tensor:
            # a copy, for the layers that follow may work in place
            return F.to(self.like, copy=True)

        with evaluating(self.module), self._short_cuts(size):
            handle = layer.register_forward_hook(replace)
            try:
                return self.reader.run(self.module, images, len(F))
            finally:
                handle.remove()

    @contextmanager
    def _short_cuts(self, size: int) -> Iterator[None]:
        """Let every module before the layer hand back its recorded outputs."""
        patched: list[tuple[nn.Module, bool, Any]] = []
        try:
            for name, outputs in self.outputs.items():
                child = self.module.get_submodule(name)
                own = "forward" in child.__dict__
                patched.append((child, own, child.forward))
                child.forward = _short_cut(child.forward, outputs, size)
            yield
        finally:
            for child, own, forward in patched:
                if own:
                    child.forward = forward
                else:
                    child.__dict__.pop("forward", None)


def _short_cut(forward: Callable[..., Any], outputs: list[Any], size: int) -> Callable[..., Any]:
    """Return a forward that hands back `outputs` one by one, and then computes."""
    waiting = iter(outputs)
    exhausted = object()

    def short_cut(*args: Any, **kwargs: Any) -> Any:
        output = next(waiting, exhausted)
        return forward(*args, **kwargs) if output is exhausted else _expand(output, size)

    return short_cut


def _expand(output: Any, size: int) -> Any:
    """Repeat the leading dimension of every tensor in an output `size` times, without memory."""
    if isinstance(output, Tensor):
        # Writing in place must not reach the record: into an expanded tensor it raises (and
        # `resume` goes on to replay), a single one is copied.
        if not output.ndim or size == 1:
            return output.clone()
        return output.expand(size, *output.shape[1:])
    if type(output) in (tuple, list):
        return type(output)(_expand(part, size) for part in output)
    if type(output) is dict:
        return {key: _expand(part, size) for key, part in output.items()}
    return output


def resume(
    module: nn.Module,
    layer: str,
    trace: Trace,
    reader: LogitReader,
    dummy: Tensor,
    probes: Sequence[Tensor],
) -> ModuleHead:
    """Return the cheapest head that reproduces the plain forward pass.

    Args:
        module: The network.
        layer: A layer that every path crosses (`Trace.cuts`).
        trace: A recorded pass.
        reader: How logits are read.
        dummy: One image [1, 3, H, W].
        probes: Batches of at least two images, all different from the dummy, so that anything
            that reaches the logits around the layer shows as a difference.

    Raises:
        LayerError: When no way agrees with the plain pass.
    """
    plain = [_plain(module, layer, reader, probe) for probe in probes]
    like = plain[0][0][:0]
    failure: Exception | None = None
    for way in WAYS:
        try:
            outputs = {} if way == "replay" else _recorded(module, layer, trace, reader, dummy)
            head = ModuleHead(layer, way, module, reader, dummy, like, outputs)
            if all(_agrees(head, F, expected) for F, expected in plain):
                return head
            failure = None
        except Exception as error:  # noqa: BLE001  (a user's forward may raise anything)
            failure = error  # this way does not suit the network's code; the next asks less of it
    what = f"fails ({type(failure).__name__}: {failure})" if failure else "gives other scores"
    raise LayerError(
        f"layer {layer!r} cannot be explained: running the network again from its feature maps "
        f"{what}; expected the scores of the plain pass, from this layer alone. Something else "
        "reaches them: a skip connection around the layer, the image's size or chance"
    ) from failure


def _agrees(head: ModuleHead, F: Tensor, expected: Tensor) -> bool:
    """Tell whether the head gives the logits of the plain pass, up to rounding.

    Both run the same operations on tensors of the same shape and mostly agree bit by bit. In half
    precision the tolerance has few bits to spare for what a bypass would show.
    """
    with torch.no_grad():
        logits = head.native(F)
    eps = torch.finfo(expected.dtype).eps
    tolerance = (200 if eps < 1e-5 else 4) * eps * float(expected.abs().max())
    return float((logits - expected).abs().max()) <= tolerance


def _plain(
    module: nn.Module, layer: str, reader: LogitReader, images: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the layer's F and the logits of a plain pass, in the network's own precision."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        kept.append(output.detach().clone())

    handle = module.get_submodule(layer).register_forward_hook(keep)
    try:
        with torch.no_grad(), evaluating(module):
            logits = reader.run(module, images)
    finally:
        handle.remove()
    return kept[0], logits


def _recorded(
    module: nn.Module, layer: str, trace: Trace, reader: LogitReader, dummy: Tensor
) -> dict[str, list[Any]]:
    """Return what the modules before the layer, and the layer, give for the dummy image.

    A module's runs inside another one that hands back its output are left out: they will not
    happen.
    """
    wanted: dict[str, set[int]] = {}
    for call in [*trace.before(layer), trace.calls_of(layer)[0]]:
        wanted.setdefault(call.name, set()).add(call.occurrence)
    outputs: dict[str, list[Any]] = {name: [] for name in wanted}
    handles = []
    try:
        for name, runs in wanted.items():
            keep = _keeper(outputs[name], runs)
            handles.append(module.get_submodule(name).register_forward_hook(keep))
        with torch.no_grad(), evaluating(module):
            reader.run(module, dummy)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _keeper(outputs: list[Any], runs: set[int]) -> Callable[..., None]:
    """Return a hook that keeps the outputs of a module's given runs."""
    run = count()

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if next(run) in runs:
            outputs.append(_expand(output, 1))

    return keep
