"""Result of insertion and deletion: the effect on a class of removing concepts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vtcav.evaluation.removal.concept_part import area
from vtcav.evaluation.result import EvaluationResult, by_group, mean_interval
from vtcav.parameters import Between, check
from vtcav.results.tables import printable
from vtcav.results.words import counted_notes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["InsertionDeletion", "Removal", "mean_controls"]

NOT_RAISED = "the image does not raise this class above zero feature maps: no relative area"
NO_CONTROLS = "no controls: no p-value"
ONE_IMAGE = "one image: no interval"

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Removal:
    """Removal of one concept from one image at one layer, in P steps, beside R controls.

    Attributes:
        image: The image's name.
        layer: The layer's name.
        concept: The concept's name.
        t: The shares removed, from 0 to 1 [P].
        logits: Of the class, for the concept and then the controls [1 + R, P].
        probabilities: Of the class, for the concept [P].
        zero: The class logit at zero feature maps.
        changed: |D| / |F|: how much of the feature maps is removed at t = 1.
        notes: Reasons for caution.
    """

    image: str
    layer: str
    concept: str
    t: NDArray[np.float64]
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    zero: float
    changed: float
    notes: tuple[str, ...] = ()

    @property
    def _key(self) -> dict[str, Any]:
        return {"image": self.image, "layer": self.layer, "concept": self.concept}

    def row(self) -> dict[str, Any]:
        """Return the row of the table."""
        areas = area(self.logits, self.t)
        own, controls = float(areas[0]), areas[1:]
        logit = float(self.logits[0, 0])
        difference = logit - self.zero
        notes = [*self.notes]
        if not difference > 0:
            notes.append(NOT_RAISED)
        if not len(controls):
            notes.append(NO_CONTROLS)
        return self._key | {
            "logit": logit,
            "logit_removed": float(self.logits[0, -1]),
            "logit_zero": self.zero,
            "area_deletion": own,
            "area_insertion": float(area(self.logits[:1, ::-1], self.t)[0]),
            "relative_area": (own - self.zero) / difference if difference > 0 else NAN,
            "control_mean": _mean(controls),
            "p_value": _p_value(own, controls),
            "changed": self.changed,
            "note": "; ".join(notes),
        }

    def points(self) -> dict[str, Any]:
        """Return the columns of the concept's curves."""
        return self._key | {
            "t": self.t,
            "deletion_logit": self.logits[0],
            "deletion_probability": self.probabilities,
            "insertion_logit": self.logits[0, ::-1],
            "insertion_probability": self.probabilities[::-1],
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class InsertionDeletion(EvaluationResult):
    """Effect on the score of a class of removing concepts from images.

    Attributes:
        class_index: The class.
        class_name: Its name.
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        controls: The number of random directions that each concept is compared with.
        skipped: Images that could not be read, with reasons.
        provenance: What the numbers depend on.
    """

    kind: ClassVar[str] = "insertion"
    title: ClassVar[str] = "the insertion and deletion"

    class_index: int
    class_name: str
    controls: int
    _points: pd.DataFrame = field(repr=False)
    _control_points: pd.DataFrame = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row per image, layer and concept.

        Columns: image, layer, concept, logit (of the class), logit_removed (without the concept),
        logit_zero (at zero feature maps), area_deletion and area_insertion (under the class logit,
        over t from 0 to 1; equal up to rounding), relative_area (on a scale where logit_zero is 0
        and logit is 1: 1 where removing changes nothing), control_mean (area of the controls),
        p_value (one-sided, (1 + controls with an area as small) / (1 + controls)), changed (|D| /
        |F|), note (why a number is missing, or a reason for caution; empty otherwise).
        """
        return printable(self._rows, "p_value", "relative_area")

    @property
    def curves(self) -> pd.DataFrame:
        """One row per image, layer, concept and t, with the logit and probability of the class.

        Columns: image, layer, concept, t, deletion_logit, deletion_probability (a share t of the
        concept is removed), insertion_logit, insertion_probability (a share t is put back).
        """
        return self._points.copy()

    @property
    def control_curves(self) -> pd.DataFrame:
        """One row per layer, concept, control and t: deletion_logit, the mean over images."""
        return self._control_points.copy()

    def summary(self, confidence: float = 0.95) -> pd.DataFrame:
        """Return one row per layer and concept, over images.

        Columns: layer, concept, n (images), area_deletion, control_mean (means), relative_area
        (mean over the images that have one), ci_low and ci_high (its Student t interval), p_value
        (of the mean area against the mean area of each control), changed (mean), note.

        Args:
            confidence: Of the interval, between 0 and 1.

        Raises:
            ExplanationError: For a confidence out of range.
        """
        check("confidence", confidence, Between(0, 1))
        areas = {
            key: area(lines["deletion_logit"].to_numpy().reshape(self.controls, -1), _grid(lines))
            for key, lines in self._control_points.groupby(["layer", "concept"])
        }

        def over_images(rows: pd.DataFrame) -> dict[str, Any]:
            relative = rows["relative_area"].dropna().to_numpy()
            mean, low, high = mean_interval(relative, confidence)
            own = float(rows["area_deletion"].mean())
            controls = areas.get((rows["layer"].iloc[0], rows["concept"].iloc[0]), np.empty(0))
            notes = counted_notes(rows["note"]) + [ONE_IMAGE] * (len(relative) == 1)
            return {
                "n": len(rows),
                "area_deletion": own,
                "control_mean": _mean(controls),
                "relative_area": mean,
                "ci_low": low,
                "ci_high": high,
                "p_value": _p_value(own, controls),
                "changed": float(rows["changed"].mean()),
                "note": "; ".join(notes),
            }

        made = by_group(self._rows, ["layer", "concept"], over_images)
        return printable(made, "ci_low", "ci_high", "p_value", "relative_area")

    def _draw(self, figure: Figure) -> Figure:
        from vtcav.evaluation.removal.figure import plot_deletion

        title = f"Logit of {self.class_name} while a concept is removed"
        return plot_deletion(self, title, self.curves, self.control_curves, figure)

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {
            "table": self._rows,
            "summary": self.summary(),
            "curves": self._points,
            "controls": self._control_points,
        }

    def _facts(self) -> dict[str, Any]:
        facts = {"class_index": self.class_index, "class_name": self.class_name}
        return facts | {"controls": self.controls, "confidence": 0.95}


def _p_value(own: float, controls: NDArray[np.float64]) -> float:
    """Return how often a random direction leaves as small an area, the concept counted in."""
    return float((1 + (controls <= own).sum()) / (1 + len(controls))) if len(controls) else NAN


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else NAN


def _grid(lines: pd.DataFrame) -> NDArray[np.float64]:
    """Return the abscissas [P] of controls' curves."""
    return lines["t"].unique()


def mean_controls(removals: Iterable[Removal]) -> pd.DataFrame:
    """Return the controls' curves, by layer and concept, as means over images."""
    import pandas as pd

    groups: dict[tuple[str, str], list[Removal]] = {}
    for removal in removals:
        groups.setdefault((removal.layer, removal.concept), []).append(removal)
    tables = {}
    for key, group in groups.items():
        logits = np.mean([removal.logits[1:] for removal in group], axis=0)
        grid = pd.MultiIndex.from_product([range(len(logits)), group[0].t], names=["control", "t"])
        tables[key] = pd.DataFrame({"deletion_logit": logits.ravel()}, grid)
    return pd.concat(tables, names=["layer", "concept"]).reset_index()
