"""A few images of a class without each concept, for everybody to judge what was erased."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
from vtcav.results.effect_tables import of_pictures
from vtcav.results.erased import ErasedPicture

if TYPE_CHECKING:
    import pandas as pd

_CONCEPTS = 6
_SIDE = 224


def erased_examples(
    attributor: Attributor, refs: Sequence[ImageRef], effects: pd.DataFrame, index: int
) -> tuple[ErasedPicture, ...]:
    """Return pictures without a concept: where the score falls furthest, halfway and least.

    They are made anew, and shown at most 224 pixels a side. The concepts with the largest mean
    effects come first, at most six.

    Args:
        attributor: The network and its concepts.
        refs: The images.
        effects: `GlobalExplanation.effects`.
        index: The class.

    Warns:
        UserWarning: When an image cannot be read any more.
    """
    wanted = _chosen(effects)
    by_name = {ref.name: ref for ref in refs}
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


def _chosen(effects: pd.DataFrame) -> list[tuple[str, str]]:
    """Return which images are shown without which concept."""
    found = of_pictures(effects)
    found = found[(found["area"] > 0) & found["drop"].notna()]
    means = found.groupby("concept")["drop"].mean().abs().sort_values(ascending=False)
    # as the change is told, with the images first that have a share
    order = ["share", "drop"]
    pairs = []
    for concept in list(means.index)[:_CONCEPTS]:
        rows = found[found["concept"] == concept].sort_values(order, ascending=False)
        for place in dict.fromkeys((0, len(rows) // 2, len(rows) - 1)):
            pairs.append((str(rows["image"].iloc[place]), str(concept)))
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
