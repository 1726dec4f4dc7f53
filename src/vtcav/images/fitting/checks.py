"""Values of a `Preprocess`: checked, and brought to one form each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

from vtcav.errors import ImageError, brief
from vtcav.images.scaling import Range
from vtcav.parameters import Whole


def number(field: str, value: object) -> float:
    """Return a finite number."""
    try:
        given = float(cast("float", value))
    except (TypeError, ValueError):
        given = math.nan
    if isinstance(value, str | bool) or not math.isfinite(given):
        raise ImageError(f"expected {field} to be a finite number, got {brief(value)}")
    return given


def per_channel(field: str, value: object, channels: int) -> tuple[float, ...]:
    """Return one number for each channel, from one for all or from as many."""
    if not hasattr(value, "__len__") or isinstance(value, str):
        return (number(field, value),) * channels
    numbers = [number(field, one) for one in cast("Sequence[object]", value)]
    if len(numbers) == 1:
        numbers *= channels
    if len(numbers) != channels:
        raise ImageError(
            f"expected {field} to be {'1 or ' * (channels > 1)}{channels} "
            f"number{'s' * (channels > 1)}, got {len(numbers)}: {value!r}"
        )
    return tuple(numbers)


def _whole_numbers(value: object, count: int, least: int) -> tuple[int, ...] | None:
    """Return so many whole numbers of at least `least`, or None for something else."""
    try:
        numbers = tuple(Whole(least).accept(item) for item in cast("Iterable[object]", value))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count else None


def ranges_of(value: object, channels: int) -> tuple[Range, ...]:
    """Return the window of all channels, or as many as there are; none for None."""
    if value is None:
        return ()
    items = list(cast("Sequence[object]", value)) if hasattr(value, "__len__") else []
    if items and not isinstance(value, str) and all(hasattr(item, "__len__") for item in items):
        if len(items) != channels:
            raise ImageError(
                f"expected window to be (low, high), or {channels} of these, one for each "
                f"channel; got {len(items)}: {value!r}"
            )
        return tuple(range_of("window", item) for item in items)
    return (range_of("window", value),)


def range_of(field: str, value: object) -> Range:
    """Return two numbers in order."""
    pair = list(cast("Sequence[object]", value)) if hasattr(value, "__len__") else []
    if len(pair) != 2 or isinstance(value, str):
        raise ImageError(f"expected {field} to be two numbers, (low, high), got {brief(value)}")
    low, high = (number(field, end) for end in pair)
    if low >= high:
        raise ImageError(f"expected {field} to be (low, high) with low < high, got {brief(value)}")
    return low, high


def percentiles_of(value: object) -> Range:
    """Return two percentiles in order."""
    low, high = range_of("percentiles", value)
    if low < 0 or high > 100:
        raise ImageError(f"expected percentiles in 0..100, got {brief(value)}")
    return low, high


def shown_of(value: object, channels: int) -> tuple[int, ...]:
    """Return the channels that figures show: one, or three as red, green and blue."""
    if value is None:
        return (0, 1, 2) if channels in (3, 4) else (0,)
    items = value if hasattr(value, "__len__") else (value,)
    one, three = _whole_numbers(items, 1, 0), _whole_numbers(items, 3, 0)
    chosen = one or three
    if chosen is None or max(chosen) >= channels:
        raise ImageError(
            f"expected shown to be a channel or three, from 0 to {channels - 1}, got {brief(value)}"
        )
    return chosen


def size_of(value: object) -> tuple[int, ...]:
    """Return height and width, of volumes the number of slices before them."""
    sides = value if hasattr(value, "__len__") else (value, value)
    size = _whole_numbers(sides, 2, 1) or _whole_numbers(sides, 3, 1)
    if size is None:
        raise ImageError(
            "expected size to be a whole number of pixels above 0, (height, width), of volumes "
            f"(slices, height, width), or None, got {brief(value)}"
        )
    return size


def colour_of(value: object, channels: int) -> tuple[int, ...]:
    """Return the value of borders for each channel, in 0..255."""
    given = (value,) if channels == 1 and not hasattr(value, "__len__") else value
    if given == (0, 0, 0):  # the default
        given = (0,) * channels
    colour = _whole_numbers(given, channels, 0)
    if colour is None or max(colour) > 255:
        raise ImageError(
            f"expected fill to be {channels} whole numbers in 0..255, got {brief(value)}"
        )
    return colour
