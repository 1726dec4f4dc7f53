"""The presence of several concepts, each at a layer of its own, for many images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import ClassVar, get_type_hints

import torch
from torch import Tensor

from vtcav.explainer.erasure import NOT_SEEN as NOT_SEEN_TOGETHER
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.layer_result import LEARNED_FROM, NOT_SEEN, NOT_SEPARATED
from vtcav.explainer.runs.part import BatchComputer, BatchRows, Task
from vtcav.method.concept_map import PRESENT, presence
from vtcav.method.erasure.region import SEEN
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.provenance import Provenance
from vtcav.results.rows import RankedRow
from vtcav.results.words import distinct_names


@dataclass(frozen=True)
class PresenceTask(Task):
    """The presence of all concepts of an attributor.

    Attributes:
        layers: The layer of each concept, in order, or "layers together".
    """

    layers: tuple[str, ...] = ()

    kind: ClassVar = "presence"
    columns: ClassVar = get_type_hints(RankedRow)
    gradients: ClassVar = False

    @property
    def title(self) -> str:
        """What is being done."""
        return "looking for concepts"

    def provenance(self) -> Provenance:
        """Return what the numbers depend on."""
        attributor = self.attributor
        cavs = attributor.cavs
        settings = {
            "layers": dict(zip(cavs.names, self.layers, strict=True)),
            "batch_size": attributor.settings.batch_size,
            "fit": dict(cavs.settings),
        }
        return Provenance.of(attributor.model, attributor.layers, cavs, settings)

    def part(self, images: int) -> BatchComputer:
        """Return what computes the batches of a part."""
        return self._rows

    def _rows(self, names: Sequence[str], digests: Sequence[str], x: Tensor) -> BatchRows:
        images = self.attributor.forward(names, x)
        # right and wrong are told by these names, so no two classes may have one
        class_names = distinct_names(self.attributor.model.class_names)
        best = images.probabilities.max(1)
        concepts = list(self._concepts(images))
        rows = []
        for n, name in enumerate(names):
            learned = self.attributor.cavs.concepts_of(digests[n])
            for k, concept in enumerate(self.attributor.cavs.names):
                shown, areas, caution = concepts[k]
                notes = filter(None, [caution, LEARNED_FROM * (concept in learned)])
                rows.append(
                    RankedRow(
                        image=name,
                        layer=self.layers[k],
                        concept=concept,
                        presence=shown[n],
                        area=areas[n],
                        predicted_class=class_names[int(best.indices[n])],
                        probability=float(best.values[n]),
                        note="; ".join(notes),
                    )
                )
        return BatchRows(rows)

    def _concepts(self, images: ForwardPass) -> Iterator[tuple[list[float], list[float], str]]:
        """Yield the presence and area of each concept in every image, and what casts doubt on it.

        There are no numbers where the layer does not see the concept.
        """
        attributor, N = self.attributor, len(images.x)
        together = attributor.eraser.together(images) if TOGETHER in self.layers else None
        for k, layer in enumerate(self.layers):
            if why := self._unseen(k):
                yield [nan] * N, [nan] * N, why
                continue
            if together is not None and layer == TOGETHER:
                M = together[:, k]
            else:
                cavs = attributor.cavs.layers[layer].part(range(k, k + 1))
                M = cavs.maps(images.maps[layer])[:, 0]
            areas = (M > PRESENT).double().mean((1, 2)).tolist()
            yield presence(M, torch.tensor(True)).tolist(), areas, ""

    def _unseen(self, k: int) -> str:
        """Return why concept k has no presence; empty where it has one."""
        known = self.attributor.cavs.layers
        if self.layers[k] == TOGETHER:
            seen = max(float(cavs.seen[k]) for cavs in known.values())
            return NOT_SEEN_TOGETHER.format(seen, SEEN) if seen < SEEN else ""
        cavs = known[self.layers[k]]
        if not bool(cavs.separated[k]):
            return NOT_SEPARATED
        seen = float(cavs.seen[k])
        return NOT_SEEN.format(seen, SEEN) if seen < SEEN else ""
