"""Attributes of single instances, replaced for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: object, **attributes: Any) -> Iterator[None]:
    """Give an instance other attributes, and put back its own afterwards.

    The instance's `__setattr__` is passed over: Keras tracks what it is given.

    Example:
        >>> path = type("Path", (), {})()
        >>> with replaced(path, length=3):
        ...     path.length
        3
        >>> hasattr(path, "length")
        False
    """
    own = {name: value for name, value in owner.__dict__.items() if name in attributes}
    owner.__dict__.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            owner.__dict__.pop(name, None)
        owner.__dict__.update(own)
