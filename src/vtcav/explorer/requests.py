"""What the page asks for, checked."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vtcav.explorer import limits
from vtcav.explorer.concept import ConceptSpec
from vtcav.explorer.saving import Form

__all__ = ["ExplainRequest", "IntegrateRequest", "SaveRequest", "Work"]

_Key = Annotated[str, Field(max_length=64)]
_Layer = Annotated[str, Field(max_length=300)]
_Classes = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=limits.CLASSES)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


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
