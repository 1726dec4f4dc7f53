"""The records of concepts and of the images they were learned from, so that CAVs can be judged.

Directions depend on the pooled activations alone, so they can be learned again from these, with
other images or in cross-validation, without the network. Digests and perceptual hashes find images
that occur twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtcav.files.schema import Letters
from vtcav.images.references import Skipped

HASH_SIDE = 16
"""The side in pixels of the small grey pictures that near-duplicates are found by."""


@dataclass(frozen=True)
class ConceptRecord:
    """The images that a concept's CAVs were learned from.

    Attributes:
        name: The concept.
        examples: Names of the example images used.
        negatives: Names of the negatives used.
        skipped_examples: Examples that could not be read, with reasons.
        skipped_negatives: Negatives that could not be read, with reasons.
        origin: Where the direction comes from, if it was given; empty where it was learned from
            these images.
        texts: The texts that the direction is that of; empty for other concepts.
        content: A hash of the images' pixels or files and of given directions, for names say
            little: arrays are called 0, 1, ...; empty in older files.
    """

    name: Letters
    examples: tuple[str, ...]
    negatives: tuple[str, ...]
    skipped_examples: tuple[Skipped, ...] = ()
    skipped_negatives: tuple[Skipped, ...] = ()
    origin: str = ""
    texts: tuple[Letters, ...] = ()
    content: str = ""

    def same(self, other: ConceptRecord) -> bool:
        """Return whether another concept has this name and was learned from the same images."""
        mine, its = (
            (c.name, c.examples, c.negatives, c.content if self.content and other.content else "")
            for c in (self, other)
        )
        return mine == its

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ConceptRecord:
        """Return what `dataclasses.asdict` made of a record."""
        return cls(
            data["name"],
            tuple(data["examples"]),
            tuple(data["negatives"]),
            tuple(Skipped(**skip) for skip in data["skipped_examples"]),
            tuple(Skipped(**skip) for skip in data["skipped_negatives"]),
            data.get("origin", ""),
            tuple(data.get("texts", ())),
            data.get("content", ""),
        )


@dataclass(frozen=True, eq=False)
class ImageSetRecord:
    """The record of one set of n images: the examples of a concept, or negatives.

    Attributes:
        role: The role of the images, for messages: "concept 'striped'" or "negatives".
        names: The images' names [n].
        digests: SHA-256 of each image's content [n].
        perceptual_hashes: Small grey pictures, uint8 [n, 16, 16].
        gap: By layer, the mean activation of each image over h, w: GAP(F) [n, C].
        origins: Digests of the photographs that images were cut out of [n], each empty for a whole
            image; no digests at all if no image was cut out.
        logits: The mean of the network's logits over the images [T]; empty in older files.
        logits_std: Their standard deviation over the images [T]; empty in older files.
    """

    role: str
    names: tuple[str, ...]
    digests: tuple[str, ...]
    perceptual_hashes: NDArray[np.uint8] = field(repr=False)
    gap: Mapping[str, Tensor] = field(repr=False)
    origins: tuple[str, ...] = ()
    logits: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)
    logits_std: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def select(self, layers: Sequence[str]) -> ImageSetRecord:
        """Return the record with the activations of only these layers."""
        return replace(self, gap={layer: self.gap[layer] for layer in layers})

    def tensors(self) -> dict[str, Tensor]:
        """Return the arrays by name, for a file."""
        arrays = {f"gap/{layer}": values for layer, values in self.gap.items()}
        return {
            "prints": torch.tensor(self.perceptual_hashes, device="cpu"),
            "logits": self.logits,
            "logits_std": self.logits_std,
            **arrays,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything else as plain data for JSON."""
        names = ("role", "names", "digests", "origins")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_file(
        cls,
        data: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        prefix: str,
        layers: Sequence[str],
    ) -> ImageSetRecord:
        """Return the record of a file.

        Args:
            data: What `to_dict` returned.
            tensors: The tensors of the file.
            prefix: What the names of this set's tensors begin with.
            layers: Layer names.

        Raises:
            KeyError: When something is missing.
        """
        return cls(
            data["role"],
            tuple(data["names"]),
            tuple(data["digests"]),
            tensors[f"{prefix}prints"].numpy(),
            {layer: tensors[f"{prefix}gap/{layer}"] for layer in layers},
            tuple(data.get("origins", ())),
            tensors.get(f"{prefix}logits", torch.zeros(0)),
            tensors.get(f"{prefix}logits_std", torch.zeros(0)),
        )


def perceptual_hash(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a picture as 16 x 16 greys, uint8 [16, 16], whatever its size and shape.

    Example:
        >>> perceptual_hash(Image.new("RGB", (40, 30), "white")).mean()
        np.float64(255.0)
    """
    small = picture.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX)
    return np.asarray(small)
