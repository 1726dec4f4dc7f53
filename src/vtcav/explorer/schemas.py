"""Schemas of the page's requests."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vtcav.explorer import limits

Form: TypeAlias = Literal["folder", "cavs"]
_Key = Annotated[str, Field(max_length=64)]
_Edge = Annotated[int, Field(ge=0, le=limits.SIDE)]
_Name = Annotated[str, Field(max_length=300)]
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

    picture: _Key
    box: tuple[_Edge, _Edge, _Edge, _Edge] | None = None


class ConceptSpec(_Frozen):
    """A concept.

    Attributes:
        name: Its name.
        examples: Pictures or patches that show it.
        negatives: Pictures or patches that do not.
        shared: Whether it is also contrasted with the negatives of all concepts.
        found: The tiles of found concepts that it was made of.
    """

    name: str = Field(max_length=limits.NAME_LETTERS)
    examples: tuple[Example, ...] = Field(default=(), max_length=limits.EXAMPLES)
    negatives: tuple[Example, ...] = Field(default=(), max_length=limits.EXAMPLES)
    shared: bool = True
    found: tuple[_Key, ...] = Field(default=(), max_length=limits.CONCEPTS)

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("the name of a concept must be printable")
        return name


class IntegrateRequest(_Strict):
    """A request to integrate the gradients of classes at a layer.

    It is superseded by one of the same page with a larger number.
    """

    picture: _Key
    layer: _Name
    classes: _Classes
    page: _Key = ""
    number: int = Field(default=0, ge=0)


class ExplainRequest(IntegrateRequest):
    """A request for maps and attributions of concepts; a string names a learned concept.

    Without `judge` the response does not tell how far to trust them, and is several times faster.
    """

    concepts: list[ConceptSpec | _Name] = Field(max_length=2)
    judge: bool = False


class EraseRequest(_Strict):
    """A request to erase a box of a picture, or a concept from it.

    It is superseded by one of the same page and kind with a larger number. `beside` has the other
    concepts of the page: what is rather one of them is no region of the concept.
    """

    picture: _Key
    classes: _Classes
    box: tuple[_Edge, _Edge, _Edge, _Edge] | None = None
    concept: ConceptSpec | _Name | None = None
    beside: tuple[ConceptSpec, ...] = Field(default=(), max_length=limits.CONCEPTS)
    page: _Key = ""
    number: int = Field(default=0, ge=0)


class StopRequest(_Strict):
    """A request to stop looking for concepts that nobody named, as the page's number asked for."""

    page: _Key = ""
    number: int = Field(default=0, ge=0)


class DiscoverRequest(StopRequest):
    """A request to find concepts that nobody named in the photographs.

    It is superseded by one of the same page with a larger number.
    """

    layer: _Name


class NearestRequest(DiscoverRequest):
    """A request for the concept that is the closest to each tile of a layer."""

    concepts: list[ConceptSpec] = Field(max_length=limits.CONCEPTS)


class RankRequest(DiscoverRequest):
    """A request for the photographs in the order of how strongly they show a concept."""

    concept: ConceptSpec | _Name
    maps: int = Field(default=24, ge=0, le=limits.PICTURES)


class SaveRequest(_Strict):
    """A request to save a concept."""

    concept: ConceptSpec
    form: Form
    replace: bool = False


class Work(_Strict):
    """The concepts of a page, for when it is loaded again.

    Without `edition`, that which the page began with, they replace those of any other page. `tiles`
    has what became of tiles of found concepts: "" for one thrown away, else the tile that it was
    merged into.
    """

    edition: int | None = Field(default=None, ge=0)
    concepts: list[ConceptSpec] = Field(max_length=limits.CONCEPTS)
    tiles: dict[_Key, _Key] | None = Field(default=None, max_length=limits.TILES)
