"""What a correction changes, to be computed for many labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from typing import ClassVar, NamedTuple, get_type_hints

import torch
from torch import Tensor

from vtcav.errors import ModelError
from vtcav.explainer.correction.corrected_network import CorrectedNetwork
from vtcav.explainer.correction.report import CorrectedRow
from vtcav.explainer.erasing.allotment import Allotment
from vtcav.explainer.erasing.eraser import Eraser
from vtcav.explainer.erasing.targets import Targets
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.runs.part import BatchComputer, BatchRows, Task
from vtcav.models.base import Model
from vtcav.models.classifier import Classifier
from vtcav.models.finite import check_finite
from vtcav.results.provenance import Provenance
from vtcav.results.rows import EffectRow
from vtcav.results.verdicts import mostly_of_others
from vtcav.results.words import distinct_names

INSIDE = "network."
"""What the names of layers begin with in a corrected network."""


def corrected_classifier(model: Model, fixed: CorrectedNetwork) -> Classifier:
    """Return a corrected network with the classes and the preprocessing of the network.

    Raises:
        ModelError: For a network that is not a PyTorch module.
    """
    if not isinstance(model, Classifier):
        raise ModelError(f"expected a vtcav.Classifier to correct, got {type(model).__name__}")
    corrected = Classifier(
        fixed,
        model.class_names,
        model.preprocess,
        model.binary,
        model.device,
        layouts={INSIDE + name: layout for name, layout in model.layouts.items()},
        task=model.task,
        output=model.output,
        score=model.score,
        runtime="torch",
    )
    corrected.assumed = model.assumed
    return corrected


class _Effect(NamedTuple):
    """What erasing a concept from an image changes, as in `CorrectedRow`."""

    area: float
    drop: float
    drop_after: float
    gap: float
    gap_after: float


_NONE = _Effect(nan, nan, nan, nan, nan)


def _effect(row: EffectRow, other: EffectRow) -> _Effect:
    """Return an effect on both networks, that of the own part where the rest is another concept's.

    Args:
        row: The effect on the network.
        other: That on the corrected one.
    """
    own = mostly_of_others(row._asdict())
    drop, after = (each.drop_apart if own else each.drop for each in (row, other))
    gaps = row.logit - row.reference, other.logit - other.reference
    return _Effect(row.area, drop, after, gaps[0], gaps[1])


@dataclass(frozen=True)
class CorrectedTask(Task):
    """What a correction changes for labelled images.

    Attributes:
        fixed: The corrected network.
        classes: The index of each image's class, by its name.
    """

    fixed: CorrectedNetwork
    classes: Mapping[str, int]

    kind: ClassVar = "correction"
    columns: ClassVar = get_type_hints(CorrectedRow)
    gradients: ClassVar = False

    @property
    def title(self) -> str:
        """What is being done."""
        return "comparing the corrected network"

    @cached_property
    def model(self) -> Classifier:
        """The corrected network as a model."""
        return corrected_classifier(self.attributor.model, self.fixed)

    def provenance(self) -> Provenance:
        """Return what the numbers depend on."""
        return self.fixed.report.provenance

    def part(self, images: int) -> BatchComputer:
        """Return what computes the batches of a part."""
        return self._rows

    @cached_property
    def _eraser(self) -> Eraser:
        """What erases the regions of concepts for the corrected network."""
        own = self.attributor
        return Eraser(self.model, Targets.of(own.cavs), own.erasure, own.settings.images)

    def _rows(self, names: Sequence[str], digests: Sequence[str], x: Tensor) -> BatchRows:
        images = self.attributor.forward(names, x)
        before, after = self._logits(names, x, corrected=False), self._logits(names, x)
        removal = self.fixed.removal
        shows = removal.shows(images.maps[self.fixed.layer].to(next(removal.buffers()).device))
        effects = self._effects(images, after)
        class_names = distinct_names(self.model.class_names)
        predicted = [self.model.probabilities(z).argmax(1).tolist() for z in (before, after)]
        rows = []
        for n, name in enumerate(names):
            label = self.classes[name]
            for concept in self.attributor.cavs.names:
                found = effects.get((name, concept, label), _NONE)
                rows.append(
                    CorrectedRow(
                        image=name,
                        true_class=class_names[label],
                        predicted_class=class_names[predicted[0][n]],
                        predicted_after=class_names[predicted[1][n]],
                        shows=bool(shows[n]),
                        same=torch.equal(before[n], after[n]),
                        change=float((before[n] - after[n]).abs().max()),
                        concept=concept,
                        **found._asdict(),
                    )
                )
        return BatchRows(rows)

    def _logits(self, names: Sequence[str], x: Tensor, *, corrected: bool = True) -> Tensor:
        """Return logits [N, T] of the module as it is written, corrected or not."""
        self.fixed.removal.active = corrected
        try:
            with self.model.differentiable() as compute, torch.no_grad():
                z = compute(x.to(self.model.device, self.model.dtype)).float().cpu()
        finally:
            self.fixed.removal.active = True
        check_finite(names, {}, z)
        return z

    def _effects(self, images: ForwardPass, z: Tensor) -> dict[tuple[str, str, int], _Effect]:
        """Return what erasing changes by image, concept and class, where there is a region."""
        eraser = self.attributor.eraser
        if not eraser.works:
            return {}
        regions = eraser.regions(images)
        classes = sorted({self.classes[name] for name in images.names})
        # z is of the corrected network, which has no use for maps
        fixed = ForwardPass(
            images.names, images.x, {}, z.to(images.z), self.model.probabilities(z).cpu()
        )
        pairs = [
            one.rows(of, regions, classes, Allotment(0, filled=0))
            for one, of in ((eraser, images), (self._eraser, fixed))
        ]
        return {
            (row.image, row.concept, row.class_index): _effect(row, other)
            for row, other in zip(*pairs, strict=True)
            if row.area > 0
        }
