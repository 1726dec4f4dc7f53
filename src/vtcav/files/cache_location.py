"""The location and size of the cache, from arguments and environment variables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vtcav.errors import ExplanationError, brief, why
from vtcav.files.cache import MAX_BYTES
from vtcav.files.paths import expanded, usable

if TYPE_CHECKING:
    from vtcav.files.cache import Cache


_FOLDER, _SIZE = "VTCAV_CACHE", "VTCAV_CACHE_SIZE"
_ON, _OFF = ("1", "on", "true", "yes"), ("", "0", "off", "false", "no")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def cache_of(wanted: bool | str | os.PathLike[str] | Cache | None, *, unset: bool) -> Cache | None:
    """Return the cache asked for.

    Args:
        wanted: A `Cache`, its folder, True for the user's cache, False for none; None for the
            value of the variable VTCAV_CACHE: "off", "on", or a folder.
        unset: Whether to use the user's cache for None where the variable is not set.

    Raises:
        ExplanationError: For anything else, or when VTCAV_CACHE_SIZE is no size.

    Example:
        >>> cache_of("somewhere", unset=False).folder.name
        'somewhere'
    """
    from vtcav.files.cache import Cache

    if isinstance(wanted, Cache):
        return wanted
    asked = wanted is not None or _FOLDER in os.environ
    if wanted is None:
        wanted = _from_environment(unset)
    if isinstance(wanted, bool):
        return Cache(default_folder(), _max_bytes(), asked=asked) if wanted else None
    if not isinstance(wanted, str | os.PathLike) or not os.fspath(wanted):
        raise ExplanationError(
            "expected cache to be a folder, True, False, None or a vtcav.Cache, got "
            f"{brief(wanted)}"
        )
    try:
        return Cache(usable(expanded(wanted)), _max_bytes())
    except OSError as error:
        raise ExplanationError(f"the cache cannot be there: {why(error)}") from error


def default_folder() -> Path:
    """Return the folder of the user's cache, where the system keeps caches."""
    from platformdirs import user_cache_path

    return user_cache_path("vtcav", appauthor=False)


def parsed_size(text: str) -> int:
    """Return the number of bytes that a text stands for.

    Raises:
        ExplanationError: When the text is no size.

    Example:
        >>> parsed_size("500 MB"), parsed_size("2G"), parsed_size("1e6")
        (500000000, 2000000000, 1000000)
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)I?B?\s*", text, re.IGNORECASE)
    try:
        return int(float(match[1]) * _UNITS[match[2].upper()] if match else "")
    except ValueError:
        raise ExplanationError(f"expected a size such as 500MB or 2GB, got {text!r}") from None


def _from_environment(unset: bool) -> bool | str:
    """Return the value of VTCAV_CACHE."""
    text = os.environ.get(_FOLDER)
    if text is None:
        return unset
    known = dict.fromkeys(_ON, True) | dict.fromkeys(_OFF, False)
    return known.get(text.strip().lower(), text)


def _max_bytes() -> int:
    text = os.environ.get(_SIZE)
    return MAX_BYTES if not text else parsed_size(text)
