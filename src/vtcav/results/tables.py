"""Tables of an explanation, made from rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from vtcav.method.significance import q_values
from vtcav.results.bank import CavBank

__all__ = ["predictions", "resampled_means", "table"]


def table(rows: Sequence[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """Return rows as a table, with q-values over all of them."""
    made = pd.DataFrame(rows, columns=columns)
    made["q_value"] = q_values(made["p_value"].to_numpy())
    return made


def resampled_means(
    cavs: CavBank, sums: Mapping[str, NDArray[np.float64]], images: int
) -> pd.DataFrame:
    """Return the mean attribution over images of every null and bootstrap CAV."""
    rows = [
        (layer, concept, kind, draw, sums[layer][column] / images)
        for layer in cavs.layers
        for k, concept in enumerate(cavs.names)
        for kind in ("null", "bootstrap")
        for draw, column in enumerate(getattr(cavs.resampling, kind)[k])
    ]
    return pd.DataFrame(rows, columns=["layer", "concept", "kind", "draw", "mean"])


def predictions(probabilities: Tensor, names: Sequence[str]) -> pd.DataFrame:
    """Return the classes [T_all] with their probabilities, the most probable first."""
    order = probabilities.argsort(descending=True, stable=True).tolist()
    return pd.DataFrame(
        {
            "class_index": order,
            "class_name": [names[i] for i in order],
            "probability": probabilities[order].double().numpy(),
        }
    )
