"""Independence of the caller's inference mode, autocast and default device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import torch
from torch import nn

_AUTOCAST = ("cpu", "cuda", "mps", "xpu")
_moved = ContextVar("_moved", default=False)  # whether another default device is set aside

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def unaffected(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Return the function so that it computes the same in any ambient state of PyTorch."""

    @functools.wraps(function)
    def own(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with ambient():
            return function(*args, **kwargs)

    return own


@contextmanager
def ambient(*, autocast: bool = False) -> Iterator[None]:
    """Compute as usual, whatever inference mode, autocast or default device the caller has set.

    The default dtype stays, because all threads share it: this package names the dtype of every
    tensor that it makes.

    Args:
        autocast: Whether to keep autocast as it is.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for kind in () if autocast else _AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        # `torch.get_default_device` of PyTorch 2.8 fails where a default was set and taken back
        if torch.empty(0).device.type != "cpu":
            stack.callback(_moved.reset, _moved.set(True))
            stack.enter_context(torch.device("cpu"))
        yield


def network_device(module: nn.Module) -> AbstractContextManager[object]:
    """Make tensors where the weights are, if the caller's default device is not the CPU.

    Args:
        module: A network, whose code may make tensors without naming a device.
    """
    weight = next(module.parameters(), None)
    if weight is None or weight.device.type == "cpu" or not _moved.get():
        return nullcontext()
    return weight.device
