"""Examples and negatives of the experiment's concepts: a tag and a texture for every class.

The class's other cue must not be mistaken for the concept. Examples show the concept beside the
class's other cue in one half and beside another class's in the other. Negatives are the same scenes
without the concept, always with the class's other cue; half of them have nothing instead of the
concept, and half another letter or other stripes. The lower emblem then contains the other cue, and
the direction does not depend on it. If the negatives were scenes of any class, the tag's direction
at the last layers would be that of the class, and its map would cover the texture too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtcav.evaluation.experiment.effects import CUES
from vtcav.evaluation.experiment.scenes import (
    CLASSES,
    LETTERS,
    Scenes,
    draw_scenes,
    scene_seed,
    with_tags,
)
from vtcav.evaluation.experiment.tags import ABSENT


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
            name, own = concept_name(cue, index), scene_seed(seed, "concepts") + len(examples)
            examples[name], negatives[name] = _pair(cue, index, count, own)
    return ConceptSets(examples, negatives)


def _pair(
    cue: str, index: int, count: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the examples and the negatives of a concept."""
    rng = np.random.default_rng([seed, 5])
    own, mixed = np.full(count, index), _own_or_other(index, count, rng)
    others, absent = _others(index, count, rng), np.arange(count) % 2 == 0
    if cue == "tag":
        negatives = _scenes(own, np.where(absent, ABSENT, others), seed).images()
        return _scenes(mixed, own, seed).images(), negatives
    instead = _scenes(others, own, seed)
    images = np.where(absent[:, None, None, None], instead.images(texture=False), instead.images())
    return _scenes(own, mixed, seed).images(), images


def _own_or_other(index: int, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return one class and the others, half and half."""
    return np.where(rng.permutation(count) % 2 == 0, index, _others(index, count, rng))


def _scenes(textures: NDArray[np.intp], letters: NDArray[np.intp], seed: int) -> Scenes:
    """Return scenes; those of one seed differ in stripes and letters alone."""
    return with_tags(draw_scenes(textures, seed), letters, seed)


def _others(index: int, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return classes other than one, in equal parts."""
    rest = np.delete(np.arange(len(CLASSES)), index)
    return rng.permutation(np.resize(rest, count))
