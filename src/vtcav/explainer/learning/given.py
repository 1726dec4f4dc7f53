"""Directions that are given: vectors of any origin, as concepts with images for their emblems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vtcav.errors import CavError, ConceptError
from vtcav.explainer.settings import FitSettings
from vtcav.images.concepts import Concept, gather
from vtcav.images.listing import ImageSource
from vtcav.models.base import Model
from vtcav.results.words import named_layers

GIVEN = "given"
"""The origin of directions about which nothing else was said."""

Vectors: TypeAlias = Mapping[str, ArrayLike | Mapping[str, ArrayLike]]
"""Directions by concept: [C] each at one layer, or by layer."""


def given_directions(
    vectors: Vectors, layer: str | None, model: Model, layers: Sequence[str]
) -> dict[str, dict[str, Tensor]]:
    """Return directions [C] by concept and layer, in the order of the network.

    Args:
        vectors: One vector for each concept, or one for each layer by its name.
        layer: The layer of single vectors; None where `layers` has one only.
        model: The network.
        layers: The explainer's layers.

    Raises:
        CavError: For a vector of another length than the layer has channels, of zeros, or with
            values that are not finite; and where the layer is not clear.
        ConceptError: For no directions.
        LayerError: For a layer that is unknown or cannot be explained.
    """
    if not isinstance(vectors, Mapping) or not vectors:
        came = "none" if isinstance(vectors, Mapping) else type(vectors).__name__
        raise ConceptError(f"expected directions as a mapping, {{'striped': v, ...}}, got {came}")
    by_layer = {name: _by_layer(name, v, layer, layers) for name, v in vectors.items()}
    first, *others = by_layer
    for name in others:
        if by_layer[name].keys() != by_layer[first].keys():
            one, two = (named_layers(list(by_layer[each])) for each in (first, name))
            raise CavError(
                f"expected directions of all concepts at the same layers, got {first!r} at "
                f"{one} and {name!r} at {two}; give each concept a vector for each layer"
            )
    channels = {info.name: info.shape[0] for info in model.check_layers(list(by_layer[first]))}
    return {
        name: {at: _vector(name, at, here[at], count) for at, count in channels.items()}
        for name, here in by_layer.items()
    }


def given_concepts(
    directions: Mapping[str, Mapping[str, Tensor]],
    images: ImageSource | Mapping[str, ImageSource],
    negatives: ImageSource | Mapping[str, ImageSource] | None,
    fit: FitSettings,
    origin: str,
) -> list[Concept]:
    """Return directions as concepts, with the images that their emblems come from.

    Args:
        directions: Directions [C] by concept and layer.
        images: Images that show the concepts: one set for all, or a set for each.
        negatives: As `gather` takes them.
        fit: How images are drawn, and how many there must be.
        origin: Where the directions come from, in words.

    Raises:
        ConceptError: As `gather` does.
    """
    shared = not isinstance(images, Mapping)
    sources = images if isinstance(images, Mapping) else dict.fromkeys(directions, images)
    if sources.keys() != directions.keys():
        raise ConceptError(
            f"expected images for each of {', '.join(map(repr, directions))}, got images for "
            f"{', '.join(map(repr, sources)) or 'none'}; pass a set for each, or one set for all"
        )
    sources = {name: sources[name] for name in directions}
    concepts = gather(
        sources, negatives, limit=fit.limit, seed=fit.seed, min_examples=fit.min_examples
    )
    first = concepts[0].examples
    if len(concepts) > 1:
        first = replace(first, role="images of the given directions")
    return [
        replace(
            concept,
            examples=first if shared else concept.examples,
            directions=directions[concept.name],
            origin=origin or GIVEN,
        )
        for concept in concepts
    ]


def _by_layer(
    name: str,
    vector: ArrayLike | Mapping[str, ArrayLike],
    layer: str | None,
    layers: Sequence[str],
) -> Mapping[str, ArrayLike]:
    """Return the vectors of a concept by layer."""
    if isinstance(vector, Mapping):
        if layer is not None and set(vector) != {layer}:
            raise CavError(
                f"{name!r} has vectors by layer ({', '.join(map(str, vector)) or 'none'}), and "
                f"layer={layer!r} was given beside them; drop one of the two"
            )
        if not vector:
            raise CavError(f"expected a vector for at least one layer of {name!r}, got none")
        return vector
    if layer is None and len(layers) != 1:
        raise CavError(
            f"expected layer=NAME for the single vector of {name!r}, as the explainer has "
            f"{len(layers)} layers ({', '.join(layers)}); or give a vector for each, "
            f"{{{name!r}: {{LAYER: v, ...}}}}"
        )
    return {layer or layers[0]: vector}


def _vector(name: str, layer: str, vector: ArrayLike, channels: int) -> Tensor:
    """Return a direction [C] in float32, checked."""
    where = f"the direction of {name!r} at layer {layer!r}"
    try:
        values = vector.detach().cpu() if isinstance(vector, Tensor) else np.asarray(vector)
        v = torch.as_tensor(values, device="cpu").to(torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CavError(f"{where}: expected a vector of {channels} numbers: {error}") from error
    if v.shape != (channels,):
        row = "; take its row [0]" if v.shape == (1, channels) else ""
        raise CavError(
            f"{where}: expected {channels} numbers, one for each channel, got an array of shape "
            f"{list(v.shape)}{row}. The vector must come from the pooled feature maps of this layer"
        )
    if not v.isfinite().all():
        bad = int((~v.isfinite()).sum())
        raise CavError(
            f"{where}: expected finite numbers in the range of float32, got {bad} that are not; "
            "train the probe again, or scale the vector (its length does not count)"
        )
    if not v.any():
        raise CavError(
            f"{where} is 0, which points nowhere: expected a vector with some value other than 0; "
            "see whether what it came from was trained"
        )
    return v
