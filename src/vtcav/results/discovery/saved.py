"""The declaration of a saved discovery."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from vtcav.files.manifest import read_arrays, read_table
from vtcav.files.schema import ANY_OR_NONE, Column, Saved, checked_array, checked_table
from vtcav.images.references import Skipped
from vtcav.results.discovery.found import FoundConcept, ImageKey
from vtcav.results.saved import COLUMNS, THUMBNAIL, Name, Names, Number, read_columns

ATTRIBUTIONS = (
    *("layer", "concept", "class_index", "class_name", "n", "null_mean", "effect", "raised"),
    *("note", "p_value", "q_value", "share", "verdict", "sentence", "attribution"),
)
"""The columns of a table of attributions to predicted classes."""

_CONCEPTS = (
    *("concept", "layer", "examples", "negatives", "e_pos", "e_neg", "separated", "seeds"),
    *("halves", "noise", "note", "stability", "prevalence", "level"),
)
_NAMED = "nearest", "cosine", "auc"  # where a bank has concepts to compare with
_COVERAGE = "layer", "image", "class_index", "class_name", "attribution", "covered"
_LAYERS = "layer", "factorisation", "k", "fine", "median"
_TRIED = "layer", "k", "stable", "median"
# concepts are numbers here, and shares of images in place of texts
_OWN = {
    "concept": Column(int, 0),
    "covered": Column(float),
    "raised": Column(float, 0, 1),
    "verdict": Column(str),
    "sentence": Column(str),
}


class _Found(Saved):
    number: Annotated[int, Field(ge=0)]
    layer: Name
    e_pos: Number
    e_neg: Number
    examples: tuple[ImageKey, ...]
    negatives: tuple[ImageKey, ...]

    def read(self, arrays: Mapping[str, NDArray[Any]]) -> FoundConcept:
        """Return the concept with its direction and patches."""
        patches = f"patches/{self.number}"
        return FoundConcept(
            number=self.number,
            layer=self.layer,
            v=checked_array(arrays, f"v/{self.number}", "float32", -1),
            e_pos=self.e_pos,
            e_neg=self.e_neg,
            examples=self.examples,
            negatives=self.negatives,
            patches=checked_array(arrays, patches, "uint8", ANY_OR_NONE, THUMBNAIL, THUMBNAIL, 3),
        )


class SavedDiscovery(Saved):
    """The manifest of a discovery."""

    layers: Names
    images: Annotated[int, Field(ge=0)]
    skipped: tuple[Skipped, ...]
    found: tuple[_Found, ...]


def read_parts(folder: Path, data: SavedDiscovery) -> dict[str, Any]:
    """Return the tables and the concepts of a discovery, by the fields of `Discovery`.

    Raises:
        ValueError: When something does not fit its declaration.
    """
    arrays = read_arrays(folder / "discovery.npz")
    layers = {"layer": data.layers}
    concepts = _table(folder, "discovery_concepts", _CONCEPTS, layers)
    if any(name in concepts for name in _NAMED):
        checked_table(concepts, "discovery_concepts", {name: COLUMNS[name] for name in _NAMED})
    if concepts["concept"].tolist() != [found.number for found in data.found]:
        raise ValueError("discovery_concepts: expected one row for each concept, in order")
    coverage = read_table(folder / "discovery_coverage")
    if len(coverage.columns):
        coverage = _table(folder, "discovery_coverage", _COVERAGE, layers)
    attributions = read_table(folder / "discovery_attributions")
    if "verdict" not in attributions:  # older files
        attributions = attributions.assign(share=np.nan, verdict="", sentence="")
    # in the order in which images were first explained; earlier versions kept none
    names = coverage["image"].unique() if "picture/0" in arrays else ()
    return {
        "_concepts": concepts,
        "_layers": read_columns(folder, "discovery_layers", _LAYERS, layers),
        "_tried": read_columns(folder, "discovery_tried", _TRIED, layers),
        "_found": tuple(found.read(arrays) for found in data.found),
        "_attributions": _checked(attributions, "discovery_attributions", ATTRIBUTIONS, layers),
        "_coverage": coverage,
        "_uncovered": tuple(
            checked_array(arrays, f"uncovered/{i}", "float32", -1, -1) for i in range(len(coverage))
        ),
        "_pictures": {
            str(name): checked_array(arrays, f"picture/{i}", "uint8", -1, -1, 3)
            for i, name in enumerate(names)
        },
    }


def _table(
    folder: Path, name: str, columns: tuple[str, ...], values: Mapping[str, Any]
) -> pd.DataFrame:
    return _checked(read_table(folder / name), name, columns, values)


def _checked(
    table: pd.DataFrame, name: str, columns: tuple[str, ...], values: Mapping[str, Any]
) -> pd.DataFrame:
    known = {**COLUMNS, **_OWN}
    declared = {column: known[column] for column in columns}
    return checked_table(table, name, declared, values)
