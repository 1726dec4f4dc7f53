"""The network after a layer, resumed from given feature maps.

The whole module is called with one dummy image while the layer's output is replaced, so arbitrary
`forward` code keeps working. The modules before the layer return their recorded outputs for the
dummy image instead of computing again. There are three ways, the cheapest first:

- `single`: the dummy is one image; only what follows the layer sees the batch of feature maps.
- `expanded`: everything sees the batch size of the feature maps, for networks that read the input's
  batch size after the layer. The modules before it still do not compute.
- `replay`: as `expanded`, but the modules before the layer compute again. This always works.

`resume` takes the first way whose logits agree with the plain forward pass.

Where convolutions follow the layer, feature maps are passed on with their channels last in memory
(the shape stays [N, C, h, w]), which is faster, unless that changes the logits or the code fails.

Prefix tokens beside the maps (a class token) are part of the layer's output, but are not maps. The
head holds them at their values for the images, which `ModuleHead.of` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vtcav.errors import LayerError
from vtcav.models.heads.channels_last import gains_from_channels_last, within_rounding
from vtcav.models.heads.gradient import gradient
from vtcav.models.inspection.activations import (
    modules_that_run,
    outputs_of,
    recording,
    watching,
)
from vtcav.models.inspection.layout import Layout
from vtcav.models.inspection.logits import LogitReader
from vtcav.models.inspection.nested_tensors import map_tensors, tensors_in
from vtcav.models.inspection.network import Network
from vtcav.models.inspection.probing import first_line
from vtcav.models.inspection.trace import Trace
from vtcav.models.instance_attributes import replaced

WAYS = ("single", "expanded", "replay")


@dataclass(eq=False)
class ModuleHead:
    """The network after `layer` as a function of its feature maps.

    Attributes:
        layer: Module path of the layer.
        resume: The way in which the rest is run, one of `WAYS`.
        network: The whole network.
        reader: How its logits are read.
        layout: How the layer's output holds the maps.
        dummy: One image [1, 3, H, W].
        like: A tensor of the dtype and on the device of the layer's feature maps.
        outputs: The outputs of each module before the layer (and of the layer) for the dummy image,
            run by run, by module path.
        prefix: The prefix tokens [N, prefix, C] of N images, or None before `of`.
        state: What the reader's score holds of N images, or None before `of`.
        own: The N images themselves, where the network takes more than a picture of each.
        channels_last: Whether feature maps are passed on with their channels last in memory.
        recomputes: Whether parts run again when a gradient is taken (activation checkpointing), or
            only one gradient can be taken of a pass.
        _held: The stack that keeps outputs replaced until the gradients of a pass are taken
            (`held`); None restores them after the pass.
    """

    layer: str
    resume: str
    network: Network
    reader: LogitReader
    layout: Layout
    dummy: Tensor
    like: Tensor
    outputs: dict[str, list[Any]]
    prefix: Tensor | None = None
    state: Any = None
    own: Tensor | None = None
    channels_last: bool = False
    recomputes: bool = False
    _held: ExitStack | None = None

    @property
    def takes_images(self) -> bool:
        """Whether the rest reads more of an image than its maps, so that it needs `of`."""
        return bool(self.layout.prefix or self.reader.holds or _takes_images(self.network))

    @property
    def per_image(self) -> bool:
        """Whether the head is bound to N images and takes maps of these, row by row."""
        return self._count is not None

    @property
    def _count(self) -> int | None:
        """The number of images that the head is bound to; None where it is to none."""
        held = next((part for _, part in tensors_in((self.prefix, self.state, self.own))), None)
        return None if held is None else len(held)

    def of(self, images: Tensor) -> ModuleHead:
        """Return the head for feature maps of these images, row by row.

        It holds the prefix tokens at their values for the images, and what the score holds of
        them. Where there is neither, nothing is computed and the head itself is returned.

        Args:
            images: Preprocessed images [N, 3, H, W]. One image stands for any number of maps.
        """
        if not self.takes_images:
            return self
        x = images.to(self.dummy)
        with torch.no_grad(), self.network.running(fresh=False) as module:
            if not self.reader.holds:
                [output] = outputs_of(module, x, [self.layer]).values()
                return self._holding(output, None, x)
            with recording(module, [self.layer]) as outputs:
                state = self.reader.held(module, x)
        return self._holding(outputs[self.layer], state, x)

    def rows(self, index: Tensor) -> ModuleHead:
        """Return the head for maps of the images at these positions [n] among those of `of`."""
        if self._count in (None, 1):
            return self
        prefix, state, own = map_tensors(
            (self.prefix, self.state, self.own), lambda held: held[index.to(held.device)]
        )
        return replace(self, prefix=prefix, state=state, own=own)

    def _holding(self, output: Any, state: Any, images: Tensor) -> ModuleHead:
        """Return the head with what it holds of images, and an output of the layer for them."""
        own = images if _takes_images(self.network) else None
        prefix = self.layout.prefix_of(output)
        prefix = None if prefix is None else prefix.detach().clone()
        return replace(self, prefix=prefix, state=state, own=own)

    def __call__(self, F: Tensor) -> Tensor:
        """Return the logits z [N, T] (float32) for feature maps F [N, C, h, w]."""
        return self.native(F).float()

    def native(self, F: Tensor) -> Tensor:
        """Return the logits z [N, T] in the network's own precision."""
        self._check_rows(F)
        size = 1 if self.resume == "single" else len(F)
        one = self.dummy if self.own is None else self.own
        images = one.expand(size, *one.shape[1:])

        def exchange(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            # a copy, because the next layers may work in place
            order = torch.channels_last if self.channels_last else torch.preserve_format
            maps = F.to(self.like, copy=True, memory_format=order)
            return self.layout.from_maps(maps, output, self.prefix)

        with ExitStack() if self._held is None else nullcontext(self._held) as stack:
            module = stack.enter_context(self.network.running(fresh=False))
            for name, outputs in self.outputs.items():
                child = module.get_submodule(name)
                stack.enter_context(replaced(child, forward=_replay(child.forward, outputs, size)))
            handle = module.get_submodule(self.layer).register_forward_hook(exchange)
            stack.callback(handle.remove)
            return self.reader.run(module, images, len(F), _expand(self.state, len(F)))

    @contextmanager
    def held(self) -> Iterator[ModuleHead]:
        """Yield a head for one pass whose gradients are taken inside.

        Activation checkpointing runs parts of the network again when a gradient is taken; they
        must meet the same replaced outputs as in the pass.
        """
        with ExitStack() as stack:
            yield replace(self, _held=stack)

    def _check_rows(self, F: Tensor) -> None:
        if self.layout.prefix and self.prefix is None:
            raise LayerError(
                f"layer {self.layer!r} has {self.layout.prefix} prefix tokens beside its maps "
                f"({self.layout}), which the rest of the network reads, too: pass the images of "
                "the maps first, head.of(images)"
            )
        if self.reader.holds and self.state is None:
            raise LayerError(
                f"{self.reader.source} holds what the plain pass of each image decides: pass the "
                "images of the maps first, head.of(images)"
            )
        if self.own is None and _takes_images(self.network):
            raise LayerError(
                "the network takes a second input of each image: pass the images of the maps "
                "first, head.of(images)"
            )
        if self._count not in (None, 1, len(F)):
            raise LayerError(
                f"expected maps of the {self._count} images that the head was given, "
                f"got {len(F)}; choose the rows with head.rows(index)"
            )


def _takes_images(network: Network) -> bool:
    """Tell whether what follows a layer reads more of an image than its maps."""
    return bool(getattr(network.original, "takes_images", False))


def _replay(forward: Callable[..., Any], outputs: list[Any], size: int) -> Callable[..., Any]:
    """Return a forward that returns `outputs` one by one, and then computes."""
    waiting = iter(outputs)
    exhausted = object()

    def replay(*args: Any, **kwargs: Any) -> Any:
        output = next(waiting, exhausted)
        return forward(*args, **kwargs) if output is exhausted else _expand(output, size)

    return replay


def _expand(output: Any, size: int) -> Any:
    """Repeat the leading dimension of every tensor in an output, without memory."""

    def expand(tensor: Tensor) -> Tensor:
        # writing in place must not change the record: a single tensor is copied, and into an
        # expanded one writing raises (`resume` then tries the next way)
        if not tensor.ndim or size == 1:
            return tensor.clone()
        return tensor.expand(size, *tensor.shape[1:])

    return map_tensors(output, expand)


def resume(
    network: Network,
    layer: str,
    layout: Layout,
    trace: Trace,
    reader: LogitReader,
    dummy: Tensor,
    probes: Sequence[Tensor],
) -> ModuleHead:
    """Return the cheapest head that reproduces the plain forward pass.

    Args:
        network: The network.
        layer: A layer that every path crosses (`Trace.cuts`).
        layout: How its output holds the maps.
        trace: A recorded pass.
        reader: How the network's logits are read.
        dummy: One image [1, 3, H, W].
        probes: Batches of at least two images, all different from the dummy, so that anything
            that reaches the logits around the layer shows as a difference.

    Raises:
        LayerError: When no way agrees with the plain pass.
    """
    plain = [_plain(network, layer, reader, probe) for probe in probes]
    like = layout.tensor(plain[0].output)[:0]
    failure: Exception | None = None
    for way in WAYS[-1:] if _takes_images(network) else WAYS:
        try:
            outputs = {} if way == "replay" else _recorded(network, layer, trace, reader, dummy)
            head = ModuleHead(layer, way, network, reader, layout, dummy, like, outputs)
            if all(
                _agrees(
                    head._holding(first.output, first.state, probe),
                    layout.to_maps(first.output, probe.shape[2:]),
                    first.logits,
                )
                for probe, first in zip(probes, plain, strict=True)
            ):
                head = _with_checked_gradient(head, probes[0], plain[0])
                return _channels_last(head, trace, plain, probes)
            failure = None
        except Exception as error:  # noqa: BLE001  (a user's forward may raise anything)
            failure = error  # this way does not suit the network's code; the next may
    what = f"fails ({first_line(failure)})" if failure else "gives other scores"
    raise LayerError(
        f"layer {layer!r} cannot be explained: running the network again from its feature maps "
        f"{what}; expected the scores of the plain pass, from this layer alone. Something else "
        "reaches them: a skip connection around the layer, the image's size or randomness"
    ) from failure


def _channels_last(
    head: ModuleHead, trace: Trace, plain: Sequence[_PlainPass], probes: Sequence[Tensor]
) -> ModuleHead:
    """Return the head with the channels last in memory, where that is faster and as accurate."""
    module = head.network.module
    start = module.get_submodule(head.layer)
    later = [call.name for call in trace.calls if call.start > trace.calls_of(head.layer)[0].end]
    if head.layout.order != "NCHW" or not gains_from_channels_last(
        [part for part in map(module.get_submodule, later) if part is not start], head.like
    ):
        return head
    faster = replace(head, channels_last=True)
    try:
        with torch.enable_grad():  # backward, too, because a view may fail only there
            for one, images in zip(plain, probes, strict=True):
                F = head.layout.to_maps(one.output, head.dummy.shape[2:]).detach().requires_grad_()
                with faster._holding(one.output, one.state, images).held() as held:
                    logits = held.native(F)
                    gradient(logits, F)
                if not within_rounding(logits.detach(), one.logits):
                    return head
    except Exception:  # noqa: BLE001  (the network may take views that need the usual order)
        return head
    return faster


def _agrees(head: ModuleHead, F: Tensor, expected: Tensor) -> bool:
    """Tell whether the head gives the logits of the plain pass, up to rounding.

    Both run the same operations on tensors of the same shape and mostly agree bit by bit. Half
    precision has few bits, so the tolerance is small there; otherwise a bypass would not show.
    """
    with torch.no_grad():
        logits = head.native(F)
    precise = torch.finfo(expected.dtype).eps < 1e-5
    return within_rounding(logits, expected, 200 if precise else 4)


def _with_checked_gradient(head: ModuleHead, images: Tensor, plain: _PlainPass) -> ModuleHead:
    """Compare one gradient of the head with a plain pass's, and note whether modules run again.

    Raises:
        LayerError: When they differ.
    """
    layout, size, output = head.layout, images.shape[2:], plain.output
    plain_head = replace(head, resume="replay", dummy=images[:1], outputs={})
    F = layout.to_maps(output, size)[:1].detach()
    (found, again), (expected, _) = (
        _gradient(each._holding(output, plain.state, images).rows(torch.tensor([0])), F)
        for each in (head, plain_head)
    )
    most = float(expected.abs().max())
    eps = torch.finfo(expected.dtype).eps
    if not float((found - expected).abs().max()) <= max(1e-3, 200 * eps) * most:
        raise LayerError("its gradients differ from those of the plain pass")
    return replace(head, recomputes=again)


def _gradient(head: ModuleHead, F: Tensor) -> tuple[Tensor, bool]:
    """Return the gradient of a weighted sum of all logits, and whether modules ran for it."""
    F = F.clone().requires_grad_()
    ran: list[nn.Module] = []
    listening = modules_that_run(ran.append, head.network.module)
    with torch.enable_grad(), head.held() as held, listening:
        z = held.native(F)
        before = len(ran)
        weights = torch.linspace(1, 2, z.shape[1], device=z.device, dtype=z.dtype)
        score, again = (z * weights).sum(), head.recomputes
        try:
            G = gradient(score, F, retain_graph=not again, recomputes=again)
            if not again:
                gradient(score, F)  # as for a second class
        except RuntimeError:
            if again:
                raise
            return _gradient(replace(head, recomputes=True), F.detach())
        return G, again or len(ran) > before


class _PlainPass(NamedTuple):
    """What a plain pass gives: the layer's output, the logits, and what the score holds."""

    output: Any
    logits: Tensor
    state: Any


def _plain(network: Network, layer: str, reader: LogitReader, images: Tensor) -> _PlainPass:
    """Return what a plain pass gives, in the network's own precision."""
    with torch.no_grad(), network.running() as module:
        state = reader.held(module, images) if reader.holds else None
        with recording(module, [layer]) as outputs:
            logits = reader.run(module, images)
    return _PlainPass(outputs[layer], logits, state)


def _recorded(
    network: Network, layer: str, trace: Trace, reader: LogitReader, dummy: Tensor
) -> dict[str, list[Any]]:
    """Return the outputs of the modules before the layer, and of the layer, for the dummy image.

    Modules inside a module that returns its recorded output are left out, because they do not run.
    """
    wanted: dict[str, set[int]] = {}
    for call in [*trace.before(layer), trace.calls_of(layer)[0]]:
        wanted.setdefault(call.name, set()).add(call.occurrence)
    outputs: dict[str, list[Any]] = {name: [] for name in wanted}
    runs = {name: count() for name in wanted}

    def keep(name: str, output: Any) -> None:
        if next(runs[name]) in wanted[name]:
            outputs[name].append(_expand(output, 1))

    with torch.no_grad(), network.running() as module, watching(module, wanted, keep):
        reader.run(module, dummy)
    return outputs
