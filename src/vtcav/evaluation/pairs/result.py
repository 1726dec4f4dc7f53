"""Result of pairs: measured effects, attributions, and how far they agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vtcav.evaluation.correlation import Correlation, pearson, spearman
from vtcav.evaluation.result import EvaluationResult, by_group, mean_interval
from vtcav.files.manifest import records
from vtcav.method.clusters import mean_estimate
from vtcav.parameters import Between, check
from vtcav.results.tables.shapes import printable
from vtcav.results.verdicts.changes import elsewhere_does, score_change
from vtcav.results.words import clear, count, equal_or_less

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_LEAST = 5  # photographs that the interval of a correlation is taken from


@dataclass(frozen=True, eq=False, kw_only=True)
class Pairs(EvaluationResult):
    """Measured effects of a thing in photographs, beside what is attributed to concepts.

    Attributes:
        class_name: The class; empty where it is the one predicted for each photograph.
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        skipped: Pictures that were left out, with reasons: no partner, not aligned, unreadable.
        provenance: What the numbers depend on.
    """

    kind: ClassVar[str] = "pairs"
    title: ClassVar[str] = "the pairs"

    class_name: str
    _rows: pd.DataFrame = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row per photograph, layer and concept.

        Columns: image, class_index, class_name, measured (how far the class's logit falls without
        the thing), placebo (the mean fall when as much is filled in elsewhere), changed (the share
        of the picture that differs), layer, concept, attribution (of the photograph with the thing;
        in rows of the "layers together" the fall in logits when the concept's region is erased),
        note.
        """
        return printable(self._rows, "measured", "placebo", "attribution")

    def effect(self, confidence: float = 0.95) -> pd.DataFrame:
        """Return one row: what the thing does, whatever the layer and the concept.

        Columns: n (photographs), measured, measured_low and measured_high (mean and Student t
        interval), placebo (mean), p_value (measured against placebo, paired t test).

        Args:
            confidence: Of the interval, between 0 and 1.

        Raises:
            ExplanationError: For a confidence out of range.
        """
        import pandas as pd

        check("confidence", confidence, Between(0, 1))
        first = self._rows[["layer", "concept"]].iloc[0]
        rows = self._rows[(self._rows[["layer", "concept"]] == first).all(axis=1)]
        measured, placebo = rows["measured"].to_numpy(float), rows["placebo"].to_numpy(float)
        mean, low, high = mean_interval(measured, confidence)
        more = measured - placebo
        row = {
            "n": len(rows),
            "measured": mean,
            "measured_low": low,
            "measured_high": high,
            "placebo": float(placebo.mean()),
            "p_value": nan if np.isnan(more).any() else mean_estimate(more).p_beyond(),
        }
        return printable(pd.DataFrame([row]), "measured", "placebo")

    @property
    def sentence(self) -> str:
        """What the thing does to the class's score, as a sentence."""
        [row] = self.effect().to_dict("records")
        change: dict[Any, Any] = {
            "drop": row["measured"],
            "drop_low": row["measured_low"],
            "drop_high": row["measured_high"],
            "placebo_mean": row["placebo"],
            **dict.fromkeys(("fill_low", "fill_high", "share"), nan),
        }
        target = repr(clear(self.class_name)) if self.class_name else "the predicted class"
        p = row["p_value"]
        chance = "" if np.isnan(p) else f" (of the difference p {equal_or_less(p)})"
        return (
            f"Without the thing the score of {target} {score_change(change)} on average over "
            f"{count(row['n'], 'pair')}; {elsewhere_does(change)}{chance}."
        )

    def summary(self, confidence: float = 0.95) -> pd.DataFrame:
        """Return one row per layer and concept: how far attributions follow the measured effects.

        Columns: layer, concept, n (photographs with an attribution), attribution (mean), pearson
        and spearman with _low and _high (of attribution and measured effect; intervals over
        photographs by Fisher's z, for ranks with the error of Bonett and Wright, 2000), note (why
        there is no correlation).

        Args:
            confidence: Of the intervals, between 0 and 1.

        Raises:
            ExplanationError: For a confidence out of range.
        """
        check("confidence", confidence, Between(0, 1))

        def over_images(rows: pd.DataFrame) -> dict[str, Any]:
            known = rows[rows["attribution"].notna()]
            pair = known["attribution"].to_numpy(float), known["measured"].to_numpy(float)
            found: dict[str, Any] = {}
            for statistic in (pearson, spearman):
                one, name = statistic(*pair), statistic.__name__
                found[name] = one.value
                found[f"{name}_low"], found[f"{name}_high"] = _interval(
                    one, confidence, ranks=statistic is spearman
                )
            return {
                "n": len(known),
                "attribution": float(rows["attribution"].mean()),
                **found,
                "note": pearson(*pair).note,
            }

        made = by_group(self._rows, ["layer", "concept"], over_images)
        return printable(made, "attribution", "spearman")

    def _draw(self, figure: Figure) -> Figure:
        from vtcav.evaluation.pairs.figure import plot_pairs

        return plot_pairs(self, figure)

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"table": self._rows, "summary": self.summary()}

    def _facts(self) -> dict[str, Any]:
        [effect] = records(self.effect())
        facts = {"class_name": self.class_name, "confidence": 0.95}
        return {**facts, "sentence": self.sentence, "effect": effect}


def _interval(found: Correlation, confidence: float, *, ranks: bool) -> tuple[float, float]:
    """Return the ends of the interval of a correlation; NaN where there is none."""
    from scipy.special import ndtri

    r, n = found.value, found.n
    if np.isnan(r) or n < _LEAST or abs(r) >= 1:
        return nan, nan
    error = np.sqrt((1 + ranks * r**2 / 2) / (n - 3))
    half = float(ndtri((1 + confidence) / 2)) * error
    return float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))
