"""The module that vtcav runs for a user's module, and the conditions under which it runs.

This is mostly a private copy (`private_copy`). Where no copy is possible, the module itself is
borrowed (`borrowing`): by one thread at a time, and restored afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vtcav.models.inspection.ambient import ambient, network_device
from vtcav.models.inspection.borrowing import evaluating
from vtcav.models.inspection.buffers import BorrowedState
from vtcav.models.inspection.logits import LogitReader
from vtcav.models.inspection.private_copy import PrivateCopy
from vtcav.models.inspection.torch_internals import check_hooks, is_compiled

FirstPass: TypeAlias = tuple[Tensor, LogitReader]
"""A few images, and how the network's logits are read."""


class _Lock:
    """A reentrant lock; a copy or an unpickled one is a lock of its own."""

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
        copy: The copy that runs in its place; None borrows the module itself.
    """

    def __init__(self, original: nn.Module, copy: PrivateCopy | None) -> None:
        self.original = original
        self._copy = copy
        self._lock = _Lock() if copy is not None else _LOCKS.setdefault(original, _Lock())
        self._borrowed = BorrowedState(original) if copy is None else None
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
            fresh: Whether to take over the user's changes since the last pass, and to disable
                autocast.
        """
        with self._lock, ambient(autocast=not fresh), ExitStack() as stack:
            self._depth += 1
            stack.callback(self._leave)
            stack.enter_context(network_device(self.original))
            if self._copy is None:
                assert self._borrowed is not None
                stack.enter_context(evaluating(self.original))
                stack.enter_context(self._borrowed.restored(whole=fresh))
            elif self._depth == 1:
                self._copy.refresh() if fresh else self._copy.restore()
            yield self.module

    def _leave(self) -> None:
        self._depth -= 1


def open_network(
    module: nn.Module, look: Callable[[Network], FirstPass], *, private: bool = True
) -> tuple[Network, FirstPass]:
    """Return the network to run, and its first pass.

    Args:
        module: The user's module.
        look: Makes the first pass.
        private: Whether a private copy may run.
    """
    check_hooks()
    if private and not any(map(is_compiled, module.modules())):
        try:
            copy = PrivateCopy(module)
            found: list[tuple[Network, FirstPass]] = []
            if not copy.reaches_original(lambda: found.append(_of_copy(copy, look))):
                return found[0]
        except Exception:  # noqa: BLE001  (the module itself may work; if not, its error is raised)
            pass
    network = Network(module, None)
    return network, look(network)


def _of_copy(copy: PrivateCopy, look: Callable[[Network], FirstPass]) -> tuple[Network, FirstPass]:
    """Return the network that runs a copy, and its first pass."""
    copy = _without_watchers(copy, look)
    network = Network(copy.original, copy)
    return network, _first_pass(network, copy, look)


def _first_pass(
    network: Network, copy: PrivateCopy, look: Callable[[Network], FirstPass]
) -> FirstPass:
    """Return the first pass; a second one, if the first wrote to the copy.

    Only from then on every pass starts from the same state.
    """
    try:
        first = look(network)
    except Exception:
        if not copy.find_writes():
            raise
        return look(network)
    return look(network) if copy.find_writes() else first


def _without_watchers(copy: PrivateCopy, look: Callable[[Network], FirstPass]) -> PrivateCopy:
    """Return a copy without those forward hooks of other tools that change no score."""
    network = Network(copy.original, copy)
    expected: list[tuple[FirstPass, Tensor]] = []

    def run() -> None:
        first = _first_pass(network, copy, look)
        expected.append((first, _scores(network, first)))

    watchers = copy.watchers(run)
    if not watchers:
        return copy
    bare = PrivateCopy(copy.original, watchers)
    [(first, scores)] = expected
    return bare if torch.equal(_scores(Network(copy.original, bare), first), scores) else copy


def _scores(network: Network, first: FirstPass) -> Tensor:
    """Return the logits of the images of a first pass."""
    images, reader = first
    with torch.no_grad(), network.running() as module:
        return reader.run(module, images)
