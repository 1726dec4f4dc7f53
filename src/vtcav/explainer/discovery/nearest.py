"""The named concept that is closest to a found direction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vtcav.method.auc import auc_of
from vtcav.method.discovery.stability import cosines
from vtcav.results.bank.cav_bank import CavBank


class Nearest(NamedTuple):
    """A named concept.

    Attributes:
        name: Its name.
        cosine: The cosine of its direction with the one that was found.
        auc: How well the found direction tells its examples from its negatives.
    """

    name: str
    cosine: float
    auc: float


def nearest(v: NDArray[np.float32], bank: CavBank, layer: str) -> Nearest:
    """Return the concept of a bank whose direction is the closest.

    Args:
        v: The found direction [C].
        bank: Learned concepts.
        layer: The layer, which the bank has.
    """
    own = cosines(v[None], bank.layers[layer].v.numpy())[0]
    name = bank.names[int(own.argmax())]
    along = torch.from_numpy(v.copy())
    projected = [record.gap[layer] @ along for record in bank.evidence(name)]
    return Nearest(name, float(own.max()), auc_of(*projected))
