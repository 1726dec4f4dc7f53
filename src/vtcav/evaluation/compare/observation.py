"""Observations for all methods, from one pass over the images of a class.

Letters and shapes: F [N, C, h, w] feature maps, G [N, C, h, w] gradients of the class score, U
[R, C] unit CAVs, S [N, R] sensitivities, X [N, C] GAP activations, M [N, K, h, w] concept maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.evaluation.compare.methods import MAPS
from vtcav.evaluation.compare.result import CONCEPT_MAP, TRUE_MASK, CompareRow
from vtcav.evaluation.compare.settings import CompareSettings
from vtcav.evaluation.compare.true_masks import TrueMasks, mask_at_input
from vtcav.evaluation.peers import saliency
from vtcav.evaluation.peers.linear_cav import CavDraws
from vtcav.evaluation.peers.tcav import class_gradients, sensitivities, stacked
from vtcav.images.batches import Batch, Batches
from vtcav.images.progress import Progress
from vtcav.images.references import ImageRef, Skipped
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.results.bank.cav_bank import CavBank

NO_MASS = "the map has no positive mass, so there is no share inside the region"
EMPTY_MASK = "the true mask is empty, so nothing lies inside"
EMPTY_MAP = "the concept map is empty for this image, so nothing lies inside"
NOT_SEPARATED = "not separated: e+ <= e-, so the concept map is empty and nothing lies inside"


@dataclass(eq=False)
class Observation:
    """Values of the images of a class, from which the methods are computed.

    Attributes:
        refs: The images that could be read [N].
        skipped: The others, with reasons.
        rows: Table rows of the saliency maps.
        S: Sensitivities by layer, batch by batch.
        X: GAP activations by layer, batch by batch.
        predicted: The classes that the network predicts, batch by batch.
    """

    refs: list[ImageRef] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    rows: list[CompareRow] = field(default_factory=list)
    S: dict[str, list[Tensor]] = field(default_factory=dict)
    X: dict[str, list[Tensor]] = field(default_factory=dict)
    predicted: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The images' names [N]."""
        return [ref.name for ref in self.refs]


class _Region(NamedTuple):
    """Part of each image in which the mass of saliency maps is measured.

    Attributes:
        values: Shares [N, H, W] in [0, 1].
        kind: A true mask, or the concept's own map.
        why_empty: The note for an image without the region.
    """

    values: Tensor
    kind: str
    why_empty: str


@dataclass(frozen=True, eq=False)
class Observer:
    """Pass over the images of a class; computes once what several methods share.

    Attributes:
        model: The network.
        bank: The CAVs of Visual-TCAV, for its concept maps.
        methods: The methods wanted.
        draws: The CAVs of TCAV by layer and concept; none without TCAV.
        masks: True masks.
        settings: How the methods are computed.
    """

    model: Model
    bank: CavBank
    methods: Sequence[str]
    draws: Mapping[str, Mapping[str, CavDraws]]
    masks: TrueMasks
    settings: CompareSettings

    def observe(
        self, index: int, images: Sequence[tuple[int, ImageRef]], progress: Progress
    ) -> Observation:
        """Pass the images of a class through the network.

        Args:
            index: The class.
            images: The images, with their positions in the list of all.
            progress: Counts every image.
        """
        found = Observation()
        position = {ref: i for i, ref in images}
        refs, size, strict = [r for _, r in images], self.settings.batch_size, self.settings.strict
        batches = Batches(refs, self.model.preprocess, size, strict=strict, progress=progress)
        for batch in batches:
            self._observe(batch, index, [position[ref] for ref in batch.refs], found)
        found.skipped += batches.skipped
        return found

    def _observe(self, batch: Batch, index: int, positions: list[int], found: Observation) -> None:
        maps, z = self.model.activations_and_logits(batch.x, list(self.bank.layers))
        check_finite(batch.names, maps, z)
        found.refs += batch.refs
        top = (z[:, 0] > 0).long() if self.model.binary else z.argmax(1)
        found.predicted.append(top.cpu().numpy())
        targets = torch.full((len(z),), index, device=z.device)
        inputs = self._input_maps(batch.x, targets)
        wanted = any(method in self.methods for method in MAPS)
        true = self._true_regions(batch, index, positions) if wanted else {}
        found.rows += self._shares(batch.names, index, "", inputs, true)
        for layer in list(maps):
            F = maps.pop(layer)
            if "bottleneck" in self.methods:
                found.X.setdefault(layer, []).append(F.mean((2, 3)).cpu())
            cam = {}
            if layer in self.draws or "grad_cam" in self.methods:
                head = self.model.head(layer).of(batch.x)
                G = class_gradients(head, F, targets, binary=self.model.binary)
                if layer in self.draws:
                    S = sensitivities(G, stacked(self.draws[layer]))
                    found.S.setdefault(layer, []).append(S.cpu())
                if "grad_cam" in self.methods:
                    cam["grad_cam"] = saliency.grad_cam(F, G, _size(batch)).cpu()
            if wanted:
                own = self._concept_regions(layer, F, _size(batch))
                found.rows += self._shares(batch.names, index, layer, inputs | cam, own)
                found.rows += self._shares(batch.names, index, layer, cam, true)

    def _input_maps(self, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the maps [N, H, W] of the methods that differentiate the input."""
        maps: dict[str, Tensor] = {}
        if "saliency" in self.methods:
            maps["saliency"] = saliency.gradient_saliency(self.model, x, targets).cpu()
        if "integrated_gradients" in self.methods:
            options = self.settings.baseline, self.settings.steps, self.settings.batch_size
            found = saliency.integrated_gradients(self.model, x, targets, *options)
            maps["integrated_gradients"] = found.cpu()
        return maps

    def _true_regions(self, batch: Batch, index: int, positions: list[int]) -> dict[str, _Region]:
        """Return the true masks of the concepts that have them."""
        regions: dict[str, _Region] = {}
        for concept, classes in self.masks.items():
            masks = []
            for name, picture, i in zip(batch.names, batch.pictures, positions, strict=True):
                mask = classes[index][i]
                try:
                    masks.append(mask_at_input(mask, picture, self.model.preprocess, _size(batch)))
                except ExplanationError as error:
                    raise ExplanationError(f"mask of {concept!r} for {name!r}: {error}") from error
            regions[concept] = _Region(torch.stack(masks), TRUE_MASK, EMPTY_MASK)
        return regions

    def _concept_regions(self, layer: str, F: Tensor, size: tuple[int, int]) -> dict[str, _Region]:
        """Return the concept maps, at the input's resolution, of concepts without true masks."""
        cavs = self.bank.layers[layer]
        regions = saliency.upsample(cavs.maps(F), size).cpu()
        whys = [EMPTY_MAP if separated else NOT_SEPARATED for separated in cavs.separated]
        return {
            concept: _Region(regions[:, k], CONCEPT_MAP, whys[k])
            for k, concept in enumerate(self.bank.names)
            if concept not in self.masks
        }

    def _shares(
        self,
        names: Sequence[str],
        index: int,
        layer: str,
        maps: Mapping[str, Tensor],
        regions: Mapping[str, _Region],
    ) -> Iterator[CompareRow]:
        """Yield the rows of the maps [N, H, W] of some methods inside the regions of concepts."""
        class_name = self.model.class_names[index]
        for concept, region in regions.items():
            areas = region.values.mean((1, 2)).tolist()
            for method, values in maps.items():
                shares = saliency.mass_inside(values, region.values[:, None])[:, 0].tolist()
                for name, share, area in zip(names, shares, areas, strict=True):
                    note = NO_MASS if math.isnan(share) else region.why_empty if area == 0 else ""
                    yield CompareRow(
                        method, layer, concept, index, class_name, name, share,
                        region=region.kind, area=area, note=note,
                    )  # fmt: skip


def _size(batch: Batch) -> tuple[int, int]:
    """Return H and W of the network's input."""
    height, width = batch.x.shape[2:]
    return height, width
