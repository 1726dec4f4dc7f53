"""A network's behaviour in numbers: its maps and logits for one fixed picture.

Networks with the same weights may still compute different results, because their code is not in the
fingerprint.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from vtcav.images.preprocess import to_tensor, without_window
from vtcav.images.signature import probe_picture
from vtcav.models.base import Model

__all__ = ["Behaviour", "behaviour", "same_behaviour"]

Behaviour = Mapping[str, Sequence[float]]

_LOGITS = "logits"
_log = logging.getLogger("vtcav")
_MOST = 32  # values of each
_TOLERANCE = 0.03  # of the largest value: devices and precisions differ by less


def behaviour(model: Model, layers: Sequence[str]) -> dict[str, list[float]]:
    """Return some logits for a fixed picture, and the mean maps of layers, by name.

    The result is empty for a network that cannot take the picture because of its size.

    Args:
        model: The network.
        layers: Names of its layers.
    """
    try:
        x = to_tensor(without_window(model.preprocess), probe_picture(), "the probe picture")
        maps, z = model.activations_and_logits(x[None], list(layers))
    except Exception as error:  # noqa: BLE001  (a user's network may raise anything)
        _log.info("the network cannot take the probe picture: %s", error)
        return {}
    found = {_LOGITS: z[0]} | {f"layer {name}": F[0].mean((1, 2)) for name, F in maps.items()}
    return {
        name: [float(f"{value:.6g}") for value in values[:_MOST].tolist()]
        for name, values in found.items()
    }


def same_behaviour(a: Behaviour, b: Behaviour) -> bool:
    """Tell whether two networks behave alike, as far as both were measured.

    Example:
        >>> same_behaviour({"logits": [1.0, 2.0]}, {"logits": [1.01, 2.0]})
        True
        >>> same_behaviour({"logits": [1.0, 2.0]}, {"logits": [2.0, 1.0]})
        False
    """
    return all(_close(a[name], b[name]) for name in a.keys() & b.keys())


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    most = max(map(abs, (*a, *b)), default=0.0)
    return len(a) == len(b) and all(
        abs(x - y) <= _TOLERANCE * most for x, y in zip(a, b, strict=True)
    )
