"""Agreement of values with measured causal effects: the numbers reported.

```
points (seed, q, class, cue, layer, method: value, share) -> per layer -> best, median -> over seeds
images (the same for each image)                          -> per layer -> best, median -> over seeds
absent (the same, the cue removed from half of the images) -> per layer -> ...
```

To add a coefficient of class means, add an entry to `COEFFICIENTS`; of single images, to
`IMAGE_BY_IMAGE`; of images half of which lack the cue, to `HALF_ABSENT`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vtcav.evaluation.correlation import (
    FEWEST,
    Correlation,
    PairOrder,
    interval_over_seeds,
    pair_order,
    pearson,
    spearman,
)
from vtcav.evaluation.result import by_group

if TYPE_CHECKING:
    import pandas as pd


NO_SIZE = "no error and slope: the values are not in the unit of the truth"
ONE_SEED = "one seed: no other to choose the layer on"
LAYERS = {
    "best_layer": "best layer",
    "median_layer": "median layer",
    "chosen_layer": "layer chosen on other seeds",
}
"""The layers whose coefficients are reported."""


class Agreement(NamedTuple):
    """A number, and why it is missing or what was left out.

    Attributes:
        value: The number.
        note: The reason.
        undefined: Of a mean over groups, how many of them have no coefficient.
    """

    value: float
    note: str = ""
    undefined: int = 0


class Measure(NamedTuple):
    """A measure of agreement.

    Attributes:
        title: Its name in tables.
        of: Computes it from rows with a value and a truth, and the name of the truth's column.
        chance: What a layer without it counts as: its value for uninformative estimates.
        goal: Its value for estimates that equal the truth. The best layer is nearest to it.
        correlation: Whether it is a correlation, averaged over seeds by Fisher's z.
        sized: Whether it compares sizes, which only values in the unit of the truth have.
    """

    title: str
    of: Callable[[pd.DataFrame, str], Agreement]
    chance: float
    goal: float = 1.0
    correlation: bool = True
    sized: bool = False


def _known(rows: pd.DataFrame, truth: str) -> pd.DataFrame:
    return rows.dropna(subset=["value", truth])


def _of_all(
    coefficient: Callable[[ArrayLike, ArrayLike], Correlation | PairOrder],
) -> Callable[[pd.DataFrame, str], Agreement]:
    """Return a coefficient over all rows that have a value and a truth."""

    def of(rows: pd.DataFrame, truth: str) -> Agreement:
        known = _known(rows, truth)
        found = coefficient(known["value"], known[truth])
        return Agreement(found.value, found.note)

    return of


def _inside(
    keys: Sequence[str], name: str, only: str | None = None
) -> Callable[[pd.DataFrame, str], Agreement]:
    """Return the mean of Spearman's coefficient inside groups; an undefined one counts as 0.

    Args:
        keys: The columns whose values make a group.
        name: What a group is called in notes.
        only: The truth; None takes the one that is asked for.
    """

    def of(rows: pd.DataFrame, truth: str) -> Agreement:
        pairs = rows[["value", only or truth]].to_numpy(float)
        known = ~np.isnan(pairs).any(1)
        groups = [pairs[at[known[at]]] for at in rows.groupby(list(keys)).indices.values()]
        found = np.array([spearman(*group.T).value for group in groups])
        undefined = int(np.isnan(found).sum())
        if undefined == len(found):
            return Agreement(math.nan, f"no {name} has a coefficient", undefined)
        note = f"{undefined} of {len(found)} {name}s have no coefficient, counted as 0"
        return Agreement(float(np.nan_to_num(found).mean()), note * bool(undefined), undefined)

    return of


def _error(rows: pd.DataFrame, truth: str) -> Agreement:
    """Return the mean absolute difference from the truth."""
    known = _known(rows, truth)
    if known.empty:
        return Agreement(math.nan, "no point has a value")
    return Agreement(float((known["value"] - known[truth]).abs().mean()))


def _slope(rows: pd.DataFrame, truth: str) -> Agreement:
    """Return the slope of the straight line of values over truths (least squares)."""
    known = _known(rows, truth)
    if len(known) < FEWEST or known[truth].nunique() < 2:
        return Agreement(math.nan, "no slope: fewer than 3 points, or all truths are the same")
    return Agreement(float(np.polyfit(known[truth], known["value"], 1)[0]))


def _weaker(rows: pd.DataFrame, truth: str) -> Agreement:
    """Return the size of the weaker cue: the sum of values over that of truths."""
    known = _known(rows[(rows["cue"] == "tag") & (rows["q"] > 0) & (rows["q"] <= 0.5)], truth)
    if known[truth].sum() <= 0:
        return Agreement(math.nan, "no tags with q above 0 and up to 50 %, or they have no effect")
    return Agreement(float(known["value"].sum() / known[truth].sum()))


def _kept(rows: pd.DataFrame, truth: str) -> Agreement:
    return Agreement(float(rows["value"].notna().mean()))


def _presence(rows: pd.DataFrame, truth: str) -> Agreement:
    """Return how often an image with the cue gets more than one without, inside groups.

    The AUC; a group without values counts as chance.
    """
    found = [
        pair_order(own["value"], own["shown"].astype(float)).value
        for _, own in rows.dropna(subset=["value"]).groupby(list(_GROUP))
    ]
    groups = rows.groupby(list(_GROUP)).ngroups
    defined = [value for value in found if not math.isnan(value)]
    lost = groups - len(defined)
    note = f"{lost} of {groups} groups have no AUC, counted as 0.5" if lost else ""
    return Agreement((sum(defined) + 0.5 * lost) / groups, note, lost)


def _absent(rows: pd.DataFrame, truth: str) -> Agreement:
    """Return the mean absolute value of images without the cue."""
    values = rows.loc[~rows["shown"], "value"].dropna().abs()
    if values.empty:
        return Agreement(math.nan, "no image without the cue has a value")
    return Agreement(float(values.mean()))


COEFFICIENTS = {
    "spearman": Measure("Spearman", _of_all(spearman), 0.0),
    "pearson": Measure("Pearson", _of_all(pearson), 0.0),
    "pair_order": Measure("pairs ordered correctly", _of_all(pair_order), 0.5, correlation=False),
    "inside": Measure("Spearman inside a condition", _inside(["q", "cue"], "condition"), 0.0),
    "error": Measure("mean error", _error, 1.0, 0.0, correlation=False, sized=True),
    "slope": Measure("slope", _slope, 0.0, correlation=False, sized=True),
    "weaker": Measure("weaker tag", _weaker, 0.0, correlation=False, sized=True),
    "kept": Measure("points with a value", _kept, 0.0, correlation=False),
}
"""Coefficients over class means."""
_GROUP = ("q", "class_index", "cue")
IMAGE_BY_IMAGE = {
    "within_share": Measure("with the share", _inside(_GROUP, "group", "share"), 0.0),
    "within_effect": Measure("with the effect", _inside(_GROUP, "group", "effect"), 0.0),
}
"""Coefficients over the images of one class, network and cue, averaged over these groups."""
HALF_ABSENT = {
    "mixed": Measure("Spearman with the effect", _inside(_GROUP, "group", "effect"), 0.0),
    "presence": Measure("AUC", _presence, 0.5, correlation=False),
    "absent": Measure("mean |value| without the cue", _absent, 1.0, 0.0, correlation=False),
}
"""Coefficients over the images of a class of which every second one lacks the cue."""
MEASURES = COEFFICIENTS | IMAGE_BY_IMAGE | HALF_ABSENT


def by_layer(
    points: pd.DataFrame, truth: str = "share", sized: Collection[str] = ()
) -> pd.DataFrame:
    """Return the coefficients of every seed, method and layer.

    Args:
        points: Columns seed, q, cue, method, layer, value and the truth, one row for every class,
            cue and agreement q.
        truth: The column that values are compared with.
        sized: The methods whose values are in the unit of the truth; only these have an error
            and a slope.

    Returns:
        Columns seed, method, layer, n, lost (points without a value), those of `COEFFICIENTS`,
        note (why a coefficient is missing, or that points were left out).
    """

    def coefficients(group: pd.DataFrame) -> dict[str, Any]:
        has_size = group["method"].iloc[0] in sized
        found = {
            name: measure.of(group, truth) if has_size or not measure.sized else Agreement(math.nan)
            for name, measure in COEFFICIENTS.items()
        }
        known = len(_known(group, truth))
        lost = len(group) - known
        notes = [f"{lost} of {len(group)} points have no value"] * (lost > 0)
        notes += dict.fromkeys(filter(None, [each.note for each in found.values()]))
        notes += [NO_SIZE] * (not has_size)
        values = {name: each.value for name, each in found.items()}
        return {"n": known, "lost": lost, **values, "note": "; ".join(notes)}

    return by_group(points, ["seed", "method", "layer"], coefficients)


def by_seed(layers: pd.DataFrame, measures: Mapping[str, Measure] = COEFFICIENTS) -> pd.DataFrame:
    """Return the best and the median layer of every seed and method, for each coefficient.

    The best layer is chosen by the truth that it is then judged by. The chosen layer is not: it is
    the best on average over all other seeds.

    Args:
        layers: What `by_layer` or `by_image` returns. A layer whose coefficient is missing counts
            as chance, so that a method gains nothing by failing.
        measures: Its coefficients.

    Returns:
        Columns seed, method, coefficient, best_layer, median_layer, chosen_layer (values),
        best_layer_name, chosen_layer_name, note. Methods whose values have no size have no rows
        for coefficients that compare sizes.
    """
    each = layers.melt(
        ["seed", "method", "layer"], list(measures), "coefficient", ignore_index=False
    )
    each = each.sort_index(kind="stable")  # the coefficients of a layer side by side
    known = each.groupby(["method", "coefficient"])["value"].transform("count")
    sizes = [name for name, measure in measures.items() if measure.sized]
    each = each[(known > 0) | ~each["coefficient"].isin(sizes)]
    each = each.assign(missing=each["value"].isna())
    chance = each["coefficient"].map({name: own.chance for name, own in measures.items()})
    each["value"] = each["value"].fillna(chance)
    goals = each["coefficient"].map({name: own.goal for name, own in measures.items()})
    each["away"] = (each["value"] - goals).abs()

    def layers_of(group: pd.DataFrame) -> dict[str, Any]:
        seed, method, name = group[["seed", "method", "coefficient"]].iloc[0]
        same = (each["method"] == method) & (each["coefficient"] == name)
        elsewhere = each[same & (each["seed"] != seed)].groupby("layer", sort=False)["value"]
        by_name = group.set_index("layer")["value"]
        best = str(group["layer"].iloc[int(group["away"].to_numpy().argmin())])
        chosen, missing = None, int(group["missing"].sum())
        if len(elsewhere):
            chosen = str((elsewhere.mean() - measures[name].goal).abs().idxmin())
        note = f"{missing} of {len(group)} layers have no coefficient, counted as "
        notes = [f"{note}{measures[name].chance:g}"] * (missing > 0) + [ONE_SEED] * (chosen is None)
        return {
            "best_layer": float(by_name[best]),
            "median_layer": float(by_name.median()),
            "chosen_layer": math.nan if chosen is None else float(by_name[chosen]),
            "best_layer_name": best,
            "chosen_layer_name": chosen or "",
            "note": "; ".join(notes),
        }

    return by_group(each, ["seed", "method", "coefficient"], layers_of)


def by_image(images: pd.DataFrame) -> pd.DataFrame:
    """Return, per seed, method and layer, how well per-image values follow per-image effects.

    Args:
        images: Columns seed, q, class_index, cue, method, layer, value, share, effect; one row per
            image.

    Returns:
        Columns seed, method, layer, n, spearman (over all images, cues and networks), those of
        `IMAGE_BY_IMAGE` (means of Spearman's coefficient inside every (q, class, cue), which the
        differences between classes and networks do not help; a group without a coefficient counts
        as 0), groups (their number), undefined (how many have no coefficient with the share), note.
    """

    def agreement(group: pd.DataFrame) -> dict[str, Any]:
        known = _known(group, "share")
        whole = spearman(known["value"], known["share"])
        inside = {name: measure.of(group, "") for name, measure in IMAGE_BY_IMAGE.items()}
        lost = len(group) - len(known)
        notes = [f"{lost} of {len(group)} images have no value"] * (lost > 0) + [whole.note]
        notes += [f"{name}: {found.note}" for name, found in inside.items() if found.note]
        return {
            "n": len(known),
            "spearman": whole.value,
            **{name: found.value for name, found in inside.items()},
            "groups": group.groupby(list(_GROUP)).ngroups,
            "undefined": inside["within_share"].undefined,
            "note": "; ".join(filter(None, notes)),
        }

    return by_group(images, ["seed", "method", "layer"], agreement)


def by_presence(images: pd.DataFrame, absent: pd.DataFrame) -> pd.DataFrame:
    """Return, per seed, method and layer, how well values tell whether a cue is there.

    Of networks that use the cue: tags that agree with the class in half of the training images or
    more, textures where tags agree in half or less.

    Args:
        images: What `by_image` takes.
        absent: Columns seed, q, class_index, cue, method, layer, image, value: some of the images,
            without the cue. Its effect there is 0.

    Returns:
        Columns seed, method, layer, n (images), those of `HALF_ABSENT` (inside every (q, class,
        cue), averaged), note.
    """
    import pandas as pd

    keys = ["seed", *_GROUP, "method", "layer"]
    without = absent.assign(shown=False, effect=0.0)
    marks = without[[*keys, "image"]].assign(out=True)
    whole = images.merge(marks, how="left", on=[*keys, "image"])
    whole = whole[whole["out"].isna() & whole["method"].isin(absent["method"].unique())]
    columns = [*keys, "shown", "value", "effect"]
    rows = pd.concat([whole.assign(shown=True)[columns], without[columns]], ignore_index=True)
    rows = rows[((rows["cue"] == "tag") & (rows["q"] >= 0.5)) | _texture_used(rows)]

    def agreement(group: pd.DataFrame) -> dict[str, Any]:
        found = {name: measure.of(group, "effect") for name, measure in HALF_ABSENT.items()}
        lost = int(group["value"].isna().sum())
        notes = [f"{lost} of {len(group)} images have no value"] * (lost > 0)
        notes += [f"{name}: {each.note}" for name, each in found.items() if each.note]
        values = {name: each.value for name, each in found.items()}
        return {"n": len(group), **values, "note": "; ".join(notes)}

    return by_group(rows, ["seed", "method", "layer"], agreement)


def by_opposition(against: pd.DataFrame) -> pd.DataFrame:
    """Return, per seed and method, how often a tag of another class counts against the class.

    Of networks that use tags: those with q of half or more.

    Args:
        against: Columns seed, q, class_index, method, image, value, effect; the value for the
            other class's tag in images that show it instead of their own, and its effect.

    Returns:
        Columns seed, method, n (images), negative (the share with a value below 0; a missing one is
        not), truly_negative (with an effect below 0), spearman (of value and effect), note.
    """

    def agreement(group: pd.DataFrame) -> dict[str, Any]:
        known = _known(group, "effect")
        found, lost = spearman(known["value"], known["effect"]), len(group) - len(known)
        notes = [f"{lost} of {len(group)} images have no value"] * (lost > 0) + [found.note]
        return {
            "n": len(group),
            "negative": float((group["value"] < 0).mean()),
            "truly_negative": float((group["effect"] < 0).mean()),
            "spearman": found.value,
            "note": "; ".join(filter(None, notes)),
        }

    return by_group(against[against["q"] >= 0.5], ["seed", "method"], agreement)


def _texture_used(rows: pd.DataFrame) -> pd.Series[bool]:
    return (rows["cue"] == "texture") & (rows["q"] <= 0.5)


def summarise(seeds: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return, by method and coefficient, means over seeds with intervals, and each seed's values.

    Args:
        seeds: What `by_seed` returns.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, group in seeds.groupby(["method", "coefficient"], sort=False):
        method, name = map(str, key)
        entry: dict[str, Any] = {}
        correlation = MEASURES[name].correlation
        for which in LAYERS:
            interval = asdict(interval_over_seeds(group[which], correlation=correlation))
            entry[which] = interval["value"]
            ends = ("low", "high", "confidence", "note")
            entry[f"{which}_interval"] = {key: interval[key] for key in ends}
        rows = group.drop(columns=["method", "coefficient"])
        rows = rows.rename(columns={"best_layer_name": "best", "chosen_layer_name": "chosen"})
        entry["per_seed"] = rows.to_dict("records")
        found.setdefault(method, {})[name] = entry
    return plain(found)


def plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return data for strict JSON: NaN becomes null (its reason is in a note)."""
    text = json.dumps(data, default=lambda number: number.item())
    found: dict[str, Any] = json.loads(text, parse_constant=lambda constant: None)
    return found
