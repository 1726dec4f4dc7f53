"""What is kept of the images that a concept was learned from, so that its CAV can be judged.

The pooled activations are all that directions depend on, so directions can be learned anew from
them, with other images or in cross-validation, without the network. Digests and small grey
pictures tell the same image twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

__all__ = ["PRINT_SIDE", "SetEvidence", "picture_print"]

PRINT_SIDE = 16
"""Pixels on a side of the small grey pictures that near-duplicates are found by."""


@dataclass(frozen=True, eq=False)
class SetEvidence:
    """What is kept of one set of images: the examples of a concept, or negatives.

    Attributes:
        role: What they are, for messages: "concept 'striped'" or "negatives".
        names: The images' names [n].
        digests: SHA-256 of each image's content [n].
        prints: Small grey pictures, uint8 [n, 16, 16].
        gap: By layer, the mean activation of each image over h, w: GAP(F) [n, C].
        origins: Digests of the photographs that images were cut out of [n], empty for whole ones;
            no digests where none was cut out.
    """

    role: str
    names: tuple[str, ...]
    digests: tuple[str, ...]
    prints: NDArray[np.uint8] = field(repr=False)
    gap: Mapping[str, Tensor] = field(repr=False)
    origins: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def tensors(self) -> dict[str, Tensor]:
        """Return the arrays by name, for a file."""
        arrays = {f"gap/{layer}": values for layer, values in self.gap.items()}
        return {"prints": torch.tensor(self.prints), **arrays}

    def select(self, layers: Sequence[str]) -> SetEvidence:
        """Return the evidence at only these layers."""
        gap = {layer: self.gap[layer] for layer in layers}
        return SetEvidence(self.role, self.names, self.digests, self.prints, gap, self.origins)


def picture_print(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a picture as 16 x 16 greys, uint8 [16, 16], whatever its size and shape.

    Example:
        >>> picture_print(Image.new("RGB", (40, 30), "white")).mean()
        np.float64(255.0)
    """
    small = picture.convert("L").resize((PRINT_SIDE, PRINT_SIDE), Image.Resampling.BOX)
    return np.asarray(small)
