"""Schemas: what saved data hold, declared once and checked when they are loaded.

A file with the right hash may still have been written by other software, or on purpose. What does
not fit its declaration would give a wrong number later, or an error that names no file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

M = TypeVar("M", bound="Saved")
_ANY = -1
ANY_OR_NONE = -2
"""As a size of an array: any, also 0."""


class Saved(BaseModel):
    """The declaration of JSON data: fields that it lacks are left out of what is read."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Column(NamedTuple):
    """The declaration of a column of a table.

    Attributes:
        kind: str, int, float or bool.
        low: The least number.
        high: The largest.
        gaps: Whether numbers may be missing.
    """

    kind: type
    low: float = -math.inf
    high: float = math.inf
    gaps: bool = False


def _of_letters(text: str) -> str:
    text.encode()  # its UnicodeError is a ValueError
    return text


Letters = Annotated[str, AfterValidator(_of_letters)]
"""A text without halves of letters, which only names of files may have: no table can hold them."""


def checked(schema: type[M], data: Any) -> M:
    """Return JSON data in the form of its declaration.

    Raises:
        ValueError: Naming the first field that does not fit.

    Example:
        >>> class Point(Saved):
        ...     x: float
        >>> checked(Point, {"x": 0.5}).x
        0.5
        >>> checked(Point, {"x": "left"})
        Traceback (most recent call last):
        ValueError: x: input should be a valid number, unable to parse string as a number
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ValueError(_first(error)) from None
    except RecursionError:
        raise ValueError("its JSON is nested too deep") from None


def checked_as(kind: Any, data: Any, where: str) -> Any:
    """Return JSON data of a kind that is no `Saved`, such as a data class.

    Raises:
        ValueError: Naming the first field that does not fit.
    """
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        raise ValueError(f"{where}: {_first(error)}") from None
    except RecursionError:
        raise ValueError("its JSON is nested too deep") from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"][:1].lower() + first["msg"][1:]
    return f"{where}: {message}" if where else message


def checked_table(
    table: pd.DataFrame, name: str, columns: Mapping[str, Column], values: Mapping[str, Any] = {}
) -> pd.DataFrame:
    """Return a table with its columns in their kinds.

    Args:
        table: The table.
        name: Its name, for messages.
        columns: Its columns; others stay as they are.
        values: The only texts of some columns.

    Raises:
        ValueError: Naming the first column that does not fit.
    """
    if twice := [column for column in table.columns if list(table.columns).count(column) > 1]:
        raise ValueError(f"{name} has two columns {twice[0]!r}")
    for column, declared in columns.items():
        if column not in table:
            raise ValueError(f"{name} has no column {column!r}")
        found = table[column]
        known = values.get(column)
        if declared.kind is str:
            fault = _fault_of_texts(found, known)
        else:
            fault = _fault_of_numbers(found, declared)
        if fault:
            raise ValueError(f"{name}, column {column!r}: {fault}")
        if declared.kind is float:
            table = table.assign(**{column: found.astype(float)})
    return table.reset_index(drop=True)


def _fault_of_texts(found: pd.Series[Any], known: Iterable[str] | None) -> str:
    for value in found.unique():
        if not isinstance(value, str):
            return f"expected texts, got {value!r}"
        if known is not None and value not in known:
            return f"{value[:80]!r} is not among {', '.join(map(repr, known))[:200]}"
        try:
            value.encode()
        except UnicodeError:
            return "a text that is no Unicode"
    return ""


def _fault_of_numbers(found: pd.Series[Any], declared: Column) -> str:
    kinds = {int: "iu", bool: "b", float: "fiu"}[declared.kind]
    if found.dtype.kind not in kinds and len(found):
        if not (declared.gaps and found.isna().all()):
            return f"expected {declared.kind.__name__}, got {found.dtype}"
        return ""
    if not len(found) or declared.kind is bool:
        return ""
    missing = found.isna()
    if not declared.gaps and bool(missing.any()):
        return "a number is missing"
    numbers = found[~missing]
    # NaN is a gap; an infinite number is never one
    fits = (numbers >= declared.low) & (numbers <= declared.high) & (numbers.abs() < math.inf)
    if not bool(fits.all()):
        number = numbers[~fits].iloc[0]
        return f"expected numbers from {declared.low:g} to {declared.high:g}, got {number}"
    return ""


def checked_array(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    kind: str,
    *shape: int,
    within: tuple[float, float] = (-math.inf, math.inf),
    gaps: bool = False,
) -> NDArray[Any]:
    """Return an array by its name.

    Args:
        arrays: The arrays of a file.
        name: The name.
        kind: NumPy's name of its kind, as "uint8".
        shape: Its shape; -1 for any size of at least 1, and `ANY_OR_NONE`.
        within: The least and the largest number.
        gaps: Whether numbers may be missing.

    Raises:
        ValueError: When it is missing, of another kind or shape, or holds other numbers.
    """
    import numpy as np

    if name not in arrays:
        raise ValueError(f"the array {name!r} is missing")
    array = arrays[name]
    sizes = zip(array.shape, shape, strict=False)
    fits = array.ndim == len(shape) and all(
        size == wanted or (wanted == _ANY and size > 0) or wanted == ANY_OR_NONE
        for size, wanted in sizes
    )
    if not fits or array.dtype != kind:
        sizes_shown = ["any" if wanted < 0 else wanted for wanted in shape]
        raise ValueError(
            f"the array {name!r} is {array.dtype} {list(array.shape)}, expected {kind} "
            f"{sizes_shown}".replace("'", "")
        )
    if array.dtype.kind == "f" and array.size:
        numbers = array[~np.isnan(array)] if gaps else array
        if not numbers.size:  # all of them are missing
            return array
        low, high = float(numbers.min(initial=within[1])), float(numbers.max(initial=within[0]))
        if not (np.isfinite([low, high]).all() and within[0] <= low and high <= within[1]):
            raise ValueError(
                f"the array {name!r} holds numbers from {low:g} to {high:g}, expected "
                f"{within[0]:g} to {within[1]:g}"
            )
    return array
