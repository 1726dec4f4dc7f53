"""Parameters declared once: default, constraint and meaning.

A settings class is a frozen dataclass whose fields are made with `parameter`. The check of a value
and its error message, the option of a command (`vtcav.cli.options`) and the key of a study
(`vtcav.study`) all follow from that declaration.
"""

from __future__ import annotations

import difflib
import operator
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from vtcav.errors import ExplanationError, VtcavError, brief

_MOST = 2**63 - 1  # what 64 bits hold


@dataclass(frozen=True)
class Constraint:
    """The values that a parameter takes.

    Attributes:
        expected: The values in words: "a whole number of at least 1".
        accept: Returns a value in its plain type, or raises ValueError or TypeError. An error of
            vtcav has a message of its own.
        parse: Turns the text of a command line into a value to accept.
        words: The values, where these are words.
        metavar: The stand-in for the value in the help of a command.
    """

    expected: str
    accept: Callable[[Any], Any]
    parse: Callable[[str], Any] = str
    words: tuple[str, ...] = ()
    metavar: str = ""


class Whole(Constraint):
    """Whole numbers from `least` on, and some words.

    Example:
        >>> Whole(1, "adaptive").expected
        "'adaptive' or a whole number of at least 1"
    """

    def __init__(self, least: int, *words: str) -> None:
        def accept(value: Any) -> Any:
            if isinstance(value, str) and value in words:
                return value
            if isinstance(value, bool) or operator.index(value) < least:
                raise ValueError
            if operator.index(value) > _MOST:
                raise ExplanationError(f"expected numbers of at most {_MOST}, got {brief(value)}")
            return operator.index(value)  # a plain int, which JSON takes

        expected = " or ".join([*map(repr, words), f"a whole number of at least {least}"])
        super().__init__(expected, accept, lambda t: t if t in words else int(t), metavar="N")


class Between(Constraint):
    """Numbers between two others, without these."""

    def __init__(self, low: float, high: float) -> None:
        def accept(value: Any) -> float:
            if isinstance(value, str) or not low < float(value) < high:
                raise ValueError
            return float(value)

        super().__init__(f"a number between {low:g} and {high:g}", accept, float, metavar="X")


class Words(Constraint):
    """Some words.

    Example:
        >>> Words("csv", "parquet", "json").expected
        "'csv', 'parquet' or 'json'"
    """

    def __init__(self, *words: str) -> None:
        def accept(value: Any) -> str:
            if not isinstance(value, str) or value not in words:
                raise ValueError
            return value

        *rest, last = map(repr, words)
        expected = f"{', '.join(rest)} or {last}" if rest else last
        super().__init__(expected, accept, words=words)


class Flag(Constraint):
    """True and false."""

    def __init__(self) -> None:
        def accept(value: Any) -> bool:
            if type(value).__name__ not in ("bool", "bool_"):  # NumPy's too
                raise ValueError
            return bool(value)

        super().__init__("true or false", accept)


class Text(Constraint):
    """Texts and paths that are not empty."""

    def __init__(self, expected: str, metavar: str = "") -> None:
        def accept(value: Any) -> Any:
            if not isinstance(value, str | os.PathLike) or not str(value).strip():
                raise ValueError
            return value

        super().__init__(expected, accept, metavar=metavar)


@dataclass(frozen=True)
class Parameter:
    """A parameter as it is declared.

    Attributes:
        default: Its default; MISSING of `dataclasses` where a value is needed.
        constraint: The values that it takes.
        meaning: Its effect, in a few words.
        none: What None means, for a parameter that takes it: "all".
    """

    default: Any
    constraint: Constraint
    meaning: str
    none: str = ""


def check(
    name: str,
    value: object,
    constraint: Constraint,
    *,
    none: str = "",
    error: type[VtcavError] = ExplanationError,
) -> Any:
    """Check an argument that belongs to no settings class, and return it in its plain type.

    Args:
        name: The argument's name.
        value: The argument.
        constraint: The values that it takes.
        none: What None means, for an argument that takes it.
        error: The class of the error.

    Raises:
        VtcavError: `error`, when the value is not allowed.

    Example:
        >>> check("points", 20, Whole(2))
        20
        >>> check("points", 1, Whole(2))
        Traceback (most recent call last):
        ...
        vtcav.errors.ExplanationError: expected points to be a whole number of at least 2, got 1
    """
    if value is None and none:
        return None
    try:
        return constraint.accept(value)
    except (ValueError, TypeError):
        expected = f"expected {name} to be {constraint.expected}, got {brief(value)}"
        raise error(expected + (f"; None takes {none}" if none else "")) from None


def as_list(name: str, value: object, error: type[VtcavError] = ExplanationError) -> list[Any]:
    """Return what a parameter lists; a text stands for a list of itself.

    Raises:
        VtcavError: `error`, for what lists nothing.

    Example:
        >>> as_list("names", "striped"), as_list("names", ("a", "b"))
        (['striped'], ['a', 'b'])
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Iterable):
        raise error(f"expected {name} to be a list, got {brief(value)}")
    return list(value)


def parameter(default: Any, constraint: Constraint, meaning: str, none: str = "") -> Any:
    """Declare a field of a settings class; see `Parameter`."""
    declared = Parameter(default, constraint, meaning, none)
    return field(default=default, metadata={"parameter": declared})


def parameters(settings: type[Settings]) -> dict[str, Parameter]:
    """Return the parameters that a settings class declares, by name."""
    return {entry.name: entry.metadata["parameter"] for entry in fields(settings)}


@dataclass(frozen=True)
class Settings:
    """A base for settings: every value is checked and has its plain type.

    Example:
        >>> @dataclass(frozen=True)
        ... class Draw(Settings):
        ...     seed: int = parameter(0, Whole(0), "seeds the draw")
        >>> Draw(seed=-1)
        Traceback (most recent call last):
        ...
        vtcav.errors.VtcavError: expected seed to be a whole number of at least 0, got -1
    """

    error: ClassVar[type[VtcavError]] = VtcavError
    """The error that a value that is not allowed raises."""

    def part(self, settings: type[Settings]) -> dict[str, Any]:
        """Return the values of the parameters that another class declares, by name."""
        return {name: getattr(self, name) for name in parameters(settings)}

    def __post_init__(self) -> None:
        for name, declared in parameters(type(self)).items():
            value, none = getattr(self, name), declared.none
            value = check(name, value, declared.constraint, none=none, error=self.error)
            object.__setattr__(self, name, value)


def unknown_key(name: str, known: Iterable[str]) -> str:
    """Return the message about a key that is unknown.

    Example:
        >>> unknown_key("limt", ["limit", "seed"])
        "unknown key 'limt'; did you mean 'limit'?"
    """
    hint = did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
    return f"unknown key {name!r}{hint}"


def did_you_mean(word: object, known: Iterable[str], most: int = 1) -> str:
    """Return a hint at the closest words, whatever their case; empty where none is close.

    Args:
        word: The word that came.
        known: The words to choose from.
        most: How many to name; where more than one, words that contain `word` are close, too.

    Example:
        >>> did_you_mean("Stripes", ["dotted", "striped"])
        "; did you mean 'striped'?"
        >>> did_you_mean("defect", ["eft", "velvet"], 3)
        ''
    """
    text = str(word).casefold()
    folded = {name.casefold(): name for name in reversed(list(known))}
    sides = {name: sorted((len(name), len(text))) for name in folded}
    alike = [name for name, (short, long) in sides.items() if 2 * long < 3 * short]
    close = difflib.get_close_matches(text, alike, n=most, cutoff=0.6)
    if most > 1 and text:
        close += [name for name in reversed(folded) if text in name and name not in close]
    hits = " or ".join(repr(folded[name]) for name in close[:most])
    return f"; did you mean {hits}?" if hits else ""
