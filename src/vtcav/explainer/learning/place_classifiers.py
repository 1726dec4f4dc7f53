"""Learning place classifiers: what tells the concepts of a bank apart at single locations.

They need the activations of all concepts at once, while the feature maps of examples wait in the
buffer only until their own concept is learned. So a few locations of each example are kept: those
that its place filters answer most; and some locations of the negatives, drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

import torch
from torch import Tensor

from vtcav.explainer.learning.drawn_cavs import seed_of
from vtcav.explainer.learning.example_passes import LearnedSet, Pass, feature_maps
from vtcav.images.concepts import Concept, ImageSet
from vtcav.method.erasure.joined_map import joined_layers
from vtcav.method.erasure.place_classifier import (
    PlaceClassifier,
    candidates,
    grid,
    learned,
    locations,
)

MOST_CONCEPTS = 24
"""The concepts that are told apart at most: what is kept of them stays in memory together."""
EXAMPLES = 32
"""The images of a set whose locations are kept, spread evenly over it."""
BACKGROUND = 32
"""The locations of each negative that are kept."""

_ByLayer = dict[str, Tensor]


class ClassifierLearning:
    """Place classifiers of the layers that find regions together.

    Args:
        run: How images pass through the network.
    """

    @classmethod
    def of(cls, run: Pass, concepts: Sequence[Concept]) -> ClassifierLearning | None:
        """Return what learns the classifiers of concepts; None of one, of many, or unless asked."""
        return cls(run) if run.erasure and 1 < len(concepts) <= MOST_CONCEPTS else None

    def __init__(self, run: Pass) -> None:
        self._run = run
        self._layers = joined_layers(run.layers)
        self._concepts: list[_ByLayer] = []
        self._background: dict[ImageSet, _ByLayer] = {}

    def take(
        self, concept: Concept, examples: LearnedSet, negatives: LearnedSet, w: Mapping[str, Tensor]
    ) -> None:
        """Keep locations of the next concept and of its negatives.

        Args:
            concept: The concept.
            examples: Its examples, whose feature maps wait in the buffer.
            negatives: Its negatives.
            w: Its place filter at every layer [C].
        """
        filters = {layer: w[layer] for layer in self._layers}
        self._concepts.append(self._kept(examples, filters))
        if concept.negatives not in self._background:
            self._background[concept.negatives] = self._kept(negatives, None)

    def classifiers(self) -> dict[str, PlaceClassifier]:
        """Return the place classifiers by layer."""
        sets = list(self._background.values())
        background = {layer: torch.cat([own[layer] for own in sets]) for layer in self._layers}
        return learned(self._concepts, background)

    def _kept(self, images: LearnedSet, filters: _ByLayer | None) -> _ByLayer:
        """Return activations of a set at locations by layer, from the cache where it has them.

        Args:
            images: The set.
            filters: The place filter of the concept that it shows; None for negatives.
        """
        kind = "background" if filters is None else "candidates"
        if filters is None:  # the layers make the grid that locations are drawn from
            V = torch.tensor(list("\n".join(self._layers).encode()))
        else:
            V = torch.cat(list(filters.values()))
        entries = images.entries
        if entries is not None:
            known = {layer: entries.get(kind, layer, V) for layer in self._layers}
            kept = {layer: each["X"] for layer, each in known.items() if each is not None}
            if len(kept) == len(self._layers):
                return kept
        found = self._from_maps(images, filters)
        if entries is not None and entries.unchanged():
            for layer, X in found.items():
                entries.keep(kind, {"X": X}, layer, V)
        return found

    def _from_maps(self, images: LearnedSet, filters: _ByLayer | None) -> _ByLayer:
        """Return activations of a set at candidates, or at random locations."""
        wanted = _spread(len(images.used), EXAMPLES)
        parts: list[_ByLayer] = []
        first = 0
        with closing(feature_maps(self._run, images, self._run.layers)) as passing:
            for maps in passing:
                count = len(maps[self._layers[0]])
                here = [i for i in wanted if first <= i < first + count]
                if here:
                    at = [i - first for i in here]
                    size = grid([maps[layer].shape[2:] for layer in self._layers])
                    X = {layer: locations(maps[layer][at], size) for layer in self._layers}
                    own = candidates(X, filters) if filters else self._at_random(X, here)
                    # copies: a view would hold on to the whole map
                    parts.append({layer: each.float().cpu().clone() for layer, each in own.items()})
                first += count
                if first > wanted[-1]:
                    break
        return {layer: torch.cat([part[layer] for part in parts]) for layer in self._layers}

    def _at_random(self, X: _ByLayer, positions: Sequence[int]) -> _ByLayer:
        """Return activations [n, t, C] at locations that the positions of the images seed."""
        drawn = []
        P = next(iter(X.values())).shape[1]
        for position in positions:
            generator = torch.Generator().manual_seed(seed_of("background", position))
            drawn.append(torch.randperm(P, generator=generator)[:BACKGROUND])
        at = torch.stack(drawn)
        return {
            layer: each.gather(1, at.to(each.device)[..., None].expand(-1, -1, each.shape[2]))
            for layer, each in X.items()
        }


def _spread(count: int, most: int) -> list[int]:
    """Return the positions of at most so many images, spread evenly."""
    return [round(i) for i in torch.linspace(0, count - 1, min(count, most)).tolist()]
