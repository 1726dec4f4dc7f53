"""Result of insertion and deletion: the effect on a class of removing concepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vtcav.evaluation.removal.curves import area
from vtcav.evaluation.result import EvaluationResult, by_group, mean_interval
from vtcav.method.significance import finite
from vtcav.parameters import Between, check
from vtcav.results.tables.shapes import printable
from vtcav.results.words import counted_notes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


NOT_RAISED = "the image does not raise this class above zero feature maps: no relative area"
NO_CONTROLS = "no controls: no p-value"
ONE_IMAGE = "one image: no interval"

NAN = float("nan")


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
        areas = {}
        for key, lines in self._control_points.groupby(["layer", "concept"]):
            logits = lines["deletion_logit"].to_numpy().reshape(self.controls, -1)
            areas[key] = area(logits, lines["t"].unique())

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


def removal_row(
    logits: NDArray[np.float64],
    t: NDArray[np.float64],
    zero: float,
    changed: float,
    notes: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the numbers of the removal of one concept from one image, and their note.

    Args:
        logits: Of the class, for the concept and then the controls [1 + R, P].
        t: The shares removed, from 0 to 1 [P].
        zero: The class logit at zero feature maps.
        changed: |D| / |F|: how much of the feature maps is removed at t = 1.
        notes: Reasons for caution.
    """
    own, *controls = area(logits, t).tolist()
    logit, removed = float(logits[0, 0]), float(logits[0, -1])
    difference = logit - zero
    whys = [NOT_RAISED] * (not difference > 0) + [NO_CONTROLS] * (not controls)
    return {
        "logit": logit,
        "logit_removed": removed,
        "logit_zero": zero,
        "area_deletion": own,
        "area_insertion": float(area(logits[:1, ::-1], t)[0]),
        "relative_area": (own - zero) / difference if difference > 0 else NAN,
        "control_mean": _mean(np.array(controls)),
        "p_value": _p_value(own, np.array(controls)),
        "changed": changed,
        "note": "; ".join([*notes, *whys]),
    }


def mean_controls(
    logits: Mapping[tuple[str, str], Sequence[NDArray[np.float64]]], t: NDArray[np.float64]
) -> pd.DataFrame:
    """Return the controls' curves as means over images.

    Args:
        logits: By layer and concept, those of each image [R, P].
        t: The shares removed [P].
    """
    import pandas as pd

    tables = {}
    for key, images in logits.items():
        mean = np.mean(images, axis=0)
        grid = pd.MultiIndex.from_product([range(len(mean)), t], names=["control", "t"])
        tables[key] = pd.DataFrame({"deletion_logit": mean.ravel()}, grid)
    return pd.concat(tables, names=["layer", "concept"]).reset_index()


def _p_value(own: float, controls: NDArray[np.float64]) -> float:
    """Return how often a random direction leaves as small an area, the concept counted in."""
    if not len(controls) or not finite(own, controls):
        return NAN
    return float((1 + (controls <= own).sum()) / (1 + len(controls)))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else NAN
