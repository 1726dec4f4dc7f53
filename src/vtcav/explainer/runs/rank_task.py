"""The presence of one concept, to be computed for many images without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import ClassVar, get_type_hints

from torch import Tensor

from vtcav.errors import CavError, warn
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.erasing.targets import Targets
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.layer_result import NOT_SEEN
from vtcav.explainer.runs.part import BatchComputer, BatchRows, Task
from vtcav.explainer.runs.presence_task import Presence, presence_rows
from vtcav.explainer.settings import ErasureSettings
from vtcav.method.erasure.joined_map import SEEN, below_seen
from vtcav.method.erasure.region import LEVEL
from vtcav.results.bank import CavBank
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.provenance import Provenance
from vtcav.results.rows import RankedRow

SURE = 0.9
"""The held-out AUC below which an order of other images may be no better than chance.

Among drawn images, of which some show a concept, these stood before the others in 50 to 63 % of
pairs where it was 0.8 to 0.9 (nine orders by two concepts, in two networks), and where it was 0.94
or more in 84 to 100 % (15 of 16 orders; in one 39 %).
"""


@dataclass(frozen=True)
class RankTask(Task):
    """The presence of the one concept that the attributor has.

    Attributes:
        layer: The layer whose maps are ranked, or "layers together".
    """

    layer: str

    kind: ClassVar = "rank"
    columns: ClassVar = get_type_hints(RankedRow)
    gradients: ClassVar = False

    @classmethod
    def of(
        cls, attributor: Attributor, concept: str, layer: str | None, *, strict: bool
    ) -> RankTask:
        """Return the task of ranking by a concept.

        Args:
            attributor: The network, and concepts of which this is one.
            concept: The concept.
            layer: A layer; None for the layers together where there are place filters, else for
                the layer to read first.
            strict: Whether an unreadable image is an error.

        Raises:
            CavError: For an unknown concept or layer, or where all maps of the concept are empty,
                whatever an image shows.

        Warns:
            UserWarning: When the layer does not see the concept.
        """
        alone = attributor.cavs.of_concepts([concept])
        targets = Targets.of(alone)
        if layer is None:
            layer = attributor.cavs.best_layer(concept) if targets is None else TOGETHER
        if layer == TOGETHER:
            _check_seen(targets, concept)
        else:
            alone = alone.select([layer])
            _check_separated(attributor.cavs, concept, layer)
        # the filling is not used, but the eraser's maps are
        own = Attributor(attributor.model, alone, attributor.settings, ErasureSettings())
        task = cls(own, strict, layer)
        if task.caution:
            warn(f"ranking by {concept!r} at layer {layer!r}: {task.caution}")
        return task

    @property
    def concept(self) -> str:
        """The concept."""
        return self.attributor.cavs.names[0]

    @property
    def caution(self) -> str:
        """What casts doubt on every row; empty where nothing does."""
        if self.layer == TOGETHER:
            return ""
        seen = float(self.attributor.cavs.layers[self.layer].seen[0])
        return NOT_SEEN.format(below_seen(seen)) if seen < SEEN else ""

    def caution_of(self, highest: float) -> str:
        """Return what casts doubt on an order.

        Args:
            highest: The highest presence of its images.
        """
        if self.layer != TOGETHER or highest >= LEVEL:
            return self.caution or self._unsure
        best = self.attributor.cavs.best_layers.get(self.concept)
        return (
            f"no image responds nearly as the examples do (the highest presence is {highest:.2f}): "
            "either none shows the concept, or the examples are of another kind than the images "
            "(drawings, other cameras); take examples like the images"
            + (f", or look at the order of layer={best!r}" if best else "")
        )

    @property
    def _seen(self) -> float:
        """The held-out AUC of what is ranked by; NaN where it was not learned from images."""
        cavs = self.attributor.cavs
        targets = Targets.of(cavs) if self.layer == TOGETHER else None
        return float((cavs.layers[self.layer] if targets is None else targets).seen[0])

    @property
    def _unsure(self) -> str:
        """Why the order may be that of chance; empty where held-out images are told apart."""
        if isnan(self._seen) or self._seen >= SURE:
            return ""
        return (
            "the order may be no better than chance: held-out examples and negatives are told "
            f"apart with an AUC of {min(self._seen, SURE - 0.01):.2f} alone, and other things in "
            "these images may look the same; look at them before you use it, give more varied "
            "examples, and negatives that show those things"
        )

    @property
    def title(self) -> str:
        """What is being done."""
        return f"ranking by {self.concept}"

    def provenance(self) -> Provenance:
        """Return what the numbers depend on."""
        attributor = self.attributor
        settings = {
            "concept": self.concept,
            "layer": self.layer,
            "batch_size": attributor.settings.batch_size,
            "fit": dict(attributor.cavs.settings),
        }
        return Provenance.of(attributor.model, attributor.layers, attributor.cavs, settings)

    def maps(self, images: ForwardPass) -> Tensor:
        """Return the concept's maps M [N, h, w] of a pass."""
        if self.layer == TOGETHER:
            return self.attributor.eraser.together(images)[:, 0]
        return self.attributor.cavs.layers[self.layer].maps(images.maps[self.layer])[:, 0]

    def part(self, images: int) -> BatchComputer:
        """Return what computes the batches of a part."""
        return self._rows

    def _rows(self, names: Sequence[str], digests: Sequence[str], x: Tensor) -> BatchRows:
        images = self.attributor.forward(names, x)
        shown = Presence.of(self.concept, self.layer, self.maps(images), self.caution)
        return BatchRows(presence_rows(self.attributor, images, digests, [shown]))


def _check_seen(targets: Targets | None, concept: str) -> None:
    """Check that the layers together see a concept."""
    if targets is None:
        raise CavError(
            f"{TOGETHER!r} needs place filters, which these CAVs do not have; fit again, with a "
            "fill, or name a layer"
        )
    if (seen := float(targets.seen[0])) < SEEN:
        raise CavError(
            f"no layer sees {concept!r} ({below_seen(seen)}), so "
            "there is no order of images; give more and more varied examples, or name a layer "
            "whose map you want to rank by"
        )


def _check_separated(cavs: CavBank, concept: str, layer: str) -> None:
    """Check that a layer separates a concept."""
    k = cavs.names.index(concept)
    if bool(cavs.layers[layer].separated[k]):
        return
    others = [repr(name) for name, here in cavs.layers.items() if here.sees(k)]
    raise CavError(
        f"layer {layer!r} does not separate {concept!r} from its negatives (e+ <= e-): its maps "
        "are empty, so there is no order of images; "
        + (f"choose {' or '.join(others)}" if others else "give other examples")
    )
