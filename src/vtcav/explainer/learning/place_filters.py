"""Learning place filters from the same passes as CAVs (erasure 1 and 2).

A filter is refined over the examples' feature maps, which wait in the buffer between passes. It is
learned three times: from all images, and from each half of them, which says how well it tells the
images of the other half apart. Refinement can settle on something else that the examples have in
common with the negatives; so an earlier step is kept where it tells its own images apart better.

A direction that was given, and is not the one that these images teach, is its own place filter:
its region is where it responds, and nothing of it is learned.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from vtcav.explainer.learning.drawn_filters import DrawnFilters, OwnFilter
from vtcav.explainer.learning.example_passes import LearnedSet, Pass, feature_maps
from vtcav.explainer.learning.rows import Rows
from vtcav.images.concepts import Concept, ImageSet
from vtcav.method.auc import auc_of
from vtcav.method.cav import direction, emblem, points_along
from vtcav.method.discriminant_map import discriminant_directions
from vtcav.method.erasure.place_filter import (
    REFINEMENTS,
    Background,
    PlaceFilters,
    best_step,
    highest,
    outer_products,
    pattern,
    top_means,
)
from vtcav.method.resampling import Draws, halves

if TYPE_CHECKING:
    from vtcav.explainer.learning.learning_cache import SetEntries

_FOLDS = 3
"""What filters are learned from: all images, and either half of them."""

Backgrounds: TypeAlias = dict[str, list[Background]]
"""The background of each fold, by layer."""


@dataclass(eq=False)
class _Learned:
    """The filters of one concept at one layer, as far as they are learned.

    Attributes:
        w: Filters of every step and fold [S, 3, C]; the first step is that which refinement began
            with.
        offset: Their w.m- [S, 3].
        pattern: The patterns of the filters from all images [S, C].
        highest: Highest responses of examples and negatives [n, S, 3], by set.
    """

    w: Tensor
    offset: Tensor
    pattern: Tensor
    highest: dict[ImageSet, Tensor] = field(default_factory=dict)


class PlaceLearning:
    """Place filters of concepts, learned concept by concept.

    Args:
        run: How images pass through the network.
    """

    def __init__(self, run: Pass) -> None:
        self._run = run
        self._concepts: list[tuple[Concept, dict[str, _Learned]]] = []
        self._backgrounds: dict[ImageSet, Backgrounds] = {}
        self._new: list[tuple[Concept, dict[str, _Learned], SetEntries]] = []

    def learn(
        self, concept: Concept, examples: LearnedSet, negatives: LearnedSet
    ) -> dict[str, Tensor]:
        """Learn the filters of the next concept at every layer.

        Returns:
            The filter of the last step, from all images, by layer [C].
        """
        start, fixed = {}, set()
        for layer in self._run.layers:
            pair, v = (examples.gap[layer], negatives.gap[layer]), concept.directions.get(layer)
            if v is None or points_along(v, direction(*pair)):
                start[layer] = torch.cat([_start(*pair, fold) for fold in range(_FOLDS)])
            else:
                start[layer] = v.to(pair[0]).expand(_FOLDS, -1).clone()
                fixed.add(layer)
        here = self._recalled(concept, examples, negatives, start)
        if here is None:
            here = self._refined(examples, self._background(negatives), start, fixed)
            if examples.entries is not None:
                self._new.append((concept, here, examples.entries))
        self._concepts.append((concept, here))
        return {layer: each.w[-1, 0] for layer, each in here.items()}

    def _refined(
        self,
        examples: LearnedSet,
        backgrounds: Backgrounds,
        start: Mapping[str, Tensor],
        fixed: Container[str],
    ) -> dict[str, _Learned]:
        """Return the filters of every step by layer, refined from directions [3, C].

        Those of layers in `fixed` stay as they are in every step.
        """
        w = {layer: [first] for layer, first in start.items()}
        differences: dict[str, list[Tensor]] = {layer: [] for layer in start}
        for _ in range(REFINEMENTS):
            m_pos = self._top_means(examples, {layer: steps[-1] for layer, steps in w.items()})
            for layer, folds in backgrounds.items():
                pairs = zip(folds, m_pos[layer], strict=True)
                refined = [fold.filters(m[None]) for fold, m in pairs if layer not in fixed]
                w[layer].append(torch.cat(refined) if refined else start[layer])
                differences[layer].append(m_pos[layer][0] - folds[0].mean)
        learned = {}
        for layer, steps in w.items():
            folds = backgrounds[layer]
            m_neg = torch.stack([folds[0 if layer in fixed else f].mean for f in range(len(folds))])
            stacked, found = torch.stack(steps), differences[layer]
            # the locations of the start are those that the first step was learned from
            own = pattern(stacked[:, 0], torch.stack([found[0], *found]))
            learned[layer] = _Learned(stacked, (stacked * m_neg).sum(2), own)
        return learned

    def respond(self, learned: LearnedSet) -> None:
        """Take the highest responses of a set to the filters of all concepts that it belongs to."""
        images = learned.source
        wanted = [
            here
            for concept, here in self._concepts
            if images in (concept.examples, concept.negatives)
            and any(images not in each.highest for each in here.values())
        ]
        if not wanted:
            return
        found = {layer: Rows(len(learned.used)) for layer in self._run.layers}
        for maps in self._maps(learned):
            for layer, F in maps.items():
                w = torch.cat([here[layer].w.flatten(0, 1) for here in wanted])
                offset = torch.cat([here[layer].offset.flatten() for here in wanted])
                found[layer].add(highest(F, w, offset))
        for layer, responses in found.items():
            own = responses.rows.cpu().reshape(-1, len(wanted), REFINEMENTS + 1, _FOLDS)
            for here, alone in zip(wanted, own.unbind(1), strict=True):
                here[layer].highest[images] = alone

    def filters(self, layer: str) -> PlaceFilters:
        """Return the filters of all concepts at a layer."""
        return PlaceFilters.joined([_filters(c, here[layer]) for c, here in self._concepts])

    def drawn(self, concept: Concept, examples: LearnedSet, negatives: LearnedSet) -> DrawnFilters:
        """Return what learns the filters of draws of a concept that is learned itself."""
        for learned in (examples, negatives):
            self.respond(learned)
        here = next(here for known, here in self._concepts if known is concept)
        found = {}
        for layer, each in here.items():
            step = _kept_step(concept, each, 0)
            w, offset = each.w[step, :1], each.offset[step, :1]
            found[layer] = OwnFilter(w, offset, step)

        def backgrounds() -> dict[str, Background]:
            return {layer: folds[0] for layer, folds in self._background(negatives).items()}

        return DrawnFilters(self._run, found, backgrounds)

    def keep(self) -> None:
        """Put the filters that are new into the cache."""
        for concept, here, entries in self._new:
            if not entries.unchanged():
                continue
            for layer, each in here.items():
                tensors = {
                    "w": each.w,
                    "offset": each.offset,
                    "pattern": each.pattern,
                    "examples": each.highest[concept.examples],
                    "negatives": each.highest[concept.negatives],
                }
                entries.keep("places", tensors, layer, each.w[0])

    def _recalled(
        self,
        concept: Concept,
        examples: LearnedSet,
        negatives: LearnedSet,
        start: dict[str, Tensor],
    ) -> dict[str, _Learned] | None:
        """Return the filters of a concept from the cache, or None if one is missing."""
        if examples.entries is None:
            return None
        here = {}
        for layer, w in start.items():
            sizes = {"n": len(examples.used), "m": len(negatives.used)}
            kept = examples.entries.get("places", layer, w, sizes)
            if kept is None:
                return None
            highest_of = {
                concept.examples: kept["examples"],
                concept.negatives: kept["negatives"],
            }
            here[layer] = _Learned(kept["w"], kept["offset"], kept["pattern"], highest_of)
        return here

    def _background(self, negatives: LearnedSet) -> Backgrounds:
        if negatives.source not in self._backgrounds:
            self._backgrounds[negatives.source] = self._learn_background(negatives)
        return self._backgrounds[negatives.source]

    def _learn_background(self, negatives: LearnedSet) -> Backgrounds:
        centre = {layer: negatives.gap[layer].mean(0) for layer in self._run.layers}
        in_first = torch.zeros(len(negatives.used), dtype=torch.bool)
        in_first[halves(len(in_first))[0]] = True
        sums: dict[str, list[Tensor]] = {}
        locations: dict[str, int] = {}
        done = 0
        for maps in self._maps(negatives):
            for layer, F in maps.items():
                locations[layer] = F[0, 0].numel()
                # positions in the whole set decide, whatever the batches
                half = in_first[done : done + len(F)].to(F.device)
                own = [outer_products(F[part], centre[layer]) for part in (half, ~half)]
                before = sums.get(layer, [torch.zeros_like(each) for each in own])
                sums[layer] = [a + b for a, b in zip(before, own, strict=True)]
            done += len(F)
        return {
            layer: [
                _background(locations[layer], negatives.gap[layer], fold, centre[layer], outer)
                for fold, outer in enumerate(_by_fold(first, second, len(in_first)))
            ]
            for layer, (first, second) in sums.items()
        }

    def _top_means(self, examples: LearnedSet, w: dict[str, Tensor]) -> dict[str, list[Tensor]]:
        """Return m+ of each fold [C] by layer."""
        tops = {layer: Rows(len(examples.used)) for layer in w}
        for maps in self._maps(examples):
            for layer, F in maps.items():
                tops[layer].add(top_means(F, w[layer]))
        return {
            layer: [_taken(top.rows[:, fold], fold).mean(0) for fold in range(_FOLDS)]
            for layer, top in tops.items()
        }

    def _maps(self, learned: LearnedSet) -> Iterator[dict[str, Tensor]]:
        with closing(feature_maps(self._run, learned, self._run.layers)) as passing:
            yield from passing


def _start(positives: Tensor, negatives: Tensor, fold: int) -> Tensor:
    """Return the discriminant of pooled activations [1, C], which refinement begins with."""
    positives, negatives = _taken(positives, fold), _taken(negatives, fold)
    draws = Draws.whole(len(positives), len(negatives))
    return discriminant_directions(positives, negatives, draws)


def _taken(values: Tensor, fold: int) -> Tensor:
    """Return the values of a fold's images; of a single image, its value for every fold."""
    return values if fold == 0 else values[halves(len(values))[fold - 1].to(values.device)]


def _by_fold(first: Tensor, second: Tensor, images: int) -> tuple[Tensor, Tensor, Tensor]:
    return first + second, first, second if images > 1 else first


def _background(
    locations: int, gap: Tensor, fold: int, centre: Tensor, outer: Tensor
) -> Background:
    """Return the background of a fold from outer products about the mean of all."""
    part = _taken(gap, fold)
    mean, count = part.mean(0), locations * len(part)
    away = (mean - centre).double()
    return Background.of(count, mean, outer - count * torch.outer(away, away))


def _kept_step(concept: Concept, here: _Learned, f: int) -> int:
    """Return the step of the refinement that is kept of fold f."""
    pair = here.highest[concept.examples], here.highest[concept.negatives]
    own = [_taken(highest[:, :, f], f) for highest in pair]
    return best_step([(own[0][:, s], own[1][:, s]) for s in range(len(here.w))])


def _filters(concept: Concept, here: _Learned) -> PlaceFilters:
    """Return the filter of one concept, from all images."""
    examples, negatives = here.highest[concept.examples], here.highest[concept.negatives]
    steps = [_kept_step(concept, here, f) for f in range(_FOLDS)]
    own = slice(steps[0], steps[0] + 1)
    return PlaceFilters(
        w=here.w[own, 0].cpu(),
        offset=here.offset[own, 0].cpu(),
        low=emblem(negatives[:, own, 0]),
        high=emblem(examples[:, own, 0]),
        seen=torch.tensor([_held_out_auc(examples, negatives, steps)]),
        pattern=here.pattern[own].cpu(),
    )


def _held_out_auc(examples: Tensor, negatives: Tensor, steps: Sequence[int]) -> float:
    """Return how well filters of either half tell the images of the other half apart.

    Args:
        examples: Highest responses [n, S, 3].
        negatives: Highest responses [m, S, 3].
        steps: The step of the refinement that is kept of each fold [3].

    Returns:
        The mean AUC; 0 where nothing can be held out, of one image.
    """
    if min(len(examples), len(negatives)) < 2:
        return 0.0
    aucs = []
    for fold, other in ((1, 2), (2, 1)):
        high, low = (_taken(each[:, steps[fold], fold], other) for each in (examples, negatives))
        aucs.append(auc_of(high, low))
    return sum(aucs) / 2
