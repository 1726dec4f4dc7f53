"""Examples and negatives of the experiment's concepts: a tag and a texture for every class.

The class's other cue must not be mistaken for the concept. Examples show the concept beside the
class's other cue in one half and beside another class's in the other. Negatives are the same scenes
without the concept, always with the class's other cue; half of them have nothing instead of the
concept, and half another letter or other stripes. The lower emblem then contains the other cue, and
the direction does not depend on it. If the negatives were scenes of any class, the tag's direction
at the last layers would be that of the class, and its map would cover the texture too.

Generic sets are what most users have: examples in scenes of any class where the concept allows it,
negatives that are scenes of any class without the concept.
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


def draw_concept_sets(count: int, seed: int, *, generic: bool = False) -> ConceptSets:
    """Draw the examples and negatives of all concepts.

    Args:
        count: Examples of each concept, and as many negatives.
        seed: The experiment's seed.
        generic: Whether to draw generic sets instead of matched ones.
    """
    examples: dict[str, NDArray[np.uint8]] = {}
    negatives: dict[str, NDArray[np.uint8]] = {}
    first = scene_seed(seed, "concepts")
    for cue in CUES:
        for index in range(len(CLASSES)):
            name, own = concept_name(cue, index), len(examples)
            examples[name], negatives[name] = (
                _generic(cue, index, count, first + 100 + 2 * own)
                if generic
                else _pair(cue, index, count, first + own)
            )
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


def _generic(
    cue: str, index: int, count: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return examples and generic negatives of a concept; two seeds, so no scene is in both."""
    rng = np.random.default_rng([seed, 6])
    own, half = np.full(count, index), np.arange(count) % 2 == 0

    def any_or_absent() -> NDArray[np.intp]:
        return np.where(half, ABSENT, _any(count, rng))

    others = _others(index, count, rng)
    if cue == "tag":
        examples = _scenes(_any(count, rng), own, seed)
        negatives = _scenes(_any(count, rng), np.where(half, ABSENT, others), seed + 1)
    else:
        examples = _scenes(own, any_or_absent(), seed)
        negatives = _scenes(others, any_or_absent(), seed + 1)
    return examples.images(), negatives.images()


def _any(count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return random classes."""
    return rng.integers(0, len(CLASSES), count)


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
