"""CAVs by the images they are drawn from: those of concepts, their bootstrap CAVs, null CAVs.

All are of one kind. A concept's own CAV is one more draw: all examples against all negatives.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.explainer.learning.example_passes import LearnedSet
from vtcav.explainer.settings import FitSettings
from vtcav.images.concepts import Concept, ImageSet
from vtcav.method.cav import direction, directions
from vtcav.method.discriminant_map import discriminant_directions
from vtcav.method.resampling import Draws, bootstrap_draws, null_draws, too_few
from vtcav.method.variants import PAPER, Variant
from vtcav.results.layer_cavs import Resampling

__all__ = ["ConceptCavs", "DrawnCavs", "seed_of"]


@dataclass(frozen=True, eq=False)
class DrawnCavs:
    """J CAVs that are drawn from one pair of image sets, at every layer.

    Their raw maps are computed together. They depend on no other CAVs, to the last bit, so that
    one more concept leaves the others as they are.

    Attributes:
        positives: The set that plays the concept.
        negatives: The negatives.
        draws: The images of each CAV.
        own: Number of concepts' own CAVs, which come first: 1 for those of a concept, whose
            bootstrap CAVs follow, 0 for null CAVs.
        v: Directions by layer [J, C].
        w: Linear discriminant directions by layer [J, C]; empty for the paper's definition.
    """

    positives: ImageSet
    negatives: ImageSet
    draws: Draws
    own: int
    v: Mapping[str, Tensor]
    w: Mapping[str, Tensor]

    @classmethod
    def learn(
        cls,
        positives: LearnedSet,
        negatives: LearnedSet,
        draws: Draws,
        variant: Variant,
        *,
        own: int = 0,
    ) -> DrawnCavs:
        """Learn the directions of draws, step 1."""
        v, w = {}, {}
        for layer, gap in positives.gap.items():
            pair = gap, negatives.gap[layer]
            resampled = directions(*pair, draws.part(range(own, len(draws))))
            v[layer] = torch.cat([direction(*pair)[None]] * own + [resampled])
            if variant != PAPER:
                w[layer] = discriminant_directions(*pair, draws)
        return cls(positives.source, negatives.source, draws, own, v, w)

    def finding(self, layer: str) -> Tensor:
        """Return the directions that find the concepts at a layer [J, C]: v, or w."""
        return (self.w or self.v)[layer]

    @property
    def resampled(self) -> range:
        """The positions of the resampled CAVs among all."""
        return range(self.own, len(self.draws))


class ConceptCavs:
    """The CAVs of concepts, drawn concept by concept.

    Concepts with the same number of examples and the same negatives share their null CAVs.

    Args:
        fit: The numbers of null and bootstrap CAVs, and the seed.
        variant: How concepts are found.

    Attributes:
        drawn: All CAVs so far.
    """

    def __init__(self, fit: FitSettings, variant: Variant) -> None:
        self.drawn: list[DrawnCavs] = []
        self._fit, self._variant = fit, variant
        self._null: dict[tuple[ImageSet, int], DrawnCavs] = {}
        self._null_of: list[DrawnCavs | None] = []
        self._untested: list[str] = []

    def draw(self, concept: Concept, examples: LearnedSet, negatives: LearnedSet) -> None:
        """Draw and learn the CAVs of the next concept."""
        n, m, fit = len(examples.used), len(negatives.used), self._fit
        why = too_few(n, m) if fit.null_cavs else "no null CAVs were asked for"
        key = (concept.negatives, n)
        if not why and key not in self._null:
            draws = null_draws(n, m, fit.null_cavs, seed_of("null", fit.seed, n, m))
            self._null[key] = DrawnCavs.learn(negatives, negatives, draws, self._variant)
            self.drawn.append(self._null[key])
        self._null_of.append(None if why else self._null[key])
        self._untested.append(why)
        seed = seed_of("bootstrap", fit.seed, n, m, concept.name)
        draws = Draws.whole(n, m).followed_by(bootstrap_draws(n, m, fit.bootstraps, seed))
        self.drawn.append(DrawnCavs.learn(examples, negatives, draws, self._variant, own=1))

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
        columns: dict[DrawnCavs | None, range] = {None: range(0)}
        start = 0
        for cavs in self.drawn:
            columns[cavs] = range(start, start + len(cavs.resampled))
            start += len(cavs.resampled)
        return Resampling(
            tuple(columns[cavs] for cavs in self._null_of),
            tuple(columns[cavs] for cavs in self.own),
            tuple(self._untested),
        )


def seed_of(*parts: object) -> int:
    """Return a seed that depends on these parts alone, so that concepts do not share draws."""
    return zlib.crc32(" ".join(map(str, parts)).encode())
