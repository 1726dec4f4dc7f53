"""The result of a comparison: one table of all methods, its class means and rank correlations."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vtcav.evaluation.compare.methods import FILTER, UNITS
from vtcav.evaluation.correlation import spearman
from vtcav.files.manifest import records, save_result, write_table
from vtcav.images.references import Skipped
from vtcav.results.provenance import Provenance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["CONCEPT_MAP", "TRUE_MASK", "CompareRow", "Comparison"]

FORMAT = 1
KIND = "comparison"

TRUE_MASK, CONCEPT_MAP = "true mask", "concept map"
ONE_VALUE = "one image with a value: no spread"
SAME_MAP = "both grow with Visual-TCAV's concept maps, so they agree in part by construction"

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
    note: str = ""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What several methods say of the same concepts, layers, classes and images.

    Values of different methods have different units (`vtcav.evaluation.compare.methods.UNITS`) and
    answer different questions: within a method they can be compared, between methods only their
    order.

    Attributes:
        methods: In the order of the table.
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        classes: Class names, in the order given.
        skipped: Images that could not be read, with reasons.
        provenance: What the numbers depend on.
    """

    methods: tuple[str, ...]
    layers: tuple[str, ...]
    concepts: tuple[str, ...]
    classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    provenance: Provenance = field(repr=False)
    _rows: pd.DataFrame = field(repr=False)
    _class_p: pd.DataFrame = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row per method, layer, concept, class and image.

        Columns: method, layer (empty where the value depends on none: a map of the input inside a
        true mask), concept, class_index, class_name, image (empty for methods that speak of a
        class alone), value (`UNITS`), p_value (of the method's own test, not corrected; empty for
        methods that have none), region ("true mask" or "concept map", for the shares of saliency
        maps), area (share of the image that the region covers, which is what a map that knows
        nothing of the concept gives; empty for other methods), note (the reason of every missing
        value, and what is doubtful).
        """
        return self._rows.copy()

    def summary(self) -> pd.DataFrame:
        """Return one row per method, layer, concept and class.

        Columns: method, layer, concept, class_index, class_name, n (images with a value; 0 where
        the method speaks of the class alone), mean, std (sample standard deviation over images,
        empty for fewer than two), p_value (of the class, where the method has a test), note (also
        why there is no std).
        """
        import pandas as pd

        p = {tuple(row[:4]): row[4] for row in self._class_p.itertuples(index=False)}
        rows = []
        for key, group in self._rows.groupby(_KEYS, sort=False):
            single = bool((group["image"] == "").all())
            values = group["value"].dropna()
            own = float(group["p_value"].iloc[0]) if single else math.nan
            notes = [_notes(group["note"].tolist())]
            if not single and len(values) == 1:
                notes.append(ONE_VALUE)
            rows.append(
                dict(zip(_KEYS, key, strict=True))
                | {
                    "n": 0 if single else len(values),
                    "mean": float(values.mean()) if len(values) else math.nan,
                    "std": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
                    "p_value": p.get(key[:4], own),
                    "note": "; ".join(filter(None, notes)),
                }
            )
        columns = [*_KEYS, "n", "mean", "std", "p_value", "note"]
        return pd.DataFrame(rows, columns=columns)

    def ranks(self) -> pd.DataFrame:
        """Return the rank correlation of every two methods, at each layer.

        Spearman's coefficient over the class means of all classes and concepts: do two methods
        put them in the same order? A method without layers is compared at every layer. Where the
        regions are concept maps, Visual-TCAV and the saliency methods agree in part because all
        of them grow with these maps; the note says so.

        Columns: layer, method, other, n (points), spearman (-1 to 1), note (why it is missing, or
        what is doubtful).
        """
        import pandas as pd

        summary = self.summary()
        rows = []
        for layer in self.layers:
            here = summary[summary["layer"].isin([layer, ""])]
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
        return all(method in on_maps | {"visual_tcav", FILTER} for method in pair)

    def plot(self) -> Figure:
        """Draw methods by layers, each method on a scale of its own."""
        from vtcav.evaluation.compare.figure import plot_comparison
        from vtcav.results.figures.page import new_figure

        return plot_comparison(self, new_figure())

    def save(self, folder: str | Path) -> Path:
        """Write tables, figure and provenance, all or nothing.

        The files are `comparison.json` (class means, rank correlations and provenance; written
        last, with a hash of each other file), `comparison_values`, `comparison_summary` and
        `comparison_ranks` (.csv, .parquet) and `comparison.png`. An earlier comparison there is
        replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, KIND, "the comparison", self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.evaluation.compare.figure import plot_comparison
        from vtcav.results.figures.page import save_figure

        tables = {"values": self._rows, "summary": self.summary(), "ranks": self.ranks()}
        for name, table in tables.items():
            write_table(folder / f"{KIND}_{name}", table)
        save_figure(lambda figure: plot_comparison(self, figure), folder / f"{KIND}.png")
        return {
            "methods": self.methods,
            "layers": self.layers,
            "concepts": self.concepts,
            "classes": self.classes,
            "skipped": [asdict(skip) for skip in self.skipped],
            "units": {method: UNITS[method] for method in self.methods},
            "summary": records(tables["summary"]),
            "ranks": records(tables["ranks"]),
            "provenance": self.provenance.to_dict(),
        }


def _notes(notes: list[str]) -> str:
    """Return the notes of some images as one text, with how many of them each concerns."""
    counts = Counter(part for note in notes if note for part in note.split("; "))
    n = len(notes)
    return "; ".join(note if c == n else f"{c} of {n} images: {note}" for note, c in counts.items())
