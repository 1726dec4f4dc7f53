"""Results in other shapes: wide tables, and JSON that every reader accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["by_class", "by_image", "json_text"]


def json_text(content: Mapping[str, Any]) -> str:
    """Return plain data as strict JSON, without NaN, in UTF-8 letters."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def by_class(rows: pd.DataFrame) -> pd.DataFrame:
    """Return attributions with a row per layer and concept and a column per class, in their order.

    Args:
        rows: With layer, concept, class_index, class_name and attribution.

    Example:
        >>> import pandas as pd
        >>> rows = [("l", "c", 4, "crane", 0.5), ("l", "c", 7, "crane", 0.25)]
        >>> names = ["layer", "concept", "class_index", "class_name", "attribution"]
        >>> print(by_class(pd.DataFrame(rows, columns=names)).to_string(index=False))
        layer concept  crane  crane [2]
            l       c    0.5       0.25
    """
    from vtcav.results.words import distinct_names

    keys = ["layer", "concept"]
    classes = rows.drop_duplicates("class_index")
    wide = rows.pivot(index=keys, columns="class_index", values="attribution")
    order = rows[keys].drop_duplicates()
    wide = wide.loc[list(order.itertuples(index=False, name=None)), classes["class_index"]]
    wide.columns = distinct_names([*keys, *map(str, classes["class_name"])])[2:]
    return wide.reset_index()


def by_image(rows: pd.DataFrame, layers: Sequence[str], concepts: Sequence[str]) -> pd.DataFrame:
    """Return attributions with a row per image and a column per layer and concept.

    Args:
        rows: Ordered by image, then by layer, then by concept.
        layers: In their order.
        concepts: In their order.
    """
    import pandas as pd

    columns = pd.MultiIndex.from_product([layers, concepts], names=["layer", "concept"])
    values = rows["attribution"].to_numpy().reshape(-1, len(columns))
    images = pd.Index(rows["image"].iloc[:: len(columns)], name="image")
    return pd.DataFrame(values, index=images, columns=columns)
