"""The values of a study file: what a constraint accepts, and mistakes with the keys they are at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainValidator

from vtcav.errors import VtcavError
from vtcav.parameters import Constraint, Words, did_you_mean
from vtcav.study.yaml_file import Scalar, came, plain


class MistakeError(ValueError):
    """A mistake and its keys, from the checked value or from the root of the file on."""

    def __init__(self, message: str, *keys: str | int, below: bool = True) -> None:
        super().__init__(message)
        self.keys, self.below = keys, below


class UnknownKeyError(MistakeError):
    """An unknown key: the message names it, so only the key above is put in front."""


def take(value: Any, constraint: Constraint) -> Any:
    """Return a value that a constraint accepts."""
    if isinstance(value, list):
        given: Any = [at(i, _name, part) for i, part in enumerate(value)]
    else:
        given = plain(value)
    try:
        found = constraint.accept(given)
    except VtcavError as error:
        inner = [name for name in value if name in str(error)] if isinstance(value, dict) else []
        raise MistakeError(str(error), *sorted(inner, key=str(error).find)[:1]) from None
    except (ValueError, TypeError):
        message = f"expected {constraint.expected}, got {came(value)}"
        raise ValueError(message + _cure(value, constraint)) from None
    if isinstance(found, str) and not found.isprintable():
        raise ValueError(f"expected {constraint.expected} in printable letters, got {found!r}")
    return found


def _cure(value: Any, constraint: Constraint) -> str:
    """Return what to do about a value that is not accepted, if that is known."""
    if not isinstance(value, Scalar) or value.value is None or value.tag:
        return ""
    if hint := did_you_mean(value, constraint.words):
        return hint
    with contextlib.suppress(ValueError, TypeError, VtcavError):
        constraint.accept(value.bare if value.quoted else str(value))
        if value.quoted:
            return "; write it without quotes"
        return f'; if this is meant, write "{value}" in quotes'
    return ""


def _name(value: Any) -> str:
    """Return a name in a list as it is written, `1` and `no` too."""
    if not isinstance(value, Scalar) or value.value is None:
        raise ValueError(f"expected a name, got {came(value)}")
    if not value.strip() or not value.isprintable():
        raise ValueError(f"expected a name in printable letters, got {str(value)!r}")
    return str(value)


@contextlib.contextmanager
def mistakes(*keys: str | int, below: bool = True, hint: str = "") -> Iterator[None]:
    """Turn the errors of a block into mistakes, with keys in front and a hint at the end."""
    try:
        yield
    except (ValueError, VtcavError) as error:
        inner = getattr(error, "keys", ())
        raise MistakeError(f"{error}{hint}", *keys, *inner, below=below) from error


def at(key: str | int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, and put a key in front of its mistake."""
    with mistakes(key):
        return function(*arguments)


def taking(constraint: Constraint) -> Any:
    """Return the type of values that a constraint accepts."""
    return Annotated[Any, PlainValidator(lambda value: take(value, constraint))]


def filled(kind: type, what: str) -> Any:
    """Refuse a value that is empty or not of a kind."""

    def check(value: Any) -> Any:
        if not isinstance(value, kind) or not value:
            raise ValueError(f"expected {what}, got {came(value)}")
        return value

    return BeforeValidator(check)


def listed(what: str, *among: str) -> Any:
    """Return the type of a list of different names, which may have to be among some words."""

    def different(found: tuple[str, ...]) -> tuple[str, ...]:
        for i, name in enumerate(found):
            if name in found[:i]:
                raise MistakeError(f"{name!r} is listed twice; remove one", i)
        return found

    name: Any = taking(Words(*among)) if among else Annotated[str, PlainValidator(_name)]
    return Annotated[tuple[name, ...], filled(list, what), AfterValidator(different)]
