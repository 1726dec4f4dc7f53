"""Borrowing of a module: evaluation mode, no parameter gradients, and everything restored.

PyTorch has no public way to leave out backward hooks, so this module replaces the methods that a
module is asked for them by. Without these methods hooks would run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

__all__ = ["NO_BACKWARD_HOOKS", "evaluating", "is_compiled", "parts_of"]

NO_BACKWARD_HOOKS: dict[str, Callable[[], Any]] = {
    "_get_backward_hooks": lambda: ([], []),
    "_get_backward_pre_hooks": list,
}
"""Attributes of a module without backward hooks, its own or global: those of other tools would
change or see gradients."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Hold a module in evaluation mode without parameter gradients, then restore it exactly.

    The flags are set one by one, because a module's own `train()` or `eval()` may do more (merge
    low-rank weights, freeze a part) that could not be undone.
    """
    parts = parts_of(module)
    training = [part for part in parts if part.training]
    weights = (p for part in parts for p in part._parameters.values() if p is not None)
    wanted = [p for p in weights if p.requires_grad]
    try:
        for part in training:
            part.training = False
        for parameter in wanted:
            parameter.requires_grad_(False)
        for part in parts:
            part.__dict__.update(NO_BACKWARD_HOOKS)
        with _eagerly(parts):
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for part in training:
            part.training = True
        for part in parts:
            for name in NO_BACKWARD_HOOKS:
                part.__dict__.pop(name, None)


def is_compiled(module: nn.Module) -> bool:
    """Tell whether a module itself (not a part of it) was compiled by torch.compile."""
    return "_orig_mod" in module._modules or module._compiled_call_impl is not None


def parts_of(module: nn.Module) -> list[nn.Module]:
    """Return the modules of `module.modules()`, in any order, in a fifth of the time.

    Every pass through a head calls this, and a GPU would wait for it.
    """
    found, waiting = {module: None}, [module]
    while waiting:
        for child in waiting.pop()._modules.values():
            if child is not None and child not in found:
                found[child] = None
                waiting.append(child)
    return list(found)


def _eagerly(parts: Sequence[nn.Module]) -> AbstractContextManager[object]:
    """Run modules compiled by torch.compile as they were written, so that hooks are called."""
    if any(map(is_compiled, parts)):
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()
