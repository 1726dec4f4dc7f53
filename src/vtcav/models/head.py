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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.errors import LayerError
from vtcav.models.output import LogitReader
from vtcav.models.state import evaluating
from vtcav.models.trace import Trace

__all__ = ["WAYS", "ModuleHead", "resume"]

WAYS = ("single", "expanded", "replay")


@dataclass
class ModuleHead:
    """The network after `layer` as a function of its feature maps.

    Attributes:
        layer: Module path of the layer.
        resume: One of `WAYS`.
        module: The whole network.
        reader: How its logits are read.
        dummy: One image [1, 3, H, W].
        outputs: By module path, what each module before the layer (and the layer itself) gave
            for the dummy image, run by run.
    """

    layer: str
    resume: str
    module: nn.Module
    reader: LogitReader
    dummy: Tensor
    outputs: dict[str, list[Any]]

    def __call__(self, F: Tensor) -> Tensor:
        """Return the logits z [N, T] for feature maps F [N, C, h, w], differentiable in F."""
        count = 1 if self.resume == "single" else len(F)
        images = self.dummy.expand(count, *self.dummy.shape[1:])
        layer = self.module.get_submodule(self.layer)
        replacement = F.to(self.dummy.dtype)

        def replace(_module: nn.Module, _inputs: Any, _output: Any) -> Tensor:
            # a clone, for the layers that follow may work in place
            return replacement.clone()

        with evaluating(self.module), self._short_cuts(count):
            handle = layer.register_forward_hook(replace)
            try:
                return self.reader.run(self.module, images).float()
            finally:
                handle.remove()

    @contextmanager
    def _short_cuts(self, count: int) -> Iterator[None]:
        """Let every module before the layer hand back its recorded outputs."""
        patched: list[tuple[nn.Module, bool, Any]] = []
        try:
            for name, outputs in self.outputs.items():
                child = self.module.get_submodule(name)
                own = "forward" in child.__dict__
                patched.append((child, own, child.forward))
                child.forward = _short_cut(child.forward, outputs, count)
            yield
        finally:
            for child, own, forward in patched:
                if own:
                    child.forward = forward
                else:
                    child.__dict__.pop("forward", None)


def _short_cut(forward: Callable[..., Any], outputs: list[Any], count: int) -> Callable[..., Any]:
    """Return a forward that hands back `outputs` one by one, and then computes."""
    waiting = iter(outputs)
    exhausted = object()

    def short_cut(*args: Any, **kwargs: Any) -> Any:
        output = next(waiting, exhausted)
        return forward(*args, **kwargs) if output is exhausted else _expand(output, count)

    return short_cut


def _expand(output: Any, count: int) -> Any:
    """Repeat the leading dimension of every tensor in an output `count` times, without memory."""
    if isinstance(output, Tensor):
        # Writing in place must not reach the record: into an expanded tensor it raises (and
        # `resume` goes on to replay), a single one is copied.
        if not output.ndim or count == 1:
            return output.clone()
        return output.expand(count, *output.shape[1:])
    if type(output) in (tuple, list):
        return type(output)(_expand(part, count) for part in output)
    if type(output) is dict:
        return {key: _expand(part, count) for key, part in output.items()}
    return output


def resume(
    module: nn.Module, layer: str, trace: Trace, reader: LogitReader, images: Tensor
) -> ModuleHead:
    """Return the cheapest head that reproduces the plain forward pass.

    Args:
        module: The network.
        layer: A layer that every path crosses (`Trace.cuts`).
        trace: A recorded pass.
        reader: How logits are read.
        images: At least three different images [N, 3, H, W]; the last one is the dummy, so that
            anything that reaches the logits around the layer shows as a difference.

    Raises:
        LayerError: When no way agrees with the plain pass.
    """
    probe, dummy = images[:-1], images[-1:]
    F, expected = _plain(module, layer, reader, probe)
    difference = float("inf")
    for way in WAYS:
        replay = way == "replay"
        try:
            outputs = {} if replay else _recorded(module, layer, trace, reader, dummy)
            head = ModuleHead(layer, way, module, reader, dummy, outputs)
            with torch.no_grad():
                logits = head(F)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            continue  # this way does not suit the network's code; the next one asks less of it
        if logits.shape == expected.shape:
            difference = float((logits - expected).abs().max())
            if difference <= _tolerance(expected, dummy.dtype):
                return head
    raise LayerError(
        f"layer {layer!r} cannot be explained: running the network again from its feature maps "
        f"gives other scores than the plain pass (they differ by {difference:.3g}); expected the "
        "scores to depend on this layer alone. Something reaches them around it, or the network "
        "is random in evaluation mode; choose a layer of `layers()` nearer to the output"
    )


def _tolerance(expected: Tensor, dtype: torch.dtype) -> float:
    """How far two ways through the same network may differ by rounding alone."""
    return 200 * torch.finfo(dtype).eps * (1.0 + float(expected.abs().max()))


def _plain(
    module: nn.Module, layer: str, reader: LogitReader, images: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the layer's F and the logits of a plain pass."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        kept.append(output.detach().clone())

    handle = module.get_submodule(layer).register_forward_hook(keep)
    try:
        with torch.no_grad(), evaluating(module):
            logits = reader.run(module, images).float()
    finally:
        handle.remove()
    return kept[0], logits


def _recorded(
    module: nn.Module, layer: str, trace: Trace, reader: LogitReader, dummy: Tensor
) -> dict[str, list[Any]]:
    """Return what the modules before the layer, and the layer, give for the dummy image."""
    wanted: dict[str, int] = {}
    for call in [*trace.before(layer), trace.calls_of(layer)[0]]:
        wanted[call.name] = max(wanted.get(call.name, 0), call.occurrence + 1)
    # A module that runs both outermost and inside another recorded one would be handed its
    # outputs in the wrong order.
    runs = {name: [c.occurrence for c in trace.calls_of(name)] for name in wanted}
    covered = {id(c) for c in trace.before(layer)} | {id(trace.calls_of(layer)[0])}
    whole = {
        name: count
        for name, count in wanted.items()
        if all(id(c) in covered for c in trace.calls_of(name)[:count]) and runs[name]
    }
    outputs: dict[str, list[Any]] = {name: [] for name in whole}
    handles = []
    try:
        for name, count in whole.items():
            child = module.get_submodule(name)
            handles.append(child.register_forward_hook(_keeper(outputs[name], count)))
        with torch.no_grad(), evaluating(module):
            reader.run(module, dummy)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _keeper(outputs: list[Any], count: int) -> Callable[..., None]:
    """Return a hook that keeps a module's first `count` outputs."""

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if len(outputs) < count:
            outputs.append(_expand(output, 1))

    return keep
