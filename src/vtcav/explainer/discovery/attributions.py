"""Attributions of found concepts to the classes that the network predicts for the images.

Where concepts are erased as well, a verdict says which classes use what is seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from vtcav.explainer.forward_pass import ForwardPass
from vtcav.images.batches import Batches
from vtcav.images.references import ImageRef
from vtcav.method.significance import q_values
from vtcav.models.base import Model
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.discovery.found import FoundConcept
from vtcav.results.tables.shapes import with_q_values
from vtcav.results.verdicts import verdicts

ORIGIN = "found in images (concept {number} at layer {layer})"
CLASSES = 5
"""The most classes that attributions are computed for, those predicted most often."""

_TOLD = ["verdict", "sentence"]
_COLUMNS = (
    *("n", "null_mean", "effect", "raised", "note", "p_value", "q_value", "share", *_TOLD),
    "attribution",
)


class ExplainerAt(Protocol):
    """Returns a `VisualTCAV` at a layer, with learned concepts or none; it may erase them."""

    def __call__(self, layer: str, *, erased: bool, cavs: CavBank | None = None) -> Any:
        """Return it."""


def attribute(
    explainer_at: ExplainerAt,
    found: Sequence[FoundConcept],
    sets: Callable[[FoundConcept], tuple[list[ImageRef], list[ImageRef]]],
    of_classes: dict[int, list[ImageRef]],
    null_cavs: int | None,
    *,
    erased: bool,
) -> pd.DataFrame:
    """Return the attributions of found concepts: one row per concept and class.

    Args:
        explainer_at: Returns an explainer.
        found: The concepts.
        sets: Returns the images that a concept is shown by, and those that it is contrasted with.
        of_classes: Images by the class that is predicted for them.
        null_cavs: The number of null CAVs of each concept; None takes enough for all tests.
        erased: Whether to erase each concept as well, for verdicts.
    """
    rows: list[pd.DataFrame] = []
    effects: list[pd.DataFrame] = []
    most = 0
    for layer in dict.fromkeys(one.layer for one in found):
        own = {str(one.number): one for one in found if one.layer == layer}
        pairs = {name: sets(one) for name, one in own.items()}
        explainer = explainer_at(layer, erased=erased)
        explainer.fit_directions(
            {name: one.v.copy() for name, one in own.items()},
            layer,
            images={name: pair[0] for name, pair in pairs.items()},
            negatives={name: pair[1] for name, pair in pairs.items()},
            origin=ORIGIN.format(number="", layer=layer),
            null_cavs=null_cavs,
            bootstraps=0,
        )
        cavs = explainer.cavs
        most = max(most, cavs.null_cavs)
        explainer = explainer_at(layer, erased=False, cavs=cavs)
        # parts of one layer overlap, and erasure leaves out what is another concept's
        alone = [
            explainer_at(layer, erased=True, cavs=cavs.of_concepts([name]))
            for name in (own if erased else ())
        ]
        for index, refs in of_classes.items():
            explained = explainer.explain_class(index, refs)
            rows.append(_of_class(explained.summary(), index, explained.class_name))
            for each in alone:
                table = each.explain_class(index, refs).class_effects()
                effects.append(_of_class(table, index, explained.class_name))
    whole = pd.concat(rows, ignore_index=True).drop(columns="share")
    whole = whole.rename(columns={"mean": "attribution"})
    whole = whole.merge(_told(effects), "left", ["concept", "class_index"])
    whole[_TOLD] = whole[_TOLD].fillna("").astype(str)
    whole = whole[["layer", "concept", "class_index", "class_name", *_COLUMNS]]
    whole = whole.sort_values(["concept", "class_index"], ignore_index=True)
    return with_q_values(whole, most)


def _of_class(table: pd.DataFrame, index: int, class_name: str) -> pd.DataFrame:
    """Return a table of concepts, by their numbers, with a class."""
    found = table.assign(concept=table["concept"].astype(int))
    found.insert(2, "class_index", index)
    found.insert(3, "class_name", class_name)
    return found


def _told(effects: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the share and the verdict of each concept and class, with q-values over all."""
    if not effects:
        return pd.DataFrame(columns=["concept", "class_index", "share", *_TOLD]).astype(
            {"concept": int, "class_index": int, "share": float}
        )
    table = pd.concat(effects, ignore_index=True)
    table = table.assign(q_value=q_values(table["p_value"].to_numpy(float)))
    found = [
        verdicts(table.iloc[[i]].assign(concept=f"concept {row.concept}"), str(row.class_name))[0]
        for i, row in enumerate(table.itertuples())
    ]
    table["verdict"] = [each.kind for each in found]
    table["sentence"] = [each.sentence for each in found]
    return table[["concept", "class_index", "share", *_TOLD]]


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
