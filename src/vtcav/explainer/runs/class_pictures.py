"""A few images of a class without each concept, for everybody to judge what was erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from vtcav.errors import ImageError, warn
from vtcav.explainer.attributor import Attributor
from vtcav.images.input_box import shown_input
from vtcav.images.preprocess import to_tensor
from vtcav.images.references import ImageRef
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.erased import ErasedPicture
from vtcav.results.tables.image_rows import ImageRows

Pair: TypeAlias = tuple[str, str]
"""The name of an image and a concept."""
Numbers: TypeAlias = tuple[float, float]
"""A drop and a share."""

_CONCEPTS = 6
_SIDE = 224


def erased_examples(
    attributor: Attributor, refs: Sequence[ImageRef], effects: ImageRows
) -> tuple[ErasedPicture, ...]:
    """Return pictures without a concept: where the score falls furthest, halfway and least.

    The pictures are made anew, and shown at most 224 pixels a side. The concepts with the largest
    mean effects come first, at most six.

    Args:
        attributor: The network and its concepts.
        refs: The images.
        effects: The rows of `GlobalExplanation.effects`.

    Warns:
        UserWarning: When an image cannot be read any more.
    """
    numbers = _chosen(effects)
    wanted = {name for name, _ in numbers}
    inputs: dict[str, Tensor] = {}
    for ref in refs:
        if ref.name in wanted:
            try:
                inputs[ref.name] = to_tensor(attributor.model.preprocess, ref.load(), ref.name)
            except ImageError as error:
                warn(f"no picture without its concepts is kept of {ref.name!r}: {error}")
    made: dict[tuple[str, str], ErasedPicture] = {}
    for start in range(0, len(inputs), most := attributor.settings.images):
        some = dict(list(inputs.items())[start : start + most])
        made |= _without(attributor, some, numbers)
    return tuple(made[pair] for pair in numbers if pair in made)


def _chosen(effects: ImageRows) -> dict[Pair, Numbers]:
    """Return the drops and shares of the images that are shown without a concept."""
    means: dict[str, float] = {}
    places: dict[str, dict[int, Numbers]] = {}
    # as the change is told, with the images first that have a share
    order = ["share", "drop"]
    for (_, concept), rows in effects.by_pair(["area", *order], TOGETHER):
        found = rows[(rows["area"] > 0) & rows["drop"].notna()]
        if len(found):
            means[concept] = abs(float(found["drop"].mean()))
            ordered = found.sort_values(order, ascending=False)
            chosen = dict.fromkeys((0, len(ordered) // 2, len(ordered) - 1))
            few = ordered.iloc[list(chosen)]
            numbers = zip(few["drop"].tolist(), few["share"].tolist(), strict=True)
            places[concept] = dict(zip(few.index.tolist(), numbers, strict=True))
    first = sorted(sorted(means), key=lambda concept: -means[concept])[:_CONCEPTS]
    if not first:
        return {}
    wanted = np.zeros(len(effects), bool)
    wanted[[place for concept in first for place in places[concept]]] = True
    names = effects.of_images(wanted, ["image"])["image"].groupby(level=0).first()
    return {
        (str(names[place]), concept): numbers
        for concept in first
        for place, numbers in places[concept].items()
    }


def _without(
    attributor: Attributor, inputs: Mapping[str, Tensor], numbers: Mapping[Pair, Numbers]
) -> dict[Pair, ErasedPicture]:
    """Return images without each of some concepts.

    Args:
        attributor: The network and its concepts.
        inputs: The images as its input [3, H, W], by name.
        numbers: The drop and the share of each image and concept.
    """
    images = attributor.forward(list(inputs), torch.stack(list(inputs.values())))
    H, preprocess = attributor.eraser.where(images), attributor.model.preprocess
    found = {}
    for n, (name, x) in enumerate(inputs.items()):
        before = shown_input(x, preprocess, x)
        for k, concept in enumerate(attributor.cavs.names):
            if (name, concept) in numbers and H[n, k].any():
                after = attributor.eraser.without(images.x[n : n + 1], H[n, k][None])[0]
                picture = ErasedPicture.shown(
                    (name, concept),
                    before,
                    H[n, k].bool().cpu().numpy(),
                    shown_input(after, preprocess, x),
                    numbers[name, concept],
                )
                found[name, concept] = picture.shrunk(_SIDE)
    return found
