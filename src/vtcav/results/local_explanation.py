"""The explanation of one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExplanationError, brief
from vtcav.files.manifest import (
    load_manifest,
    read_arrays,
    reading,
    records,
    save_result,
    write_table,
)
from vtcav.files.paths import given_path
from vtcav.files.schema import checked
from vtcav.parameters import Flag, check
from vtcav.results.effect_tables import (
    TOGETHER,
    effect_table,
    of_pictures,
    read_effects,
)
from vtcav.results.erased import ErasedPicture
from vtcav.results.figures.trust import Judgements, Judging, judged
from vtcav.results.notebook.explanations import local_html, local_text
from vtcav.results.provenance import Provenance
from vtcav.results.rows import Row
from vtcav.results.saved import (
    NO_MAPS,
    NO_PICTURE,
    NO_REGIONS,
    SavedLocal,
    check_order,
    numbered,
    read_affine,
    read_best,
    read_box,
    read_erased,
    read_map,
    read_picture,
    read_predictions,
    read_thumbnails,
    write_maps,
)
from vtcav.results.tables.shapes import (
    EFFECT_NUMBERS,
    by_class,
    json_text,
    printable,
    read_attributions,
)
from vtcav.results.verdicts import image_sentences

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class LocalExplanation:
    """One image explained.

    Attributes:
        image: Its name.
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        picture: The image as shown in figures, uint8 [H, W, 3], at most 1024 pixels a side; the
            network's input where the preprocessing is a callable of unknown geometry, and of a
            volume, [D, H, W, 3].
        box: The network's input on the picture: left, top, right and bottom as shares of its
            width and height (beyond 0..1 where it was padded).
        thumbnails: A few examples of each concept, uint8 [n, 96, 96, 3].
        provenance: Everything that the numbers depend on.
        best_layers: The layer to read first for each concept that a layer sees
            (`CavBank.best_layer`); empty in older results.
        affine: Of a volume, the matrix [4, 4] from (slice, row, column, 1) of the network's input
            to right, anterior, superior in millimetres; None where the image does not tell it.
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
    _effects: pd.DataFrame = field(repr=False, default_factory=effect_table)
    _regions: NDArray[np.bool_] = field(repr=False, default_factory=lambda: NO_REGIONS)
    _together: NDArray[np.float32] = field(repr=False, default_factory=lambda: NO_MAPS)
    _input: NDArray[np.uint8] = field(repr=False, default_factory=lambda: NO_PICTURE)
    _filled: Mapping[str, NDArray[np.uint8]] = field(repr=False, default_factory=dict)
    best_layers: Mapping[str, str] = field(repr=False, default_factory=dict)
    affine: NDArray[np.float64] | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        freeze(self.picture, self._input, *self.thumbnails.values(), *self._filled.values())

    def __repr__(self) -> str:
        return local_text(self)

    def _repr_html_(self) -> str:
        return local_html(self)

    @property
    def attributions(self) -> pd.DataFrame:
        """One row per layer, concept and class.

        Columns, by what they mean: layer, concept, class_index, class_name, attribution (0 to 1:
        the share of the best class's logit difference, image minus zero feature maps, that the
        concept accounts for), error (estimated quadrature error, absolute), evaluations (of the
        gradient), separated (whether the layer tells the concept from its negatives), seen
        (held-out AUC of the concept's place filter at the layer: below 0.8 the number may be
        something else's, and the note says so; empty where no filters were learned), raised
        (whether the image's score exceeds that at zero feature maps; where it does not, every
        concept gets 0, which is no finding), presence (how strongly the image shows the concept:
        the self-weighted mean of its map M, sum(M^2) / sum(M); 0 for an empty map, NaN where the
        layer does not separate the concept; empty in older results), cav_low and cav_high (95 %
        interval over the choice of examples and negatives, from bootstrap CAVs), null_mean (mean
        attribution of null CAVs), effect (how many of their standard deviations the attribution
        lies above it), p_value (one-sided: the share of null CAVs that get as much), q_value (p
        adjusted for all rows of this table, Benjamini and Hochberg), note (why a value is 0,
        missing or uncertain; empty where all is well). The main number stands last, because a
        terminal that is too narrow hides the columns in the middle; `wide()` is the smaller table
        to print.
        """
        return printable(
            self._rows.drop(columns="image"), "effect", "p_value", "q_value", "attribution"
        )

    @property
    def effects(self) -> pd.DataFrame:
        """The measured effect of erasing each concept: one row per concept and class.

        The concept's region is filled in from around it, and the network looks again
        (docs/erasure.md). Columns: layer (those whose maps give the region), concept, class_index,
        class_name, logit (before), without (after), drop (their difference: below 0 where the
        concept speaks against the class), drop_low and drop_high (over the ways to fill; NaN where
        only one was tried), reference and reference_std (mean and standard deviation of the
        negatives' logits, all sets alike), share (drop as a share of logit - reference; none where
        that is not above reference_std), probability and probability_without, area (the share of
        the picture that was filled in), same_region (concepts whose regions overlap with it),
        confused_with (those that its filters answer, too), drop_apart and area_apart (of its own
        part alone), told (the AUC that tells it from the others there), seen (held-out AUC of the
        place filter; below 0.8 there is no number), placebos, placebo_mean and placebo_std (drops
        of regions of the same size elsewhere), effect (in standard deviations of these), p_value
        and q_value (against these, two-sided), note. Empty where nothing was erased. With
        `features=True` rows of single layers follow: the concept taken out of their feature maps.
        """
        return printable(self._effects.drop(columns="image"), *EFFECT_NUMBERS)

    def region(self, concept: str) -> NDArray[np.bool_]:
        """Return the region of a concept that was erased, on the network's input: [H, W].

        Of a volume it is [D, H, W].

        Raises:
            ExplanationError: For a concept that is not in this explanation, or where nothing was
                erased.
        """
        _known("concept", concept, self.concepts)
        if not self._regions.size:
            raise ExplanationError("this explanation has no regions: it was made without erasure")
        H: NDArray[np.bool_] = self._regions[self.concepts.index(concept)].copy()
        return H

    @property
    def shows_erased(self) -> bool:
        """Whether something was erased, and the pictures were kept."""
        return bool(self._regions.size and self._input.size)

    def erased(self, concept: str) -> ErasedPicture:
        """Return the picture before and after the region of a concept was filled in.

        Its drop and share are those of the first class that was explained. Of a volume it is the
        slice with most of the region.

        Raises:
            ExplanationError: For a concept that is not in this explanation, or where nothing was
                erased, or by an earlier version, which kept no pictures.
        """
        region = self.region(concept)
        if not self.shows_erased:
            raise ExplanationError(
                "this explanation has no pictures without its concepts: an earlier version made "
                "it; explain the image again"
            )
        effects = of_pictures(self._effects)
        first = effects[effects["concept"] == concept].iloc[0]
        after = self._filled.get(concept, self._input)
        numbers = float(first["drop"]), float(first["share"])
        return ErasedPicture.shown((self.image, concept), self._input, region, after, numbers)

    def without(self, concept: str) -> NDArray[np.uint8]:
        """Return the network's input with the region of a concept filled in.

        It is uint8 [H, W, 3], or the slices of a volume [D, H, W, 3].

        Raises:
            ExplanationError: As `erased`.
        """
        self.erased(concept)
        return self._filled.get(concept, self._input)

    def sentences(self, class_name: str | None = None) -> list[str]:
        """Return what erasing each concept says about a class, the largest change first.

        Args:
            class_name: One of the classes explained; None for the first of them.

        Raises:
            ExplanationError: For another class.
        """
        effects = of_pictures(self._effects)
        if effects.empty:
            return []
        names = list(effects["class_name"].unique())
        if class_name is not None:
            _known("class", class_name, names)
        return image_sentences(effects[effects["class_name"] == (class_name or names[0])])

    @property
    def predictions(self) -> pd.DataFrame:
        """All classes, the most probable first: class_index, class_name, probability (0 to 1)."""
        return self._predictions.copy()

    def concept_map(self, layer: str, concept: str) -> NDArray[np.float32]:
        """Return M of a concept at a layer: [h, w] in [0, 1] (0 where it is not separated).

        Of a volume it is [d, h, w].

        Args:
            layer: A layer, or "layers together": the mean of the place filters' maps, which the
                concept's region comes from (docs/erasure.md), at the size of the network's input
                (0 where the concept is not seen). An explanation without erasure has none.
            concept: A concept.

        Raises:
            ExplanationError: For a layer or concept that is not in this explanation.
        """
        maps = dict(self._maps)
        if self._together.size:
            maps[TOGETHER] = self._together
        _known("layer", layer, tuple(maps))
        _known("concept", concept, self.concepts)
        M: NDArray[np.float32] = maps[layer][self.concepts.index(concept)].copy()
        return M

    @property
    def maps(self) -> dict[str, NDArray[np.float32]]:
        """M of all concepts by layer: [K, h, w], of a volume [K, d, h, w], by `concepts`."""
        return {layer: M.copy() for layer, M in self._maps.items()}

    def wide(self) -> pd.DataFrame:
        """Return the attributions with a row per layer and concept and a column per class.

        A class whose name another class has too is numbered: "crane", "crane [2]".
        """
        return by_class(self._rows)

    def to_json(self) -> str:
        """Return numbers and provenance as JSON; missing numbers are null, maps are left out."""
        return json_text(self._content())

    def plot(
        self,
        *,
        smooth: bool = False,
        layers: Sequence[str] | None = None,
        concepts: Sequence[str] | None = None,
        classes: Sequence[str | int] | None = None,
        diagnostics: Judging | None = None,
        beside: Sequence[LocalExplanation] = (),
        column: bool = False,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw the picture, the concept maps, what was measured and the attributions.

        Few concepts have a row with large maps each; of more, or of many layers, a table fits on
        one page.

        Args:
            smooth: Interpolate between the cells of the maps. Off, every cell shows as it is.
            layers: The layers to draw; None for all.
            concepts: The concepts to draw; None for all.
            classes: The classes to draw, by name or index; None for all that were explained.
            diagnostics: `explainer.diagnostics()`, whose doubts become signs at the numbers, with
                their reasons.
            beside: Other explanations whose figures are to have the same scales as this one.
            column: Whether to draw for the column of a paper, 85 mm wide: of each concept the map
                at the layer to read first.
            ax: Axes of a figure of your own, for the map of one concept at one layer alone.

        Raises:
            ExplanationError: For one that is not in this explanation, and for more than one map
                or `column` in `ax`.
        """
        from vtcav.results.figures.local.figure import plotted
        from vtcav.results.figures.selection import Shown, several

        rows = self._rows.drop_duplicates("class_index")
        known = [*zip(rows["class_index"].tolist(), rows["class_name"], strict=True)]
        shown = Shown.of(self, layers, concepts, classes, known)
        shown = shown._replace(judgements=judged(diagnostics, self.provenance))
        shown = shown._replace(beside=several(LocalExplanation, beside))
        check("smooth", smooth, Flag())
        check("column", column, Flag())
        return plotted(self, shown, ax, smooth=smooth, column=column)

    def save(
        self,
        folder: str | Path,
        *,
        diagnostics: Judging | None = None,
        beside: Sequence[LocalExplanation] = (),
    ) -> Path:
        """Write tables, maps, figure and provenance, all or nothing.

        The files are `local.json` (numbers and provenance; written last, with a hash of each
        other file), `local_attributions` and `local_predictions` (.csv, .parquet),
        `local_maps.npz` and `local.png`; of a volume, with nibabel, every concept map as
        `local_map_LAYER_CONCEPT.nii.gz` too. An earlier local explanation there is replaced.

        Args:
            folder: Where; created when missing.
            diagnostics: As for `plot`.
            beside: As for `plot`.

        Raises:
            ExplanationError: When they cannot be written.
        """
        from vtcav.results.figures.selection import several

        write = partial(
            self._write, judged(diagnostics, self.provenance), several(LocalExplanation, beside)
        )
        return save_result(folder, "local", "the local explanation", write)

    def _write(
        self,
        judgements: Judgements | None,
        beside: Sequence[LocalExplanation],
        folder: Path,
    ) -> dict[str, Any]:
        from vtcav.results.figures.local.figure import plot_local
        from vtcav.results.figures.page import save_figure
        from vtcav.results.figures.selection import Shown

        write_table(folder / "local_attributions", self._rows)
        write_table(folder / "local_predictions", self._predictions)
        write_table(folder / "local_effects", self._effects)
        arrays: dict[str, NDArray[Any]] = {"picture": self.picture}
        arrays |= {f"map/{layer}": maps for layer, maps in self._maps.items()}
        arrays |= numbered(self.thumbnails, self.concepts)
        arrays |= {"regions": self._regions, "together": self._together, "input": self._input}
        # black outside of the region, which compresses well
        arrays |= {
            f"filled/{k}": self._filled[name] * self._regions[k, ..., None]
            for k, name in enumerate(self.concepts)
            if name in self._filled
        }
        np.savez_compressed(folder / "local_maps.npz", allow_pickle=False, **arrays)
        shown = Shown(judgements=judgements, beside=beside)
        save_figure(lambda figure: plot_local(self, figure, shown=shown), folder / "local.png")
        if self.picture.ndim == 4:
            write_maps(folder, self._maps, self.concepts, self.picture.shape[:3], self.affine)
        return self._content()

    def _content(self) -> dict[str, Any]:
        """Return numbers and provenance as plain data."""
        return {
            "image": self.image,
            "layers": self.layers,
            "concepts": self.concepts,
            "best_layers": dict(self.best_layers),
            "box": self.box,
            **({} if self.affine is None else {"affine": self.affine.tolist()}),
            "attributions": records(self.attributions),
            "predictions": records(self._predictions),
            "effects": records(self.effects),
            "sentences": self.sentences(),
            "provenance": self.provenance.to_dict(),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ExplanationError: When it is missing, incomplete, damaged or of another version.
        """
        what = "local explanation"
        folder = given_path("folder", folder)
        manifest = load_manifest(folder, "local", what)
        with reading(folder, what):
            data = checked(SavedLocal, manifest)
            stored = read_arrays(folder / "local_maps.npz")
            K = len(data.concepts)
            names = {"layer": data.layers, "concept": data.concepts}
            rows = read_attributions(folder, "local_attributions", Row._fields, names)
            classes = list(dict.fromkeys(rows["class_index"]))
            check_order(rows, "local_attributions", **names, class_index=classes)
            effects = read_effects(folder, "local_effects", names)
            filled = of_pictures(effects)
            if len(filled) or stored.get("regions", NO_REGIONS).size:
                own = {"concept": data.concepts, "class_index": classes}
                check_order(filled, "local_effects", **own)
            picture = read_picture(stored, "picture", volume=True)
            sides = [-1] * (picture.ndim - 1)
            return cls(
                image=data.image,
                layers=data.layers,
                concepts=data.concepts,
                picture=picture,
                box=read_box(data.box),
                thumbnails=read_thumbnails(stored, data.concepts),
                provenance=Provenance.read(manifest.get("provenance")),
                _rows=rows,
                _predictions=read_predictions(folder, "local_predictions"),
                _maps={layer: read_map(stored, f"map/{layer}", K, *sides) for layer in data.layers},
                _effects=effects,
                best_layers=read_best(data.best_layers, data.layers, data.concepts),
                affine=read_affine(data.affine),
                **read_erased(stored, data.concepts),
            )


def freeze(*arrays: NDArray[Any]) -> None:
    """Make arrays of a result read-only."""
    for array in arrays:
        array.setflags(write=False)


def _known(what: str, name: str, names: Sequence[str]) -> None:
    if not isinstance(name, str) or name not in names:
        raise ExplanationError(
            f"this explanation has no {what} {brief(name)}; it has {', '.join(map(repr, names))}"
        )
