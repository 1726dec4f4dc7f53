"""The outputs of modules in a pass, and passes that end as soon as they are known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from torch import Tensor, nn

from vtcav.models.inspection.nested_tensors import first_tensor, map_tensors


class _AllRecorded(BaseException):
    """Ends a pass after the deepest layer; no `except Exception` in a network stops it."""


@contextmanager
def watching(
    module: nn.Module, layers: Iterable[str], keep: Callable[[str, Any], None]
) -> Iterator[None]:
    """Call a function with the name and the output of each layer that runs inside.

    Args:
        module: The network.
        layers: Module paths.
        keep: The function.
    """

    def hook(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: keep(name, output)

    with ExitStack() as stack:
        for name in layers:
            stack.callback(module.get_submodule(name).register_forward_hook(hook(name)).remove)
        yield


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

    def keep(name: str, output: Any) -> None:
        # copies, because the next layer may work in place
        outputs[name] = map_tensors(output, lambda tensor: tensor.detach().clone())
        if stop and len(outputs) == len(layers):
            raise _AllRecorded

    with watching(module, layers, keep), suppress(_AllRecorded):
        yield outputs


def outputs_of(module: nn.Module, x: Tensor, layers: Collection[str]) -> dict[str, Any]:
    """Return the outputs of some modules for images x, from one pass that stops early."""
    with recording(module, set(layers), stop=True) as outputs:
        module(x)
    return outputs


@contextmanager
def modules_that_run(
    note: Callable[[nn.Module], None], module: nn.Module | None = None
) -> Iterator[None]:
    """Call a function with every module before it runs inside, in this thread.

    Args:
        note: The function.
        module: The network whose modules are meant; None means those of any network.
    """
    thread = threading.get_ident()

    def hook(part: nn.Module, _inputs: Any) -> None:
        if threading.get_ident() == thread:
            note(part)

    with ExitStack() as stack:
        if module is None:
            stack.callback(nn.modules.module.register_module_forward_pre_hook(hook).remove)
        for part in () if module is None else module.modules():
            stack.callback(part.register_forward_pre_hook(hook).remove)
        yield


def shapes_of(module: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Return the shape of the first tensor in the output of every module that runs for x."""
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str, output: Any) -> None:
        if (found := first_tensor(output)) is not None:
            shapes[name] = tuple(found[1].shape)

    with watching(module, [name for name, _ in module.named_modules()], keep):
        module(x)
    return shapes
