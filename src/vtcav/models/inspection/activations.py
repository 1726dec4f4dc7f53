"""What modules return in a pass, and a pass that ends as soon as that is known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from torch import Tensor, nn

from vtcav.models.inspection.nested_tensors import first_tensor, map_tensors

__all__ = ["modules_that_run", "outputs_of", "recording", "shapes_of"]


class _AllRecorded(BaseException):
    """Ends a pass after the deepest layer; no `except Exception` in a network stops it."""


@contextmanager
def recording(
    module: nn.Module, layers: Collection[str], *, stop: bool = False
) -> Iterator[dict[str, Any]]:
    """Record the outputs of some modules, by name, during the passes inside.

    Args:
        module: The network.
        layers: Module paths.
        stop: Whether to end a pass (and the `with` block) once all of them have run.
    """
    outputs: dict[str, Any] = {}
    wanted = set(layers)

    def keeper(name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            # clones, for the next layer may work in place
            outputs[name] = map_tensors(output, _copy)
            if stop and len(outputs) == len(wanted):
                raise _AllRecorded

        return keep

    handles = []
    try:
        for name in layers:
            handles.append(module.get_submodule(name).register_forward_hook(keeper(name)))
        with suppress(_AllRecorded):
            yield outputs
    finally:
        for handle in handles:
            handle.remove()


def outputs_of(module: nn.Module, x: Tensor, layers: Collection[str]) -> dict[str, Any]:
    """Return the outputs of some modules for images x, from one pass that stops early."""
    with recording(module, layers, stop=True) as outputs:
        module(x)
    return outputs


@contextmanager
def modules_that_run(module: nn.Module | None = None) -> Iterator[list[nn.Module]]:
    """Note every module that runs inside, in this thread.

    Args:
        module: The network whose modules are noted; None notes those of any.
    """
    ran: list[nn.Module] = []
    thread = threading.get_ident()

    def note(part: nn.Module, _inputs: Any) -> None:
        if threading.get_ident() == thread:
            ran.append(part)

    with ExitStack() as stack:
        if module is None:
            stack.callback(nn.modules.module.register_module_forward_pre_hook(note).remove)
        for part in () if module is None else module.modules():
            stack.callback(part.register_forward_pre_hook(note).remove)
        yield ran


def shapes_of(module: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the shape of the first tensor in the output of every module that runs for x."""
    shapes: dict[str, tuple[int, ...]] = {}

    def keeper(name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if (found := first_tensor(output)) is not None:
                shapes[name] = tuple(found[1].shape)

        return keep

    handles = [part.register_forward_hook(keeper(name)) for name, part in module.named_modules()]
    try:
        module(x)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()
