"""Attributions of found concepts to the classes that the network predicts for the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vtcav.explainer.forward_pass import ForwardPass
from vtcav.images.batches import Batches
from vtcav.images.references import ImageRef
from vtcav.models.base import Model
from vtcav.results.discovery.found import FoundConcept
from vtcav.results.tables.shapes import with_q_values

ORIGIN = "found in images (concept {number} at layer {layer})"
CLASSES = 5
"""The most classes that attributions are computed for, those predicted most often."""

_COLUMNS = ("n", "null_mean", "effect", "raised", "note", "p_value", "q_value", "mean")


def attribute(
    explainer_at: Callable[[str], Any],
    found: Sequence[FoundConcept],
    sets: Callable[[FoundConcept], tuple[list[ImageRef], list[ImageRef]]],
    of_classes: dict[int, list[ImageRef]],
    null_cavs: int | None,
) -> pd.DataFrame:
    """Return the attributions of found concepts: one row per concept and class.

    Args:
        explainer_at: Returns a `VisualTCAV` at a layer, without concepts.
        found: The concepts.
        sets: Returns the images that a concept is shown by, and those that it is contrasted with.
        of_classes: Images by the class that is predicted for them.
        null_cavs: The number of null CAVs of each concept; None takes enough for all tests.
    """
    rows: list[pd.DataFrame] = []
    most = 0
    for layer in dict.fromkeys(one.layer for one in found):
        own = {str(one.number): one for one in found if one.layer == layer}
        pairs = {name: sets(one) for name, one in own.items()}
        explainer = explainer_at(layer)
        explainer.fit_directions(
            {name: one.v.copy() for name, one in own.items()},
            layer,
            images={name: pair[0] for name, pair in pairs.items()},
            negatives={name: pair[1] for name, pair in pairs.items()},
            origin=ORIGIN.format(number="", layer=layer),
            null_cavs=null_cavs,
            bootstraps=0,
        )
        most = max(most, explainer.cavs.null_cavs)
        for index, refs in of_classes.items():
            explained = explainer.explain_class(index, refs)
            table = explained.summary()
            table["concept"] = table["concept"].astype(int)
            table.insert(2, "class_index", index)
            table.insert(3, "class_name", explained.class_name)
            rows.append(table)
    whole = pd.concat(rows, ignore_index=True)
    whole = whole[["layer", "concept", "class_index", "class_name", *_COLUMNS]]
    whole = whole.sort_values(["concept", "class_index"], ignore_index=True)
    return with_q_values(whole.rename(columns={"mean": "attribution"}), most)


def by_prediction(
    model: Model, refs: Sequence[ImageRef], images: int, seed: int, batch_size: int
) -> dict[int, list[ImageRef]]:
    """Return some of the images by the class that is predicted for them, the most frequent first.

    Args:
        model: The network.
        refs: The images.
        images: How many are drawn of them.
        seed: Seeds the draw.
        batch_size: Images per pass.
    """
    drawn = np.random.default_rng(seed).permutation(len(refs))[:images]
    chosen = [refs[i] for i in sorted(drawn.tolist())]
    predicted: dict[int, list[ImageRef]] = {}
    for batch in Batches(chosen, model.preprocess, batch_size):
        passed = ForwardPass.of(model, [], batch.names, batch.x)
        for ref, row in zip(batch.refs, passed.probabilities, strict=True):
            predicted.setdefault(int(row.argmax()), []).append(ref)
    counts = Counter({index: len(own) for index, own in predicted.items()})
    return {index: predicted[index] for index, _ in counts.most_common(CLASSES)}
