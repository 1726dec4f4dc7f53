"""The presence of several concepts, each at a layer of its own, for many images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import ClassVar, get_type_hints

from torch import Tensor

from vtcav.explainer.layer_result import LEARNED_FROM, NOT_SEEN, NOT_SEPARATED
from vtcav.explainer.runs.part import BatchComputer, BatchRows, Task
from vtcav.method.concept_map import PRESENT, presence
from vtcav.method.erasure.region import SEEN
from vtcav.results.provenance import Provenance
from vtcav.results.rows import RankedRow


@dataclass(frozen=True)
class PresenceTask(Task):
    """The presence of all concepts of an attributor.

    Attributes:
        layers: The layer of each concept, in order.
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
        class_names = self.attributor.model.class_names
        best = images.probabilities.max(1)
        concepts = list(self._concepts(images.maps))
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

    def _concepts(self, maps: dict[str, Tensor]) -> Iterator[tuple[list[float], list[float], str]]:
        """Yield the presence and area of each concept in every image, and what casts doubt on it.

        There are no numbers where the layer does not see the concept.
        """
        for k, layer in enumerate(self.layers):
            cavs = self.attributor.cavs.layers[layer]
            seen = float(cavs.seen[k])
            N = len(maps[layer])
            if not bool(cavs.separated[k]):
                yield [nan] * N, [nan] * N, NOT_SEPARATED
            elif seen < SEEN:
                yield [nan] * N, [nan] * N, NOT_SEEN.format(seen, SEEN)
            else:
                M = cavs.part(range(k, k + 1)).maps(maps[layer])
                areas = (M[:, 0] > PRESENT).double().mean((1, 2)).tolist()
                yield presence(M, cavs.separated[k : k + 1])[:, 0].tolist(), areas, ""
