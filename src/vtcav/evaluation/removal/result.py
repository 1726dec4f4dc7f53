"""Effect on a class of removing concepts from feature maps: tables, curves and figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from vtcav.evaluation.removal.concept_part import area
from vtcav.evaluation.result import EvaluationResult, mean_interval
from vtcav.images.references import Skipped
from vtcav.parameters import Between, check
from vtcav.results.provenance import Provenance
from vtcav.results.tables import printable
from vtcav.results.words import counted_notes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["InsertionDeletion", "Removal"]

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
        notes: What is doubtful.
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
        return {
            "image": self.image,
            "layer": self.layer,
            "concept": self.concept,
            "logit": logit,
            "logit_removed": float(self.logits[0, -1]),
            "logit_zero": self.zero,
            "area_deletion": own,
            "area_insertion": float(area(self.logits[:1, ::-1], self.t)[0]),
            "relative_area": (own - self.zero) / difference if difference > 0 else NAN,
            "control_mean": float(controls.mean()) if len(controls) else NAN,
            "p_value": _p_value(own, controls),
            "changed": self.changed,
            "note": "; ".join(notes),
        }

    def points(self) -> dict[str, Any]:
        """Return the columns of the concept's curves."""
        return {
            "image": self.image,
            "layer": self.layer,
            "concept": self.concept,
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

    @classmethod
    def of(
        cls,
        removals: Sequence[Removal],
        *,
        class_index: int,
        class_name: str,
        skipped: Sequence[Skipped],
        provenance: Provenance,
    ) -> Self:
        """Return the result of removals, of the same layers and concepts for every image."""
        import pandas as pd

        groups: dict[tuple[str, str], list[Removal]] = {}
        for removal in removals:
            groups.setdefault((removal.layer, removal.concept), []).append(removal)
        points = [pd.DataFrame(removal.points()) for removal in removals]
        controls = [_mean_controls(*key, group) for key, group in groups.items()]
        return cls(
            layers=tuple(dict.fromkeys(layer for layer, _ in groups)),
            concepts=tuple(dict.fromkeys(concept for _, concept in groups)),
            skipped=tuple(skipped),
            provenance=provenance,
            class_index=class_index,
            class_name=class_name,
            controls=len(removals[0].logits) - 1,
            _rows=pd.DataFrame([removal.row() for removal in removals]),
            _points=pd.concat(points, ignore_index=True),
            _control_points=pd.concat(controls, ignore_index=True),
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per image, layer and concept.

        Columns: image, layer, concept, logit (of the class), logit_removed (without the concept),
        logit_zero (at zero feature maps), area_deletion and area_insertion (under the class logit,
        over t from 0 to 1; equal up to rounding), relative_area (on a scale where logit_zero is 0
        and logit is 1: 1 where removing changes nothing), control_mean (area of the controls),
        p_value (one-sided, (1 + controls with an area as small) / (1 + controls)), changed (|D| /
        |F|), note (why a number is missing or doubtful; empty where all is well).
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
        import pandas as pd

        check("confidence", confidence, Between(0, 1))
        areas = self._control_areas()
        made = pd.DataFrame(
            [
                {"layer": layer, "concept": concept}
                | _over_images(rows, areas.get((layer, concept), np.empty(0)), confidence)
                for (layer, concept), rows in self._rows.groupby(["layer", "concept"], sort=False)
            ]
        )
        return printable(made, "ci_low", "ci_high", "p_value", "relative_area")

    def _control_areas(self) -> dict[tuple[Any, ...], NDArray[np.float64]]:
        """Return the area of each control's mean curve [R], by layer and concept."""
        areas = {}
        for key, rows in self._control_points.groupby(["layer", "concept"]):
            logits = rows["deletion_logit"].to_numpy().reshape(self.controls, -1)
            areas[tuple(key)] = area(logits, rows["t"].to_numpy()[: logits.shape[1]])
        return areas

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


def _mean_controls(layer: str, concept: str, group: Sequence[Removal]) -> pd.DataFrame:
    """Return the controls' curves of one layer and concept, as means over images."""
    import pandas as pd

    logits = np.mean([removal.logits[1:] for removal in group], axis=0)
    R, P = logits.shape
    return pd.DataFrame(
        {
            "layer": layer,
            "concept": concept,
            "control": np.repeat(np.arange(R), P),
            "t": np.tile(group[0].t, R),
            "deletion_logit": logits.ravel(),
        }
    )


def _over_images(
    rows: pd.DataFrame, controls: NDArray[np.float64], confidence: float
) -> dict[str, Any]:
    """Return the summary of one layer and concept."""
    relative = rows["relative_area"].dropna().to_numpy()
    mean, low, high = mean_interval(relative, confidence)
    notes = counted_notes(rows["note"]) + [ONE_IMAGE] * (len(relative) == 1)
    own = float(rows["area_deletion"].mean())
    return {
        "n": len(rows),
        "area_deletion": own,
        "control_mean": float(controls.mean()) if len(controls) else NAN,
        "relative_area": mean,
        "ci_low": low,
        "ci_high": high,
        "p_value": _p_value(own, controls),
        "changed": float(rows["changed"].mean()),
        "note": "; ".join(notes),
    }
