"""Result of a localisation: agreement of concept maps with masks over many images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from vtcav.evaluation.localisation.masked_image import MaskedImage
from vtcav.evaluation.metrics import METRICS
from vtcav.evaluation.result import EvaluationResult, by_group, mean_interval
from vtcav.parameters import Between, check
from vtcav.results.tables.shapes import printable
from vtcav.results.words import counted_notes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


ONE_IMAGE = "one image: no spread, no interval"


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderLocalisation(EvaluationResult):
    """Agreement of the maps of concepts with masks.

    Attributes:
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        skipped: Images, or masks of a concept, that were left out, with reasons.
        examples: A few images for the figure.
        provenance: What the numbers depend on.
    """

    kind: ClassVar[str] = "localisation"
    title: ClassVar[str] = "the localisation"

    examples: tuple[MaskedImage, ...] = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row per image, layer and concept.

        Columns: image, layer, concept, pointing_game, energy_inside, soft_iou, balanced_mse,
        cell_auc, area (as in `metrics.Localisation`), separated (whether the layer separates the
        concept from its negatives), note (why a number is missing or has little meaning; empty
        otherwise).
        """
        return printable(self._rows)

    def summary(self, confidence: float = 0.95) -> pd.DataFrame:
        """Return one row per layer, concept and metric, over images.

        Columns: layer, concept, metric (the five and "area"), n (images for which it is defined),
        mean, std (sample standard deviation), ci_low and ci_high (Student t interval of the mean,
        over images of this kind), note (for how many images it is not defined, and why).

        Args:
            confidence: Of the interval, between 0 and 1.

        Raises:
            ExplanationError: For a confidence out of range.
        """
        import pandas as pd

        check("confidence", confidence, Between(0, 1))
        groups = dict(iter(self._rows.groupby(["concept", "layer"])))
        made = pd.DataFrame(
            [
                {"layer": layer, "concept": concept, "metric": metric}
                | _over_images(groups[concept, layer], metric, confidence)
                for concept in self.concepts
                for layer in self.layers
                if (concept, layer) in groups
                for metric in (*METRICS, "area")
            ]
        )
        return printable(made, "ci_low", "ci_high", "mean")

    def means(self) -> pd.DataFrame:
        """Return one row per layer and concept: the mean of each metric, in columns.

        Columns: layer, concept, images, the metrics, area, note (of all metrics).
        """

        def columns(rows: pd.DataFrame) -> dict[str, Any]:
            parts = "; ".join(filter(None, rows["note"])).split("; ")
            images = rows["n"].max()  # the area is defined for every one
            means = dict(zip(rows["metric"], rows["mean"], strict=True))
            return {"images": images, **means, "note": "; ".join(dict.fromkeys(parts))}

        return printable(by_group(self.summary(), ["layer", "concept"], columns))

    def _draw(self, figure: Figure) -> Figure:
        from vtcav.evaluation.localisation.figure import plot_localisation

        return plot_localisation(self, self.examples, figure)

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"table": self._rows, "summary": self.summary()}

    def _facts(self) -> dict[str, Any]:
        return {"confidence": 0.95}


def _over_images(rows: pd.DataFrame, metric: str, confidence: float) -> dict[str, Any]:
    """Return the summary of one metric of one layer and concept."""
    values = rows[metric].dropna().to_numpy(float)
    n = len(values)
    mean, low, high = mean_interval(values, confidence)
    notes = counted_notes(rows["note"][rows[metric].isna()], of=len(rows))
    return {
        "n": n,
        "mean": mean,
        "std": float(values.std(ddof=1)) if n > 1 else math.nan,
        "ci_low": low,
        "ci_high": high,
        "note": "; ".join([*notes, *[ONE_IMAGE] * (n == 1)]),
    }
