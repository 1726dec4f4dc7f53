"""Scheduling: one user of the network at a time, waiting people before background work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cachetools import LRUCache

from vtcav.errors import VtcavError


class SupersededError(VtcavError):
    """A newer request of the same kind has arrived, so this one is not answered."""


class PriorityLock:
    """A lock with two kinds of users: urgent ones go first.

    Example:
        >>> lock = PriorityLock()
        >>> with lock.hold():
        ...     pass
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._held = False
        self._urgent = 0

    @contextmanager
    def hold(self, *, urgent: bool = True) -> Iterator[None]:
        """Wait for the lock and hold it while the block runs."""
        with self._change:
            self._urgent += urgent
            try:
                self._change.wait_for(lambda: not self._held and (urgent or not self._urgent))
                self._held = True
            finally:
                self._urgent -= urgent
        try:
            yield
        finally:
            with self._change:
                self._held = False
                self._change.notify_all()


class LatestRequests:
    """The number of the newest request of each kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: LRUCache[str, int] = LRUCache(200)
        self._ended = False

    def end(self) -> None:
        """Let every check raise, as nobody waits for an answer any more."""
        self._ended = True

    def check(self, kind: str, number: int) -> Callable[[], None]:
        """Record a request, and return a check that raises `SupersededError` after a newer one."""
        with self._lock:
            self._newest[kind] = max(number, self._newest.get(kind, 0))

        def check() -> None:
            with self._lock:
                newest = self._newest.get(kind, 0)
            if self._ended:
                raise SupersededError("the explorer has ended")
            if newest > number:
                raise SupersededError("a newer request has come")

        return check
