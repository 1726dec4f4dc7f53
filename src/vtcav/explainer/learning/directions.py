"""Directions, and filters, of concepts and of their resampled CAVs, as they become known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from vtcav.explainer.learning.example_passes import LearnedSet
from vtcav.explainer.learning.resampled_cavs import Block, Family
from vtcav.images.concepts import Concept, ImageSet
from vtcav.method.discriminant_map import filter_direction, filter_directions
from vtcav.method.resampling import directions
from vtcav.method.variants import PAPER, Variant

__all__ = ["Directions"]

_Whose: TypeAlias = int | Family


@dataclass(frozen=True, eq=False)
class Directions:
    """The directions v of step 1; with the variant "filter" the filters w as well.

    Attributes:
        layers: Layer names.
        variant: What finds the concepts: "paper" or "filter".
    """

    layers: Sequence[str]
    variant: Variant
    _v: dict[tuple[str, _Whose], Tensor] = field(default_factory=dict)
    _w: dict[tuple[str, _Whose], Tensor] = field(default_factory=dict)

    def learn(
        self,
        k: int,
        concept: Concept,
        families: Sequence[Family],
        learned: Mapping[ImageSet, LearnedSet],
    ) -> None:
        """Learn those of a concept.

        Args:
            k: Its position.
            concept: Its sets of images.
            families: Resampled CAVs that are new with it.
            learned: What is known of the sets.
        """
        positives, negatives = learned[concept.examples], learned[concept.negatives]
        for layer in self.layers:
            self._v[layer, k] = (positives.mean(layer) - negatives.mean(layer)).float()[None]
            for f in families:
                gaps = learned[f.positives].gap(layer), learned[f.negatives].gap(layer)
                self._v[layer, f] = directions(*gaps, f.draws)
                if self.variant != PAPER:
                    self._w[layer, f] = filter_directions(*gaps, f.draws).float()
            if self.variant != PAPER:
                w = filter_direction(positives.gap(layer), negatives.gap(layer))
                self._w[layer, k] = w.float()[None]

    def of(self, layer: str, block: Block) -> Tensor:
        """Return what finds the concepts of a block [j, C]: directions or filters."""
        found = self._v if self.variant == PAPER else self._w
        whose = [each for each in (block.concept, block.family) if each is not None]
        return torch.cat([found[layer, each] for each in whose])

    def all(self, layer: str, concepts: int, families: Sequence[Family]) -> Tensor:
        """Return the directions of all K concepts, then of the resampled CAVs [K + J, C]."""
        return torch.cat([self._v[layer, each] for each in (*range(concepts), *families)]).cpu()

    def filters(self, layer: str, concepts: int, families: Sequence[Family]) -> Tensor | None:
        """Return the filters like `all`; None where the directions find the concepts."""
        if self.variant == PAPER:
            return None
        return torch.cat([self._w[layer, each] for each in (*range(concepts), *families)]).cpu()
