"""Attributions of the true class before and after a correction: rows, and means over images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from math import nan
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from vtcav.files.schema import Column
from vtcav.method.clusters import mean_estimate
from vtcav.method.significance import student_interval
from vtcav.results.effect_tables import GROUP

if TYPE_CHECKING:
    import pandas as pd

WITH, WITHOUT, ALL = "with the concept", "without the concept", "all"
BEFORE, AFTER = "before: ", "after: "


class AttributedRow(NamedTuple):
    """The attribution of a concept to an image's true class, at a layer, in both networks.

    Attributes:
        image: The image's name.
        true_class: Its class.
        shows: Whether it shows a concept that is taken out, at the corrected layer.
        layer: The layer.
        concept: The concept, with the same CAV in both networks.
        before: The attribution.
        after: The same in the corrected network.
        raised: Whether both networks raise the class above zero feature maps; where one does not,
            an attribution of 0 is no finding.
        note: What casts doubt on them, of one network with "before: " or "after: ".
    """

    image: str
    true_class: str
    shows: bool
    layer: str
    concept: str
    before: float
    after: float
    raised: bool
    note: str


COLUMNS = {name: Column(kind) for name, kind in get_type_hints(AttributedRow).items()}
"""The columns of a saved table of rows."""

_NUMBERS = "n", "before", "after", "change", "low", "high"
_KEYS = "class_name", "shown", "layer", "concept", "corrected"
_LEFT = 0.9  # of the mean size, below which a mean hides effects that cancel
_TABLE = [*_KEYS, "n", "unraised", *_NUMBERS[1:], "relative", "note"]


def compared(group: pd.DataFrame, before: str, after: str) -> dict[str, Any]:
    """Return the means of two columns, and their difference with its 95 % interval.

    It is over images, or over groups of them where the table has these.
    """
    n = len(group)
    if not n:
        return {"n": 0, **dict.fromkeys(_NUMBERS[1:], nan)}
    first, second = group[before].to_numpy(float), group[after].to_numpy(float)
    change, low, high = (
        student_interval(second - first) if n > 1 else (float(second[0] - first[0]), nan, nan)
    )
    if GROUP in group:
        low, high = mean_estimate(second - first, group[GROUP].tolist()).interval()
    means = {"before": float(first.mean()), "after": float(second.mean())}
    return {"n": n, **means, "change": change, "low": low, "high": high}


def relative(found: dict[str, Any]) -> float:
    """Return a change as a share of the mean before; NaN where that is not above 0."""
    return float(found["change"] / found["before"]) if found["before"] > 0 else nan


def mean_sizes(effects: pd.DataFrame) -> tuple[float, float] | None:
    """Return the mean sizes of a concept's effects on the classes, where the effects cancel.

    Args:
        effects: Rows of one concept in `CorrectionReport.effects`, of all classes together and of
            each.

    Returns:
        Before and after, weighted by images; None where the mean over all classes, signs and all,
        has nearly that size, too.
    """
    own = effects[(effects["class_name"] != "") & (effects["n"] > 0)]
    if own.empty:
        return None
    weights = own["n"] / own["n"].sum()
    sizes = [float((own[name].abs() * weights).sum()) for name in ("before", "after")]
    means = [abs(float((own[name] * weights).sum())) for name in ("before", "after")]
    if all(mean >= _LEFT * size for mean, size in zip(means, sizes, strict=True)):
        return None
    return sizes[0], sizes[1]


def uncancelled(effects: pd.DataFrame) -> pd.DataFrame:
    """Return effects without the means over all classes that would hide those of single ones.

    Args:
        effects: The table of `CorrectionReport.effects`.
    """
    hidden = [name for name, own in effects.groupby("concept") if mean_sizes(own) is not None]
    return effects[(effects["class_name"] != "") | ~effects["concept"].isin(hidden)]


def compared_attributions(rows: pd.DataFrame, corrected: Collection[str]) -> pd.DataFrame:
    """Return mean attributions before and after, by class, images, layer and concept.

    Args:
        rows: Rows with the columns of `AttributedRow`.
        corrected: The concepts that are taken out.
    """
    import pandas as pd

    table = []
    shows = rows["shows"].astype(bool)
    for shown, chosen in ((WITH, rows[shows]), (ALL, rows), (WITHOUT, rows[~shows])):
        for name, of_class in [("", chosen), *chosen.groupby("true_class", sort=False)]:
            for (layer, concept), group in of_class.groupby(["layer", "concept"], sort=False):
                keys = name, shown, layer, concept, concept in corrected
                table.append(dict(zip(_KEYS, keys, strict=True)) | _compared(group))
    return pd.DataFrame(table, columns=_TABLE)


def _compared(group: pd.DataFrame) -> dict[str, Any]:
    """Compare the images whose class both networks raise, and count the others."""
    raised = group["raised"].astype(bool)
    found = compared(group[raised], "before", "after")
    unraised, note = int((~raised).sum()), _together(group[raised]["note"])
    return {**found, "unraised": unraised, "relative": relative(found), "note": note}


def joined(before: Iterable[str], after: Iterable[str]) -> str:
    """Return the notes of both networks as one text.

    Example:
        >>> joined(["rough", "not seen"], ["rough"])
        'rough; before: not seen'
    """
    first, second = list(before), list(after)
    both = [note for note in first if note in second]
    own = [BEFORE + note for note in first if note not in both]
    return "; ".join([*both, *own, *(AFTER + note for note in second if note not in both)])


def _together(notes: pd.Series[Any]) -> str:
    """Return the notes of several images in either network, with the number of those with each."""
    plain = notes.str.replace(f"{BEFORE}|{AFTER}", "", regex=True)
    counts = Counter(one for note in plain for one in dict.fromkeys(note.split("; ")) if one)
    n = len(notes)
    return "; ".join(
        note if many == n else f"{note} ({many} of {n} images)" for note, many in counts.items()
    )
