"""What is erased: concepts whose places are known, or a region marked by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan

import torch
from torch import Tensor

from vtcav.method.erasure.confusion import answered, confused
from vtcav.method.erasure.effect import pooled_logits
from vtcav.method.erasure.joined_map import joined_layers
from vtcav.method.erasure.place_classifier import PlaceClassifier
from vtcav.method.erasure.place_filter import PlaceFilters
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.rows import joined_names

RANDOM_CONCEPTS = 10
"""The null CAVs whose places are placebos."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What is erased: concepts whose places are known, or a region marked by hand.

    Attributes:
        layer: What stands in the column of that name.
        names: K names.
        places: The place filters of the layers that look for them; none for what is marked.
        random: The directions of some null CAVs at these layers [J, C], as far as there are any.
        seen: The highest held-out AUC of the filters [K]; NaN for what is marked.
        reference: Mean and standard deviation of the negatives' logits [2, T_all]; NaN where there
            are none.
        classifiers: The place classifiers of these layers; none where nothing tells concepts apart.
    """

    layer: str
    names: tuple[str, ...]
    places: Mapping[str, PlaceFilters]
    random: Mapping[str, Tensor]
    seen: Tensor
    reference: Tensor
    classifiers: Mapping[str, PlaceClassifier] = field(default_factory=dict)

    @classmethod
    def of(cls, cavs: CavBank) -> Targets | None:
        """Return the concepts of a bank; None where it has no place filters."""
        places = {layer: found.places for layer, found in cavs.layers.items()}
        layers = list(places)
        joined = joined_layers(layers)
        known = {layer: here for layer in joined if (here := places[layer]) is not None}
        reference = reference_logits(cavs)
        if not known or reference is None:
            return None
        null = {layer: v for layer in known if (v := _null_directions(cavs, layer)) is not None}
        seen = torch.stack([found.seen for found in known.values()]).amax(0)
        classifiers = {
            layer: found for layer in known if (found := cavs.layers[layer].classifier) is not None
        }
        return cls(TOGETHER, cavs.names, known, null, seen, reference, classifiers)

    def told(self, k: int, others: Sequence[int]) -> float:
        """Return how well concept k is told apart from others: the lowest AUC.

        It is about what is taken for k, which its own part consists of: the other way round, what
        is taken for another may show k, and its own part only be too small. NaN where nothing tells
        them apart.
        """
        if not self.classifiers or not others:
            return nan
        told = next(iter(self.classifiers.values())).told
        return min(float(told[k, j]) for j in others)

    def confused(self) -> list[str]:
        """Return for each concept the others that its filters answer, too, as one text."""
        places = self.places.values()
        together = answered([each.answers() for each in places], [each.seen for each in places])
        if together is None:
            return [""] * len(self.names)
        return [joined_names([self.names[j] for j in own]) for own in confused(together)]


def reference_logits(cavs: CavBank) -> Tensor | None:
    """Return mean and standard deviation of all negatives' logits [2, T]; None if a set has none.

    There is one reference for all concepts, so that their shares can be compared.
    """
    negatives = [cavs.sets[i] for i in dict.fromkeys(i for _, i in cavs.contrast)]
    return pooled_logits([(images.logits, images.logits_std) for images in negatives])


def _null_directions(cavs: CavBank, layer: str) -> Tensor | None:
    """Return the directions of some null CAVs at a layer [J, C]; None where there are none."""
    null = next((positions for positions in cavs.resampling.null if positions), range(0))
    resampled = cavs.layers[layer].resampled
    return resampled.part(null[:RANDOM_CONCEPTS]).v if resampled is not None and null else None
