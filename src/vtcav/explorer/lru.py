"""Caches that drop what was used least recently, beyond a budget of bytes."""

from __future__ import annotations

from typing import Any

from cachetools import LRUCache

__all__ = ["shrink"]


def shrink(cache: LRUCache[Any, Any], budget: float, newest: int = 1) -> None:
    """Drop the values used least recently until the others fit into a budget.

    The newest values stay even where they alone exceed the budget, which a cache with a `maxsize`
    would refuse; so the cache has none.

    Args:
        cache: A cache of infinite `maxsize`, with a `getsizeof`.
        budget: The largest total size.
        newest: How many of the newest values stay in any case.

    Example:
        >>> cache = LRUCache(float("inf"), getsizeof=len)
        >>> cache.update(a="12", b="345", c="6789")
        >>> shrink(cache, 7)
        >>> list(cache)
        ['b', 'c']
    """
    while cache.currsize > budget and len(cache) > newest:
        cache.popitem()
