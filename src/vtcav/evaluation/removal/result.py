"""What removing concepts from feature maps did to a class: tables, curves and figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from vtcav.evaluation.correlation import interval_over_seeds
from vtcav.evaluation.removal.concept_part import area
from vtcav.files.manifest import records, save_result, write_table
from vtcav.images.references import Skipped
from vtcav.results.provenance import Provenance

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
    """One concept taken out of one image at one layer, in P steps, beside R controls.

    Attributes:
        image: Its name.
        layer: Its name.
        concept: Its name.
        t: The shares taken out, from 0 to 1 [P].
        logits: Of the class, for the concept and then the controls [1 + R, P].
        probabilities: Of the class, for the concept [P].
        zero: The class logit at zero feature maps.
        changed: |D| / |F|: how much of the feature maps is taken out in all.
        notes: What is to be said about it.
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
        rise = logit - self.zero
        notes = [*self.notes]
        if not rise > 0:
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
            "relative_area": (own - self.zero) / rise if rise > 0 else NAN,
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


@dataclass(frozen=True, eq=False)
class InsertionDeletion:
    """What taking concepts out of images did to the score of a class.

    Attributes:
        class_index: Of the class.
        class_name: Its name.
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        controls: How many random directions each concept is compared with.
        skipped: Images that could not be read, with reasons.
        provenance: What the numbers depend on.
    """

    class_index: int
    class_name: str
    layers: tuple[str, ...]
    concepts: tuple[str, ...]
    controls: int
    skipped: tuple[Skipped, ...]
    provenance: Provenance = field(repr=False)
    _rows: pd.DataFrame = field(repr=False)
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
        return cls(
            class_index=class_index,
            class_name=class_name,
            layers=tuple(dict.fromkeys(layer for layer, _ in groups)),
            concepts=tuple(dict.fromkeys(concept for _, concept in groups)),
            controls=len(removals[0].logits) - 1,
            skipped=tuple(skipped),
            provenance=provenance,
            _rows=pd.DataFrame([removal.row() for removal in removals]),
            _points=pd.concat(
                [pd.DataFrame(removal.points()) for removal in removals], ignore_index=True
            ),
            _control_points=pd.concat(
                [_mean_controls(key, group) for key, group in groups.items()], ignore_index=True
            ),
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
        return self._rows.copy()

    @property
    def curves(self) -> pd.DataFrame:
        """One row per image, layer, concept and t, with the logit and probability of the class.

        Columns: image, layer, concept, t, deletion_logit, deletion_probability (a share t of the
        concept is taken out), insertion_logit, insertion_probability (a share t is put back).
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

        controls = self._control_areas()
        return pd.DataFrame(
            [
                {
                    "layer": layer,
                    "concept": concept,
                    **_over_images(rows, controls[str(layer), str(concept)], confidence),
                }
                for (layer, concept), rows in self._rows.groupby(["layer", "concept"], sort=False)
            ]
        )

    def plot(self) -> Figure:
        """Draw the class logit against the share taken out: a row per concept, a column per layer.

        The thick line is the concept, each thin one a control; means over images.
        """
        from vtcav.evaluation.removal.figure import plot_insertion
        from vtcav.results.figures.page import new_figure

        return plot_insertion(self, new_figure())

    def save(self, folder: str | Path) -> Path:
        """Write tables, curves, figure and provenance, all or nothing.

        The files are `insertion.json` (summary and provenance; written last, with a hash of each
        other file), `insertion_table`, `insertion_summary`, `insertion_curves` and
        `insertion_controls` (.csv, .parquet) and `insertion.png`. Earlier ones are replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, "insertion", "the insertion and deletion", self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.evaluation.removal.figure import plot_insertion
        from vtcav.results.figures.page import save_figure

        summary = self.summary()
        write_table(folder / "insertion_table", self._rows)
        write_table(folder / "insertion_summary", summary)
        write_table(folder / "insertion_curves", self._points)
        write_table(folder / "insertion_controls", self._control_points)
        save_figure(lambda figure: plot_insertion(self, figure), folder / "insertion.png")
        return {
            "class_index": self.class_index,
            "class_name": self.class_name,
            "layers": self.layers,
            "concepts": self.concepts,
            "controls": self.controls,
            "skipped": [asdict(skip) for skip in self.skipped],
            "summary": records(summary),
            "confidence": 0.95,
            "provenance": self.provenance.to_dict(),
        }

    def _control_areas(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        """Return the area of each control's mean curve [R], by layer and concept."""
        areas = {key: np.empty(0) for key in self._keys()}
        for (layer, concept), rows in self._control_points.groupby(["layer", "concept"]):
            logits = rows["deletion_logit"].to_numpy().reshape(self.controls, -1)
            t = rows["t"].to_numpy()[: logits.shape[1]]
            areas[str(layer), str(concept)] = area(logits, t)
        return areas

    def _keys(self) -> list[tuple[str, str]]:
        return [(layer, concept) for layer in self.layers for concept in self.concepts]


def _p_value(own: float, controls: NDArray[np.float64]) -> float:
    """Return how often a random direction leaves as small an area, the concept counted in."""
    return float((1 + (controls <= own).sum()) / (1 + len(controls))) if len(controls) else NAN


def _mean_controls(key: tuple[str, str], group: Sequence[Removal]) -> pd.DataFrame:
    """Return the controls' curves of one layer and concept, as means over images."""
    import pandas as pd

    logits = np.mean([removal.logits[1:] for removal in group], axis=0)
    R, P = logits.shape
    return pd.DataFrame(
        {
            "layer": key[0],
            "concept": key[1],
            "control": np.repeat(np.arange(R), P),
            "t": np.tile(group[0].t, R),
            "deletion_logit": logits.ravel(),
        }
    )


def _over_images(
    rows: pd.DataFrame, controls: NDArray[np.float64], confidence: float
) -> dict[str, Any]:
    """Return the summary of one layer and concept."""
    n = len(rows)
    relative = interval_over_seeds(rows["relative_area"].dropna(), confidence, correlation=False)
    counts = Counter(part for note in rows["note"] if note for part in note.split("; "))
    notes = [note if c == n else f"{c} of {n} images: {note}" for note, c in counts.items()]
    if relative.n == 1:
        notes.append(ONE_IMAGE)
    area = float(rows["area_deletion"].mean())
    return {
        "n": n,
        "area_deletion": area,
        "control_mean": float(controls.mean()) if len(controls) else NAN,
        "relative_area": relative.value,
        "ci_low": relative.low,
        "ci_high": relative.high,
        "p_value": _p_value(area, controls),
        "changed": float(rows["changed"].mean()),
        "note": "; ".join(notes),
    }
