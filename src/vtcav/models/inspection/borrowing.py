"""Borrowing of a module: evaluation mode, no parameter gradients, and everything restored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from vtcav.models.inspection.torch_internals import NO_BACKWARD_HOOKS, is_compiled


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Hold a module in evaluation mode without parameter gradients, then restore it exactly.

    The flags are set one by one, because a module's own `train()` or `eval()` may do more (merge
    low-rank weights, freeze a part) that could not be undone.
    """
    parts = parts_of(module)
    training = [part for part in parts if part.training]
    weights = (p for part in parts for p in part.parameters(recurse=False))
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


def parts_of(module: nn.Module) -> list[nn.Module]:
    """Return the modules of `module.modules()`, in any order, in a fifth of the time.

    Every pass through a head calls this, and a GPU would wait for it.
    """
    found, waiting = {module: None}, [module]
    while waiting:
        for child in waiting.pop().children():
            if child not in found:
                found[child] = None
                waiting.append(child)
    return list(found)


def _eagerly(parts: Sequence[nn.Module]) -> AbstractContextManager[object]:
    """Run modules compiled by torch.compile as they were written, so that hooks are called."""
    if any(map(is_compiled, parts)):
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()
