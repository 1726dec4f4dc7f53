"""Found concepts at home: with the explainer and the images that they were found with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from vtcav.errors import CavError
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.discovery.attributions import ORIGIN, ExplainerAt, attribute, by_prediction
from vtcav.explainer.discovery.uncovered import uncovered
from vtcav.images.listing import collect
from vtcav.images.preprocess import to_tensor
from vtcav.images.references import ImageRef
from vtcav.method.cav import Cavs, direction
from vtcav.models.base import Model
from vtcav.models.memory import IMAGES
from vtcav.parameters import Text, check
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.discovery.found import FoundConcept, ImageKey
from vtcav.results.image_set import ImageSetRecord

WITHOUT_IMAGES = (
    "the emblems of a found concept come from the images that it was found in; load the discovery "
    "with them: vtcav.Discovery.load(folder, explainer, images)"
)

AddDirections = Callable[..., CavBank]
LookAt = Callable[[str, Sequence[ImageRef], Sequence[str]], ImageSetRecord]


@dataclass(frozen=True, eq=False)
class DiscoveryHome:
    """The explainer and the images that concepts were found with.

    Attributes:
        model: The network.
        layers: Returns the explainer's layers.
        add: Puts directions into the explainer's bank, as `fit_directions` does.
        look: Returns the record of images at layers.
        beside: Returns an explainer with the same settings at a layer.
        named: Returns the attributor of the named concepts; None where there are none.
        refs: The images; None for a discovery that was loaded without them.
    """

    model: Model
    layers: Callable[[], Sequence[str]]
    add: AddDirections
    look: LookAt
    beside: ExplainerAt
    named: Callable[[], Attributor | None]
    refs: Sequence[ImageRef] | None

    def name(self, concept: FoundConcept, name: str) -> CavBank:
        """Put a concept into the bank, and return the bank.

        Raises:
            CavError: Without the images, or when some of them are missing.
        """
        check("name", name, Text("a concept's name"), error=CavError)
        examples, negatives = self._of(concept.examples), self._of(concept.negatives)
        others = [layer for layer in self.layers() if layer != concept.layer]
        v: dict[str, Any] = {concept.layer: concept.v.copy()}
        if others:
            pair = [
                self.look(f"{role} of {name!r}", refs, others)
                for role, refs in (("examples", examples), ("negatives", negatives))
            ]
            v |= {
                layer: direction(*(record.gap[layer] for record in pair)).numpy()
                for layer in others
            }
        origin = ORIGIN.format(number=concept.number, layer=concept.layer)
        return self.add({name: v}, images=examples, negatives=negatives, origin=origin)

    def attributions(
        self,
        found: Sequence[FoundConcept],
        images: int,
        null_cavs: int | None,
        seed: int,
        erased: bool,
    ) -> pd.DataFrame:
        """Return the attributions of found concepts to the classes predicted for some images.

        Raises:
            CavError: Without the images, or when some of them are missing.
        """
        if self.refs is None:
            raise CavError(WITHOUT_IMAGES)
        own = by_prediction(self.model, self.refs, images, seed, IMAGES)

        def sets(concept: FoundConcept) -> tuple[list[ImageRef], list[ImageRef]]:
            return self._of(concept.examples), self._of(concept.negatives)

        return attribute(self.beside, found, sets, own, null_cavs, erased=erased)

    def uncovered(
        self, layers: Sequence[str], images: int, seed: int
    ) -> tuple[pd.DataFrame, list[NDArray[np.float32]], dict[str, NDArray[np.uint8]]]:
        """Return what named concepts cover of the attributions, as `uncovered` does; or nothing."""
        named = self.named()
        own = [layer for layer in layers if named is not None and layer in named.cavs.layers]
        if named is None or not own or self.refs is None:
            return pd.DataFrame(), [], {}
        return uncovered(named, own, by_prediction(self.model, self.refs, images, seed, IMAGES))

    def concept_map(self, concept: FoundConcept, image: Any) -> NDArray[np.float32]:
        """Return M [h, w] of a concept for an image.

        Raises:
            ImageError: When the image cannot be read.
        """
        [ref] = collect(image)
        x = to_tensor(self.model.preprocess, ref.load(), ref.name)[None]
        F = self.model.activations(x, [concept.layer])[concept.layer]
        e_pos, e_neg = torch.tensor([concept.e_pos]), torch.tensor([concept.e_neg])
        M = Cavs(torch.from_numpy(concept.v.copy())[None], e_pos, e_neg).maps(F)
        found: NDArray[np.float32] = M[0, 0].cpu().numpy()
        return found

    def _of(self, keys: Sequence[ImageKey]) -> list[ImageRef]:
        """Return the images that stand for a concept, or for its absence."""
        if self.refs is None:
            raise CavError(WITHOUT_IMAGES)
        known = self._by_digest(self.refs, {key.name for key in keys})
        if missing := [key.name for key in keys if key.digest not in known]:
            raise CavError(
                f"{len(missing)} of the images that stand for the concept are missing or have "
                f"changed, such as {missing[0]!r}; give the images that it was found in"
            )
        return [known[key.digest] for key in keys]

    @staticmethod
    def _by_digest(refs: Sequence[ImageRef], names: set[str]) -> Mapping[str, ImageRef]:
        """Return the images by their content; only of those with these names, if there are all."""
        named = [ref for ref in refs if ref.name in names]
        return {ref.digest(): ref for ref in (named if len(named) >= len(names) else refs)}
