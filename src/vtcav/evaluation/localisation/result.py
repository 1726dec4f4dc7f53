"""How well concept maps agree with masks over many images: tables and figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.evaluation.metrics import METRICS
from vtcav.files.manifest import records, save_result, write_table
from vtcav.images.references import Skipped
from vtcav.method.significance import student_interval
from vtcav.parameters import Between, check
from vtcav.results.provenance import Provenance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Example", "FolderLocalisation"]

ONE_IMAGE = "one image: no spread, no interval"
_SIDE = 320  # pixels of an example's picture and mask, at most

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Example:
    """An image for the figure.

    Attributes:
        image: Its name.
        concept: The concept.
        picture: As `LocalExplanation.picture`, smaller.
        box: Where the network's input, and so every map, lies on the picture.
        mask: Where the concept is, [H, W] in [0, 1].
        mask_box: Where the mask lies on the picture.
        maps: M [h, w] by layer.
    """

    image: str
    concept: str
    picture: NDArray[np.uint8] = field(repr=False)
    box: tuple[float, float, float, float]
    mask: NDArray[np.float32] = field(repr=False)
    mask_box: tuple[float, float, float, float]
    maps: Mapping[str, NDArray[np.float32]] = field(repr=False)

    @classmethod
    def of(
        cls,
        image: str,
        concept: str,
        picture: NDArray[np.uint8],
        box: tuple[float, float, float, float],
        mask: NDArray[np.float64],
        mask_box: tuple[float, float, float, float],
        maps: Mapping[str, NDArray[np.float32]],
    ) -> Self:
        """Return an example of small arrays of its own."""
        small = Image.fromarray(picture)
        small.thumbnail((_SIDE, _SIDE))
        region = Image.fromarray(mask.astype(np.float32))
        region.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
        own = {layer: M.copy() for layer, M in maps.items()}
        return cls(image, concept, np.asarray(small), box, np.asarray(region), mask_box, own)


@dataclass(frozen=True, eq=False)
class FolderLocalisation:
    """How well the maps of concepts agree with masks.

    Attributes:
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        skipped: Images, or masks of a concept, that were left out, with reasons.
        examples: A few images for the figure.
        provenance: What the numbers depend on.
    """

    layers: tuple[str, ...]
    concepts: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    examples: tuple[Example, ...] = field(repr=False)
    provenance: Provenance = field(repr=False)
    _rows: pd.DataFrame = field(repr=False)

    @classmethod
    def of(
        cls,
        rows: Sequence[Mapping[str, Any]],
        *,
        layers: Sequence[str],
        concepts: Sequence[str],
        skipped: Sequence[Skipped],
        examples: Sequence[Example],
        provenance: Provenance,
    ) -> Self:
        """Return the result of rows of the table."""
        import pandas as pd

        return cls(
            layers=tuple(layers),
            concepts=tuple(concepts),
            skipped=tuple(skipped),
            examples=tuple(examples),
            provenance=provenance,
            _rows=pd.DataFrame(list(rows)),
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per image, layer and concept.

        Columns: image, layer, concept, pointing_game, energy_inside, soft_iou, balanced_mse,
        cell_auc, area (as in `metrics.Localisation`), separated (whether the layer tells the
        concept from its negatives), note (why a number is missing or tells little; empty where
        all is well).
        """
        return self._rows.copy()

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
        return pd.DataFrame(
            [
                {"layer": layer, "concept": concept, "metric": metric}
                | _over_images(rows, metric, confidence)
                for concept in self.concepts
                for layer in self.layers
                if len(rows := self._of(layer, concept))
                for metric in (*METRICS, "area")
            ]
        )

    def means(self) -> pd.DataFrame:
        """Return one row per layer and concept: the mean of each metric, in columns.

        Columns: layer, concept, images, the metrics, area, note (of all metrics).
        """
        import pandas as pd

        rows = []
        for (concept, layer), group in self.summary().groupby(["concept", "layer"], sort=False):
            notes = dict.fromkeys(part for note in group["note"] for part in note.split("; "))
            means = dict(zip(group["metric"], group["mean"], strict=True))
            images = len(self._of(str(layer), str(concept)))
            notes.pop("", None)
            rows.append(
                {"layer": layer, "concept": concept, "images": images}
                | means
                | {"note": "; ".join(notes)}
            )
        return pd.DataFrame(rows)

    def plot(self) -> Figure:
        """Draw every metric by layer, with its interval, and a few images with mask and maps."""
        from vtcav.evaluation.localisation.figure import plot_localisation
        from vtcav.results.figures.page import new_figure

        return plot_localisation(self, new_figure())

    def save(self, folder: str | Path) -> Path:
        """Write tables, figure and provenance, all or nothing.

        The files are `localisation.json` (summary and provenance; written last, with a hash of
        each other file), `localisation_table`, `localisation_summary` (.csv, .parquet) and
        `localisation.png`. Earlier ones are replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, "localisation", "the localisation", self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.evaluation.localisation.figure import plot_localisation
        from vtcav.results.figures.page import save_figure

        summary = self.summary()
        write_table(folder / "localisation_table", self._rows)
        write_table(folder / "localisation_summary", summary)
        save_figure(lambda figure: plot_localisation(self, figure), folder / "localisation.png")
        return {
            "layers": self.layers,
            "concepts": self.concepts,
            "skipped": [asdict(skip) for skip in self.skipped],
            "summary": records(summary),
            "confidence": 0.95,
            "provenance": self.provenance.to_dict(),
        }

    def _of(self, layer: str, concept: str) -> pd.DataFrame:
        chosen = (self._rows["layer"] == layer) & (self._rows["concept"] == concept)
        return self._rows[chosen]


def _over_images(rows: pd.DataFrame, metric: str, confidence: float) -> dict[str, Any]:
    """Return the summary of one metric of one layer and concept."""
    defined = rows[metric].dropna().to_numpy(np.float64)
    lost = rows["note"][rows[metric].isna()]
    counts = Counter(part for note in lost for part in note.split("; ") if part)
    notes = [
        note if c == len(rows) else f"{c} of {len(rows)} images: {note}"
        for note, c in counts.items()
    ]
    n, mean, std, low, high = len(defined), NAN, NAN, NAN, NAN
    if n == 1:
        notes.append(ONE_IMAGE)
        mean = float(defined[0])
    elif n > 1:
        mean, low, high = student_interval(defined, confidence)
        std = float(defined.std(ddof=1))
    return {
        "n": n,
        "mean": mean,
        "std": std,
        "ci_low": low,
        "ci_high": high,
        "note": "; ".join(notes),
    }
