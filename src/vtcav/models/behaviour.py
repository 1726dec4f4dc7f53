"""A network's behaviour in numbers: its maps, logits and gradients for one fixed picture.

Networks with the same weights may still compute different results, because their code is not part
of the fingerprint.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vtcav.images.signature import probe_picture, tensor_of_rgb
from vtcav.models.base import Model, held, recomputes
from vtcav.models.heads.gradient import gradient

Behaviour = Mapping[str, Sequence[float]]

_LOGITS = "logits"
_log = logging.getLogger("vtcav")
_MOST = 32  # values of each


def behaviour(
    model: Model, layers: Sequence[str], *, gradients: bool = False
) -> dict[str, list[float]]:
    """Return some logits for a fixed picture, and the mean maps of layers, by name.

    The result is empty for a network that cannot take the picture because of its size.

    Args:
        model: The network.
        layers: Names of its layers.
        gradients: Whether to add the means and norms of the gradients of the logits at the layers.
    """
    try:
        x = tensor_of_rgb(model.preprocess, probe_picture(), "the probe picture")
        x = x[None]
        maps, z = model.activations_and_logits(x, list(layers))
        found = {_LOGITS: z[0]} | {
            f"layer {name}": F[0].flatten(1).mean(1) for name, F in maps.items()
        }
        for name, F in maps.items() if gradients else ():
            G = _gradient(model, name, x, F)[0].flatten(1)
            found |= {f"gradient at {name}": G.mean(1), f"its size at {name}": G.norm(dim=1)}
    except Exception as error:  # noqa: BLE001  (a user's network may raise anything)
        _log.info("the network cannot take the probe picture: %s", error)
        return {}
    return {
        name: [float(f"{value:.6g}") for value in values[:_MOST].tolist()]
        for name, values in found.items()
    }


def _gradient(model: Model, layer: str, x: Tensor, F: Tensor) -> Tensor:
    """Return the gradient of a weighted sum of all logits."""
    head, F = model.head(layer).of(x), F.requires_grad_()
    with torch.enable_grad(), held(head) as own:
        z = own(F)
        # different weights, because logits may have a constant sum
        weight = torch.linspace(1, 2, z.shape[1], dtype=z.dtype, device=z.device)
        return gradient((z * weight).sum(), F, recomputes=recomputes(head))


def same_behaviour(a: Behaviour, b: Behaviour, tolerance: float = 0.03) -> bool:
    """Tell whether two networks behave alike, as far as both were measured.

    Args:
        a: The behaviour of one.
        b: That of the other.
        tolerance: The largest difference, relative to the largest value. By default devices and
            precisions differ by less.

    Example:
        >>> same_behaviour({"logits": [1.0, 2.0]}, {"logits": [1.01, 2.0]})
        True
        >>> same_behaviour({"logits": [1.0, 2.0]}, {"logits": [2.0, 1.0]})
        False
    """
    return all(_close(a[name], b[name], tolerance) for name in a.keys() & b.keys())


def _close(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    most = max(map(abs, (*a, *b)), default=0.0)
    return len(a) == len(b) and all(
        abs(x - y) <= tolerance * most for x, y in zip(a, b, strict=True)
    )
