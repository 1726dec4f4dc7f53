"""Examples and negatives of the experiment's concepts: a tag and a texture for every class.

The class's other cue must not pass for the concept. Examples show the concept beside the class's
other cue in one half and beside another class's in the other. Negatives are the same scenes
without the concept and always with the class's other cue; in the concept's place half of them have
nothing and half another letter or other stripes. So the other cue is in the lower emblem, and the
direction does not lean on it. Contrasted with scenes of any class instead, the tag's direction at
the last layers is the direction of the class, and its map lights up on the texture too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtcav.evaluation.experiment.effects import CUES
from vtcav.evaluation.experiment.scenes import (
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
    own = np.full(count, index)
    examples = _scenes(_own_or_other(index, count, rng), own, seed)
    instead = np.where(np.arange(count) % 2 == 0, ABSENT, _others(index, count, rng))
    return examples.images(), _scenes(own, instead, seed).images()


def _texture_pair(index: int, count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng([seed, 5])
    own = np.full(count, index)
    examples = _scenes(own, _own_or_other(index, count, rng), seed)
    instead = _scenes(_others(index, count, rng), own, seed)
    absent = (np.arange(count) % 2 == 0)[:, None, None, None]
    return examples.images(), np.where(absent, instead.images(texture=False), instead.images())


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
