"""Schemas of the page's requests."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vtcav.errors import ConceptError
from vtcav.explorer import limits
from vtcav.images.file_names import hidden

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
        name: Its name.
        examples: Pictures or patches that show it.
        negatives: Pictures or patches that do not.
        shared: Whether it is also contrasted with the negatives of all concepts.
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
    """A request that is superseded by a newer one of the same page and kind."""

    page: _Key = ""
    number: int = Field(default=0, ge=0)


class ExplainRequest(_Numbered):
    """A request for maps and attributions of concepts; a string names a learned concept.

    Without `judge` the response does not tell how far to trust them, and is several times faster.
    """

    picture: _Key
    layer: _Layer
    classes: _Classes
    concepts: list[ConceptSpec | Annotated[str, Field(max_length=300)]] = Field(max_length=2)
    judge: bool = False


class IntegrateRequest(_Numbered):
    """A request to integrate the gradients of classes at a layer."""

    picture: _Key
    layer: _Layer
    classes: _Classes


class SaveRequest(_Strict):
    """A request to save a concept."""

    concept: ConceptSpec
    form: Form
    replace: bool = False


class Work(_Strict):
    """The concepts of a page, for when it is loaded again."""

    concepts: list[ConceptSpec] = Field(max_length=limits.CONCEPTS)


def check_name(name: str) -> str:
    """Return a concept's name as a folder or file can have it.

    Raises:
        ConceptError: For a name that leads out of the folder, is hidden or is empty.

    Example:
        >>> check_name("tabby fur"), check_name("<b>")
        ('tabby fur', '_b_')
    """
    stripped = name.strip()
    if not stripped or not stripped.isprintable():
        raise ConceptError("give the concept a name first")
    if len(stripped) > limits.NAME_LETTERS:
        raise ConceptError(f"the name is longer than {limits.NAME_LETTERS} characters")
    if any(letter in stripped for letter in "/\\") or hidden(stripped):
        raise ConceptError(
            f"{stripped!r} cannot be the name of a concept's folder: expected one without / and "
            "\\ that does not begin with a dot and is no folder of the system"
        )
    return "".join("_" if letter in _RESERVED else letter for letter in stripped).rstrip(". ")
