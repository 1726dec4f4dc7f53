"""What the page asks for, checked."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vtcav.errors import ConceptError
from vtcav.explorer import limits

__all__ = [
    "ConceptSpec",
    "Example",
    "ExplainRequest",
    "Form",
    "IntegrateRequest",
    "SaveRequest",
    "Work",
    "check_name",
]

Form: TypeAlias = Literal["folder", "cavs"]
_Key = Annotated[str, Field(max_length=64)]
_Edge = Annotated[int, Field(ge=0, le=limits.SIDE)]
_RESERVED = '<>:"|?*'
_Layer = Annotated[str, Field(max_length=300)]
_Classes = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=limits.CLASSES)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Frozen(_Strict):
    model_config = ConfigDict(frozen=True)


class Example(_Frozen):
    """A picture, or a patch of it.

    Attributes:
        picture: Its key.
        box: Left, top, right and bottom in pixels; None for the whole picture.
    """

    picture: str = Field(max_length=64)
    box: tuple[_Edge, _Edge, _Edge, _Edge] | None = None


class ConceptSpec(_Frozen):
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


class _Numbered(_Strict):
    """A request that a newer one of the same page and kind makes superfluous."""

    page: _Key = ""
    number: int = Field(default=0, ge=0)


class ExplainRequest(_Numbered):
    """Where concepts are on a picture and how much they count; a text is a learned concept.

    Without `judge` nothing is said of how far to trust it, which is several times faster.
    """

    picture: _Key
    layer: _Layer
    classes: _Classes
    concepts: list[ConceptSpec | Annotated[str, Field(max_length=300)]] = Field(max_length=2)
    judge: bool = False


class IntegrateRequest(_Numbered):
    """The integral of classes at a layer."""

    picture: _Key
    layer: _Layer
    classes: _Classes


class SaveRequest(_Strict):
    """A concept to be kept."""

    concept: ConceptSpec
    form: Form
    replace: bool = False


class Work(_Strict):
    """What a page goes on with when it is loaded again."""

    concepts: list[ConceptSpec] = Field(max_length=limits.CONCEPTS)


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
