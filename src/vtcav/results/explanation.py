"""The explanations of an image and of a class: frozen results, saved and loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExplanationError
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
from vtcav.images.references import Skipped
from vtcav.parameters import Between, Flag, check
from vtcav.results import effect_tables
from vtcav.results.effect_tables import TOGETHER, effect_table, with_effects
from vtcav.results.erased import ErasedPicture
from vtcav.results.figures.trust import Judgements, Judging, judged
from vtcav.results.local_explanation import LocalExplanation as LocalExplanation
from vtcav.results.local_explanation import freeze
from vtcav.results.notebook.explanations import global_html, global_text
from vtcav.results.provenance import Provenance
from vtcav.results.reading import class_verdicts
from vtcav.results.rows import EffectRow, Row
from vtcav.results.saved import SavedGlobal, numbered, read_best, read_columns, read_thumbnails
from vtcav.results.tables import saved_rows
from vtcav.results.tables.class_summary import (
    NEEDED,
    class_summary,
    group_means,
    group_tests,
    named_draws,
    pairs_of,
)
from vtcav.results.tables.image_groups import ImageGroups, with_groups
from vtcav.results.tables.image_rows import PAIR, HeldRows, ImageRows, Pair
from vtcav.results.tables.shapes import EFFECT_NUMBERS, by_image, json_text, printable
from vtcav.results.verdicts import Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_ROW = *Row._fields, "probability", "predicted_class"
_NUMBERS = "effect", "p_value", "q_value", "attribution"
_IMAGES = ["image", "used", "reason", "probability", "predicted_class"]

MOST_SHOWN = 500
"""The most images of a class that figures show one by one; of more, so many are drawn."""


@dataclass(frozen=True, eq=False)
class GlobalExplanation:
    """One class explained with many images.

    Tables of more than 500,000 rows stay on disk: in the folder of the run, in a temporary one, or
    where the explanation was saved. All that is made of them reads them in parts; `attributions`,
    `effects`, `images` and `wide` return all rows, and `batches` some at a time.

    Attributes:
        class_index: Its index.
        class_name: Its name.
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        skipped: Images that could not be read, with reasons.
        thumbnails: A few examples of each concept, uint8 [n, 96, 96, 3].
        provenance: Everything that the numbers depend on.
        erased: A few images without each concept that was found, at most 224 pixels a side.
        best_layers: The layer to read first for each concept that a layer sees
            (`CavBank.best_layer`); empty in older results.
        groups: The group of each image by its name; empty where every image is its own.
    """

    class_index: int
    class_name: str
    layers: tuple[str, ...]
    concepts: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    thumbnails: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    provenance: Provenance = field(repr=False)
    _rows: pd.DataFrame | ImageRows = field(repr=False)
    _resampled: pd.DataFrame = field(repr=False)
    _effects: pd.DataFrame | ImageRows = field(repr=False, default_factory=effect_table)
    erased: tuple[ErasedPicture, ...] = field(repr=False, default=())
    best_layers: Mapping[str, str] = field(repr=False, default_factory=dict)
    groups: Mapping[str, str] = field(repr=False, default_factory=dict)
    # by confidence; the rows never change, and a save asks for them seven times
    _class_effects: dict[Any, pd.DataFrame] = field(repr=False, init=False, default_factory=dict)
    _summaries: dict[float, pd.DataFrame] = field(repr=False, init=False, default_factory=dict)

    def __post_init__(self) -> None:
        freeze(*self.thumbnails.values())
        groups = ImageGroups.named(self.groups, WeakMethod(self._image_parts))
        object.__setattr__(self, "groups", groups)

    @property
    def _attribution_rows(self) -> ImageRows:
        return self._rows if isinstance(self._rows, ImageRows) else HeldRows(self._rows)

    @property
    def _effect_rows(self) -> ImageRows:
        return self._effects if isinstance(self._effects, ImageRows) else HeldRows(self._effects)

    @property
    def used(self) -> int:
        """The number of images that could be read."""
        return len(self._rows) // (len(self.layers) * len(self.concepts))

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
        return printable(self._attribution_rows.frame(), *_NUMBERS)

    @property
    def effects(self) -> pd.DataFrame:
        """The effect of erasing each concept: image, and columns of `LocalExplanation.effects`."""
        return printable(self._effect_rows.frame(), *EFFECT_NUMBERS)

    def batches(self) -> Iterator[pd.DataFrame]:
        """Yield `attributions` in parts, in order: those on disk at most 32,768 rows at a time."""
        for part in self._attribution_rows.batches():
            yield printable(part, *_NUMBERS)

    def class_effects(self, confidence: float = 0.95, *, by_group: bool = False) -> pd.DataFrame:
        """Return one row per concept (`by_group`: and group): the effect of erasing it over images.

        Columns: layer, concept, n (images), groups (of these; 0 where each is its own), drop (mean,
        in logits), drop_low and drop_high (Student t interval over images), fill_low and fill_high
        (over the ways to fill, which some images are filled in), gap (mean of logit - reference),
        share (drop as a share of gap; none where gap is not above the standard deviation of the
        negatives' logits), share_low, share_high, probability, probability_without, present (the
        share of images where the concept was found), area, same_region (concepts whose regions
        overlap, and the share of the effect from there), confused_with, told, drop_apart, its _low
        and _high, present_apart, p_apart, q_apart (of own parts), seen, placebo_mean (of regions
        elsewhere), effect (in their standard deviations), p_value, q_value (two-sided), note.

        Raises:
            ExplanationError: For a confidence out of range.
        """
        check("confidence", confidence, Between(0, 1))
        check("by_group", by_group, Flag())
        pairs = pairs_of(self._effect_rows, effect_tables.NEEDED, self.groups)
        if (key := (confidence, by_group)) not in self._class_effects:
            table = effect_tables.group_effects if by_group else effect_tables.class_effects
            kept = pairs if self.groups or not by_group else ()
            self._class_effects[key] = table(kept, confidence)
        return self._class_effects[key].copy()

    def verdicts(self) -> list[Verdict]:
        """Return what erasing each concept says, of all images or of a group; used ones first."""
        return class_verdicts(self, self.class_name)

    @property
    def resampled(self) -> pd.DataFrame:
        """The mean attribution over images of every null, bootstrap and subset CAV.

        Columns: layer, concept, kind ("null_cav", "bootstrap_cav" or "subset_cav"), draw, mean.
        """
        return self._resampled.copy()

    @property
    def images(self) -> pd.DataFrame:
        """Every image: image, used, reason (why not), probability, predicted_class; its group."""
        import pandas as pd

        table: pd.DataFrame = pd.concat(self._image_parts(), ignore_index=True)
        return table

    def _image_parts(self) -> Iterator[pd.DataFrame]:
        """Yield `images` in parts."""
        import pandas as pd

        # each image once, also where two have one name
        step = len(self.layers) * len(self.concepts)
        used = pd.DataFrame()
        for rows in self._attribution_rows.every(step, [_IMAGES[0], *_IMAGES[3:]]):
            used = rows.assign(used=True, reason="")[_IMAGES]
            yield with_groups(used, self.groups)
        if self.skipped:
            lost = [(skip.name, False, skip.reason) for skip in self.skipped]
            left = pd.DataFrame(lost, columns=_IMAGES[:3])
            yield with_groups(pd.concat([used[:1], left])[1:], self.groups)

    @property
    def predicted(self) -> dict[str, int]:
        """The number of images that the network predicts as each class."""
        step = len(self.layers) * len(self.concepts)
        parts = self._attribution_rows.every(step, ["predicted_class"])
        return dict(Counter(name for part in parts for name in part["predicted_class"]))

    def shown_attributions(self) -> pd.DataFrame:
        """Return the attributions of the images that figures show: at most 500, drawn at random.

        Columns: layer, concept, attribution, predicted_class.
        """
        return self._shown(self._attribution_rows, ["attribution", "predicted_class"])

    def shown_effects(self) -> pd.DataFrame:
        """Return the effects in the same images: layer, concept, drop, drop_apart."""
        return self._shown(self._effect_rows, ["drop", "drop_apart"])

    def _shown(self, rows: ImageRows, columns: list[str]) -> pd.DataFrame:
        if self.used <= MOST_SHOWN or not len(rows):
            return rows.frame([*PAIR, *columns])
        chosen = np.zeros(self.used, bool)
        chosen[np.random.default_rng(0).choice(self.used, MOST_SHOWN, replace=False)] = True
        return rows.of_images(chosen, columns)[[*PAIR, *columns]]

    def summary(self, confidence: float = 0.95) -> pd.DataFrame:
        """Return one row per layer and concept: the attribution over images.

        Columns: layer, concept, n (images), mean, std (sample standard deviation), sem (standard
        error of the mean), ci_low and ci_high (Student t interval of the mean: it says how the
        mean would vary with other images of this kind, not how certain the concept is), cav_low
        and cav_high (interval of the mean for other examples and negatives, from bootstrap CAVs),
        null_mean, effect, p_value (the mean against the means of null CAVs, one-sided), q_value
        (adjusted for all rows of this table), separated, presence (mean over the images), drop and
        share (the measured effect of erasing the concept, with drop_low, drop_high, share_low and
        share_high: see `class_effects`; the same at every layer), note.

        Raises:
            ExplanationError: For a confidence out of range.
        """
        check("confidence", confidence, Between(0, 1))
        if confidence not in self._summaries:
            pairs = pairs_of(self._attribution_rows, NEEDED, self.groups)
            table = class_summary(pairs, self._resampled, confidence)
            self._summaries[confidence] = with_effects(table, self.class_effects(confidence))
        table = self._summaries[confidence].copy()
        return printable(table, "ci_low", "ci_high", "p_value", "q_value", "mean")

    def by_group(self, confidence: float = 0.95) -> pd.DataFrame:
        """Return one row per group of images, layer and concept: the mean attribution.

        Columns: group, layer, concept, n (images), mean, ci_low and ci_high (Student t interval
        over the images of the group). Rows of the "layers together" have the mean drop in logits
        when the concept's region is erased. Without groups there are no rows.

        Raises:
            ExplanationError: For a confidence out of range.
        """
        check("confidence", confidence, Between(0, 1))
        return self._of_groups(lambda rows, value: group_means(rows, value, confidence))

    def group_tests(self) -> pd.DataFrame:
        """Return one row per layer and concept: whether it counts differently between groups.

        Columns: layer, concept, groups (of at least two images), n (their images), p_value (rank
        test of Kruskal and Wallis), q_value (adjusted for the layers, or for the "layers together",
        whose drops are tested), note.
        """
        return self._of_groups(group_tests)

    def _of_groups(
        self, made: Callable[[Iterable[tuple[Pair, pd.DataFrame]], str], pd.DataFrame]
    ) -> pd.DataFrame:
        import pandas as pd

        tables = [
            made(pairs_of(rows, [value], self.groups, layer) if self.groups else (), value)
            for rows, value, layer in (
                (self._attribution_rows, "attribution", None),
                # those of single layers come from feature maps: only tables may speak of them
                (self._effect_rows, "drop", TOGETHER),
            )
        ]
        full = [table for table in tables if len(table)] or tables[:1]
        joined: pd.DataFrame = pd.concat(full, ignore_index=True)
        return joined

    def wide(self) -> pd.DataFrame:
        """Return the attributions with a row per image and a column per (layer, concept).

        Two images of one name have two rows.
        """
        rows = self._attribution_rows.frame(["image", "attribution"])
        return by_image(rows, self.layers, self.concepts)

    def to_json(self, *, rows: bool = True) -> str:
        """Return the summary, all attributions and provenance as JSON; missing numbers are null.

        Args:
            rows: Whether to include the attributions and the images.

        Raises:
            ExplanationError: For rows that are too many for memory.
        """
        if not check("rows", rows, Flag()):
            return json_text(self._content())
        if self._attribution_rows.on_disk:
            raise ExplanationError(
                f"{len(self._rows):,} attributions are too many for one text of JSON: take "
                "to_json(rows=False) for all else, and batches() or a saved Parquet file for them"
            )
        tables = {"attributions": self._attribution_rows.frame(), "images": self.images}
        return json_text(self._content() | {name: records(t) for name, t in tables.items()})

    def plot(
        self,
        *,
        layers: Sequence[str] | None = None,
        concepts: Sequence[str] | None = None,
        diagnostics: Judging | None = None,
    ) -> Figure:
        """Draw concepts by layers, with the interval of the mean and each image as a point.

        Args:
            layers: The layers to draw; None for all.
            concepts: The concepts to draw; None for all.
            diagnostics: `explainer.diagnostics()`, whose doubts become signs at the numbers, with
                their reasons.
        """
        from vtcav.results.figures.global_explanation import plot_global
        from vtcav.results.figures.page import new_figure
        from vtcav.results.figures.selection import Shown

        shown = Shown.of(self, layers, concepts)
        shown = shown._replace(judgements=judged(diagnostics, self.provenance))
        return plot_global(self, new_figure(), shown=shown)

    def plot_groups(self) -> Figure:
        """Draw the means of each group of images, for the concepts that differ most."""
        from vtcav.results.figures.groups import plot_groups
        from vtcav.results.figures.page import new_figure

        return plot_groups(self, new_figure())

    def save(
        self, folder: str | Path, *, csv: bool | None = None, diagnostics: Judging | None = None
    ) -> Path:
        """Write tables, figure and provenance, all or nothing.

        The files are `global.json` (summary and provenance; written last, with a hash of each
        other file), `global_attributions`, `global_summary`, `global_resampled` and
        `global_images` (.csv, .parquet), `global_examples.npz` and `global.png`; with groups their
        means, tests and figure. An earlier global explanation there is replaced.

        Args:
            folder: Where; created when missing.
            csv: Whether to write tables with rows of images as CSV, too; None writes CSV of those
                with up to 1,000,000 rows, and warns where there are more.
            diagnostics: As for `plot`.

        Raises:
            ExplanationError: When they cannot be written.
        """
        write = partial(self._write, csv=csv, told=judged(diagnostics, self.provenance))
        return save_result(folder, "global", "the global explanation", write)

    def _write(self, folder: Path, csv: bool | None, told: Judgements | None) -> dict[str, Any]:
        from vtcav.results.figures.global_explanation import plot_global
        from vtcav.results.figures.groups import plot_groups
        from vtcav.results.figures.page import save_figure
        from vtcav.results.figures.selection import Shown

        rows = {
            "global_attributions": self._attribution_rows,
            "global_effects": self._effect_rows,
        }
        count = self.used + len(self.skipped)
        images = self._image_parts() if self._attribution_rows.on_disk else iter([self.images])
        saved_rows.write_image_tables(folder, rows, images, count, csv)
        write_table(folder / "global_summary", self.summary())
        write_table(folder / "global_resampled", self._resampled)
        arrays = numbered(self.thumbnails, self.concepts)
        for i, picture in enumerate(self.erased):
            arrays |= {f"erased/{i}/{name}": array for name, array in picture.arrays().items()}
        np.savez_compressed(folder / "global_examples.npz", allow_pickle=False, **arrays)
        shown = Shown(judgements=told)
        save_figure(lambda figure: plot_global(self, figure, shown=shown), folder / "global.png")
        if self.groups:
            write_table(folder / "global_groups", self.by_group())
            write_table(folder / "global_group_tests", self.group_tests())
            save_figure(lambda figure: plot_groups(self, figure), folder / "global_groups.png")
        return self._content()

    def _content(self) -> dict[str, Any]:
        """Return the summary and provenance as plain data."""
        return {
            "class_index": self.class_index,
            "class_name": self.class_name,
            "layers": self.layers,
            "concepts": self.concepts,
            "best_layers": dict(self.best_layers),
            "skipped": [asdict(skip) for skip in self.skipped],
            "summary": records(self.summary()),
            "effects": records(self.class_effects()),
            "verdicts": [asdict(verdict) for verdict in self.verdicts()],
            "erased": [picture.numbers() for picture in self.erased],
            "confidence": 0.95,
            "provenance": self.provenance.to_dict(),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ExplanationError: When it is missing, incomplete, damaged or of another version.
        """
        what = "global explanation"
        folder = given_path("folder", folder)
        manifest = load_manifest(folder, "global", what)
        with reading(folder, what):
            data = checked(SavedGlobal, manifest)
            stored = read_arrays(folder / "global_examples.npz")
            names = {"layer": data.layers, "concept": data.concepts}
            columns, fields = ("layer", "concept", "kind", "draw", "mean"), EffectRow._fields
            erased = enumerate(data.erased)
            return cls(
                class_index=data.class_index,
                class_name=data.class_name,
                layers=data.layers,
                concepts=data.concepts,
                skipped=data.skipped,
                thumbnails=read_thumbnails(stored, data.concepts),
                provenance=Provenance.read(manifest.get("provenance")),
                _rows=saved_rows.read_image_rows(folder, "global_attributions", _ROW, names),
                _resampled=named_draws(read_columns(folder, "global_resampled", columns, names)),
                _effects=saved_rows.read_effect_rows(folder, "global_effects", fields, names),
                groups=data.groups or saved_rows.read_groups(folder),
                best_layers=read_best(data.best_layers, data.layers, data.concepts),
                erased=tuple(ErasedPicture.read(one, stored, f"erased/{i}/") for i, one in erased),
            )
