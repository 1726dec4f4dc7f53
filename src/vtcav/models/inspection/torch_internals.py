"""What this package uses of PyTorch beyond its public interface, all in one place.

PyTorch has no public way to list the parts of a module that are registered with it, to leave out
backward hooks, to tell a compiled module, or to count writes to a tensor. Where a version of
PyTorch lacks a name, the functions say the safe thing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

REGISTERED = ("_parameters", "_buffers", "_modules")
"""Attributes of a module that hold what is registered with it."""

FORWARD_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
"""Attributes of a module that hold its forward hooks, by number."""

NO_BACKWARD_HOOKS: dict[str, Callable[[], Any]] = {
    "_get_backward_hooks": lambda: ([], []),
    "_get_backward_pre_hooks": list,
}
"""Attributes of a module without backward hooks, its own or global: those of other tools would
change or see gradients."""


def forward_hooks(module: nn.Module) -> list[Callable[..., Any]]:
    """Return the forward hooks of a module itself."""
    return [hook for name in FORWARD_HOOKS for hook in getattr(module, name, {}).values()]


def compiled_inner(module: nn.Module) -> nn.Module | None:
    """Return the module inside of one that `torch.compile` returned, or None."""
    inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None


def is_compiled(module: nn.Module) -> bool:
    """Tell whether a module itself (not a part of it) was compiled by torch.compile."""
    in_place = getattr(module, "_compiled_call_impl", None)
    return in_place is not None or compiled_inner(module) is not None


def writes_to(tensor: Tensor) -> int | None:
    """Return how often a tensor was written to in place; None where PyTorch does not count."""
    return None if tensor.is_inference() else getattr(tensor, "_version", None)
