"""Who uses the network: one at a time, and a person who waits before work in the background."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vtcav.errors import VtcavError

__all__ = ["Latest", "SupersededError", "Turns"]


class SupersededError(VtcavError):
    """A newer request of the same kind has come, so that this one is not answered."""


class Turns:
    """A lock with two kinds of users: urgent ones go first.

    Example:
        >>> turns = Turns()
        >>> with turns.take():
        ...     pass
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._taken = False
        self._urgent = 0

    @contextmanager
    def take(self, *, urgent: bool = True) -> Iterator[None]:
        """Wait for a turn and hold it while the block runs."""
        with self._change:
            self._urgent += urgent
            try:
                self._change.wait_for(
                    lambda: not self._taken and (urgent or not self._urgent), timeout=None
                )
                self._taken = True
            finally:
                self._urgent -= urgent
        try:
            yield
        finally:
            with self._change:
                self._taken = False
                self._change.notify_all()


class Latest:
    """Which request of each kind is the newest."""

    _KINDS = 200

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: OrderedDict[str, int] = OrderedDict()

    def check(self, kind: str, number: int) -> Callable[[], None]:
        """Note a request, and return what raises `SupersededError` once a newer one has come."""
        with self._lock:
            self._newest[kind] = max(number, self._newest.get(kind, 0))
            self._newest.move_to_end(kind)
            if len(self._newest) > self._KINDS:
                self._newest.popitem(last=False)

        def check() -> None:
            if self._newest.get(kind, 0) > number:
                raise SupersededError("a newer request has come")

        return check
