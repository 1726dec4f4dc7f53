"""Memory of what was computed, up to a budget."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from cachetools import LRUCache

__all__ = ["RecentlyUsed"]

K = TypeVar("K")
V = TypeVar("V")


class RecentlyUsed(Generic[K, V]):
    """Values by key, for several threads; those used least recently are dropped.

    The newest values stay even if they alone exceed the budget, which `LRUCache` would refuse.

    Args:
        budget: The largest total size.
        size: Returns the size of a value; each counts 1 by default.

    Example:
        >>> kept = RecentlyUsed(7, size=len)
        >>> for key, value in (("a", "12"), ("b", "345"), ("c", "6789")):
        ...     kept.put({key: value})
        >>> kept.get("a"), kept.get("b")
        (None, '345')
    """

    def __init__(self, budget: float, size: Callable[[V], int] = lambda value: 1) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._values: LRUCache[K, V] = LRUCache(math.inf, getsizeof=size)

    def get(self, key: K) -> V | None:
        """Return a value; None if it is not kept."""
        with self._lock:
            return self._values.get(key)

    def put(self, values: Mapping[K, V]) -> None:
        """Keep values, and drop others until the budget is met."""
        with self._lock:
            self._values.update(values)
            while self._values.currsize > self._budget and len(self._values) > len(values):
                self._values.popitem()

    def forget(self, belongs: Callable[[K], bool] = lambda key: True) -> list[V]:
        """Drop the values of all keys, or of some, and return them."""
        with self._lock:
            return [self._values.pop(key) for key in list(self._values) if belongs(key)]
