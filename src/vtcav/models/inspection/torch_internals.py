"""What this package uses of PyTorch beyond its public interface, all in one place.

Each name has its reason beside it: nothing public does the same in PyTorch 2.8 to 2.14. Tests try
each (`tests/models/test_faults.py`, `test_wrapping.py`, `test_onnx_runtime.py`), `make test-floor`
with the oldest version. Where a version lacks one, the functions say the safe thing, and
`check_hooks` warns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.errors import warn
from vtcav.models.instance_attributes import replaced

# PyTorch gives whoever registers a hook a handle, and nobody a list (pytorch issue 2847).
FORWARD_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
"""Attributes of a module that hold its forward hooks, by number."""

# Backward hooks, a module's own or global, can only be removed by whoever registered them. A module
# asks itself for them with these methods.
NO_BACKWARD_HOOKS: dict[str, Callable[[], Any]] = {
    "_get_backward_hooks": lambda: ([], []),
    "_get_backward_pre_hooks": list,
}
"""Attributes of a module without backward hooks: those of other tools would change or see
gradients."""


def forward_hooks(module: nn.Module) -> list[Callable[..., Any]]:
    """Return the forward hooks of a module itself."""
    return [hook for name in FORWARD_HOOKS for hook in getattr(module, name, {}).values()]


@functools.cache
def check_hooks() -> None:
    """Try once whether hooks are found and left out.

    Warns:
        UserWarning: Where this version of PyTorch keeps them elsewhere.
    """
    part, seen = nn.Identity(), []
    part.register_forward_pre_hook(lambda *_: None)
    part.register_forward_hook(lambda *_: None)
    part.register_full_backward_pre_hook(lambda *_: seen.append("before"))
    part.register_full_backward_hook(lambda *_: seen.append("after"))
    found = len(forward_hooks(part))
    part.__dict__.update(NO_BACKWARD_HOOKS)
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.ones(1, dtype=torch.float32, device="cpu", requires_grad=True)
        part(x).sum().backward()
    if found < len(FORWARD_HOOKS) or seen:
        warn(
            f"PyTorch {torch.__version__} keeps hooks where they are not found: those that other "
            "tools left on the network run in every pass and may change numbers; remove them, or "
            "use a version of PyTorch that this version of vtcav was tested with"
        )


def compiled_inner(module: nn.Module) -> nn.Module | None:
    """Return the module inside of one that `torch.compile` returned, or None."""
    inner = getattr(module, "_orig_mod", None)  # the only way back, and known by this name alone
    return inner if isinstance(inner, nn.Module) else None


def is_compiled(module: nn.Module) -> bool:
    """Tell whether a module itself (not a part of it) was compiled by torch.compile."""
    # `Module.compile` leaves nothing else behind
    in_place = getattr(module, "_compiled_call_impl", None)
    return in_place is not None or compiled_inner(module) is not None


def writes_to(tensor: Tensor) -> int | None:
    """Return how often a tensor was written to in place; None where PyTorch does not count."""
    # a count can be raised in public (`torch.autograd.graph.increment_version`), not read
    return None if tensor.is_inference() else getattr(tensor, "_version", None)


def quiet_export() -> AbstractContextManager[None]:
    """Keep the ONNX exporter from printing a graph that it fails at.

    It prints to the standard output of the process, past `sys.stdout`, and turns its log on itself;
    from PyTorch 2.15 on its compiled part prints, too.
    """

    def silent(*_: object) -> None:
        pass

    return replaced(torch._C, _jit_onnx_log=silent, _jit_set_onnx_log_enabled=silent)
