"""Result of the controlled experiment: tables, summary, and the folder with everything in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evaluation"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Agreement of attributions with measured causal effects.

    Attributes:
        folder: Where everything is saved.
        summary: The content of `summary.json`.
        points: One row per seed, q, class, cue, method and layer: the mean value and the causal
            effect (share, centred_share, effect, centred_effect, gap).
        layers: Coefficients by seed, method and layer.
        local: The same over single images.
        localisation: Means of the map metrics by seed, q, cue and layer.
    """

    folder: Path
    summary: dict[str, Any] = field(repr=False)
    points: pd.DataFrame = field(repr=False)
    layers: pd.DataFrame = field(repr=False)
    local: pd.DataFrame = field(repr=False)
    localisation: pd.DataFrame = field(repr=False)

    @property
    def page(self) -> Path:
        """The HTML page with everything in it."""
        return self.folder / "report.html"
