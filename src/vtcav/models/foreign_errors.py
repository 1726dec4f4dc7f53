"""Exceptions of the user's network, told as errors of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vtcav.errors import ModelError, VtcavError
from vtcav.models.heads.batch_size import is_out_of_memory

__all__ = ["network_errors"]


@contextmanager
def network_errors(where: str) -> Iterator[None]:
    """Raise a `ModelError` for whatever the network raises, but for a lack of memory.

    Args:
        where: What was computed: "at layer 'layer3'".

    Example:
        >>> with network_errors("at layer 'a'"):
        ...     raise TypeError("no shape")
        Traceback (most recent call last):
        vtcav.errors.ModelError: the network fails at layer 'a': TypeError: no shape
    """
    try:
        yield
    except VtcavError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        lines = str(error).strip().splitlines() or [""]
        text = "".join(letter for letter in lines[0] if letter.isprintable())[:300]
        raise ModelError(f"the network fails {where}: {type(error).__name__}: {text}") from error
