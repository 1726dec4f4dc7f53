"""Erasure for batches of images: regions of concepts, filled in, through the network again."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.explainer.allotment import Allotment
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.learning.drawn_cavs import seed_of
from vtcav.explainer.settings import ErasureSettings
from vtcav.method.erasure.confusion import answered, confused
from vtcav.method.erasure.effect import class_scores, placebo_p_value, pooled_logits, share
from vtcav.method.erasure.fill import Fill, filled, others
from vtcav.method.erasure.joined_map import SEEN, below_seen, seen_map
from vtcav.method.erasure.place_filter import PlaceFilters
from vtcav.method.erasure.region import (
    elsewhere,
    highest_elsewhere,
    overlapping_regions,
    region,
    resized,
)
from vtcav.method.positions import axes
from vtcav.method.significance import effect_size
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.rows import EffectRow, joined_names

NOT_SEEN = "not seen at these layers ({}): no number"
NO_REGION = "the concept is nowhere in this image"
NO_REFERENCE = "the class scores no higher than for the negatives, so there is no share"
NO_NEGATIVES = "no negatives are known, so there is no share"
HARDLY_HIGHER = (
    "the class scores hardly higher than for the negatives (by less than their spread of {:.2g} "
    "logits), so there is no share: read the drop in logits"
)
LARGE = "the region covers half of the picture or more: more than the concept is gone"
_LARGE = 0.5
RANDOM_CONCEPTS = 10
"""The null CAVs whose places are placebos."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of K concepts in N images.

    Attributes:
        H: Regions [N, K, H, W] of 0 and 1, at the size of the network's input.
        chance: Responses to J random concepts [N, J, h, w], which placebos are taken from.
    """

    H: Tensor
    chance: Tensor


@dataclass(frozen=True)
class _Erasure:
    """A region to be filled in.

    Attributes:
        n: The position of the image.
        k: That of the concept.
        fills: The ways to fill it in.
        placebos: The numbers of its placebos.
    """

    n: int
    k: int
    fills: tuple[Fill, ...]
    placebos: range

    def __len__(self) -> int:
        return len(self.fills) + len(self.placebos)


@dataclass(frozen=True, eq=False)
class Targets:
    """What is erased: concepts whose places are known, or a region marked by hand.

    Attributes:
        layer: What stands in the column of that name.
        names: K names.
        places: The place filters of the layers that look for them; none for what is marked.
        random: The directions of some null CAVs at these layers [J, C], as far as there are any.
        seen: The highest held-out AUC of the filters [K]; NaN for what is marked.
        reference: Mean and standard deviation of the negatives' logits [2, T_all]; NaN where there
            are none.
    """

    layer: str
    names: tuple[str, ...]
    places: Mapping[str, PlaceFilters]
    random: Mapping[str, Tensor]
    seen: Tensor
    reference: Tensor

    @classmethod
    def of(cls, cavs: CavBank) -> Targets | None:
        """Return the concepts of a bank; None where it has no place filters."""
        places = {layer: found.places for layer, found in cavs.layers.items()}
        layers = list(places)
        # the first layer finds colours and edges, the last has hardly any place
        joined = layers[1:-1] if len(layers) > 3 else layers
        known = {layer: found for layer in joined if (found := places[layer]) is not None}
        reference = reference_logits(cavs)
        if not known or reference is None:
            return None
        null = {layer: v for layer in known if (v := _null_directions(cavs, layer)) is not None}
        seen = torch.stack([found.seen for found in known.values()]).amax(0)
        return cls(TOGETHER, cavs.names, known, null, seen, reference)

    def confused(self) -> list[str]:
        """Return for each concept the others that its filters answer, too, as one text."""
        places = self.places.values()
        together = answered([each.answers() for each in places], [each.seen for each in places])
        if together is None:
            return [""] * len(self.names)
        return [joined_names([self.names[j] for j in own]) for own in confused(together)]


class Eraser:
    """Fills in regions of images, and asks the network again.

    Args:
        model: The network.
        targets: What is erased; None erases nothing.
        settings: How to fill.
        batch_size: Pictures per pass through the network.

    Attributes:
        works: Whether anything is erased.
    """

    def __init__(
        self, model: Model, targets: Targets | None, settings: ErasureSettings, batch_size: int
    ) -> None:
        self._model, self._batch_size = model, batch_size
        fill = settings.fill
        self._fills: tuple[Fill, ...] = () if fill is None else (fill, *others(fill))
        self._targets = targets or Targets("", (), {}, {}, torch.zeros(0), torch.zeros(0))
        self._names = self._targets.names
        self._confused = self._targets.confused()
        self.works = bool(fill and targets)

    def regions(self, images: ForwardPass) -> Regions:
        """Return the regions of all concepts; K is 0 where nothing is erased.

        A concept that is not seen has an empty region.

        Args:
            images: A pass of N images that still has its maps.
        """
        N, _, *size = images.x.shape
        if not self.works:
            return Regions(*images.x.new_zeros(2, N, 0, *size))
        places = self._targets.places
        seen, answers = zip(*((each.seen, each.answers()) for each in places.values()), strict=True)
        heights = [found.heights(images.maps[layer]) for layer, found in places.items()]
        H = region(self._maps(images), seen, answers=answers, heights=heights)
        return Regions(H, self._chance(images))

    def together(self, images: ForwardPass) -> Tensor:
        """Return the maps of the layers taken together, which regions come from [N, K, H, W].

        A concept that is not seen has a map of zeros. K is 0 where nothing is erased.

        Args:
            images: A pass of N images that still has its maps.
        """
        N, _, *size = images.x.shape
        if not self.works:
            return images.x.new_zeros(N, 0, *size)
        return seen_map(self._maps(images), [found.seen for found in self._targets.places.values()])

    def _maps(self, images: ForwardPass) -> list[Tensor]:
        """Return the concepts' maps of every layer at the size of the input [N, K, H, W]."""
        return [
            resized(found.maps(images.maps[layer]), images.x.shape[2:])
            for layer, found in self._targets.places.items()
        ]

    def rows(
        self,
        images: ForwardPass,
        regions: Regions,
        classes: Sequence[int],
        allotment: Allotment,
        shown: dict[tuple[int, int], Tensor] | None = None,
    ) -> list[EffectRow]:
        """Return the effects of erasing regions, image by image, without q-values.

        Args:
            images: A pass of N images.
            regions: Their regions.
            classes: T class indices.
            allotment: The placebos and ways to fill that are due.
            shown: Gets the input without its region [C, H, W], as the network saw it, of every
                image and concept that has one.

        Raises:
            ModelError: When the network gives infinite values or NaN.
        """
        erasures = list(self._planned(regions, allotment))
        zs = self._logits(images, regions, erasures, shown)
        done = {(each.n, each.k): (each, z) for each, z in zip(erasures, zs, strict=True)}
        rows: list[EffectRow] = []
        for n, H in enumerate(regions.H):
            z = images.z[n : n + 1]
            unchanged, same = z.expand(len(self._fills), -1), overlapping_regions(H)
            for k, own in enumerate(H):
                each, after = done.get((n, k), (None, unchanged))
                fills = len(each.fills) if each else len(self._fills)
                scores = torch.cat([z, after])
                others = joined_names([self._names[j] for j in same[k]])
                for row in self._rows(images.names[n], k, own, scores, classes, fills):
                    rows.append(row._replace(same_region=others))
        return rows

    def _planned(self, regions: Regions, allotment: Allotment) -> Iterator[_Erasure]:
        """Yield what is to be filled in, image by image and concept by concept."""
        for n, H in enumerate(regions.H):
            allotment.next_image()
            for k in H.flatten(1).any(1).nonzero().flatten().tolist():
                every = allotment.all_fills(self._names[k])
                numbers = allotment.placebos(self._names[k])
                yield _Erasure(n, k, self._fills if every else self._fills[:1], numbers)

    def _rows(
        self, image: str, k: int, H: Tensor, z: Tensor, classes: Sequence[int], fills: int
    ) -> Iterator[EffectRow]:
        """Yield the rows of concept k, without the other concepts of the same region.

        Args:
            image: The image's name.
            k: The position of the concept.
            H: Its region [H, W].
            z: Logits of the image, of the image filled in each way, and of each placebo.
            classes: T class indices.
            fills: In how many ways it was filled.
        """
        binary, index = self._model.binary, list(classes)
        mean, spread = class_scores(self._targets.reference, index, binary=binary).tolist()
        scores = class_scores(z.cpu(), index, binary=binary).double().numpy()
        probabilities = self._model.probabilities(z[:2])[:, index].cpu().double().numpy()
        seen, area = float(self._targets.seen[k]), float(H.mean())
        if seen < SEEN:
            scores[1:], probabilities[1:] = nan, nan
        for t, c in enumerate(classes):
            yield EffectRow(
                image=image,
                layer=self._targets.layer,
                concept=self._names[k],
                class_index=c,
                class_name=self._model.class_names[c],
                probability=probabilities[0, t],
                probability_without=probabilities[1, t],
                area=area,
                same_region="",
                confused_with=self._confused[k],
                seen=seen,
                **_effect(scores[:, t], (mean[t], abs(spread[t])), fills),
                q_value=nan,
                note=_note(seen, area, scores[0, t] - mean[t], abs(spread[t])),
            )

    def without(self, x: Tensor, H: Tensor) -> Tensor:
        """Return images [n, 3, H, W] with their regions [n, H, W] filled in, in the first way."""
        return self._filled(x, H, self._fills[0])

    def _pictures(self, x: Tensor, regions: Regions, erasure: _Erasure) -> Tensor:
        """Return the image [1, 3, H, W] filled in each way, and in the first at every placebo."""
        H = regions.H[erasure.n, erasure.k]
        own = [self._filled(x, H[None], fill) for fill in erasure.fills]
        every = regions.H[erasure.n].amax(0)
        placebos = _placebos(H, every, regions.chance[erasure.n], erasure.placebos)
        return torch.cat([*own, self.without(x.expand(len(placebos), *x.shape[1:]), placebos)])

    def _filled(self, x: Tensor, H: Tensor, fill: Fill) -> Tensor:
        """Return images filled in; a second input stays as it is."""
        count = self._model.picture_channels
        if count is None:
            return filled(x, H, fill)
        return torch.cat([filled(x[:, :count], H, fill), x[:, count:]], 1)

    def _chance(self, images: ForwardPass) -> Tensor:
        """Return the mean response over layers to random concepts [N, J, h, w]."""
        if not self._targets.random:
            return images.x.new_zeros(len(images.x), 0, 1, 1)
        F = [images.maps[layer] for layer in self._targets.random]
        size = max((maps.shape[2:] for maps in F), key=prod)
        responses = [
            resized(_standardised(torch.einsum("jc,nc...->nj...", v.to(maps), maps)), size)
            for v, maps in zip(self._targets.random.values(), F, strict=True)
        ]
        return torch.stack(responses).mean(0)

    def _logits(
        self,
        images: ForwardPass,
        regions: Regions,
        erasures: Sequence[_Erasure],
        shown: dict[tuple[int, int], Tensor] | None,
    ) -> list[Tensor]:
        """Return the logits of the pictures of every erasure, and keep the first picture of each.

        Those of several images pass through the network together.
        """
        found: list[Tensor] = []
        names: list[str] = []
        waiting: list[Tensor] = []
        most = self._model.images_together(self._batch_size)
        for erasure in erasures:
            n = erasure.n
            pictures = self._pictures(images.x[n : n + 1], regions, erasure)
            if shown is not None:
                shown[n, erasure.k] = pictures[0].clone()  # not all of them
            waiting += torch.split(pictures, 1)
            names += [images.names[n]] * len(pictures)
            last = erasure is erasures[-1]
            while len(waiting) >= most or (last and waiting):
                with torch.no_grad():
                    found.append(self._model.logits(torch.cat(waiting[:most])))
                check_finite(names[:most], {}, found[-1])
                waiting, names = waiting[most:], names[most:]
        return (
            list(torch.split(torch.cat(found), [len(each) for each in erasures])) if found else []
        )


def reference_logits(cavs: CavBank) -> Tensor | None:
    """Return mean and standard deviation of all negatives' logits [2, T]; None if a set has none.

    There is one reference for all concepts, so that their shares can be compared.
    """
    negatives = [cavs.sets[i] for i in dict.fromkeys(i for _, i in cavs.contrast)]
    return pooled_logits([(images.logits, images.logits_std) for images in negatives])


def gap_note(gap: float, spread: float) -> str:
    """Return why a class has no share; empty where it has one.

    Args:
        gap: How far it scores above the mean of the negatives.
        spread: The standard deviation of their scores.
    """
    if isnan(gap):
        return NO_NEGATIVES
    if gap <= 0:
        return NO_REFERENCE
    return HARDLY_HIGHER.format(spread) if gap <= spread else ""


def _null_directions(cavs: CavBank, layer: str) -> Tensor | None:
    """Return the directions of some null CAVs at a layer [J, C]; None where there are none."""
    null = next((positions for positions in cavs.resampling.null if positions), range(0))
    resampled = cavs.layers[layer].resampled
    return resampled.part(null[:RANDOM_CONCEPTS]).v if resampled is not None and null else None


def _standardised(r: Tensor) -> Tensor:
    """Return responses [N, J, h, w] less their mean over the locations, over their deviation."""
    deviation = r.std(axes(r, 2), keepdim=True, correction=0)
    return (r - r.mean(axes(r, 2), keepdim=True)) / deviation.clamp(min=torch.finfo(r.dtype).tiny)


def _placebos(H: Tensor, every: Tensor, chance: Tensor, numbers: range) -> Tensor:
    """Return placebos of a region [J, H, W] by their numbers.

    Those of even numbers have the region's shape, those of odd numbers lie where a random concept
    responds most. Both avoid the regions of all concepts, so that chance is what a region does in
    which nothing is known to be.

    Args:
        H: The region [H, W].
        every: The regions of all concepts [H, W].
        chance: Responses to random concepts [M, h, w].
        numbers: Of the J placebos among all of the concept.
    """
    # drawn by the region and their numbers, whatever the batches
    region_alone = zlib.crc32(H.bool().cpu().numpy().tobytes())
    placebos = []
    for number in numbers:
        if number % 2 and len(chance):
            response = chance[number // 2 % len(chance)][None, None]
            placebos.append(highest_elsewhere(H, resized(response, H.shape)[0], every))
        else:
            seed = seed_of("placebo", region_alone, number)
            placebos.append(elsewhere(H.cpu(), 1, seed, every.cpu()).to(H))
    return torch.cat(placebos) if placebos else H.new_zeros(0, *H.shape)


def _effect(
    scores: NDArray[np.float64], reference: tuple[float, float], fills: int
) -> dict[str, Any]:
    """Return the numbers of a row.

    Args:
        scores: Of the class, for the image, without the region filled in each way, and without
            each placebo.
        reference: Mean and standard deviation of the scores of the negatives.
        fills: In how many ways it was filled.
    """
    before, drops = scores[0], scores[0] - scores[1:]
    own, chance = drops[:fills], drops[fills:]
    tested, several = len(chance) > 0, fills > 1
    return {
        "logit": before,
        "without": scores[1],
        "drop": own[0],
        "drop_low": own.min() if several else nan,
        "drop_high": own.max() if several else nan,
        "reference": reference[0],
        "reference_std": reference[1],
        "share": share(own[0], before, *reference),
        "placebos": len(chance),
        "placebo_mean": chance.mean() if tested else nan,
        "placebo_std": chance.std() if tested else nan,
        "effect": effect_size(own[0], chance) if tested else nan,
        "p_value": placebo_p_value(own[0], chance) if tested else nan,
    }


def _note(seen: float, area: float, gap: float, spread: float) -> str:
    notes = []
    if seen < SEEN:
        notes.append(NOT_SEEN.format(below_seen(seen)))
    elif not area:
        notes.append(NO_REGION)
    notes.append(gap_note(gap, spread))
    if area > _LARGE:
        notes.append(LARGE)
    return "; ".join(filter(None, notes))
