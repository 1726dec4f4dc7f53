"""The presence of several concepts, each at a layer of its own, for many images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import ClassVar, NamedTuple, get_type_hints

import torch
from torch import Tensor

from vtcav.explainer.attributor import Attributor
from vtcav.explainer.erasing.effect_rows import NOT_SEEN as NOT_SEEN_TOGETHER
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.layer_result import LEARNED_FROM, NOT_SEEN, NOT_SEPARATED
from vtcav.explainer.runs.part import BatchComputer, BatchRows, Task
from vtcav.method.concept_map import PRESENT, presence
from vtcav.method.erasure.joined_map import SEEN, below_seen
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.provenance import Provenance
from vtcav.results.rows import RankedRow
from vtcav.results.words import distinct_names


class Presence(NamedTuple):
    """How strongly N images show a concept at a layer.

    Attributes:
        concept: The concept.
        layer: The layer, or "layers together".
        values: Its presence in each image; NaN where the layer does not see it.
        areas: The share of each map above 0.5, likewise.
        caution: What casts doubt on every number; empty where nothing does.
    """

    concept: str
    layer: str
    values: list[float]
    areas: list[float]
    caution: str

    @classmethod
    def of(cls, concept: str, layer: str, M: Tensor, caution: str = "") -> Presence:
        """Return the presence in concept maps M [N, h, w]."""
        areas = (M > PRESENT).double().flatten(1).mean(1).tolist()
        return cls(concept, layer, presence(M, torch.tensor(True)).tolist(), areas, caution)


def presence_rows(
    attributor: Attributor,
    images: ForwardPass,
    digests: Sequence[str],
    concepts: Iterable[Presence],
) -> list[RankedRow]:
    """Return the rows of a table of presence, image by image.

    Args:
        attributor: The attributor.
        images: A pass of N images.
        digests: Their digests.
        concepts: The presence of each concept.
    """
    # right and wrong are told by these names, so no two classes may have one
    class_names = distinct_names(attributor.model.class_names)
    best, shown = images.probabilities.max(1), list(concepts)
    rows = []
    for n, name in enumerate(images.names):
        learned = attributor.cavs.concepts_of(digests[n])
        for one in shown:
            notes = filter(None, [one.caution, LEARNED_FROM * (one.concept in learned)])
            rows.append(
                RankedRow(
                    image=name,
                    layer=one.layer,
                    concept=one.concept,
                    presence=one.values[n],
                    area=one.areas[n],
                    predicted_class=class_names[int(best.indices[n])],
                    probability=float(best.values[n]),
                    note="; ".join(notes),
                )
            )
    return rows


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
        return BatchRows(presence_rows(self.attributor, images, digests, self._concepts(images)))

    def _concepts(self, images: ForwardPass) -> Iterator[Presence]:
        """Yield the presence of each concept: no numbers where the layer does not see it."""
        attributor, N = self.attributor, len(images.x)
        together = attributor.eraser.together(images) if TOGETHER in self.layers else None
        for k, layer in enumerate(self.layers):
            concept = attributor.cavs.names[k]
            if why := self._unseen(k):
                yield Presence(concept, layer, [nan] * N, [nan] * N, why)
                continue
            if together is not None and layer == TOGETHER:
                M = together[:, k]
            else:
                cavs = attributor.cavs.layers[layer].part(range(k, k + 1))
                M = cavs.maps(images.maps[layer])[:, 0]
            yield Presence.of(concept, layer, M)

    def _unseen(self, k: int) -> str:
        """Return why concept k has no presence; empty where it has one."""
        known = self.attributor.cavs.layers
        if self.layers[k] == TOGETHER:
            seen = max(float(cavs.seen[k]) for cavs in known.values())
            return NOT_SEEN_TOGETHER.format(below_seen(seen)) if seen < SEEN else ""
        cavs = known[self.layers[k]]
        if not bool(cavs.separated[k]):
            return NOT_SEPARATED
        seen = float(cavs.seen[k])
        return NOT_SEEN.format(below_seen(seen)) if seen < SEEN else ""
