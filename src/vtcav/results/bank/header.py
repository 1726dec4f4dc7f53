"""The declaration of the JSON data in the header of a bank's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

from pydantic import Field

from vtcav.files.schema import Letters, Saved
from vtcav.method.variants import PAPER, Variant
from vtcav.results.image_set import ConceptRecord

_Positions: TypeAlias = Annotated[tuple[int, ...], Field(min_length=1, max_length=2)]
"""The ends of a range in a file: start and stop, or stop alone."""


class _Fit(Saved):
    variant: Variant = PAPER
    null_cavs: Annotated[int, Field(ge=0)] | None = None


class _SavedSet(Saved):
    role: Letters
    names: tuple[str, ...]
    digests: tuple[Letters, ...]
    origins: tuple[Letters, ...] = ()


class _Described(Saved):
    network: str
    preprocess: str


class _Resampling(Saved):
    null: tuple[_Positions, ...]
    bootstrap: tuple[_Positions, ...]
    untested: tuple[Letters, ...]
    subset: tuple[_Positions, ...] | None = None


class BankData(Saved):
    """The data of a bank."""

    concepts: Annotated[tuple[ConceptRecord, ...], Field(min_length=1)]
    layers: Annotated[tuple[str, ...], Field(min_length=1)]
    fingerprint: str
    described: _Described
    versions: Mapping[str, str]
    settings: _Fit
    preprocessing: tuple[float, ...]
    sets: tuple[_SavedSet, ...]
    contrast: tuple[tuple[int, int], ...]
    resampling: _Resampling
    behaviour: Mapping[str, tuple[float, ...]] = Field(default_factory=dict)
