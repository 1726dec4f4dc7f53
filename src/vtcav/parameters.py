"""Parameters declared once: default, constraint and help text.

A settings class is a frozen dataclass whose fields are made with `parameter`. The check of a value
and its error message, the option of a command (`vtcav.cli.options`) and the key of a study
(`vtcav.study`) all follow from that declaration.
"""

from __future__ import annotations

import numbers
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Protocol

from vtcav.errors import ExplanationError, VtcavError

__all__ = [
    "Between",
    "Constraint",
    "Either",
    "Flag",
    "Parameter",
    "Settings",
    "Text",
    "Whole",
    "Words",
    "check",
    "parameter",
    "parameters",
]


class Constraint(Protocol):
    """The values that a parameter takes."""

    @property
    def expected(self) -> str:
        """The values in words: "a whole number of at least 1"."""

    def accept(self, value: object) -> Any:
        """Return the value in its plain type.

        Raises:
            ValueError: When the value is not one of them.
        """

    def parse(self, text: str) -> Any:
        """Return the value that a text on the command line stands for.

        Raises:
            ValueError: When the text stands for none.
        """


@dataclass(frozen=True)
class Whole:
    """Whole numbers from `least` on.

    Example:
        >>> Whole(1).expected
        'a whole number of at least 1'
    """

    least: int

    @property
    def expected(self) -> str:
        """The values in words."""
        return f"a whole number of at least {self.least}"

    def accept(self, value: object) -> int:
        """Return the number as a plain int, which JSON takes."""
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if whole and value >= self.least:  # type: ignore[operator]
            return int(value)  # type: ignore[call-overload, no-any-return]
        raise ValueError

    def parse(self, text: str) -> int:
        """Return the number that is written."""
        return self.accept(int(text))


@dataclass(frozen=True)
class Between:
    """Numbers between two others, without these."""

    low: float
    high: float

    @property
    def expected(self) -> str:
        """The values in words."""
        return f"a number between {self.low:g} and {self.high:g}"

    def accept(self, value: object) -> float:
        """Return the number as a plain float, which JSON takes."""
        if isinstance(value, numbers.Real) and self.low < float(value) < self.high:
            return float(value)
        raise ValueError

    def parse(self, text: str) -> float:
        """Return the number that is written."""
        return self.accept(float(text))


@dataclass(frozen=True)
class Words:
    """Some words.

    Example:
        >>> Words("bf16", "fp16").expected
        "'bf16' or 'fp16'"
    """

    words: tuple[str, ...]

    def __init__(self, *words: str) -> None:
        object.__setattr__(self, "words", words)

    @property
    def expected(self) -> str:
        """The values in words."""
        *rest, last = map(repr, self.words)
        return f"{', '.join(rest)} or {last}" if rest else last

    def accept(self, value: object) -> str:
        """Return the word."""
        if isinstance(value, str) and value in self.words:
            return value
        raise ValueError

    parse = accept


@dataclass(frozen=True)
class Flag:
    """True and false."""

    expected: str = "true or false"

    def accept(self, value: object) -> bool:
        """Return the value as a plain bool."""
        if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # NumPy's
            return bool(value)
        raise ValueError

    def parse(self, text: str) -> bool:
        """Return true for "true", false for "false"."""
        return {"true": True, "false": False}[text.casefold()]


@dataclass(frozen=True)
class Text:
    """Texts that are not empty.

    Attributes:
        expected: What the text says: "the path of a file".
    """

    expected: str

    def accept(self, value: object) -> str:
        """Return the text."""
        if isinstance(value, str) and value.strip():
            return value
        raise ValueError

    parse = accept


@dataclass(frozen=True)
class Either:
    """The values of either of two constraints."""

    first: Constraint
    second: Constraint

    @property
    def expected(self) -> str:
        """The values in words."""
        return f"{self.first.expected} or {self.second.expected}"

    def accept(self, value: object) -> Any:
        """Return the value in its plain type."""
        try:
            return self.first.accept(value)
        except ValueError:
            return self.second.accept(value)

    def parse(self, text: str) -> Any:
        """Return the value that is written."""
        try:
            return self.first.parse(text)
        except ValueError:
            return self.second.parse(text)


@dataclass(frozen=True)
class Parameter:
    """A parameter as it is declared.

    Attributes:
        name: The name of the field.
        default: Its default; MISSING where a value is needed.
        constraint: The values that it takes.
        meaning: What it does, in a few words.
        none: What None means, for a parameter that takes it: "all images".
    """

    name: str
    default: Any
    constraint: Constraint
    meaning: str
    none: str = ""

    def accept(self, value: object) -> Any:
        """Return a value in its plain type.

        Raises:
            ValueError: With the message, when it is not allowed.
        """
        if value is None and self.none:
            return None
        try:
            return self.constraint.accept(value)
        except ValueError as error:
            expected = f"expected {self.name} to be {self.constraint.expected}, got {value!r}"
            message = str(error) or expected + (f"; None takes {self.none}" if self.none else "")
            raise ValueError(message) from None


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
    try:
        return Parameter(name, MISSING, constraint, "", none).accept(value)
    except ValueError as wrong:
        raise error(str(wrong)) from None


def parameter(default: Any, constraint: Constraint, *, meaning: str, none: str = "") -> Any:
    """Declare a parameter of a settings class.

    Args:
        default: Its default; MISSING of `dataclasses` where a value is needed.
        constraint: The values that it takes.
        meaning: What it does, in a few words.
        none: What None means, for a parameter that takes it.
    """
    return field(
        default=default, metadata={"constraint": constraint, "meaning": meaning, "none": none}
    )


def parameters(settings: type[Settings]) -> dict[str, Parameter]:
    """Return the parameters that a settings class declares, by name."""
    return {f.name: Parameter(f.name, f.default, **f.metadata) for f in fields(settings)}


@dataclass(frozen=True)
class Settings:
    """A base for settings: every value is checked and has its plain type.

    Example:
        >>> @dataclass(frozen=True)
        ... class Draw(Settings):
        ...     seed: int = parameter(0, Whole(0), meaning="seeds the draw")
        >>> Draw(seed=-1)
        Traceback (most recent call last):
        ...
        vtcav.errors.VtcavError: expected seed to be a whole number of at least 0, got -1
    """

    error: ClassVar[type[VtcavError]] = VtcavError
    """What is raised for a value that is not allowed."""

    def __post_init__(self) -> None:
        for name, declared in parameters(type(self)).items():
            try:
                object.__setattr__(self, name, declared.accept(getattr(self, name)))
            except ValueError as error:
                raise self.error(str(error)) from None
