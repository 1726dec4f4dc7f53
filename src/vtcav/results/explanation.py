"""Explanations: frozen results with their tables, maps and provenance, saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExplanationError
from vtcav.files.manifest import (
    load_manifest,
    read_arrays,
    read_table,
    records,
    save_result,
    write_table,
)
from vtcav.images.references import Skipped
from vtcav.parameters import Between, check
from vtcav.results.notebook.explanations import global_html, global_text, local_html, local_text
from vtcav.results.provenance import Provenance
from vtcav.results.tables import BOOTSTRAP, NULL, by_class, by_image, json_text, printable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["GlobalExplanation", "LocalExplanation"]


_NUMBERS = "effect", "p_value", "q_value", "attribution"


@dataclass(frozen=True, eq=False)
class LocalExplanation:
    """One image explained.

    Attributes:
        image: Its name.
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        picture: The image as shown in figures, uint8 [H, W, 3], at most 1024 pixels a side; the
            network's input where the preprocessing is a callable of unknown geometry.
        box: The network's input on the picture: left, top, right and bottom as shares of its
            width and height (beyond 0..1 where it was padded).
        thumbnails: A few examples of each concept, uint8 [n, 96, 96, 3].
        provenance: Everything that the numbers depend on.
    """

    image: str
    layers: tuple[str, ...]
    concepts: tuple[str, ...]
    picture: NDArray[np.uint8] = field(repr=False)
    box: tuple[float, float, float, float]
    thumbnails: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    provenance: Provenance = field(repr=False)
    _rows: pd.DataFrame = field(repr=False)
    _predictions: pd.DataFrame = field(repr=False)
    _maps: Mapping[str, NDArray[np.float32]] = field(repr=False)

    def __post_init__(self) -> None:
        _freeze(self.picture, *self.thumbnails.values())

    def __repr__(self) -> str:
        return local_text(self)

    def _repr_html_(self) -> str:
        return local_html(self)

    @property
    def attributions(self) -> pd.DataFrame:
        """One row per layer, concept and class.

        Columns, by what they mean: layer, concept, class_index, class_name, attribution (0 to 1:
        the share of the best class's logit difference, image minus zero feature maps, that the
        concept accounts for), error (estimated quadrature error, absolute; empty for a fixed number
        of steps, which does not estimate it), evaluations (of the gradient), separated (whether the
        layer tells the concept from its negatives), cav_low and cav_high (95 % interval over the
        choice of examples and negatives, from bootstrap CAVs), null_mean (mean attribution of null
        CAVs), effect (how many of their standard deviations the attribution lies above it), p_value
        (one-sided: the share of null CAVs that get as much), q_value (p adjusted for all rows of
        this table, Benjamini and Hochberg), note (why a value is 0, missing or uncertain; empty
        where all is well). The main number stands last, because a terminal that is too narrow hides
        the columns in the middle; `wide()` is the smaller table to print.
        """
        return printable(
            self._rows.drop(columns="image"), "effect", "p_value", "q_value", "attribution"
        )

    @property
    def predictions(self) -> pd.DataFrame:
        """All classes, the most probable first: class_index, class_name, probability (0 to 1)."""
        return self._predictions.copy()

    def concept_map(self, layer: str, concept: str) -> NDArray[np.float32]:
        """Return M of a concept at a layer: [h, w] in [0, 1] (0 where it is not separated).

        Raises:
            ExplanationError: For a layer or concept that is not in this explanation.
        """
        _known("layer", layer, self.layers)
        _known("concept", concept, self.concepts)
        M: NDArray[np.float32] = self._maps[layer][self.concepts.index(concept)].copy()
        return M

    @property
    def maps(self) -> dict[str, NDArray[np.float32]]:
        """M of all concepts by layer: [K, h, w], in the order of `concepts`."""
        return {layer: M.copy() for layer, M in self._maps.items()}

    def wide(self) -> pd.DataFrame:
        """Return the attributions with a row per layer and concept and a column per class.

        A class whose name another class has too is numbered: "crane", "crane [2]".
        """
        return by_class(self._rows)

    def to_json(self) -> str:
        """Return numbers and provenance as JSON; missing numbers are null, maps are left out."""
        return json_text(self._content())

    def plot(self, *, smooth: bool = False) -> Figure:
        """Draw the picture, the concept maps, the attributions and the concepts' examples.

        Args:
            smooth: Interpolate between the cells of the maps. Off, every cell shows as it is.
        """
        from vtcav.results.figures.local_explanation import plot_local
        from vtcav.results.figures.page import new_figure

        return plot_local(self, new_figure(), smooth=smooth)

    def save(self, folder: str | Path) -> Path:
        """Write tables, maps, figure and provenance, all or nothing.

        The files are `local.json` (numbers and provenance; written last, with a hash of each
        other file), `local_attributions` and `local_predictions` (.csv, .parquet),
        `local_maps.npz` and `local.png`. An earlier local explanation there is replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, "local", "the local explanation", self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.results.figures.local_explanation import plot_local
        from vtcav.results.figures.page import save_figure

        write_table(folder / "local_attributions", self._rows)
        write_table(folder / "local_predictions", self._predictions)
        arrays: dict[str, NDArray[Any]] = {"picture": self.picture}
        arrays |= {f"map/{layer}": maps for layer, maps in self._maps.items()}
        arrays |= _numbered(self.thumbnails, self.concepts)
        np.savez_compressed(folder / "local_maps.npz", allow_pickle=False, **arrays)
        save_figure(lambda figure: plot_local(self, figure), folder / "local.png")
        return self._content()

    def _content(self) -> dict[str, Any]:
        """Return numbers and provenance as plain data."""
        return {
            "image": self.image,
            "layers": self.layers,
            "concepts": self.concepts,
            "box": self.box,
            "attributions": records(self.attributions),
            "predictions": records(self._predictions),
            "provenance": self.provenance.to_dict(),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ExplanationError: When it is missing, incomplete, damaged or of another version.
        """
        manifest = load_manifest(folder, "local", "local explanation")
        stored = read_arrays(Path(folder) / "local_maps.npz")
        concepts = tuple(manifest["concepts"])
        return cls(
            image=manifest["image"],
            layers=tuple(manifest["layers"]),
            concepts=concepts,
            picture=stored["picture"],
            box=tuple(manifest["box"]),
            thumbnails={name: stored[f"thumbnails/{k}"] for k, name in enumerate(concepts)},
            provenance=Provenance.from_dict(manifest["provenance"]),
            _rows=read_table(Path(folder) / "local_attributions"),
            _predictions=read_table(Path(folder) / "local_predictions"),
            _maps={layer: stored[f"map/{layer}"] for layer in manifest["layers"]},
        )


@dataclass(frozen=True, eq=False)
class GlobalExplanation:
    """One class explained with many images.

    Attributes:
        class_index: Its index.
        class_name: Its name.
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        skipped: Images that could not be read, with reasons.
        thumbnails: A few examples of each concept, uint8 [n, 96, 96, 3].
        provenance: Everything that the numbers depend on.
    """

    class_index: int
    class_name: str
    layers: tuple[str, ...]
    concepts: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    thumbnails: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    provenance: Provenance = field(repr=False)
    _rows: pd.DataFrame = field(repr=False)
    _resampled: pd.DataFrame = field(repr=False)

    def __post_init__(self) -> None:
        _freeze(*self.thumbnails.values())

    def __repr__(self) -> str:
        return global_text(self)

    def _repr_html_(self) -> str:
        return global_html(self)

    @property
    def attributions(self) -> pd.DataFrame:
        """One row per image, layer and concept.

        Columns: image, layer, concept, class_index, class_name, attribution and the others of
        `LocalExplanation.attributions` (q_value: adjusted for all rows of this table), probability
        (of the class for this image), predicted_class. The p-values of the class are in
        `summary`.
        """
        return printable(self._rows, *_NUMBERS)

    @property
    def resampled(self) -> pd.DataFrame:
        """The mean attribution over images of every null, bootstrap and subset CAV.

        Columns: layer, concept, kind ("null_cav", "bootstrap_cav" or "subset_cav"), draw, mean.
        """
        return self._resampled.copy()

    @property
    def images(self) -> pd.DataFrame:
        """Every image listed: image, used, reason (why not), probability, predicted_class."""
        import pandas as pd

        # each image once, also where two have one name
        rows = self._rows.iloc[:: len(self.layers) * len(self.concepts)]
        used = rows[["image", "probability", "predicted_class"]].assign(used=True, reason="")
        lost = pd.DataFrame(
            [(s.name, False, s.reason) for s in self.skipped], columns=["image", "used", "reason"]
        )
        table = pd.concat([used, lost], ignore_index=True) if len(lost) else used
        columns = ["image", "used", "reason", "probability", "predicted_class"]
        return table.reset_index(drop=True)[columns]

    def summary(self, confidence: float = 0.95) -> pd.DataFrame:
        """Return one row per layer and concept: the attribution over images.

        Columns: layer, concept, n (images), mean, std (sample standard deviation), sem (standard
        error of the mean), ci_low and ci_high (Student t interval of the mean: it says how the
        mean would vary with other images of this kind, not how certain the concept is), cav_low
        and cav_high (interval of the mean for other examples and negatives, from bootstrap CAVs),
        null_mean, effect, p_value (the mean against the means of null CAVs, one-sided), q_value
        (adjusted for all rows of this table), separated, note.

        Args:
            confidence: Of the intervals, between 0 and 1.

        Raises:
            ExplanationError: For a confidence out of range.
        """
        check("confidence", confidence, Between(0, 1))
        from vtcav.results.class_summary import class_summary

        table = class_summary(self._rows, self._resampled, confidence)
        return printable(table, "ci_low", "ci_high", "p_value", "q_value", "mean")

    def wide(self) -> pd.DataFrame:
        """Return the attributions with a row per image and a column per (layer, concept).

        Two images of one name have two rows.
        """
        return by_image(self._rows, self.layers, self.concepts)

    def to_json(self) -> str:
        """Return the summary, all attributions and provenance as JSON; missing numbers are null."""
        rows = {"attributions": records(self._rows), "images": records(self.images)}
        return json_text(self._content() | rows)

    def plot(self) -> Figure:
        """Draw concepts by layers, with the interval of the mean and each image as a point."""
        from vtcav.results.figures.global_explanation import plot_global
        from vtcav.results.figures.page import new_figure

        return plot_global(self, new_figure())

    def save(self, folder: str | Path) -> Path:
        """Write tables, figure and provenance, all or nothing.

        The files are `global.json` (summary and provenance; written last, with a hash of each
        other file), `global_attributions`, `global_summary`, `global_resampled` and
        `global_images` (.csv, .parquet), `global_examples.npz` and `global.png`. An earlier global
        explanation there is replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, "global", "the global explanation", self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.results.figures.global_explanation import plot_global
        from vtcav.results.figures.page import save_figure

        write_table(folder / "global_attributions", self._rows)
        write_table(folder / "global_summary", self.summary())
        write_table(folder / "global_resampled", self._resampled)
        write_table(folder / "global_images", self.images)
        thumbnails = _numbered(self.thumbnails, self.concepts)
        np.savez_compressed(folder / "global_examples.npz", allow_pickle=False, **thumbnails)
        save_figure(lambda figure: plot_global(self, figure), folder / "global.png")
        return self._content()

    def _content(self) -> dict[str, Any]:
        """Return the summary and provenance as plain data."""
        return {
            "class_index": self.class_index,
            "class_name": self.class_name,
            "layers": self.layers,
            "concepts": self.concepts,
            "skipped": [asdict(skip) for skip in self.skipped],
            "summary": records(self.summary()),
            "confidence": 0.95,
            "provenance": self.provenance.to_dict(),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ExplanationError: When it is missing, incomplete, damaged or of another version.
        """
        manifest = load_manifest(folder, "global", "global explanation")
        stored = read_arrays(Path(folder) / "global_examples.npz")
        concepts = tuple(manifest["concepts"])
        return cls(
            class_index=manifest["class_index"],
            class_name=manifest["class_name"],
            layers=tuple(manifest["layers"]),
            concepts=concepts,
            skipped=tuple(Skipped(**skip) for skip in manifest["skipped"]),
            thumbnails={name: stored[f"thumbnails/{k}"] for k, name in enumerate(concepts)},
            provenance=Provenance.from_dict(manifest["provenance"]),
            _rows=read_table(Path(folder) / "global_attributions"),
            _resampled=_named_draws(read_table(Path(folder) / "global_resampled")),
        )


def _named_draws(resampled: pd.DataFrame) -> pd.DataFrame:
    """Return resampled means as they are named now: "null" and "bootstrap" before."""
    kinds = {"null": NULL, "bootstrap": BOOTSTRAP}
    return resampled.assign(kind=resampled["kind"].astype(str).replace(kinds))


def _freeze(*arrays: NDArray[Any]) -> None:
    for array in arrays:
        array.setflags(write=False)


def _numbered(
    thumbnails: Mapping[str, NDArray[np.uint8]], concepts: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return thumbnails under keys without the concepts' names, which are paths in an archive."""
    return {f"thumbnails/{k}": thumbnails[name] for k, name in enumerate(concepts)}


def _known(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise ExplanationError(
            f"this explanation has no {what} {name!r}; it has {', '.join(map(repr, names))}"
        )
