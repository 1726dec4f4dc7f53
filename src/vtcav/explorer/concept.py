"""A concept as the page describes it: examples and counter-examples by picture and patch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vtcav.errors import ConceptError
from vtcav.explorer import limits

__all__ = ["ConceptSpec", "Example", "check_name"]

_Edge = Annotated[int, Field(ge=0, le=limits.SIDE)]
_RESERVED = '<>:"|?*'


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Strict):
    """A picture, or a patch of it.

    Attributes:
        picture: Its key.
        box: Left, top, right and bottom in pixels; None for the whole picture.
    """

    picture: str = Field(max_length=64)
    box: tuple[_Edge, _Edge, _Edge, _Edge] | None = None


class ConceptSpec(_Strict):
    """A concept.

    Attributes:
        name: How it is called.
        examples: What shows it.
        negatives: What does not, of its own.
        shared: Whether it is contrasted with the negatives of all concepts, too.
    """

    name: str = Field(max_length=limits.NAME_LETTERS)
    examples: tuple[Example, ...] = Field(default=(), max_length=limits.EXAMPLES)
    negatives: tuple[Example, ...] = Field(default=(), max_length=limits.EXAMPLES)
    shared: bool = True

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("the name of a concept must be printable")
        return name


def check_name(name: str) -> str:
    """Return a concept's name as one that a folder or file can have.

    Raises:
        ConceptError: For one that leads out of a folder, is hidden or is empty.

    Example:
        >>> check_name("tabby fur"), check_name("<b>")
        ('tabby fur', '_b_')
    """
    stripped = name.strip()
    if not stripped or not stripped.isprintable():
        raise ConceptError("give the concept a name first")
    if len(stripped) > limits.NAME_LETTERS:
        raise ConceptError(f"the name is longer than {limits.NAME_LETTERS} letters")
    if any(letter in stripped for letter in "/\\") or stripped.startswith((".", "__MACOSX")):
        raise ConceptError(
            f"{stripped!r} cannot be the name of a folder: expected one without / and \\ that "
            "does not begin with a dot"
        )
    return "".join("_" if letter in _RESERVED else letter for letter in stripped).rstrip(". ")
