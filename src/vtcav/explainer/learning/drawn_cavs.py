"""CAVs by the images they are drawn from: those of concepts, their bootstrap CAVs, null CAVs.

All are of one kind. A concept's own CAV is one more draw: all examples against all negatives. A
direction that was given stays as it is in every draw, whose images then decide the emblems alone;
unless it is the one that these images teach, which is learned again from every draw.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vtcav.explainer.learning.drawn_filters import DrawnFilters
from vtcav.explainer.learning.example_passes import LearnedSet
from vtcav.explainer.settings import FitSettings
from vtcav.images.concepts import Concept, ImageSet
from vtcav.method import resampling
from vtcav.method.cav import direction, directions, points_along
from vtcav.method.discriminant_map import discriminant_directions
from vtcav.method.resampling import Draws
from vtcav.method.significance import enough_null_cavs
from vtcav.method.variants import FILTER, Variant
from vtcav.results.bank.layer_cavs import Resampling


@dataclass(frozen=True, eq=False)
class DrawnCavs:
    """J CAVs that are drawn from one pair of image sets, at every layer.

    Their raw maps are computed together. They depend on no other CAVs, to the last bit, so that
    one more concept leaves the others as they are.

    Attributes:
        positives: The set that plays the concept.
        negatives: The negatives.
        draws: The images of each CAV.
        own: Whether the first is a concept's own CAV, which its bootstrap CAVs follow. Null CAVs
            belong to no concept.
        v: Directions by layer [J, C].
        w: Linear discriminant directions by layer [J, C]; empty for the paper's definition.
        offset: Mean responses w.m- of place filters by layer [J]; empty for other variants.
    """

    positives: ImageSet
    negatives: ImageSet
    draws: Draws
    own: bool
    v: Mapping[str, Tensor]
    w: Mapping[str, Tensor]
    offset: Mapping[str, Tensor]

    @classmethod
    def learn(
        cls,
        positives: LearnedSet,
        negatives: LearnedSet,
        draws: Draws,
        variant: Variant,
        *,
        own: bool = False,
        places: DrawnFilters | None = None,
        concept: Concept | None = None,
    ) -> DrawnCavs:
        """Learn the directions of draws, step 1.

        Those of resampled CAVs are matrix products; a concept's own is computed literally. Those
        that were given with `concept` are not learned.
        """
        v: dict[str, Tensor] = {}
        w: dict[str, Tensor] = {}
        offset: dict[str, Tensor] = {}
        for layer, gap in positives.gap.items():
            pair = gap, negatives.gap[layer]
            learned = direction(*pair)
            given = None if concept is None else concept.directions.get(layer)
            first = learned if given is None else given.to(gap)
            if concept and given is not None and not points_along(first, learned):
                resampled = first.expand(len(draws) - own, -1)
                if own and concept.redrawn:
                    resampled = concept.redrawn[layer].to(gap)
            else:
                resampled = directions(*pair, draws.part(range(own, len(draws))))
            v[layer] = torch.cat([first[None]] * own + [resampled])
            if variant == FILTER:
                w[layer] = discriminant_directions(*pair, draws)
        if places is not None:
            w, offset = places.of(positives, negatives, draws, own=own)
        return cls(positives.source, negatives.source, draws, own, v, w, offset)

    def finding(self, layer: str) -> Tensor:
        """Return the directions that find the concepts at a layer [J, C]: v, or w."""
        return (self.w or self.v)[layer]

    @property
    def resampled(self) -> range:
        """The positions of the resampled CAVs among all."""
        return range(self.own, len(self.draws))


class ConceptCavs:
    """The CAVs of concepts, drawn concept by concept.

    Concepts with the same negatives whose tests take the same number of examples share their null
    CAVs.

    Args:
        fit: The numbers of null and bootstrap CAVs, and the seed.
        variant: How concepts are found.
        tests: How many values are tested together, which a number of null CAVs that is None
            follows.

    Attributes:
        drawn: All CAVs so far.
        fit: The settings, with a number of null CAVs.
        variant: How concepts are found.
    """

    def __init__(self, fit: FitSettings, variant: Variant, tests: int) -> None:
        self.drawn: list[DrawnCavs] = []
        if fit.null_cavs is None:
            fit = replace(fit, null_cavs=enough_null_cavs(tests))
        self.fit, self.variant = fit, variant
        self._shared_null: dict[tuple[ImageSet, int, tuple[int, ...]], range] = {}
        self._of_concepts: list[tuple[range, range, str, range]] = []

    def draw(
        self,
        concept: Concept,
        examples: LearnedSet,
        negatives: LearnedSet,
        places: DrawnFilters | None = None,
    ) -> None:
        """Draw and learn the CAVs of the next concept; those of place filters need `places`."""
        n, m, fit = len(examples.used), len(negatives.used), self.fit
        null = subset = range(0)
        untested = "" if fit.null_cavs else "no null CAVs were asked for"
        size = resampling.tested_examples(n, m)
        if not untested and not size:
            untested = f"null CAVs need at least 2 negatives, there is {m}"
        if not untested:
            key = concept.negatives, size, places.steps if places is not None else ()
            if key not in self._shared_null:
                seed = seed_of("null", fit.seed, size, m)
                draws = resampling.null_draws(size, m, fit.null_cavs or 0, seed)
                self._shared_null[key] = self._add(negatives, negatives, draws, places)
            null = self._shared_null[key]
            if size < n:
                seed = seed_of("subset", fit.seed, n, m, concept.name)
                draws = resampling.subset_draw(n, m, size, seed)
                subset = self._add(examples, negatives, draws, places, concept=concept)
        seed = seed_of("bootstrap", fit.seed, n, m, concept.name)
        draws = Draws.whole(n, m).followed_by(
            resampling.bootstrap_draws(n, m, fit.bootstraps, seed)
        )
        bootstrap = self._add(examples, negatives, draws, places, own=True, concept=concept)
        self._of_concepts.append((null, bootstrap or range(0), untested, subset))

    def of(self, images: ImageSet) -> list[DrawnCavs]:
        """Return the CAVs so far that are drawn from a set of images."""
        return [cavs for cavs in self.drawn if images in (cavs.positives, cavs.negatives)]

    @property
    def own(self) -> Sequence[DrawnCavs]:
        """The CAVs that begin with a concept's own, concept by concept."""
        return [cavs for cavs in self.drawn if cavs.own]

    @property
    def resampling(self) -> Resampling:
        """Which resampled CAVs belong to which concept, in the order of drawing."""
        return Resampling(*zip(*self._of_concepts, strict=True))

    def _add(
        self,
        positives: LearnedSet,
        negatives: LearnedSet,
        draws: Draws,
        places: DrawnFilters | None,
        *,
        own: bool = False,
        concept: Concept | None = None,
    ) -> range:
        """Learn CAVs, and return the positions of the resampled ones among all resampled CAVs."""
        start = sum(len(earlier.resampled) for earlier in self.drawn)
        cavs = DrawnCavs.learn(
            positives, negatives, draws, self.variant, own=own, places=places, concept=concept
        )
        self.drawn.append(cavs)
        return range(start, start + len(cavs.resampled))


def seed_of(*parts: object) -> int:
    """Return a seed that depends on these parts alone, so that concepts do not share draws."""
    return zlib.crc32(" ".join(map(str, parts)).encode())
