"""Independence of the caller's inference mode, autocast, default dtype and default device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch

__all__ = ["ambient", "unaffected"]

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
    """Compute as usual, whatever inference mode, autocast or defaults the caller has set.

    Args:
        autocast: Whether to keep autocast as it is.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for kind in () if autocast else ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_dtype() != torch.float32:
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
