"""A snapshot of a network, which tells whether anything in it has changed since."""

from __future__ import annotations

from typing import Any

from torch import nn

from vtcav.models.inspection.attributes import Copier, same_value
from vtcav.models.inspection.fingerprint import weight_checksums


class Snapshot:
    """The modules, weights and attributes that a network has now.

    Objects of other classes in attributes count by their identity.

    Args:
        module: The network.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
        >>> snapshot = Snapshot(net)
        >>> snapshot.holds(net)
        True
        >>> net[1].p = 0.2
        >>> snapshot.holds(net)
        False
    """

    def __init__(self, module: nn.Module) -> None:
        copier = Copier({}, lambda tensor: tensor)
        self._weights = weight_checksums(module)
        self._attributes = {
            part: {name: copier.copied(value) for name, value in _own(part).items()}
            for part in module.modules()
        }

    def holds(self, module: nn.Module) -> bool:
        """Whether the network is still the same."""
        parts = list(module.modules())
        return (
            parts == list(self._attributes)
            and all(_same(_own(part), self._attributes[part]) for part in parts)
            and weight_checksums(module) == self._weights
        )


def _own(part: nn.Module) -> dict[str, Any]:
    """Return the attributes that a pass of vtcav's may depend on."""
    return {
        name: value
        for name, value in part.__dict__.items()
        # passes run in evaluation mode, without hooks of other tools that come later
        if name != "training" and "_hooks" not in name
    }


def _same(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return now.keys() == before.keys() and all(
        same_value(value, before[name]) for name, value in now.items()
    )
