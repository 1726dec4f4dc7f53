"""Exceptions of the user's network, as errors of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vtcav.errors import ModelError, VtcavError
from vtcav.models.heads.batch_size import is_out_of_memory
from vtcav.models.inspection.probing import first_line

__all__ = ["network_errors"]


@contextmanager
def network_errors(where: str) -> Iterator[None]:
    """Raise a `ModelError` for any exception of the network, except when memory runs out.

    Args:
        where: The place of the failure, such as "at layer 'layer3'".

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
        raise ModelError(f"the network fails {where}: {first_line(error)}") from error
