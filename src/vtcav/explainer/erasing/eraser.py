"""Erasure for batches of images: regions of concepts, filled in, through the network again."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan, prod

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vtcav.explainer.erasing.allotment import Allotment
from vtcav.explainer.erasing.effect_rows import effect_note, effect_numbers
from vtcav.explainer.erasing.targets import Targets
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.learning.drawn_cavs import seed_of
from vtcav.explainer.settings import ErasureSettings
from vtcav.method.erasure.effect import class_scores
from vtcav.method.erasure.fill import Fill, filled, others
from vtcav.method.erasure.joined_map import SEEN, seen_map
from vtcav.method.erasure.place_classifier import labels
from vtcav.method.erasure.region import (
    elsewhere,
    highest_elsewhere,
    overlapping_regions,
    region,
    resized,
)
from vtcav.method.positions import axes
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.results.rows import EffectRow, joined_names


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of K concepts in N images.

    Attributes:
        H: Regions [N, K, H, W] of 0 and 1, at the size of the network's input.
        chance: Responses to J random concepts [N, J, h, w], which placebos are taken from.
        apart: The parts of contested regions at which their own concept is more likely than any
            other, and the whole of others [N, K, H, W]; None where nothing tells concepts apart.
        rivals: By image n and concept k the concepts that contest its region: theirs overlap with
            it, or are more likely at more of its pixels.
    """

    H: Tensor
    chance: Tensor
    apart: Tensor | None = None
    rivals: Mapping[tuple[int, int], Sequence[int]] = field(default_factory=dict)

    def told_apart(self, n: int, k: int) -> bool:
        """Return whether a part of a region, and not all of it, is told to be its concept's."""
        if self.apart is None:
            return False
        return 0 < float(self.apart[n, k].sum()) < float(self.H[n, k].sum())


@dataclass(frozen=True)
class _Erasure:
    """A region to be filled in.

    Attributes:
        n: The position of the image.
        k: That of the concept.
        fills: The ways to fill it in.
        apart: Whether the part of it that is told apart is filled in as well.
        placebos: The numbers of its placebos.
    """

    n: int
    k: int
    fills: tuple[Fill, ...]
    apart: bool
    placebos: range

    def __len__(self) -> int:
        return len(self.fills) + self.apart + len(self.placebos)


@dataclass(frozen=True, eq=False)
class _Answers:
    """What the network answers to an image and without a region.

    Attributes:
        before: Logits of the image [1, T_all].
        without: Without the region, filled in each way [L, T_all].
        apart: Without the part of it that is told apart [1, T_all]; None where it is not known.
        placebos: Without each placebo [J, T_all].
    """

    before: Tensor
    without: Tensor
    apart: Tensor | None
    placebos: Tensor


@dataclass(frozen=True)
class _Overlap:
    """What is known of other concepts in the region of one.

    Attributes:
        same_region: Those whose regions overlap with it, as one text.
        told: How well it is told apart from those that contest it; NaN for none.
        area: The share of the picture that is told to be its own.
    """

    same_region: str
    told: float
    area: float


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
        """Return the regions of all concepts, and what is known of others in them.

        Args:
            images: A pass of N images that still has its maps.
        """
        H = self.where(images)
        return Regions(H, self._chance(images), *self._told_apart(images, H))

    def where(self, images: ForwardPass) -> Tensor:
        """Return where concepts are: regions [N, K, H, W] of 0 and 1.

        A concept that is not seen has an empty region. K is 0 where nothing is erased.

        Args:
            images: A pass of N images that still has its maps.
        """
        if not self.works:
            return images.x.new_zeros(len(images.x), 0, *images.x.shape[2:])
        places = self._targets.places
        seen, answers = zip(*((each.seen, each.answers()) for each in places.values()), strict=True)
        heights = [found.heights(images.maps[layer]) for layer, found in places.items()]
        return region(self._maps(images), seen, answers=answers, heights=heights)

    def _told_apart(
        self, images: ForwardPass, H: Tensor
    ) -> tuple[Tensor | None, dict[tuple[int, int], list[int]]]:
        """Return the parts of regions that show their own concept, and what contests them."""
        classifiers = self._targets.classifiers
        if not (self.works and classifiers):
            return None, {}
        log_p = [found.log_p(images.maps[layer]) for layer, found in classifiers.items()]
        shown, apart, rivals = labels(log_p, H.shape[2:]), H.clone(), {}
        for n, own in enumerate(H):
            same = overlapping_regions(own)
            pixels = own.flatten(1) @ one_hot(shown[n].flatten(), 1 + len(own)).to(own)[:, 1:]
            more = pixels > pixels.diagonal()[:, None]
            for k in own.flatten(1).any(1).nonzero().flatten().tolist():
                if others := sorted({*same[k], *more[k].nonzero().flatten().tolist()}):
                    rivals[n, k] = others
                    apart[n, k] *= shown[n] == k + 1
        return apart, rivals

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
        answers = self._answers(images, regions, erasures, shown)
        rows: list[EffectRow] = []
        for n, H in enumerate(regions.H):
            z, same = images.z[n : n + 1], overlapping_regions(H)
            nothing = _Answers(z, z.expand(len(self._fills), -1), z, z[:0])
            for k, own in enumerate(H):
                found = answers.get((n, k), nothing)
                overlap = _Overlap(
                    joined_names([self._names[j] for j in same[k]]),
                    self._targets.told(k, regions.rivals.get((n, k), [])),
                    float((own if regions.apart is None else regions.apart[n, k]).mean()),
                )
                rows += self._rows(images.names[n], k, own, found, classes, overlap)
        return rows

    def _answers(
        self,
        images: ForwardPass,
        regions: Regions,
        erasures: Sequence[_Erasure],
        shown: dict[tuple[int, int], Tensor] | None,
    ) -> dict[tuple[int, int], _Answers]:
        """Return what the network answers to every image n without the region of concept k."""
        found = {}
        overlapping = [overlapping_regions(H) for H in regions.H]
        for each, z in zip(erasures, self._logits(images, regions, erasures, shown), strict=True):
            n, k, count = each.n, each.k, len(each.fills)
            before = images.z[n : n + 1]
            apart: Tensor | None = z[:1]
            if each.apart:
                apart = z[count : count + 1]
            elif regions.apart is None:
                apart = None if overlapping[n][k] else apart
            elif not regions.apart[n, k].any():
                apart = before
            found[n, k] = _Answers(before, z[:count], apart, z[count + each.apart :])
        return found

    def _planned(self, regions: Regions, allotment: Allotment) -> Iterator[_Erasure]:
        """Yield what is to be filled in, image by image and concept by concept."""
        for n, H in enumerate(regions.H):
            allotment.next_image()
            for k in H.flatten(1).any(1).nonzero().flatten().tolist():
                every = allotment.all_fills(self._names[k])
                numbers = allotment.placebos(self._names[k])
                fills = self._fills if every else self._fills[:1]
                yield _Erasure(n, k, fills, regions.told_apart(n, k), numbers)

    def _rows(
        self,
        image: str,
        k: int,
        H: Tensor,
        answers: _Answers,
        classes: Sequence[int],
        overlap: _Overlap,
    ) -> Iterator[EffectRow]:
        """Yield the rows of concept k.

        Args:
            image: The image's name.
            k: The position of the concept.
            H: Its region [H, W].
            answers: What the network answers without it.
            classes: T class indices.
            overlap: What is known of other concepts in its region.
        """
        binary, index = self._model.binary, list(classes)
        mean, spread = class_scores(self._targets.reference, index, binary=binary).tolist()
        every = [answers.before, answers.without, answers.placebos]
        if answers.apart is not None:
            every.append(answers.apart)
        z = torch.cat(every).cpu()
        scores = class_scores(z, index, binary=binary).double().numpy()
        probabilities = self._model.probabilities(z[:2])[:, index].cpu().double().numpy()
        seen, area = float(self._targets.seen[k]), float(H.mean())
        if seen < SEEN:
            scores[1:], probabilities[1:] = nan, nan
        known = answers.apart is not None
        own, apart = (scores[:-1], scores[0] - scores[-1]) if known else (scores, 0 * scores[0])
        for t, c in enumerate(classes):
            reference = mean[t], abs(spread[t])
            yield EffectRow(
                image=image,
                layer=self._targets.layer,
                concept=self._names[k],
                class_index=c,
                class_name=self._model.class_names[c],
                probability=probabilities[0, t],
                probability_without=probabilities[1, t],
                area=area,
                same_region=overlap.same_region,
                confused_with=self._confused[k],
                told=overlap.told,
                drop_apart=float(apart[t]) if known else nan,
                area_apart=overlap.area if known else nan,
                seen=seen,
                **effect_numbers(own[:, t], reference, len(answers.without)),
                q_value=nan,
                note=effect_note(seen, area, scores[0, t] - mean[t], abs(spread[t])),
            )

    def without(self, x: Tensor, H: Tensor) -> Tensor:
        """Return images [n, 3, H, W] with their regions [n, H, W] filled in, in the first way."""
        return self._filled(x, H, self._fills[0])

    def _pictures(self, x: Tensor, regions: Regions, erasure: _Erasure) -> Tensor:
        """Return the image [1, 3, H, W] filled in each way, and in the first at other regions.

        These are the part that is told apart, where it is due, and every placebo.
        """
        H = regions.H[erasure.n, erasure.k]
        own = [self._filled(x, H[None], fill) for fill in erasure.fills]
        if erasure.apart and regions.apart is not None:
            own.append(self.without(x, regions.apart[erasure.n, erasure.k][None]))
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
