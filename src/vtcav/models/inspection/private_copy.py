"""A private copy of a network's modules that shares its weights.

vtcav runs the copy. Evaluation mode, hooks and replaced outputs exist only there, so the user's
module is never touched: not while another thread runs it, and not after an exception.

Weights share memory with the user's. Buffers are copies. Attributes are copied as far as a pass can
write to them (`attributes`), and references to modules of the network lead to their copies. What a
pass writes is undone before the next one.

Where code of the network leads back to the user's modules (a closure that holds one, a graph of
Keras layers), no copy is possible, and the module itself is borrowed instead (`borrowing`).
"""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from vtcav.models.inspection.activations import modules_that_run
from vtcav.models.inspection.attributes import Copier, same_value
from vtcav.models.inspection.buffers import KeptBuffer
from vtcav.models.inspection.torch_internals import (
    FORWARD_HOOKS,
    NO_BACKWARD_HOOKS,
    forward_hooks,
)

Hook: TypeAlias = Callable[..., Any]

_OWN = (*FORWARD_HOOKS, "forward")  # of a copy: what vtcav itself sets during a pass


class _ReachedError(BaseException):
    """Ends a pass; no `except Exception` in a network stops it."""


class PrivateCopy:
    """The copy, and how it follows the original.

    Attributes:
        original: The user's module.

    Args:
        original: A module.
        left_out: Forward hooks that are not copied. Those of other tools that come later are not
            copied either.
    """

    def __init__(self, original: nn.Module, left_out: Sequence[Hook] = ()) -> None:
        self.original = original
        self._left_out = list(left_out)
        self._copies: dict[nn.Module, nn.Module] = dict.fromkeys(original.modules(), original)
        self._tensors: dict[int, KeptBuffer] = {}
        self._changes: dict[int, bool] | None = None  # while hooks are watched
        self._written: list[tuple[nn.Module, list[str]]] = []  # attributes that passes write to
        present = (hook for part in self._copies for hook in forward_hooks(part))
        self._foreign = [hook for hook in present if not self._belongs(hook)]
        self._copies.clear()
        self.refresh()

    def __reduce__(self) -> tuple[Any, ...]:
        return PrivateCopy, (self.original, self._left_out)

    @property
    def module(self) -> nn.Module:
        """The copy, in evaluation mode and without parameter gradients."""
        return self._copies[self.original]

    def refresh(self) -> None:
        """Take over what has changed in the original: weights, buffers, attributes, modules."""
        known, self._tensors = self._tensors, {}
        self._copier = Copier(self._copies, lambda tensor: self._tensor(tensor, known))
        parts = {self.original: None}
        waiting = [self.original]
        while waiting:
            part = waiting.pop()
            if part not in self._copies:
                self._copies[part] = object.__new__(type(part))
            inner = [p for p in list(part.children()) if p not in parts]
            parts |= dict.fromkeys(inner)
            waiting += inner
        for part in parts:
            copy, state = self._copies[part], self._state_of(part)
            copy.__dict__.clear()
            copy.__dict__.update(state)
        self._restore_before_passes()

    def find_writes(self) -> bool:
        """Tell whether a pass wrote to the copy; if so, undo that before every pass from now on."""
        for tensor in self._tensors.values():
            tensor.find_writes()
        self._copier.forget()
        self._written = []
        for part, copy in list(self._copies.items()):
            state = self._state_of(part)
            if names := [name for name in {*state, *copy.__dict__} if _differ(copy, state, name)]:
                self._written.append((part, names))
        self._restore_before_passes()
        return self._writes

    def restore(self) -> None:
        """Undo what a pass wrote."""
        for tensor in self._tensors.values():
            tensor.restore()
        if self._written:
            self._copier.forget()
        for part, names in self._written:
            own, state = self._copies[part].__dict__, self._state_of(part)
            for name in names:
                own.pop(name, None)
            own.update({name: state[name] for name in names if name in state})

    def reaches_original(self, run: Callable[[], object]) -> bool:
        """Tell whether running the copy leads to a module of the original, and stop before that.

        Args:
            run: Runs the copy.
        """

        def refuse(part: nn.Module) -> None:
            if part in self._copies:
                raise _ReachedError

        try:
            with modules_that_run(refuse):
                run()
        except _ReachedError:
            return True
        return False

    def watchers(self, run: Callable[[], object]) -> list[Hook]:
        """Return the forward hooks of other tools that only watch.

        These return nothing, or need gradients that the pass does not have.

        Args:
            run: Runs the copy.
        """
        if not self._foreign:
            return []
        self._changes = {}
        try:
            self.refresh()
            run()
            return [hook for hook in self._foreign if not self._changes.get(id(hook), False)]
        finally:
            self._changes = None

    # -- inside -------------------------------------------------------------------------------

    @property
    def _writes(self) -> bool:
        return bool(self._written) or any(each.is_written for each in self._tensors.values())

    def _restore_before_passes(self) -> None:
        """Restore before each pass, also where several follow on each other."""
        if self._writes:
            self.module.register_forward_pre_hook(lambda *_: self.restore(), prepend=True)

    def _tensor(self, tensor: Tensor, known: Mapping[int, KeptBuffer]) -> Tensor:
        """Return the tensor of the copy for one of the original."""
        if isinstance(tensor, nn.Parameter):
            # a tensor of its own on the same memory, because gradient flags are the user's
            return nn.Parameter(tensor.detach(), requires_grad=False)
        if tensor.requires_grad:  # kept from a pass of the user's
            return tensor
        kept = known.get(id(tensor)) or KeptBuffer(tensor, tensor.clone())
        if id(tensor) not in self._tensors:
            kept.restore()
        self._tensors[id(tensor)] = kept
        return kept.target

    def _state_of(self, part: nn.Module) -> dict[str, Any]:
        """Return the state that the copy of a module should have."""
        copied = self._copier.copied
        state: dict[str, Any] = {}
        for name, value in list(part.__dict__.items()):
            if name in FORWARD_HOOKS:
                state[name] = OrderedDict(
                    (i, copied(hook) if self._belongs(hook) else self._watched(hook))
                    for i, hook in list(value.items())
                    if self._belongs(hook) or self._runs(hook)
                )
            elif "_hooks" in name and not value:  # most are empty: fast, and shared with no module
                state[name] = type(value)()
            else:
                state[name] = copied(value)
        state["training"] = False
        state |= NO_BACKWARD_HOOKS
        if "grad_checkpointing" in state:  # timm's flag; the numbers are the same
            state["grad_checkpointing"] = False
        return state

    def _belongs(self, hook: Any) -> bool:
        """Tell whether a hook is part of the network: PyTorch's, or a method of a module in it."""
        if isinstance(hook, types.MethodType) and isinstance(hook.__self__, nn.Module):
            return hook.__self__ in self._copies
        return type(hook).__module__.startswith("torch.")

    def _runs(self, hook: Any) -> bool:
        """Tell whether a hook of another tool runs in the copy."""
        return any(hook is other for other in self._foreign) and not any(
            hook is other for other in self._left_out
        )

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


def _differ(copy: nn.Module, state: Mapping[str, Any], name: str) -> bool:
    """Tell whether an attribute of a copy is not as it should be."""
    own = copy.__dict__
    both = name in own and name in state
    return name not in _OWN and not (both and same_value(own[name], state[name]))
