"""Result of a comparison: one table of all methods, its class means and rank correlations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from vtcav.evaluation.compare.methods import OURS, UNITS
from vtcav.evaluation.correlation import spearman
from vtcav.evaluation.result import EvaluationResult, by_group
from vtcav.files.manifest import records
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.tables.shapes import printable
from vtcav.results.words import counted_notes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


KIND = "comparison"

TRUE_MASK, CONCEPT_MAP = "true mask", "concept map"
ONE_VALUE = "one image with a value: no spread"
SAME_MAP = "both depend on Visual-TCAV's concept maps, so they agree in part by construction"

_KEYS = ["method", "layer", "concept", "class_index", "class_name"]


class CompareRow(NamedTuple):
    """One number of one method."""

    method: str
    layer: str
    concept: str
    class_index: int
    class_name: str
    image: str
    value: float
    p_value: float = math.nan
    region: str = ""
    area: float = math.nan
    weight: float = 1.0
    note: str = ""


def weighted_mean(rows: pd.DataFrame) -> float:
    """Return the mean of the values of rows that have one, each with its weight; NaN without any.

    Example:
        >>> import pandas as pd
        >>> weighted_mean(pd.DataFrame({"value": [0.2, 0.5, None], "weight": [2.0, 1.0, 9.0]}))
        0.3
    """
    known = rows.dropna(subset=["value"])
    if known.empty:
        return math.nan
    return float((known["value"] * known["weight"]).sum() / known["weight"].sum())


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison(EvaluationResult):
    """Values of several methods for the same concepts, layers, classes and images.

    Values of different methods have different units (`vtcav.evaluation.compare.methods.UNITS`) and
    answer different questions: compare values within a method, and only their order between
    methods.

    Attributes:
        methods: In the order of the table.
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        classes: Class names, in the order given.
        skipped: Images that could not be read, with reasons.
        provenance: What the numbers depend on.
    """

    kind: ClassVar[str] = KIND
    title: ClassVar[str] = "the comparison"

    methods: tuple[str, ...]
    classes: tuple[str, ...]
    _class_p: Mapping[tuple[Any, ...], float] = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row per method, layer, concept, class and image.

        Columns: method, layer (empty where the value depends on none: a map of the input inside a
        true mask; "layers together" for erasure), concept, class_index, class_name, image (empty
        for methods that judge a class as a whole), value (`UNITS`), p_value (of the method's own
        test, not corrected; empty for methods that have none), region ("true mask" or "concept
        map", for the shares of saliency maps), area (share of the image that the region covers,
        which is the value of an uninformative map; empty for other methods), weight (of the image
        in the mean of its class: for a share of erasure the logit difference that it is a share
        of, 1 elsewhere), note (the reason for every missing value, and reasons for caution).
        """
        return printable(self._rows, "p_value", "value")

    def summary(self) -> pd.DataFrame:
        """Return one row per method, layer, concept and class.

        Columns: method, layer, concept, class_index, class_name, n (images with a value; 0 where
        the method judges the class as a whole), mean (with the table's weights), std (sample
        standard deviation over images, empty for fewer than two), p_value (of the class, where the
        method has a test), note (also why there is no std).
        """

        def over_images(group: pd.DataFrame) -> dict[str, Any]:
            single = bool((group["image"] == "").all())
            values = group["value"].dropna()
            own = float(group["p_value"].iloc[0]) if single else math.nan
            key = tuple(group[_KEYS[:4]].iloc[0])
            notes = counted_notes(group["note"]) + [ONE_VALUE] * (not single and len(values) == 1)
            return {
                "n": 0 if single else len(values),
                "mean": weighted_mean(group),
                "std": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
                "p_value": self._class_p.get(key, own),
                "note": "; ".join(notes),
            }

        return printable(by_group(self._rows, _KEYS, over_images), "p_value", "mean")

    def ranks(self) -> pd.DataFrame:
        """Return the rank correlation of every two methods, at each layer.

        Spearman's coefficient over the class means of all classes and concepts: do two methods
        rank them in the same order? A method without layers, or with all layers together, is
        compared at every layer. Where the regions are concept maps, Visual-TCAV and the saliency
        methods agree in part because all of them depend on these maps; the note says so.

        Columns: layer, method, other, n (points), spearman (-1 to 1), note (why it is missing, or a
        reason for caution).
        """
        import pandas as pd

        summary = self.summary()
        rows = []
        for layer in self.layers:
            here = summary[summary["layer"].isin([layer, "", TOGETHER])]
            wide = here.pivot_table(
                index=["class_index", "concept"],
                columns="method",
                values="mean",
                sort=False,
                dropna=False,
            )
            for method, other in combinations([m for m in self.methods if m in wide], 2):
                both = wide[[method, other]].dropna()
                found = spearman(both[method].to_numpy(), both[other].to_numpy())
                note = found.note or (SAME_MAP if self._share_maps(method, other) else "")
                rows.append((layer, method, other, found.n, found.value, note))
        columns = ["layer", "method", "other", "n", "spearman", "note"]
        return pd.DataFrame(rows, columns=columns)

    def _share_maps(self, *pair: str) -> bool:
        """Tell whether two methods both depend on Visual-TCAV's concept maps."""
        on_maps = set(self._rows.loc[self._rows["region"] == CONCEPT_MAP, "method"])
        return all(method in on_maps | set(OURS) for method in pair)

    def _draw(self, figure: Figure) -> Figure:
        from vtcav.evaluation.compare.figure import plot_comparison

        return plot_comparison(self, self.methods, self.classes, figure)

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"values": self._rows, "summary": self.summary(), "ranks": self.ranks()}

    def _facts(self) -> dict[str, Any]:
        return {
            "methods": self.methods,
            "classes": self.classes,
            "units": {method: UNITS[method] for method in self.methods},
            "ranks": records(self.ranks()),
        }
