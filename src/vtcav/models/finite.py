"""The check that feature maps and logits are finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vtcav.errors import ModelError


def check_finite(names: Sequence[str], maps: Mapping[str, Tensor], z: Tensor | None = None) -> None:
    """Refuse infinite values and NaN, which would give meaningless attributions.

    Args:
        names: Names of the N images.
        maps: Feature maps [N, C, h, w] by layer.
        z: Logits [N, T].

    Raises:
        ModelError: Naming the first such image and the layer.
    """
    values = {f"layer {layer!r}": F for layer, F in maps.items()}
    if z is not None:
        values["its scores"] = z
    # one read for all sums; a false alarm, when large values add up to infinity, is rare
    if torch.stack([tensor.sum().float() for tensor in values.values()]).isfinite().all():
        return
    for where, tensor in values.items():
        finite = tensor.isfinite().flatten(1).all(1)
        if not finite.all():
            raise ModelError(
                f"the network gives infinite values or NaN at {where} for "
                f"{names[int(finite.int().argmin())]!r}; a network in half precision may need "
                "float32, and the preprocessing must be the one it was trained with"
            )
