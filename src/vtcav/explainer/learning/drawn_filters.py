"""Place filters of resampled CAVs: those of a concept, learned from the images of each draw.

They are refined as often as the concept's own filter, from directions of their own. The covariance
S is that of all negatives for every draw, which makes a draw's filter one solution with a factor
that is known; m+ and m- are those of the draw. A draw's positives alone decide its locations, so
that all refinements together cost about as much as the pass for its raw values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.explainer.learning.example_passes import LearnedSet, Pass, feature_maps
from vtcav.method.cav import draw_means
from vtcav.method.discriminant_map import discriminant_directions
from vtcav.method.erasure.place_filter import Background, top_means
from vtcav.method.resampling import Draws, counts


@dataclass(frozen=True, eq=False)
class OwnFilter:
    """The place filter of a concept at a layer, and what its draws need.

    Attributes:
        w: The filter [1, C].
        offset: w.m- [1].
        step: How often it was refined.
    """

    w: Tensor
    offset: Tensor
    step: int


@dataclass(frozen=True, eq=False)
class DrawnFilters:
    """Learns the place filters of a concept's draws.

    Attributes:
        run: How images pass through the network.
        own: The concept's own filter by layer.
        backgrounds: Returns the background of all negatives by layer.
    """

    run: Pass
    own: Mapping[str, OwnFilter]
    backgrounds: Callable[[], Mapping[str, Background]]

    @property
    def steps(self) -> tuple[int, ...]:
        """How often the filters are refined, layer by layer."""
        return tuple(own.step for own in self.own.values())

    def of(
        self, positives: LearnedSet, negatives: LearnedSet, draws: Draws, *, own: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the filters w [J, C] of draws and their w.m- [J], by layer.

        Args:
            positives: The set that plays the concept, after its first pass.
            negatives: The negatives.
            draws: The images of J CAVs.
            own: Whether the first draw is the concept's own CAV.
        """
        w, m_neg = {}, {}
        for layer in self.own:
            pair = positives.gap[layer], negatives.gap[layer]
            w[layer] = discriminant_directions(*pair, draws)
            m_neg[layer] = draw_means(pair[1].double(), draws.negatives)
        w = self._refined(positives, draws, w, m_neg)
        offset = {
            layer: (each.double() * m_neg[layer]).sum(1).to(each.dtype) for layer, each in w.items()
        }
        if own:
            for layer, known in self.own.items():
                w[layer] = torch.cat([known.w.to(w[layer]), w[layer][1:]])
                offset[layer] = torch.cat([known.offset.to(w[layer]), offset[layer][1:]])
        return w, offset

    def _refined(
        self,
        positives: LearnedSet,
        draws: Draws,
        start: Mapping[str, Tensor],
        m_neg: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the filters of draws, refined from directions [J, C], by layer."""
        keys = {layer: _key(w, m_neg[layer], self.own[layer].step) for layer, w in start.items()}
        kept = _recalled(positives, keys, len(draws.positives))
        w = {layer: each for layer, each in start.items() if layer not in kept}
        for step in range(max((self.own[layer].step for layer in w), default=0)):
            layers = [layer for layer in w if step < self.own[layer].step]
            backgrounds = self.backgrounds()
            m_pos = _top_means(self.run, positives, draws, {layer: w[layer] for layer in layers})
            for layer in layers:
                filters = backgrounds[layer].filters(m_pos[layer], m_neg[layer])
                w[layer] = filters.to(start[layer].dtype)
        if positives.entries is not None and positives.entries.unchanged():
            for layer, each in w.items():
                positives.entries.keep("drawn", {"w": each}, layer, keys[layer])
        return {layer: (kept | w)[layer] for layer in start}


def _top_means(
    run: Pass, positives: LearnedSet, draws: Draws, w: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return m+ of draws [J, C] by layer, from the locations that respond most to w [J, C]."""
    times = counts(draws.positives, len(positives.used))
    sums = {layer: torch.zeros_like(each, dtype=torch.float64) for layer, each in w.items()}
    image = 0
    with closing(feature_maps(run, positives, list(w))) as passing:
        for maps in passing:
            for n in range(len(next(iter(maps.values())))):
                taking = times[:, image].nonzero()[:, 0]  # the draws that take the image
                for layer, total in sums.items():
                    j = taking.to(total.device)
                    tops = top_means(maps[layer][n : n + 1], w[layer][j])[0]
                    total[j] += times[taking, image, None].to(total.device) * tops
                image += 1
    return {layer: total / draws.positives.shape[1] for layer, total in sums.items()}


def _key(start: Tensor, m_neg: Tensor, step: int) -> Tensor:
    """Return what the filters of draws depend on, beside the images and the layer."""
    return torch.cat([start.flatten().double(), m_neg.flatten(), m_neg.new_tensor([step])])


def _recalled(positives: LearnedSet, keys: Mapping[str, Tensor], J: int) -> dict[str, Tensor]:
    """Return the filters of J draws that are in the cache, by layer."""
    if positives.entries is None:
        return {}
    get = positives.entries.get
    found = {layer: get("drawn", layer, key, {"J": J}) for layer, key in keys.items()}
    return {
        layer: kept["w"].to(keys[layer].device) for layer, kept in found.items() if kept is not None
    }
