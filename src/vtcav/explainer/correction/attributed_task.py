"""Attributions before and after a correction, to be computed for many labelled images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, get_type_hints

import torch
from torch import Tensor

from vtcav.explainer.attributor import Attributor
from vtcav.explainer.correction.attributions import AttributedRow, joined
from vtcav.explainer.correction.corrected_task import INSIDE, CorrectedTask
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.layer_result import LayerResult
from vtcav.explainer.runs.part import BatchRows
from vtcav.results.words import distinct_names


@dataclass(frozen=True)
class AttributedTask(CorrectedTask):
    """Attributions of the true class before and after a correction, with the same CAVs.

    They are taken at the corrected layer and those after it, where the rest of both networks is the
    same and only the feature maps differ. Before it, the rest would hold the correction itself,
    which has a threshold: an integral through it need not add up to the logits.
    """

    kind: ClassVar = "corrected attributions"
    columns: ClassVar = get_type_hints(AttributedRow)
    gradients: ClassVar = True

    @property
    def title(self) -> str:
        """What is being done."""
        return "comparing attributions"

    @property
    def layers(self) -> list[str]:
        """The corrected layer and those after it, in the order of the network."""
        names = [layer.name for layer in self.attributor.layers]
        return names[names.index(self.fixed.layer) :]

    @cached_property
    def before(self) -> Attributor:
        """What attributes in the network; without tests, which a comparison does not need."""
        own = self.attributor
        bank = own.cavs.select(self.layers)
        layers = {name: replace(cavs, resampled=None) for name, cavs in bank.layers.items()}
        return Attributor(own.model, replace(bank, layers=layers), own.settings)

    @cached_property
    def after(self) -> Attributor:
        """What attributes in the corrected network, in the precision of the first."""
        bank = self.before.cavs
        layers = {INSIDE + name: cavs for name, cavs in bank.layers.items()}
        found = Attributor(self.model, replace(bank, layers=layers), self.before.settings)
        precision = self.before.precision
        found.precision = replace(precision, chosen=tuple(INSIDE + n for n in precision.chosen))
        return found

    def _rows(self, names: Sequence[str], digests: Sequence[str], x: Tensor) -> BatchRows:
        passes = [one.forward(names, x) for one in (self.before, self.after)]
        maps = passes[0].maps[self.fixed.layer]
        removal = self.fixed.removal
        shows = removal.shows(maps.to(next(removal.buffers()).device)).tolist()
        labels = [self.classes[name] for name in names]
        rows: list[list[AttributedRow]] = [[] for _ in names]
        for label in dict.fromkeys(labels):
            own = [n for n, one in enumerate(labels) if one == label]
            first, second = (_chosen(each, own) for each in passes)
            pairs = zip(
                self.before.results(first, [label]),
                self.after.results(second, [label]),
                strict=True,
            )
            for before, after in pairs:
                for i, n in enumerate(own):
                    rows[n] += self._of_image(names[n], label, shows[n], i, (before, after))
        return BatchRows([row for image in rows for row in image])

    def _of_image(
        self, image: str, label: int, shows: bool, i: int, pair: tuple[LayerResult, LayerResult]
    ) -> Iterator[AttributedRow]:
        """Yield the rows of the image at position i of both results, which are of its class."""
        before, after = pair
        for k, concept in enumerate(before.bank.names):
            yield AttributedRow(
                image=image,
                true_class=distinct_names(self.model.class_names)[label],
                shows=shows,
                layer=before.layer,
                concept=concept,
                before=float(before.a[i, 0, k]),
                after=float(after.a[i, 0, k]),
                raised=bool(before.raised[i, 0] and after.raised[i, 0]),
                note=joined(before.doubts(i, 0, k), after.doubts(i, 0, k)),
            )


def _chosen(images: ForwardPass, own: Sequence[int]) -> ForwardPass:
    """Return a pass of some of the images."""
    index = torch.tensor(own)
    here = index.to(images.z.device)
    maps = {layer: F[index.to(F.device)] for layer, F in images.maps.items()}
    names = tuple(images.names[n] for n in own)
    x = images.x[index.to(images.x.device)]
    return ForwardPass(names, x, maps, images.z[here], images.probabilities[index])
