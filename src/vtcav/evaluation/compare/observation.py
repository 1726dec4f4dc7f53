"""One look at the images of a class: everything that the peers' methods need of them.

Letters and shapes: F [N, C, h, w] feature maps, G [N, C, h, w] gradients of the class score, U
[R, C] unit CAVs, S [N, R] sensitivities, X [N, C] GAP activations, M [N, K, h, w] concept maps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.evaluation.compare.result import CONCEPT_MAP, TRUE_MASK, CompareRow
from vtcav.evaluation.compare.true_masks import TrueMasks, mask_at_input
from vtcav.evaluation.peers import saliency
from vtcav.evaluation.peers.sensitivity import class_gradients, sensitivities
from vtcav.images.batches import Batch, Batches
from vtcav.images.progress import Progress
from vtcav.images.references import ImageRef, Skipped
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.results.bank import CavBank

__all__ = ["INPUT_MAPS", "MAPS", "TCAV", "Looker", "Seen"]

TCAV = ("tcav", "tcav_magnitude")
INPUT_MAPS = ("saliency", "integrated_gradients")
MAPS = (*INPUT_MAPS, "grad_cam")

NO_MASS = "the map has no positive mass, so no share of it lies anywhere"
EMPTY_MASK = "the true mask is empty, so nothing lies inside"
EMPTY_MAP = "the concept map is empty for this image, so nothing lies inside"
NOT_SEPARATED = "not separated: e+ <= e-, so the concept map is empty and nothing lies inside"


@dataclass(eq=False)
class Seen:
    """What was found in the images of a class.

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


@dataclass(frozen=True, eq=False)
class Looker:
    """How images are looked at.

    Attributes:
        model: The network.
        bank: The CAVs of Visual-TCAV, for its concept maps.
        layers: Layer names.
        methods: Those of `MAPS`, `TCAV` and "bottleneck" that are wanted.
        U: The unit CAVs of TCAV by layer [R, C].
        masks: True masks.
        baseline: Where integrated gradients start.
        steps: Their quadrature points.
        batch_size: Images per pass.
        strict: Whether an unreadable image is an error.
    """

    model: Model
    bank: CavBank
    layers: Sequence[str]
    methods: Sequence[str]
    U: Mapping[str, Tensor]
    masks: TrueMasks
    baseline: saliency.Baseline
    steps: int
    batch_size: int
    strict: bool

    def look(
        self, index: int, refs: Sequence[ImageRef], places: Sequence[int], progress: Progress
    ) -> Seen:
        """Look at the images of a class.

        Args:
            index: The class.
            refs: Its images.
            places: Which mask of the class belongs to each.
            progress: Told of every image.
        """
        seen = Seen()
        place = dict(zip(refs, places, strict=True))
        batches = Batches(
            refs, self.model.preprocess, self.batch_size, strict=self.strict, progress=progress
        )
        for batch in batches:
            self._look_at(batch, index, [place[ref] for ref in batch.refs], seen)
        seen.skipped += batches.skipped
        return seen

    def _look_at(self, batch: Batch, index: int, places: list[int], seen: Seen) -> None:
        maps, z = self.model.activations_and_logits(batch.x, self.layers)
        check_finite(batch.names, maps, z)
        seen.refs += batch.refs
        top = (z[:, 0] > 0).long() if self.model.binary else z.argmax(1)
        seen.predicted.append(top.cpu().numpy())
        targets = torch.full((len(z),), index, device=z.device)
        inputs = self._input_maps(batch.x, targets)
        wanted = [method for method in MAPS if method in self.methods]
        true = self._true_regions(batch, index, places) if wanted else {}
        rows = _Rows(self, batch.names, index, seen.rows)
        for concept, region in true.items():
            for method, found in inputs.items():
                rows.add(method, "", concept, found, region, TRUE_MASK)
        for layer in self.layers:
            F = maps.pop(layer)
            if "bottleneck" in self.methods:
                seen.X.setdefault(layer, []).append(F.mean((2, 3)).cpu())
            here = dict(inputs)
            if layer in self.U or "grad_cam" in self.methods:
                G = class_gradients(
                    self.model.head(layer).of(batch.x), F, targets, binary=self.model.binary
                )
                if layer in self.U:
                    S = sensitivities(G, self.U[layer])
                    seen.S.setdefault(layer, []).append(S.cpu())
                if "grad_cam" in self.methods:
                    here["grad_cam"] = saliency.grad_cam(F, G, _size(batch)).cpu()
            if wanted:
                regions = self._concept_regions(layer, F, _size(batch))
                for k, concept in enumerate(self.bank.names):
                    for method, found in here.items():
                        if concept not in true:
                            rows.add(method, layer, concept, found, regions[:, k], CONCEPT_MAP)
                        elif method == "grad_cam":
                            rows.add(method, layer, concept, found, true[concept], TRUE_MASK)

    def _input_maps(self, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the maps [N, H, W] of the methods that look at the input."""
        found: dict[str, Tensor] = {}
        if "saliency" in self.methods:
            found["saliency"] = saliency.gradient_saliency(self.model, x, targets).cpu()
        if "integrated_gradients" in self.methods:
            found["integrated_gradients"] = saliency.integrated_gradients(
                self.model,
                x,
                targets,
                baseline=self.baseline,
                steps=self.steps,
                batch_size=self.batch_size,
            ).cpu()
        return found

    def _true_regions(self, batch: Batch, index: int, places: list[int]) -> dict[str, Tensor]:
        """Return the true masks [N, H, W] of the concepts that have them."""
        regions: dict[str, Tensor] = {}
        for concept, classes in self.masks.items():
            made = []
            for name, picture, place in zip(batch.names, batch.pictures, places, strict=True):
                mask = classes[index][place]
                try:
                    made.append(mask_at_input(mask, picture, self.model.preprocess, _size(batch)))
                except ExplanationError as error:
                    raise ExplanationError(f"mask of {concept!r} for {name!r}: {error}") from error
            regions[concept] = torch.stack(made)
        return regions

    def _concept_regions(self, layer: str, F: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the concept maps at the input's resolution [N, K, H, W]."""
        return saliency.upsample(self.bank.layers[layer].maps(F), size).cpu()


@dataclass(frozen=True, eq=False)
class _Rows:
    """Turns maps and regions into table rows."""

    looker: Looker
    names: Sequence[str]
    index: int
    rows: list[CompareRow]

    def add(
        self, method: str, layer: str, concept: str, maps: Tensor, region: Tensor, kind: str
    ) -> None:
        """Add a row for every image: maps and region are [N, H, W]."""
        shares = saliency.mass_inside(maps, region[:, None])[:, 0].tolist()
        areas = region.mean((1, 2)).tolist()
        class_name = self.looker.model.class_names[self.index]
        for name, share, area in zip(self.names, shares, areas, strict=True):
            note = ""
            if math.isnan(share):
                note = NO_MASS
            elif area == 0:
                note = EMPTY_MASK if kind == TRUE_MASK else self._why_empty(layer, concept)
            key = layer, concept, self.index, class_name, name
            self.rows.append(CompareRow(method, *key, share, region=kind, area=area, note=note))

    def _why_empty(self, layer: str, concept: str) -> str:
        bank = self.looker.bank
        separated = bank.layers[layer].separated[bank.names.index(concept)]
        return EMPTY_MAP if separated else NOT_SEPARATED


def _size(batch: Batch) -> tuple[int, int]:
    """Return H and W of the network's input."""
    height, width = batch.x.shape[2:]
    return height, width
