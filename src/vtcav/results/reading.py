"""How results are read: the order of layers (`CavBank.best_layer`), and what groups change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vtcav.results.effect_tables import GROUP, TOGETHER, beyond_elsewhere, of_pictures
from vtcav.results.verdicts import FEWEST, Verdict, verdicts
from vtcav.results.words import (
    SIGNIFICANT,
    clear,
    count,
    equal_or_less,
    listed,
    named_layers,
    number,
)

if TYPE_CHECKING:
    import pandas as pd

_OVER_ALL = {
    "cannot be told": "Over all groups it cannot be told.",
    "not used": "Over all groups it hardly counts.",
    "not seen": "Over all groups it is too rare to tell.",
}
_NAMED = 4
"""The most concepts of a layer that a sentence names."""
_PREDICTED = 3
"""The most classes that misclassified images are said to be taken for."""
MISCLASSIFIED = 0.25
"""The share of images predicted as another class from which on it is said before the verdicts."""


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


def misclassified(class_name: str, predicted: Mapping[str, int]) -> str:
    """Return a sentence on the images that are predicted as another class; empty for few.

    Args:
        class_name: The class.
        predicted: How many of its images the network predicts as each class.

    Example:
        >>> misclassified("scratched", {"scratched": 65, "fine": 50, "bent": 5})[:80]
        "The network predicts 55 of the 120 images of 'scratched' as another class (50 as"
        >>> misclassified("scratched", {"scratched": 100, "fine": 20})
        ''
    """
    others = {name: n for name, n in predicted.items() if name != class_name}
    otherwise, images = sum(others.values()), sum(predicted.values())
    if not otherwise or otherwise < MISCLASSIFIED * images:
        return ""
    name, whole = repr(clear(class_name)), count(images, "image")
    most = sorted(others, key=lambda other: -others[other])[:_PREDICTED]
    each = ", ".join(f"{others[other]} as {clear(other)!r}" for other in most if others[other])
    return (
        f"The network predicts {otherwise} of the {whole} of {name} as another class "
        f"({each}). Unless you expect that, check the order of the "
        "class names, the preprocessing (size, mean, std) and that the folder holds this class "
        "alone: the verdicts are about these images."
    )


class _Provenance(Protocol):
    @property
    def among_negatives(self) -> Mapping[str, Collection[str]]: ...


class _ExplainedClass(Protocol):
    """A class explained, as `vtcav.GlobalExplanation` is."""

    @property
    def provenance(self) -> _Provenance: ...

    def class_effects(self, confidence: float = ..., *, by_group: bool = ...) -> pd.DataFrame:
        """Return the effects of erasing each concept."""


def class_verdicts(explained: _ExplainedClass, name: str) -> list[Verdict]:
    """Return what erasing each concept says of a class, of all images or of a group of them.

    Args:
        explained: The explanation of the class.
        name: What the class is called.
    """
    effects = of_pictures(explained.class_effects())
    among = explained.provenance.among_negatives
    found = verdicts(effects, name, among)
    groups = effects["groups"].max() if len(effects) else 0
    if not groups > 0:
        return found
    # Bonferroni: of many groups one is far from 0 by chance
    alone = of_pictures(explained.class_effects(1 - 0.05 / groups, by_group=True))
    return told_by_groups(found, alone, effects, name)  # says only of what is used


def told_by_groups(
    found: Sequence[Verdict], effects: pd.DataFrame, whole: pd.DataFrame, class_name: str
) -> list[Verdict]:
    """Return verdicts in which concepts that a single group of images tells about are used.

    Of few groups, a mean over all may be 0, and a mark of one hospital hardly changes the mean over
    twenty. So each group of at least five images is judged alone, too: its interval must also leave
    out what regions elsewhere do in this group.

    Args:
        found: The verdicts on all images.
        effects: The table of `GlobalExplanation.class_effects` by group, with intervals at a
            confidence for all groups together; chance is corrected for their number here.
        whole: That of all images, whose regions elsewhere count for the groups, too.
        class_name: The class.
    """
    many = effects[effects["n"] >= FEWEST]
    groups = many[GROUP].nunique()
    for p, q in (("p_value", "q_value"), ("p_apart", "q_apart")):
        chance = many["concept"].map(dict(zip(whole["concept"], whole[q], strict=True)))
        many = many.assign(**{q: np.fmin(many[p] * groups, chance)})
    beyond = {
        (row[GROUP], row["concept"]): beyond_elsewhere(row) for row in many.to_dict("records")
    }
    told: dict[str, list[tuple[str, Verdict]]] = {verdict.concept: [] for verdict in found}
    for group, rows in many.groupby(GROUP, sort=False):
        for alone in verdicts(rows, class_name):
            if alone.kind == "used" and beyond[group, alone.concept]:
                told[alone.concept].append((clear(group), alone))
    judged = [
        verdict
        if verdict.kind == "used" or not told[verdict.concept]
        else _in_groups(told[verdict.concept], verdict, groups)
        for verdict in found
    ]
    return sorted(judged, key=lambda verdict: verdict.rank)


def _in_groups(told: list[tuple[str, Verdict]], verdict: Verdict, groups: int) -> Verdict:
    """Return the verdict of a concept that is used in some groups."""
    told.sort(key=lambda each: each[1].rank)
    name, most = told[0]
    where = f"In the group {name!r}"
    if len(told) > 1:
        where = f"In {len(told)} of {groups} groups, most in {name!r}"
    sentence = f"{where}, w{most.sentence.removeprefix('W')} {_OVER_ALL[verdict.kind]}"
    return replace(most, sentence=sentence)


def group_sentences(tests: pd.DataFrame, means: pd.DataFrame, class_name: str) -> list[str]:
    """Return between which groups of images concepts count differently, effects of erasing first.

    Args:
        tests: The table of `GlobalExplanation.group_tests`.
        means: That of `GlobalExplanation.by_group`.
        class_name: The class.

    Example:
        >>> import pandas as pd
        >>> about = {"layer": "layers together", "concept": "ring"}
        >>> means = [{"group": name, "mean": x, "n": 20} for name, x in (("A", 0.0), ("B", 4.9))]
        >>> test = {"groups": 2, "q_value": 0.0002}
        >>> tables = pd.DataFrame([about | test]), pd.DataFrame([about | row for row in means])
        >>> group_sentences(*tables, "ill")[0][:70]
        "Without 'ring' the score of 'ill' falls by 4.90 logits in 'B' (20 imag"
    """
    sure = tests[tests["q_value"] <= SIGNIFICANT]
    order = (sure["layer"] != TOGETHER).to_numpy().argsort(kind="stable")
    found = []
    for test in sure.iloc[order].to_dict("records"):
        own = (means["layer"] == test["layer"]) & (means["concept"] == test["concept"])
        rows = means[own].sort_values("mean").to_dict("records")
        ends = sorted((rows[-1], rows[0]), key=lambda row: -abs(row["mean"]))
        found.append(_differs(test, ends, repr(clear(class_name))))
    return found


def _differs(test: dict[Any, Any], groups: list[dict[Any, Any]], target: str) -> str:
    """Return a significant difference between groups, with the largest and the smallest mean."""
    concept, erased = repr(clear(test["concept"])), test["layer"] == TOGETHER
    if erased:
        what = f"Without {concept} the score of {target}"
    else:
        what = f"The attribution of {concept} to {target} at {named_layers([test['layer']])} is"
    parts = [
        f"{_changes(row['mean']) if erased else number(row['mean'])} in {clear(row[GROUP])!r} "
        f"({count(int(row['n']), 'image')})"
        for row in groups
    ]
    over = f"q {equal_or_less(test['q_value'])} over {count(int(test['groups']), 'group')}"
    return f"{what} {' and '.join(parts)}: the groups differ ({over})."


def _changes(drop: float) -> str:
    size = f"{abs(drop):.2f}"
    verb = "falls" if drop > 0 else "rises"
    return f"{verb} by {size} logits" if float(size) else "does not change"


def _named(names: Sequence[str], of: int) -> str:
    """Return the names of concepts, or how many they are where a sentence cannot hold them."""
    if len(names) <= _NAMED:
        return listed([repr(clear(name)) for name in names])
    return "all concepts" if len(names) == of else f"{len(names)} of {of} concepts"
