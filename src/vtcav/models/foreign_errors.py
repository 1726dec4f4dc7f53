"""Exceptions of the user's network, as errors of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from vtcav.errors import ModelError, VtcavError
from vtcav.models.inspection.probing import first_line

_inside = ContextVar("_inside", default=False)  # another `network_errors`, which says more


@contextmanager
def network_errors(where: str) -> Iterator[None]:
    """Raise a `ModelError` for any exception of the network; also a decorator.

    Of several around each other the outermost names the place.

    Args:
        where: The place of the failure, such as "at layer 'layer3'".

    Example:
        >>> with network_errors("at layer 'a'"):
        ...     raise TypeError("no shape")
        Traceback (most recent call last):
        vtcav.errors.ModelError: the network fails at layer 'a': TypeError: no shape
    """
    if _inside.get():
        yield
        return
    token = _inside.set(True)
    try:
        yield
    except VtcavError:
        raise
    except Exception as error:
        raise ModelError(f"the network fails {where}: {first_line(error)}") from error
    finally:
        _inside.reset(token)
