"""Comparing two networks with the same concepts and images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vtcav.errors import ExplanationError, brief
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.groups import Groups
from vtcav.explainer.runs.rank_task import RankTask
from vtcav.explainer.runs.ranking import with_maps
from vtcav.explainer.settings import MARGIN, MARGIN_OF_ONE, MARGINS, ErasureSettings
from vtcav.explainer.versus.differences import (
    ATTRIBUTION,
    OWN_SHARE,
    Trainings,
    aligned,
    differences,
)
from vtcav.explainer.versus.layer_pairs import pair_layers
from vtcav.explainer.versus.result import SideBySide, Versus
from vtcav.images.listing import ImageSource, collect
from vtcav.images.references import ImageRef
from vtcav.models.inspection.ambient import unaffected
from vtcav.parameters import Constraint, check
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.words import SIGNIFICANT

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV

_FINDINGS, _EACH = 4, 3  # findings whose images are shown, and images of each


def _pair(value: Any) -> tuple[str, str]:
    first, second = value
    if not isinstance(first, str) or not isinstance(second, str):
        raise ValueError
    return first, second


_NAMES = Constraint("two texts", _pair)


@unaffected
def versus(
    explainer_a: VisualTCAV | Sequence[VisualTCAV],
    explainer_b: VisualTCAV | Sequence[VisualTCAV],
    images: ImageSource | Mapping[str, ImageSource],
    class_name: str | int | None = None,
    *,
    margin: float | None = None,
    groups: Groups | None = None,
    limit: int | None = None,
    seed: int = 0,
    names: tuple[str, str] = ("a", "b"),
) -> Versus:
    """Compare what concepts count for in two networks, or two checkpoints, on the same images.

    Both explain each class with the same images (`explain_class`), and their numbers are compared
    image by image. Swapping the two flips signs and nothing else. Two trainings of one recipe
    differ, too, often by much: a difference between two networks is one of these two. Several
    trainings of each tell whether their recipes differ (docs/versus.md).

    Args:
        explainer_a: The first network, with its concepts learned; or several trainings of it. With
            several, intervals and tests are over other trainings, too.
        explainer_b: The second network, with concepts of the same names; or several trainings.
        images: Images of `class_name` in any form that `fit` takes, or images by class.
        class_name: The class, which both networks have, by name or index; None where images are
            given by class.
        margin: A difference from -margin to margin counts as none, at least 0 and below 1. None
            takes 0.3, as two trainings of one recipe often differ by so much, and 0.15 where there
            are several trainings of each network.
        groups: Which images are alike, as for `explain_class`.
        limit: At most this many images of each class, drawn at random with `seed`.
        seed: Seeds the draw.
        names: What to call the two.

    Returns:
        The table of differences, and images with the maps of both.

    Raises:
        CavError: Before `fit`.
        ExplanationError: Where no concept, or no class, is in both, and for a margin out of range.
        ImageError: When no image can be read.
        ModelError: For a class that a network does not have.
    """
    check("margin", margin, MARGINS, none="0.3, and 0.15 with several trainings of each")
    check("names", names, _NAMES)
    sources = images if isinstance(images, Mapping) else None
    if (sources is None) == (class_name is None):
        raise ExplanationError(
            "expected images of one class with class_name, or a mapping from classes to images "
            "without; got " + ("both" if sources is not None else "images without class_name")
        )
    by_class: Mapping[Any, Any] = {class_name: images} if sources is None else sources
    both = _trainings(explainer_a), _trainings(explainer_b)
    refs: dict[str, list[ImageRef]] = {}
    pairs = []
    for name, source in by_class.items():
        first, second = (
            [
                each.explain_class(name, source, limit=limit, seed=seed, groups=groups)
                for each in side
            ]
            for side in both
        )
        pairs.append((first, second))
        refs[first[0].class_name] = collect(source, limit=limit, seed=seed)
    return compared(both, pairs, refs, margin=margin, names=names)


def compared(
    explainers: tuple[Sequence[VisualTCAV], Sequence[VisualTCAV]],
    pairs: Sequence[tuple[Trainings, Trainings]],
    refs: Mapping[str, Sequence[ImageRef]],
    *,
    margin: float | None,
    names: tuple[str, str],
) -> Versus:
    """Compare classes that both networks have explained already.

    Args:
        explainers: The trainings of both networks with their concepts.
        pairs: Each class explained by all of them, with the same images.
        refs: The images by class.
        margin: As for `versus`.
        names: What to call the two.

    Raises:
        ExplanationError: Where no concept, or no class, is in both.
    """
    every = [one for side in explainers for one in side]
    a, b = (side[0] for side in explainers)
    if not any(all(name in one.cavs.names for one in every) for name in a.cavs.names):
        others = " and ".join(str(list(one.cavs.names)) for one in every)
        raise ExplanationError(f"expected concepts of the same names, got {others}")
    for first, second in pairs:
        known = dict.fromkeys(one.class_name for one in (*first, *second))
        if len(known) > 1:
            raise ExplanationError(
                f"expected a class that both networks have; it is {' and '.join(map(repr, known))}"
            )
    for side in explainers:
        if any(list(one.layers) != list(side[0].layers) for one in side):
            raise ExplanationError(
                "expected trainings of one network with the same layers, got "
                + " and ".join(str(list(one.layers)) for one in side)
            )
    if margin is None:
        margin = MARGIN if min(map(len, explainers)) > 1 else MARGIN_OF_ONE
    layers = pair_layers(a.model, a.layers, b.model, b.layers)
    table = differences(pairs, layers, margin)
    firsts = [(first[0], second[0]) for first, second in pairs]
    return Versus(
        names=names,
        layers=layers,
        margin=float(margin),
        shown=tuple(_shown((a, b), firsts, refs, table)),
        provenance=tuple(one.provenance for side in pairs[0] for one in side),
        trainings=(len(explainers[0]), len(explainers[1])),
        _table=table,
    )


def _trainings(given: VisualTCAV | Sequence[VisualTCAV]) -> list[VisualTCAV]:
    found = list(given) if isinstance(given, Sequence) else [given]
    if not found:
        raise ExplanationError("expected a network, or several trainings of it, got none")
    for each in found:
        if not hasattr(each, "explain_class"):
            raise ExplanationError(
                f"expected a vtcav.VisualTCAV, or a list of them, got {brief(each)}"
            )
    return found


def _shown(
    explainers: tuple[VisualTCAV, VisualTCAV],
    pairs: Sequence[tuple[GlobalExplanation, GlobalExplanation]],
    refs: Mapping[str, Sequence[ImageRef]],
    table: pd.DataFrame,
) -> Iterator[SideBySide]:
    """Yield images of the clearest differences in attribution or share, with both maps."""
    by_class = {first.class_name: (first, second) for first, second in pairs}
    # a doubtful one, too: its maps show what was taken for the concept
    clear = table[table["q_value"] <= SIGNIFICANT]
    clear = clear.assign(doubtful=clear["doubt"] != "", order=-clear["difference"].abs())
    clear = clear.sort_values(["doubtful", "order"], kind="stable")
    for row in clear.head(_FINDINGS).to_dict("records"):
        name, concept = str(row["class_name"]), str(row["concept"])
        layers = str(row["layer_a"]), str(row["layer_b"])
        estimated = row["quantity"] == ATTRIBUTION
        measured = "drop_apart" if row["quantity"] == OWN_SHARE else "drop"
        what = "attribution" if estimated else measured
        own = []
        for each, layer in zip(by_class[name], layers, strict=True):
            found = each.attributions if estimated else each.effects
            own.append(found[(found["layer"] == layer) & (found["concept"] == concept)])
        both = _paired(*own)
        change = (both[f"{what}_b"] - both[f"{what}_a"]).abs().to_numpy(float)
        few = both.iloc[np.argsort(-change, kind="stable")[:_EACH]].assign(presence=0.0)
        maps = [
            with_maps(_task(each, concept, layer), refs[name], few, range(len(few)))
            for each, layer in zip(explainers, layers, strict=True)
        ]
        for one, other in zip(*maps, strict=True):
            yield SideBySide(
                class_name=name,
                concept=concept,
                image=one.image,
                layer_a=layers[0],
                layer_b=layers[1],
                picture=one.picture,
                box=one.box,
                map_a=one.concept_map,
                map_b=other.concept_map,
            )


def _paired(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the images that both tables have, one row for each."""
    first, second = aligned([a, b])
    both: pd.DataFrame = first.merge(second, on=["image", "nth"], suffixes=("_a", "_b"))
    return both


def _task(explainer: VisualTCAV, concept: str, layer: str) -> RankTask:
    """Return what computes the maps of a concept."""
    alone = explainer.cavs.of_concepts([concept])
    if layer != TOGETHER:
        alone = alone.select([layer])
    # the filling is not used, but the eraser's maps are
    own = Attributor(explainer.model, alone, explainer.attributor.settings, ErasureSettings())
    return RankTask(own, False, layer)
