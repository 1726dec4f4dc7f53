"""Removal from feature maps: a second opinion beside filling in the picture (erasure 6).

The pattern of a concept's place filter is taken out of the feature maps of a layer wherever the
filter responds more than negatives do, and the rest of the network computes the logits. Nothing is
filled in, so it works where a picture cannot be, and it leaves what else is at the same place. What
the other channels still say of the concept stays, too, so it finds less than erasure does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import nan
from typing import NamedTuple

import torch
from torch import Tensor

from vtcav.explainer.erasing.effect_rows import gap_note
from vtcav.explainer.erasing.targets import reference_logits
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.settings import ErasureSettings
from vtcav.method.concept_part import excess, without
from vtcav.method.erasure.effect import class_scores, share
from vtcav.method.erasure.joined_map import SEEN, below_seen
from vtcav.method.positions import broadcast
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.rows import EffectRow

FROM_MAPS = "taken out of this layer's feature maps: the drop is too small, often by half or more"
NOT_SEEN_HERE = "not seen at this layer ({}): no number"
NOT_THERE = "no location responds more than those of the negatives do"


class _Removed(NamedTuple):
    """A concept that is taken out of an image's feature maps at a layer.

    Attributes:
        z: The logits without it [T].
        area: The share of locations that it is taken out of.
    """

    z: Tensor
    area: float


class FeatureRemoval:
    """Takes concepts out of feature maps, and asks the rest of the network.

    Args:
        model: The network.
        cavs: Concepts learned with it, with their place filters.
        settings: Whether to do it.
        batch_size: Feature maps per pass.

    Attributes:
        works: Whether it is done: it is asked for, and the bank has what it takes.
    """

    def __init__(
        self, model: Model, cavs: CavBank, settings: ErasureSettings, batch_size: int
    ) -> None:
        self._model, self._names, self._batch_size = model, cavs.names, batch_size
        self._places = {
            layer: found.places
            for layer, found in cavs.layers.items()
            if found.places is not None and found.places.pattern is not None
        }
        self._reference = reference_logits(cavs)
        self.works = bool(settings.features and self._places and self._reference is not None)

    def rows(self, images: ForwardPass, classes: Sequence[int]) -> list[EffectRow]:
        """Return the effects of taking concepts out, layer by layer, without p-values.

        Args:
            images: A pass of N images that still has its maps.
            classes: T class indices.

        Raises:
            ModelError: When the network gives infinite values or NaN.
        """
        if not self.works:
            return []
        return [row for layer in self._places for row in self._rows(layer, images, classes)]

    def _rows(self, layer: str, images: ForwardPass, classes: Sequence[int]) -> Iterator[EffectRow]:
        """Yield the rows of a layer, image by image."""
        removed = self._removed(layer, images)
        binary, index = self._model.binary, list(classes)
        assert self._reference is not None
        reference, spread = class_scores(self._reference, index, binary=binary).tolist()
        for n, k in product(range(len(images.names)), range(len(self._names))):
            seen = float(self._places[layer].seen[k])
            after = removed.get((n, k), _Removed(images.z[n], 0.0))
            z = torch.stack([images.z[n], after.z])
            scores = class_scores(z.cpu(), index, binary=binary).double()
            probabilities = self._model.probabilities(z)[:, index].cpu().double()
            if seen < SEEN:
                scores[1], probabilities[1] = nan, nan
            for t, c in enumerate(classes):
                before, left = scores[:, t].tolist()
                gap, std = before - reference[t], abs(spread[t])
                yield EffectRow(
                    image=images.names[n],
                    layer=layer,
                    concept=self._names[k],
                    class_index=c,
                    class_name=self._model.class_names[c],
                    logit=before,
                    without=left,
                    drop=before - left,
                    drop_low=nan,
                    drop_high=nan,
                    reference=reference[t],
                    reference_std=std,
                    share=share(before - left, before, reference[t], std),
                    probability=float(probabilities[0, t]),
                    probability_without=float(probabilities[1, t]),
                    area=after.area,
                    same_region="",
                    confused_with="",
                    told=nan,
                    drop_apart=nan,
                    area_apart=nan,
                    seen=seen,
                    placebos=0,
                    placebo_mean=nan,
                    placebo_std=nan,
                    effect=nan,
                    p_value=nan,
                    q_value=nan,
                    note=_note(seen, after.area, gap_note(gap, std)),
                )

    def _removed(self, layer: str, images: ForwardPass) -> dict[tuple[int, int], _Removed]:
        """Return what is left of images n without concepts k that are seen, and are there."""
        F, places = images.maps[layer], self._places[layer].to(images.maps[layer].device)
        assert places.pattern is not None
        there = places.highest(F) > places.low
        pairs = (there & (places.seen >= SEEN)).nonzero()
        head, found = self._model.head(layer).of(images.x), {}
        for n, k in (few.unbind(1) for few in torch.split(pairs, self._batch_size)):
            alpha = torch.einsum("nc,nc...->n...", places.w[k], F[n])
            alpha -= broadcast(places.offset[k], alpha)
            D = excess(alpha, places.low[k], places.pattern[k])
            with torch.no_grad():
                z = head.rows(n)(without(F[n], D))
            check_finite([images.names[i] for i in n.tolist()], {}, z)
            areas = (alpha > broadcast(places.low[k], alpha)).float().flatten(1).mean(1).tolist()
            for i, pair in enumerate(zip(n.tolist(), k.tolist(), strict=True)):
                found[pair] = _Removed(z[i], areas[i])
        return found


def _note(seen: float, area: float, no_share: str) -> str:
    if seen < SEEN:
        notes = [NOT_SEEN_HERE.format(below_seen(seen))]
    else:
        notes = [FROM_MAPS] if area else [NOT_THERE]
    return "; ".join(filter(None, [*notes, no_share]))


def unmeasured(settings: ErasureSettings, *, erases: bool, removes: bool) -> Iterator[str]:
    """Yield what is asked for and cannot be measured with the CAVs at hand, in sentences.

    Args:
        settings: What is asked for.
        erases: Whether pictures are filled in.
        removes: Whether concepts are taken out of feature maps.
    """
    again = "the CAVs do not hold what this needs: fit again"
    if settings.fill is not None and not erases:
        yield f"no concept is erased, so there are no verdicts, because {again}"
    if settings.features and not removes:
        yield f"no concept is taken out of feature maps, because {again}"
