"""What vtcav runs of a user's module, and the conditions under which it runs.

Mostly a private copy of the modules (`private_copy`). Where none is possible, the module itself is
borrowed: one thread at a time, and put back as it was found.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vtcav.models.inspection.ambient import ambient
from vtcav.models.inspection.borrowing import BorrowedBuffers, evaluating, is_compiled
from vtcav.models.inspection.private_copy import PrivateCopy

__all__ = ["Network", "open_network"]

_Found = TypeVar("_Found")


class _Lock:
    """A lock that one thread may take many times; another one after pickling or copying."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[_Lock], tuple[()]]:
        return _Lock, ()


_LOCKS: WeakKeyDictionary[nn.Module, _Lock] = WeakKeyDictionary()  # of borrowed modules


class Network:
    """A module that runs in evaluation mode, without parameter gradients, in one thread at a time.

    Attributes:
        original: The user's module.

    Args:
        original: The user's module.
        copy: What runs in its place; None borrows the module itself.
    """

    def __init__(self, original: nn.Module, copy: PrivateCopy | None) -> None:
        self.original = original
        self._copy = copy
        self._lock = _Lock() if copy is not None else _LOCKS.setdefault(original, _Lock())
        self._borrowed = BorrowedBuffers(original) if copy is None else None
        self._depth = 0

    @property
    def module(self) -> nn.Module:
        """The module to run, inside of `running`."""
        return self.original if self._copy is None else self._copy.module

    @property
    def is_private(self) -> bool:
        """Whether a copy runs, so that the user's module is never touched."""
        return self._copy is not None

    @contextmanager
    def running(self, *, fresh: bool = True) -> Iterator[nn.Module]:
        """Hold the module ready to run.

        Args:
            fresh: Whether to take over what the user has changed since, and to leave autocast.
        """
        with self._lock, ambient(autocast=not fresh), ExitStack() as stack:
            self._depth += 1
            stack.callback(self._leave)
            if self._copy is None:
                assert self._borrowed is not None
                stack.enter_context(evaluating(self.original))
                stack.enter_context(self._borrowed.restored())
            elif self._depth == 1:
                self._copy.refresh() if fresh else self._copy.restore_buffers()
            yield self.module

    def _leave(self) -> None:
        self._depth -= 1


def open_network(
    module: nn.Module,
    look: Callable[[Network], _Found],
    scores: Callable[[nn.Module, _Found], Tensor],
    *,
    private: bool = True,
) -> tuple[Network, _Found]:
    """Return the network to run, and what is seen of it in its first pass.

    Args:
        module: The user's module.
        look: Makes a first pass.
        scores: From a module and what was seen, the scores of a few images.
        private: Whether a private copy may run.
    """
    if private and not any(map(is_compiled, module.modules())):
        try:
            copy = PrivateCopy(module)
            copy = _without_watchers(module, copy, look, scores)
            network = Network(module, copy)
            found: list[_Found] = []
            if not copy.reaches_original(lambda _: found.append(look(network))):
                return network, found[0]
        except Exception:  # noqa: BLE001  (the module itself may do; if not, its error is the one)
            pass
    network = Network(module, None)
    return network, look(network)


def _without_watchers(
    module: nn.Module,
    copy: PrivateCopy,
    look: Callable[[Network], _Found],
    scores: Callable[[nn.Module, _Found], Tensor],
) -> PrivateCopy:
    """Return a copy without forward hooks of other tools that change no score."""
    network = Network(module, copy)
    found: list[_Found] = []
    expected: list[Tensor] = []

    def run() -> None:
        found.append(look(network))
        with torch.no_grad(), network.running() as own:
            expected.append(scores(own, found[0]))

    watchers = copy.watchers(run)
    if not watchers:
        return copy
    bare = PrivateCopy(module, watchers)
    with torch.no_grad(), Network(module, bare).running() as own:
        same = torch.equal(scores(own, found[0]), expected[0])
    return bare if same else copy
