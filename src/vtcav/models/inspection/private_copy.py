"""A private copy of a network's modules that shares its weights.

vtcav runs the copy. Evaluation mode, hooks and replaced outputs exist only there, so the user's
module is never touched: not while another thread runs it, and not after an exception.

Weights share memory with the user's. Buffers are copies, whose changes are undone before the next
pass (`buffers`). Attributes are taken over by value, containers of them as shallow copies, and
references to modules of the network lead to their copies.

Where code of the network leads back to the user's modules (a closure that holds one, a graph of
Keras layers), no copy is possible, and the module itself is borrowed instead (`borrowing`).

PyTorch has no public way to list a module's own parameters, buffers, children and hooks, or to set
them without side effects, so this module reads and writes `_parameters`, `_buffers`, `_modules` and
the dictionaries of hooks.
"""

from __future__ import annotations

import functools
import types
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from vtcav.models.inspection.activations import modules_that_run
from vtcav.models.inspection.buffers import KeptBuffer

__all__ = ["PrivateCopy"]

_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")
Hook: TypeAlias = Callable[..., Any]

_CONTAINERS: dict[type, Callable[..., Any]] = {
    kind: kind for kind in (list, tuple, set, dict, OrderedDict)
}
_DEEPEST = 4
_LARGEST = 1000  # entries of a container that is copied; larger ones are data


class PrivateCopy:
    """The copy, and how it follows the original.

    Attributes:
        original: The user's module.
        module: The copy, in evaluation mode and without parameter gradients.

    Args:
        original: A module.
        left_out: Forward hooks that are not copied.
    """

    def __init__(self, original: nn.Module, left_out: Sequence[Hook] = ()) -> None:
        self.original = original
        self._left_out = list(left_out)
        self._changes: dict[int, bool] | None = None  # while hooks are watched
        self._copies: dict[nn.Module, nn.Module] = {}
        self._tensors: dict[int, tuple[Tensor, Tensor]] = {}  # by identity: original, copy
        self._buffers: dict[int, KeptBuffer] = {}
        self.refresh()

    def __reduce__(self) -> tuple[Any, ...]:
        return PrivateCopy, (self.original, self._left_out)

    @property
    def module(self) -> nn.Module:
        """The copy."""
        return self._copies[self.original]

    def refresh(self) -> None:
        """Take over what has changed in the original: weights, buffers, attributes, modules."""
        parts = list(self.original.modules())
        for part in parts:
            if part not in self._copies:
                self._copies[part] = object.__new__(type(part))
        known, self._buffers, self._tensors = self._buffers, {}, {}
        for part in parts:
            for weight in part._parameters.values():
                if weight is not None and id(weight) not in self._tensors:
                    # a detached tensor of its own, because gradient flags are the user's
                    shared = nn.Parameter(weight.detach(), requires_grad=False)
                    self._tensors[id(weight)] = weight, shared
            for buffer in part._buffers.values():
                if buffer is not None and id(buffer) not in self._buffers:
                    kept = known.get(id(buffer)) or KeptBuffer(buffer, buffer.detach().clone())
                    kept.restore()
                    self._buffers[id(buffer)] = kept
                    self._tensors[id(buffer)] = buffer, kept.target
        for part in parts:
            self._take_over(part, self._copies[part])

    def restore_buffers(self) -> None:
        """Undo what a pass wrote to buffers."""
        for buffer in self._buffers.values():
            buffer.restore()

    def reaches_original(self, run: Callable[[nn.Module], object]) -> bool:
        """Tell whether running the copy also runs a module of the original."""
        with modules_that_run() as ran:
            run(self.module)
        return not self._copies.keys().isdisjoint(ran)

    def watchers(self, run: Callable[[], object]) -> list[Hook]:
        """Return the forward hooks of other tools that only watch.

        These return nothing, or need gradients that the pass does not have.

        Args:
            run: Runs the copy.
        """
        parts = self._copies
        foreign = [h for p in parts for h in p._forward_hooks.values() if not self._belongs(h)]
        if foreign:
            self._changes = {}
            try:
                self.refresh()
                run()
                return [hook for hook in foreign if not self._changes.get(id(hook), False)]
            finally:
                self._changes = None
        return []

    # -- inside -------------------------------------------------------------------------------

    def _take_over(self, part: nn.Module, copy: nn.Module) -> None:
        """Give a copy the state of its original."""
        state = {name: self._adapted(value) for name, value in part.__dict__.items()}
        state["_parameters"] = {name: self._tensor(p) for name, p in part._parameters.items()}
        state["_buffers"] = {name: self._tensor(b) for name, b in part._buffers.items()}
        state["_modules"] = {
            name: None if child is None else self._copies[child]
            for name, child in part._modules.items()
        }
        state["training"] = False
        state["_forward_pre_hooks"] = self._adapted(part._forward_pre_hooks)
        state["_forward_hooks"] = OrderedDict(
            (i, self._adapted(hook) if self._belongs(hook) else self._watched(hook))
            for i, hook in part._forward_hooks.items()
            if not any(hook is other for other in self._left_out)
        )
        for name in _BACKWARD_HOOKS:  # of other tools: they would change or see our gradients
            state[name] = OrderedDict()
        state["_is_full_backward_hook"] = None
        if "grad_checkpointing" in state:  # timm's flag; the numbers are the same
            state["grad_checkpointing"] = False
        copy.__dict__.clear()
        copy.__dict__.update(state)

    def _belongs(self, hook: Any) -> bool:
        """Tell whether a hook is part of the network: PyTorch's, or a method of a module in it."""
        if isinstance(hook, types.MethodType) and isinstance(hook.__self__, nn.Module):
            return hook.__self__ in self._copies
        return type(hook).__module__.startswith("torch.")

    def _watched(self, hook: Hook) -> Hook:
        """Return a hook that records whether another one changes an output, during `watchers`."""
        changes = self._changes
        if changes is None:
            return hook

        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                found = hook(*args, **kwargs)
            except Exception:  # noqa: BLE001  (the hook may need gradients)
                return None
            changes[id(hook)] = changes.get(id(hook), False) or found is not None
            return found

        return watched

    def _tensor(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else self._tensors[id(tensor)][1]

    def _adapted(self, value: Any, depth: int = 0) -> Any:
        """Return an attribute's value with copies in the place of modules and tensors."""
        if isinstance(value, nn.Module):
            return self._copies.get(value, value)
        if isinstance(value, Tensor):
            return self._tensors[id(value)][1] if id(value) in self._tensors else value
        if isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module):
            return types.MethodType(
                value.__func__, self._copies.get(value.__self__, value.__self__)
            )
        if type(value) is functools.partial:
            given = [self._adapted(each, depth + 1) for each in (value.func, *value.args)]
            named = {key: self._adapted(each, depth + 1) for key, each in value.keywords.items()}
            return functools.partial(given[0], *given[1:], **named)
        if type(value) in _CONTAINERS and len(value) <= _LARGEST and depth < _DEEPEST:
            return self._container(value, depth + 1)
        return value

    def _container(self, value: Any, depth: int) -> Any:
        make = _CONTAINERS[type(value)]
        if isinstance(value, dict):
            return make((key, self._adapted(each, depth)) for key, each in value.items())
        return make(self._adapted(each, depth) for each in value)
