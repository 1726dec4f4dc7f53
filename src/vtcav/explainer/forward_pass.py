"""One pass of images through the network, which everything about them is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.models.base import Model
from vtcav.models.finite import check_finite


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """One pass of N images through the network.

    Attributes:
        names: The images' names.
        x: The network's inputs [N, 3, H, W].
        maps: Feature maps F [N, C, h, w] by layer.
        z: Logits [N, T].
        probabilities: Class probabilities [N, T], in the computer's main memory.
    """

    names: tuple[str, ...]
    x: Tensor
    maps: dict[str, Tensor]
    z: Tensor
    probabilities: Tensor

    @classmethod
    def of(
        cls, model: Model, layers: Sequence[str], names: Sequence[str], x: Tensor
    ) -> ForwardPass:
        """Pass images through a network, and keep the maps of some layers.

        Raises:
            ModelError: When the network gives infinite values or NaN.
        """
        maps: dict[str, Tensor] = {}
        if layers:
            maps, z = model.activations_and_logits(x, layers)
        else:
            with torch.no_grad():
                z = model.logits(x)
        check_finite(names, maps, z)
        return cls(tuple(names), x, maps, z, model.probabilities(z).cpu())
