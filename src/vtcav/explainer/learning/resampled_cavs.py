"""Which resampled CAVs belong to which concept, drawn concept by concept."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vtcav.images.concepts import Concept, ImageSet
from vtcav.method.cav import Resampling
from vtcav.method.resampling import Draws, bootstrap_draws, null_draws, too_few

__all__ = ["Block", "Families", "Family", "seed_of"]


@dataclass(frozen=True, eq=False)
class Family:
    """CAVs that are learned alike: J draws from one set against another.

    Attributes:
        positives: The set that plays the concept.
        negatives: The negatives.
        draws: The images of each CAV.
        concept: Position of the concept whose bootstrap CAVs they are; None for null CAVs.
    """

    positives: ImageSet
    negatives: ImageSet
    draws: Draws
    concept: int | None


@dataclass(frozen=True)
class Block:
    """Directions whose raw maps are looked at together on a set of images.

    What is computed of a block depends on no other, to the last bit, so that one more concept
    leaves the others as they are.

    Attributes:
        concept: Position of the concept whose direction comes first; None for null CAVs.
        family: The resampled CAVs whose directions follow, if any.
    """

    concept: int | None
    family: Family | None


class Families:
    """The null and bootstrap CAVs of concepts. Iterates over what is drawn so far.

    Concepts of one size that share negatives share null CAVs.

    Args:
        concepts: All of them.
        null_cavs: Null CAVs of each.
        bootstraps: Bootstrap CAVs of each.
        seed: Seeds the draws.
    """

    def __init__(
        self, concepts: Sequence[Concept], null_cavs: int, bootstraps: int, seed: int
    ) -> None:
        self._concepts, self._seed = concepts, seed
        self._null_cavs, self._bootstraps = null_cavs, bootstraps
        self._drawn: list[Family] = []
        self._shared: dict[tuple[ImageSet, int], Family] = {}
        self._null: list[Family | None] = []
        self._untested: list[str] = []

    def __iter__(self) -> Iterator[Family]:
        return iter(self._drawn)

    def draw(self, sizes: Mapping[ImageSet, int]) -> list[Family]:
        """Draw those of the next concept, in order.

        Args:
            sizes: How many images its sets have.

        Returns:
            What is new.
        """
        k, before = len(self._null), len(self._drawn)
        c = self._concepts[k]
        n, m = sizes[c.examples], sizes[c.negatives]
        why = too_few(n, m) if self._null_cavs else "no null CAVs were asked for"
        key = (c.negatives, n)
        if not why and key not in self._shared:
            draws = null_draws(n, m, self._null_cavs, seed_of("null", self._seed, n, m))
            self._shared[key] = Family(c.negatives, c.negatives, draws, None)
            self._drawn.append(self._shared[key])
        self._null.append(None if why else self._shared[key])
        self._untested.append(why)
        if self._bootstraps:
            draws = bootstrap_draws(
                n, m, self._bootstraps, seed_of("bootstrap", self._seed, n, m, c.name)
            )
            self._drawn.append(Family(c.examples, c.negatives, draws, k))
        return self._drawn[before:]

    def blocks(self, images: ImageSet) -> list[Block]:
        """Return the directions drawn so far that have to do with a set of images."""
        bootstrap = {f.concept: f for f in self._drawn if f.concept is not None}
        known = enumerate(self._concepts[: len(self._null)])
        own = [Block(k, bootstrap.get(k)) for k, c in known if images in (c.examples, c.negatives)]
        null = [f for f in self._drawn if f.concept is None and f.negatives is images]
        return own + [Block(None, f) for f in null]

    @property
    def resampling(self) -> Resampling:
        """Whose the resampled CAVs are, which stand in the order in which they were drawn."""
        columns, start = {}, 0
        for family in self._drawn:
            columns[family] = range(start, start + len(family.draws))
            start += len(family.draws)
        bootstrap = {f.concept: columns[f] for f in self._drawn if f.concept is not None}
        return Resampling(
            tuple(range(0) if f is None else columns[f] for f in self._null),
            tuple(bootstrap.get(k, range(0)) for k in range(len(self._null))),
            tuple(self._untested),
        )


def seed_of(*parts: object) -> int:
    """Return a seed that depends on nothing but these, so that concepts do not share draws."""
    return zlib.crc32(" ".join(map(str, parts)).encode())
