"""The order in which layers are read: the best of each concept first (`CavBank.best_layer`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vtcav.results.words import clear, listed, named_layers

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 4
"""The most concepts of a layer that a sentence names."""


def reading_order(layers: Sequence[str], best: Mapping[str, str]) -> tuple[str, ...]:
    """Return the layers, those that are the best for most concepts first.

    Args:
        layers: In the order of the network, which layers that are as good stay in.
        best: The best layer of each concept; empty where it is not known.

    Example:
        >>> reading_order(["early", "late"], {"letter": "late", "pore": "late"})
        ('late', 'early')
    """
    times = Counter(best.values())
    return tuple(sorted(layers, key=lambda layer: -times[layer]))


def best_first(table: pd.DataFrame, best: Mapping[str, str]) -> pd.DataFrame:
    """Return a table with the rows of each concept's best layer first, the others in their order.

    Args:
        table: Has layer and concept.
        best: The best layer of each concept.
    """
    first = table["layer"] == table["concept"].map(dict(best))
    return table.iloc[(~first).to_numpy().argsort(kind="stable")]


def read_first(best: Mapping[str, str], layers: Sequence[str]) -> str:
    """Return which layer to read first for each concept; empty where there is nothing to choose.

    Args:
        best: The best layer of each concept.
        layers: All layers.

    Example:
        >>> text = read_first({"letter": "late", "pore": "late"}, ["early", "late"])
        >>> text.partition(".")[0]
        "Read first: 'letter' and 'pore' at layer 'late'"
    """
    if len(layers) < 2 or not best:
        return ""
    parts = [
        f"{_named([name for name, at in best.items() if at == layer], len(best))} at "
        f"{named_layers([layer])}"
        for layer in layers
        if layer in best.values()
    ]
    return (
        f"Read first: {'; '.join(parts)}. Of the layers that see the concept it is the one whose "
        "class scores at zero feature maps, where attributions begin, lie closest together."
    )


def _named(names: Sequence[str], of: int) -> str:
    """Return the names of concepts, or how many they are where a sentence cannot hold them."""
    if len(names) <= _NAMED:
        return listed([repr(clear(name)) for name in names])
    return "all concepts" if len(names) == of else f"{len(names)} of {of} concepts"
