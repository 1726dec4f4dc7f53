"""Erasure for batches of images: regions of concepts, filled in, through the network again."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from math import nan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.learning.drawn_cavs import seed_of
from vtcav.explainer.settings import ErasureSettings
from vtcav.method.erasure.effect import class_scores, placebo_p_value, share
from vtcav.method.erasure.fill import Fill, filled, others
from vtcav.method.erasure.region import SEEN, elsewhere, region, resized
from vtcav.method.significance import effect_size
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.results.bank import CavBank
from vtcav.results.rows import EffectRow

__all__ = ["TOGETHER", "Eraser"]

TOGETHER = "layers together"
"""The layer of an effect whose region comes from the maps of several layers."""
NOT_SEEN = "not seen at these layers (held-out AUC {:.2f}, below {:g}): no number"
NO_REGION = "the concept is nowhere in this image"
NO_REFERENCE = "the class scores no higher than for the negatives, so there is no share"
LARGE = "the region covers {:.0%} of the picture: more than the concept is gone"
_LARGE = 0.5


class Eraser:
    """Fills in the regions of concepts, and asks the network again.

    Args:
        model: The network.
        cavs: Concepts learned with it, with their place filters.
        settings: How to fill.
        batch_size: Pictures per pass through the network.

    Attributes:
        works: Whether anything is erased: it is asked for, and the bank has what it takes.
    """

    def __init__(
        self, model: Model, cavs: CavBank, settings: ErasureSettings, batch_size: int
    ) -> None:
        self._model, self._batch_size, self._names = model, batch_size, cavs.names
        places = {layer: found.places for layer, found in cavs.layers.items()}
        layers = list(places)
        # the first layer finds colours and edges, the last has hardly any place
        joined = layers[1:-1] if len(layers) > 3 else layers
        self._places = {layer: found for layer in joined if (found := places[layer]) is not None}
        logits = [cavs.sets[i].logits for i in dict.fromkeys(i for _, i in cavs.contrast)]
        self.works = bool(settings.fill and self._places and all(map(len, logits)))
        fill = settings.fill
        self._fills: tuple[Fill, ...] = () if fill is None else (fill, *others(fill))
        if not self.works:
            return
        # one for all concepts, so that their shares can be compared
        self._reference = torch.stack(logits).mean(0)
        self._seen = torch.stack([found.seen for found in self._places.values()]).amax(0)

    def regions(self, images: ForwardPass) -> Tensor:
        """Return the regions of all concepts [N, K, H, W]; K is 0 where nothing is erased.

        A concept that is not seen has an empty region.

        Args:
            images: A pass of N images that still has its maps.
        """
        N, _, height, width = images.x.shape
        if not self.works:
            return images.x.new_zeros(N, 0, height, width)
        maps = [
            resized(found.maps(images.maps[layer]), (height, width))
            for layer, found in self._places.items()
        ]
        return region(maps, [found.seen for found in self._places.values()])

    def rows(
        self, images: ForwardPass, H: Tensor, classes: Sequence[int], placebos: int
    ) -> list[EffectRow]:
        """Return the effects of erasing regions, image by image, without q-values.

        Args:
            images: A pass of N images.
            H: Their regions [N, K, H, W].
            classes: T class indices.
            placebos: The number of placebos of each region, J.

        Raises:
            ModelError: When the network gives infinite values or NaN.
        """
        return [
            row for n in range(len(H)) for row in self._erase(images, n, H[n], classes, placebos)
        ]

    def _erase(
        self, images: ForwardPass, n: int, H: Tensor, classes: Sequence[int], placebos: int
    ) -> list[EffectRow]:
        """Return the effects of erasing regions H [K, H, W] from image n, concept by concept."""
        x, z = images.x[n : n + 1], images.z[n : n + 1]
        found = [k for k in range(len(H)) if H[k].any()]
        pictures = [self._pictures(x, H[k], placebos) for k in found]
        zs = dict(zip(found, self._logits(images.names[n], pictures), strict=True))
        unchanged = z.expand(len(self._fills), -1)
        return [
            row
            for k, own in enumerate(H)
            for row in self._rows(
                images.names[n], k, own, torch.cat([z, zs.get(k, unchanged)]), classes
            )
        ]

    def _rows(
        self, image: str, k: int, H: Tensor, z: Tensor, classes: Sequence[int]
    ) -> Iterator[EffectRow]:
        """Yield the rows of concept k.

        Args:
            image: The image's name.
            k: The position of the concept.
            H: Its region [H, W].
            z: Logits of the image, of the image filled in each way, and of each placebo.
            classes: T class indices.
        """
        binary, index = self._model.binary, list(classes)
        reference = class_scores(self._reference, index, binary=binary)
        scores = class_scores(z.cpu(), index, binary=binary).double().numpy()
        probabilities = self._model.probabilities(z[:2])[:, index].cpu().double().numpy()
        seen, area = float(self._seen[k]), float(H.mean())
        if seen < SEEN:
            scores[1:], probabilities[1:] = nan, nan
        for t, c in enumerate(classes):
            yield EffectRow(
                image=image,
                layer=TOGETHER,
                concept=self._names[k],
                class_index=c,
                class_name=self._model.class_names[c],
                probability=probabilities[0, t],
                probability_without=probabilities[1, t],
                area=area,
                seen=seen,
                **self._effect(scores[:, t], float(reference[t])),
                q_value=nan,
                note=_note(seen, area, float(scores[0, t] - reference[t])),
            )

    def _pictures(self, x: Tensor, H: Tensor, placebos: int) -> Tensor:
        """Return the image filled in each way, and in the first way at every placebo."""
        own, fill = [filled(x, H[None], fill) for fill in self._fills], self._fills[0]
        region_alone = zlib.crc32(H.bool().cpu().numpy().tobytes())
        elsewheres = elsewhere(H.cpu(), placebos, seed_of("placebo", region_alone)).to(H)
        return torch.cat([*own, filled(x.expand(placebos, -1, -1, -1), elsewheres, fill)])

    def _logits(self, name: str, pictures: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the logits of every group of pictures, which pass through the network together."""
        if not pictures:
            return []
        parts = []
        for x in torch.split(torch.cat(list(pictures)), self._batch_size):
            with torch.no_grad():
                parts.append(self._model.logits(x))
            check_finite([name] * len(x), {}, parts[-1])
        return torch.split(torch.cat(parts), [len(group) for group in pictures])

    def _effect(self, scores: NDArray[np.float64], reference: float) -> dict[str, Any]:
        """Return the numbers of a row.

        Args:
            scores: Of the class, for the image, without the region filled in each way, and
                without each placebo.
            reference: The mean score of the negatives.
        """
        before, drops = scores[0], scores[0] - scores[1:]
        own, chance = drops[: len(self._fills)], drops[len(self._fills) :]
        tested = len(chance) > 0
        return {
            "logit": before,
            "without": scores[1],
            "drop": own[0],
            "drop_low": own.min(),
            "drop_high": own.max(),
            "reference": reference,
            "share": share(own[0], before, reference),
            "placebos": len(chance),
            "placebo_mean": chance.mean() if tested else nan,
            "placebo_std": chance.std() if tested else nan,
            "effect": effect_size(own[0], chance) if tested else nan,
            "p_value": placebo_p_value(own[0], chance) if tested else nan,
        }


def _note(seen: float, area: float, gap: float) -> str:
    notes = []
    if seen < SEEN:
        notes.append(NOT_SEEN.format(seen, SEEN))
    elif not area:
        notes.append(NO_REGION)
    if gap <= 0:
        notes.append(NO_REFERENCE)
    if area > _LARGE:
        notes.append(LARGE.format(area))
    return "; ".join(notes)
