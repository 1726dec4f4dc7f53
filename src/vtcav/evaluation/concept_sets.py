"""Examples and negatives of the experiment's concepts: a tag and a texture for every class.

Negatives are the examples' own scenes without the concept: half of them with nothing in its
place, half with another letter or other stripes. What else the class's images show is in both,
so that it neither enters the direction nor passes the lower emblem: contrasted with scenes of any
class instead, the tag's direction at the last layers is the direction of the class, and its map
lights up on the texture too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtcav.evaluation.effects import CUES
from vtcav.evaluation.scenes import (
    ABSENT,
    CLASSES,
    LETTERS,
    Scenes,
    draw_scenes,
    scene_seed,
    with_tags,
)

__all__ = ["ConceptSets", "concept_name", "draw_concept_sets"]


@dataclass(frozen=True, eq=False)
class ConceptSets:
    """Pictures to learn concepts from, uint8 [n, 64, 64, 3] by concept name."""

    examples: dict[str, NDArray[np.uint8]]
    negatives: dict[str, NDArray[np.uint8]]


def concept_name(cue: str, index: int) -> str:
    """Return the name of a class's cue.

    Example:
        >>> concept_name("tag", 1), concept_name("texture", 1)
        ('tag L', 'texture upright')
    """
    return f"{cue} {LETTERS[index] if cue == 'tag' else CLASSES[index]}"


def draw_concept_sets(count: int, seed: int) -> ConceptSets:
    """Draw the examples and negatives of all concepts.

    Args:
        count: Examples of each concept, and as many negatives.
        seed: The experiment's seed.
    """
    examples: dict[str, NDArray[np.uint8]] = {}
    negatives: dict[str, NDArray[np.uint8]] = {}
    for cue in CUES:
        for index in range(len(CLASSES)):
            name = concept_name(cue, index)
            pair = _tag_pair if cue == "tag" else _texture_pair
            own = scene_seed(seed, "concepts") + len(examples)
            examples[name], negatives[name] = pair(index, count, own)
    return ConceptSets(examples, negatives)


def _tag_pair(index: int, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng([seed, 5])
    scenes = _scenes(np.full(count, index), index, seed)
    other = np.where(np.arange(count) % 2 == 0, ABSENT, _others(index, count, rng))
    return scenes.images(), with_tags(scenes, other, seed).images()


def _texture_pair(index: int, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng([seed, 5])
    scenes = _scenes(np.full(count, index), index, seed)
    absent = (np.arange(count) % 2 == 0)[:, None, None, None]
    other = _scenes(_others(index, count, rng), index, seed)
    negatives = np.where(absent, scenes.images(texture=False), other.images())
    return scenes.images(), negatives


def _scenes(labels: NDArray[np.intp], letter: int, seed: int) -> Scenes:
    """Return scenes that have one letter; those of one seed differ in their stripes alone."""
    return with_tags(draw_scenes(labels, seed), np.full(len(labels), letter), seed)


def _others(index: int, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return classes other than one, in equal parts."""
    rest = np.delete(np.arange(len(CLASSES)), index)
    return rng.permutation(np.resize(rest, count))
