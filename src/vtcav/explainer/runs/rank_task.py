"""The presence of one concept at one layer, to be computed for many images without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_type_hints

from torch import Tensor

from vtcav.errors import CavError, warn
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.layer_result import LEARNED_FROM, NOT_SEEN
from vtcav.explainer.runs.part import BatchComputer, BatchRows, Task
from vtcav.method.concept_map import PRESENT, presence
from vtcav.method.erasure.region import SEEN
from vtcav.results.bank.layer_cavs import LayerCavs
from vtcav.results.provenance import Provenance
from vtcav.results.rows import RankedRow


@dataclass(frozen=True)
class RankTask(Task):
    """The presence of one concept at one layer: those that the attributor has."""

    kind: ClassVar = "rank"
    columns: ClassVar = get_type_hints(RankedRow)
    gradients: ClassVar = False

    @classmethod
    def of(cls, attributor: Attributor, concept: str, layer: str, *, strict: bool) -> RankTask:
        """Return the task of ranking by a concept at a layer.

        Raises:
            CavError: For an unknown concept or layer, or a layer that does not separate the
                concept, where all maps are empty.

        Warns:
            UserWarning: When the layer does not see the concept.
        """
        known = attributor.cavs
        alone = known.of_concepts([concept]).select([layer])
        task = cls(Attributor(attributor.model, alone, attributor.settings), strict)
        if not bool(task.cavs.separated[0]):
            k = known.names.index(concept)
            others = [name for name, cavs in known.layers.items() if cavs.sees(k)]
            raise CavError(
                f"layer {layer!r} does not separate {concept!r} from its negatives (e+ <= e-): its "
                "maps are empty, so there is no order of images; "
                + (f"choose {' or '.join(map(repr, others))}" if others else "give other examples")
            )
        if task.caution:
            warn(f"ranking by {concept!r} at layer {layer!r}: {task.caution}")
        return task

    @property
    def layer(self) -> str:
        """The layer."""
        return self.attributor.layers[0].name

    @property
    def concept(self) -> str:
        """The concept."""
        return self.attributor.cavs.names[0]

    @property
    def cavs(self) -> LayerCavs:
        """The concept's CAV at the layer."""
        return self.attributor.cavs.layers[self.layer]

    @property
    def caution(self) -> str:
        """What casts doubt on every row; empty where nothing does."""
        seen = float(self.cavs.seen[0])
        return NOT_SEEN.format(seen, SEEN) if seen < SEEN else ""

    @property
    def title(self) -> str:
        """What is being done."""
        return f"ranking by {self.concept}"

    def provenance(self) -> Provenance:
        """Return what the numbers depend on."""
        attributor = self.attributor
        settings = {
            "concept": self.concept,
            "batch_size": attributor.settings.batch_size,
            "fit": dict(attributor.cavs.settings),
        }
        return Provenance.of(attributor.model, attributor.layers, attributor.cavs, settings)

    def maps(self, images: ForwardPass) -> Tensor:
        """Return the concept's maps M [N, h, w] of a pass."""
        return self.cavs.maps(images.maps[self.layer])[:, 0]

    def part(self, images: int) -> BatchComputer:
        """Return what computes the batches of a part."""
        return self._rows

    def _rows(self, names: Sequence[str], digests: Sequence[str], x: Tensor) -> BatchRows:
        attributor, class_names = self.attributor, self.attributor.model.class_names
        images = attributor.forward(names, x)
        M = self.maps(images)
        shown = presence(M[:, None], self.cavs.separated)[:, 0].tolist()
        areas = (M > PRESENT).double().mean((1, 2)).tolist()
        best = images.probabilities.max(1)
        rows = []
        for n, name in enumerate(names):
            learned = bool(attributor.cavs.concepts_of(digests[n]))
            notes = filter(None, [self.caution, LEARNED_FROM * learned])
            rows.append(
                RankedRow(
                    image=name,
                    layer=self.layer,
                    concept=self.concept,
                    presence=shown[n],
                    area=areas[n],
                    predicted_class=class_names[int(best.indices[n])],
                    probability=float(best.values[n]),
                    note="; ".join(notes),
                )
            )
        return BatchRows(rows)
