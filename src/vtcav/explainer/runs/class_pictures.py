"""A few images of a class without each concept, for everybody to judge what was erased."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vtcav.errors import ImageError, warn
from vtcav.explainer.allotment import Allotment
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.erasure import Regions
from vtcav.images.input_box import shown_input
from vtcav.images.preprocess import to_tensor
from vtcav.images.references import ImageRef
from vtcav.method.positions import broadcast
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.erased import ErasedPicture
from vtcav.results.tables.image_rows import ImageRows

_CONCEPTS = 6
_SIDE = 224


def erased_examples(
    attributor: Attributor, refs: Sequence[ImageRef], effects: ImageRows, index: int
) -> tuple[ErasedPicture, ...]:
    """Return pictures without a concept: where the score falls furthest, halfway and least.

    They are made anew, and shown at most 224 pixels a side. The concepts with the largest mean
    effects come first, at most six.

    Args:
        attributor: The network and its concepts.
        refs: The images.
        effects: The rows of `GlobalExplanation.effects`.
        index: The class.

    Warns:
        UserWarning: When an image cannot be read any more.
    """
    wanted = _chosen(effects)
    names = {image for image, _ in wanted}
    by_name = {ref.name: ref for ref in refs if ref.name in names}
    made: dict[tuple[str, str], ErasedPicture] = {}
    for name in dict.fromkeys(image for image, _ in wanted):
        here = [concept for image, concept in wanted if image == name]
        try:
            pictures = _without(attributor, by_name[name], here, index)
        except ImageError as error:
            warn(f"no picture without its concepts is kept of {name!r}: {error}")
            continue
        made |= {(name, picture.concept): picture for picture in pictures}
    return tuple(made[pair] for pair in wanted if pair in made)


def _chosen(effects: ImageRows) -> list[tuple[str, str]]:
    """Return which images are shown without which concept."""
    means: dict[str, float] = {}
    positions: dict[str, list[int]] = {}
    # as the change is told, with the images first that have a share
    order = ["share", "drop"]
    for (_, concept), rows in effects.by_pair(["area", *order], TOGETHER):
        found = rows[(rows["area"] > 0) & rows["drop"].notna()]
        if len(found):
            means[concept] = abs(float(found["drop"].mean()))
            ordered = found.sort_values(order, ascending=False).index
            places = dict.fromkeys((0, len(ordered) // 2, len(ordered) - 1))
            positions[concept] = [int(ordered[place]) for place in places]
    first = sorted(sorted(means), key=lambda concept: -means[concept])[:_CONCEPTS]
    if not first:
        return []
    wanted = {position for concept in first for position in positions[concept]}
    chosen = np.zeros(len(effects), bool)
    chosen[list(wanted)] = True
    names = effects.of_images(chosen, ["image"])["image"].groupby(level=0).first()
    pairs = [(str(names[place]), concept) for concept in first for place in positions[concept]]
    return list(dict.fromkeys(pairs))


def _without(
    attributor: Attributor, ref: ImageRef, concepts: Sequence[str], index: int
) -> list[ErasedPicture]:
    """Return an image without each of some concepts."""
    preprocess, names = attributor.model.preprocess, attributor.cavs.names
    x = to_tensor(preprocess, ref.load(), ref.name)
    images = attributor.forward([ref.name], x[None])
    wanted = torch.tensor([name in concepts for name in names])
    found = attributor.eraser.regions(images)
    regions = Regions(found.H * broadcast(wanted.to(found.H)[None], found.H), found.chance)
    filled: dict[tuple[int, int], Tensor] = {}
    nothing_else = Allotment(placebos=0, filled=0)
    rows = attributor.eraser.rows(images, regions, [index], nothing_else, filled)
    before = shown_input(x, preprocess, x)
    return [
        ErasedPicture.shown(
            (ref.name, names[k]),
            before,
            regions.H[0, k].bool().cpu().numpy(),
            shown_input(after, preprocess, x),
            (rows[k].drop, rows[k].share),
        ).shrunk(_SIDE)
        for (_, k), after in filled.items()
    ]
