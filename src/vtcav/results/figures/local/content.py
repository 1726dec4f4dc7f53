"""The parts of an explained image that its figures show, in their order and in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtcav.images.volumes import slice_between, slice_name, strongest_slice
from vtcav.method.variants import suffix
from vtcav.results.effect_tables import of_pictures
from vtcav.results.erased import change_text
from vtcav.results.figures.footnotes import Marks, ns_means
from vtcav.results.figures.lettering import text_width
from vtcav.results.figures.overlay import Overlay
from vtcav.results.figures.page import nice_limit
from vtcav.results.figures.palette import PALETTE
from vtcav.results.figures.protocols import ExplainedImage
from vtcav.results.figures.selection import Shown
from vtcav.results.figures.trust import TrustSigns
from vtcav.results.reading import read_first, reading_order
from vtcav.results.verdicts import mostly_of_others, reading_place
from vtcav.results.words import SIGNIFICANT, listed, notes_by_class, number

if TYPE_CHECKING:
    import pandas as pd

_HATCHES = "", "//////", "......"  # when the colours are used up
_PREDICTIONS = 3
_ERASED = (
    "Measured: the outlined region is filled in from around it, and the network looks again{}. "
    "{}p: how often chance does as much, by regions of the same size elsewhere in this image; not "
    "adjusted for the number of concepts. Judge the fill by eye."
)
_ANOTHERS = ", or by its own part of the region mostly another concept's"
_SHARES = "; bars: the share of the class's logit above that of the negatives that is gone"
_ESTIMATED = (
    "Attribution, computed from gradients: how much the concept counts for the class at a layer; "
    "1 would be the whole logit difference (image minus zero feature maps) of the best class."
)


class Change(NamedTuple):
    """How a class's score changes without a concept, as a bar.

    Attributes:
        size: The change in words.
        chance: How often chance does as much, in words; empty where it was not tested.
        share: The fall as a share of the bar's track, 0 for a rise; NaN where there is no bar.
        elsewhere: The same for regions of the same size elsewhere; NaN where there were none.
        sure: Whether chance does not explain it; also where it was not tested.
        anothers: Whether it is mostly another concept's, by the own part of the region.
    """

    size: str
    chance: str
    share: float
    elsewhere: float
    sure: bool
    anothers: bool = False

    @property
    def text(self) -> str:
        """The change in words, with chance."""
        return f"{self.size} {self.chance}".rstrip()


class LocalContent:
    """Everything that is drawn of an image, sorted.

    Args:
        explanation: The explanation.
        shown: What is drawn of it.
        smooth: Whether maps are drawn smooth.

    Attributes:
        layers: The best for most concepts first.
        concepts: Those whose erasure changes the score of the first class most come first.
        classes: Names by index.
        fills: How the bars of a class are filled, by index.
        limit: The end of the bars of attributions.
        erased: Whether there are pictures without the concepts.
    """

    def __init__(self, explanation: ExplainedImage, shown: Shown, *, smooth: bool) -> None:
        self.explanation, self.smooth = explanation, smooth
        self.trust = TrustSigns(shown.judgements)
        layers = [x for x in explanation.layers if x in (shown.layers or explanation.layers)]
        self.layers = reading_order(layers, explanation.best_layers)
        concepts = [
            x for x in explanation.concepts if x in (shown.concepts or explanation.concepts)
        ]
        self.table = table = _attributions(explanation, shown)
        self.resampled = bool(table["cav_low"].notna().any())
        self.error = float(table["error"].max())
        # of the others all classes are drawn
        others = [(other, shown._replace(classes=None)) for other in shown.beside]
        tables = [table, *(_attributions(*other) for other in others)]
        ends = [own[["attribution", "high"]].max().max() for own in tables]
        self.limit = nice_limit(float(np.nanmax(ends)))
        self.bars: dict[tuple[str, str], list[Any]] = {
            (str(layer), str(concept)): list(rows.itertuples(index=False))
            for (layer, concept), rows in table.groupby(["layer", "concept"], sort=False)
        }
        classes = table.drop_duplicates("class_index")
        self.classes = dict(zip(classes["class_index"], classes["class_name"], strict=True))
        self.fills = {index: _fill(k) for k, index in enumerate(self.classes)}
        self.erased = explanation.shows_erased
        self.effects = _effects(explanation, shown)
        self.changes: dict[object, list[Any]] = {
            concept: list(rows.itertuples(index=False))
            for concept, rows in self.effects.groupby("concept", sort=False)
        }
        self.concepts = sorted(concepts, key=self._rank)
        shares = self.effects["share"].notna()
        self.in_logits = bool(self.erased and not shares.any())
        drops = [own["drop"].abs().max() for own in (self.effects, *(_effects(*o) for o in others))]
        largest = float(np.nanmax([0.0, *drops]))
        self.logits = _round_up(largest) if largest > 0 else 1.0
        self.marks = Marks(table["note"].unique())
        # of a volume, the size that all slices have
        self.slices = len(explanation.picture) if explanation.picture.ndim == 4 else 0
        self._overlays: dict[tuple[int, bool], Overlay] = {}

    def _rank(self, concept: str) -> tuple[Any, ...]:
        """Return what concepts are sorted by: what was measured, then the attribution."""
        bar = self.bars[self.best(concept), concept][0]
        if not self.erased:
            return int(not bar.separated), 0.0, -bar.attribution
        row = self.changes[concept][0]._asdict()
        if math.isnan(row["drop"]):
            return 1, False, 0.0, -bar.attribution
        return 0, *reading_place(row), -bar.attribution

    @property
    def order(self) -> str:
        """What concepts are sorted by, in words."""
        if not self.erased:
            return "largest attribution first"
        others = any(c.anothers for concept in self.concepts for c in self.measured(concept))
        return f"largest change first{', another concept’s last' * others}"

    def best(self, concept: str) -> str:
        """Return the layer to read first: of those drawn, the deepest where it is none of them."""
        best = self.explanation.best_layers.get(concept, "")
        inner = [layer for layer in self.explanation.layers if layer in self.layers]
        return best if best in inner else inner[-1]

    # -- pictures

    def overlay(self, k: int | None = None, *, cropped: bool = False) -> Overlay:
        """Return the picture; of a volume a slice of it, the middle one for None."""
        k = self.slices // 2 if k is None else k
        if (k, cropped) not in self._overlays:
            picture = self.explanation.picture
            picture = picture[k] if self.slices else picture
            self._overlays[k, cropped] = Overlay(picture, self.explanation.box, cropped=cropped)
        return self._overlays[k, cropped]

    def strongest(self, layer: str, concept: str) -> tuple[NDArray[np.float32], int, str]:
        """Return the slice of a map to draw, that of the volume under it, and its name."""
        M = self.explanation.concept_map(layer, concept)
        if not self.slices:
            return M, 0, ""
        z = strongest_slice(M)
        k = slice_between(z, len(M), self.slices)
        return M[z], k, slice_name(k, self.slices)

    def shown_slice(self, concept: str) -> tuple[int, str]:
        """Return the slice of a volume that is drawn beside a concept, and its name."""
        if not self.slices:
            return 0, ""
        region = self.explanation.region(concept) if self.erased else np.zeros((1, 1, 1), bool)
        if region.any():
            k = strongest_slice(region)
            return k, slice_name(k, self.slices)
        _, k, text = self.strongest(self.layers[0], concept)
        return k, text

    # -- numbers

    def not_erased(self, concept: str) -> str:
        """Return why nothing of a concept was erased; empty where something was."""
        row = self.changes[concept][0]
        if math.isnan(row.drop):
            return f"not seen (AUC {row.seen:.2f})"
        return "" if row.area > 0 else "nowhere in this image"

    def measured(self, concept: str) -> list[Change]:
        """Return the changes of the classes' scores, in the order of the classes."""
        return [self._change(row) for row in self.changes[concept]]

    def _change(self, row: Any) -> Change:
        tested = bool(row.placebos and row.area > 0)
        scale = 1 / self.logits if self.in_logits else row.share / (row.drop or math.nan)
        if not self.in_logits and not row.drop:
            scale = 0.0 if row.share == row.share else math.nan
        share = float(np.clip(row.drop * scale, 0, 1))
        anothers = mostly_of_others(row._asdict())
        return Change(
            change_text(row.drop, row.share),
            f"(p = {row.p_value:.2g})" if tested else "",
            share,
            float(np.clip(row.placebo_mean * scale, 0, 1)) if tested else math.nan,
            not (tested and row.p_value > SIGNIFICANT) and not anothers,
            anothers,
        )

    @property
    def measured_text(self) -> str:
        """What the bars of changes show, with their ends."""
        ends = f"0 to -{self.logits:g} logits" if self.in_logits else "0 to -100 %"
        return f"score, measured ({ends})"

    @property
    def map_name(self) -> str:
        """The name of the maps."""
        return f"concept map M{suffix(self.explanation.provenance.variant)}"

    @property
    def estimated_text(self) -> str:
        """What the bars of attributions show, with their ends."""
        return f"attribution (0 to {self.limit:g})"

    def number(self, bar: Any) -> str:
        """Return an attribution with its marks."""
        said = self.marks.number(bar.attribution, bar.note, bar.q_value)
        return said + self.trust.at(bar.layer, bar.concept)

    @property
    def numbers(self) -> float:
        """The width of the longest attribution, in inches."""
        texts = {self.number(bar) for bars in self.bars.values() for bar in bars}
        return max(map(text_width, texts)) + 0.08

    def predictions(self) -> list[tuple[str, int, float, dict[str, Any] | None]]:
        """Return names, indices, probabilities and fills of the top classes and those explained."""
        table = self.explanation.predictions
        chosen = table[
            (np.arange(len(table)) < _PREDICTIONS) | table["class_index"].isin(list(self.classes))
        ]
        indices = chosen["class_index"].tolist()
        names, shares = chosen["class_name"].tolist(), chosen["probability"].tolist()
        return [*zip(names, indices, shares, map(self.fills.get, indices), strict=True)]

    # -- notes

    def _erased_notes(self) -> list[str]:
        """Return what is to be known of single concepts that were erased."""
        about: dict[str, list[str]] = {}
        for concept, rows in self.effects.groupby("concept", sort=False):
            if rows["area"].iloc[0] > 0 and (note := notes_by_class(rows)):
                about.setdefault(note, []).append(str(concept))
        return [f"Without {listed(names)}: {note}." for note, names in about.items()]

    def brief_notes(self) -> list[str]:
        """Return the least that a reader needs to know, where only the best layers are shown."""
        texts = ["Attribution: a share of the best class's logit difference to zero feature maps."]
        if self.erased:
            texts.insert(0, "Measured: the concept's region is filled in, the network looks again.")
        changes = [c for name in self.concepts if self.erased for c in self.measured(name)]
        if not all(change.sure for change in changes):
            texts[0] += f" Outlined: not significant (p > {SIGNIFICANT:g}){_ANOTHERS}."
        if any(change.elsewhere == change.elsewhere for change in changes):
            texts[0] += " Dashed: regions of the same size elsewhere."
        if not self.erased and self.table["null_mean"].notna().any():
            texts[0] += " Dashed: random directions."
        if not self.erased and self.resampled:
            texts[0] += " Whiskers: 95 % interval for other examples and negatives."
        if (self.table["q_value"] > SIGNIFICANT).any():
            texts[-1] += f" ns: not significant (q > {SIGNIFICANT:g})."
        trust = self.trust.legend([*dict.fromkeys(map(self.best, self.concepts))], self.concepts, 0)
        return [*texts, *trust, *self.marks.legend(self._best_notes())]

    def _best_notes(self) -> list[str]:
        """Return the notes of the attributions at the layers to read first."""
        rows = (self.bars[self.best(concept), concept] for concept in self.concepts)
        return [bar.note for bars in rows for bar in bars]

    def notes(self, *, best: bool = False) -> list[str]:
        """Return what a reader needs to know, a paragraph each.

        Args:
            best: Whether only attributions at the layers to read first have numbers.
        """
        texts = [self._map_note()]
        if self.slices:
            texts.append(
                "Slices are those of the network's input. Beside a concept stands the one with "
                "most of its region. The report and notebooks show all slices."
            )
        if self.overlay().padded:
            texts.append("Plain grey margin: padding, which the network saw too.")
        texts.append(_ESTIMATED)
        if self.resampled:
            texts[-1] += (
                " Whiskers: 95 % interval for other examples and negatives, where it is wide "
                "enough to be seen."
            )
        if np.isfinite(self.error):
            shown = "." if self.resampled else "; whiskers show it where it is large enough."
            texts[-1] += f" Estimated quadrature error: at most {number(self.error)}{shown}"
        if self.erased:
            texts[:0] = [self._measured_note(), *self._erased_notes()]
        if outlines := self._outlines():
            texts.append(outlines)
        provenance = self.explanation.provenance
        texts += ns_means(self.table, provenance.null_cavs, self.explanation.attributions)
        first = read_first(
            {
                concept: at
                for concept, at in self.explanation.best_layers.items()
                if concept in self.concepts and at in self.layers
            },
            self.layers,
        )
        return [
            *texts,
            *provenance.picture_notes,
            *filter(None, [first]),
            *self.trust.legend(self.layers, self.concepts),
            *self.marks.legend(self._best_notes() if best else None),
        ]

    def _map_note(self) -> str:
        cells = (
            "The maps are smoothed: colours are interpolated between the centres of a layer's "
            "cells (bilinear). The layer itself resolves nothing finer than its cells."
            if self.smooth
            else "Every cell is shown as it is in the layer, without smoothing."
        )
        return (
            "Concept map M: where the layer sees the concept, whatever the class. One scale for "
            f"all maps. {cells}"
        )

    def _measured_note(self) -> str:
        rises = self.effects["drop"] < 0
        about = "" if self.in_logits else self.explanation.provenance.shares_note
        return _ERASED.format(
            "" if self.in_logits else _SHARES,
            f"{about}{' ' if about else ''}"
            f"{'A rise has a number, but no bar. ' if rises.any() else ''}",
        )

    def _outlines(self) -> str:
        """Return what outlined bars and upright lines mean, where there are any."""
        parts = []
        measured = self.concepts if self.erased else []
        changes = [change for c in measured for change in self.measured(c)]
        if (self.table["q_value"] > SIGNIFICANT).any() or not all(c.sure for c in changes):
            parts.append(
                f"Outlined bar: not significant (attribution: ns; measured: p > {SIGNIFICANT:g})"
                f"{_ANOTHERS}."
            )
        averages = []
        if self.table["null_mean"].notna().any():
            averages.append("random directions (attribution)")
        if any(change.elsewhere == change.elsewhere for change in changes):
            averages.append("regions of the same size elsewhere (measured)")
        if averages:
            parts.append(f"Dashed: the mean of {listed(averages)}.")
        return " ".join(parts)


def _attributions(explanation: ExplainedImage, shown: Shown) -> pd.DataFrame:
    """Return the attributions that are drawn, with the ends of their whiskers."""
    table = _chosen(explanation.attributions, shown)
    if shown.layers is not None:
        table = table[table["layer"].isin(list(shown.layers))]
    # whiskers: other examples and negatives, or else the quadrature's error
    value, error = table["attribution"], table["error"].fillna(0)
    low = table["cav_low"].fillna((value - error).clip(lower=0))
    return table.assign(low=low, high=table["cav_high"].fillna(value + error))


def _effects(explanation: ExplainedImage, shown: Shown) -> pd.DataFrame:
    """Return the measured effects that are drawn."""
    return _chosen(of_pictures(explanation.effects), shown)


def _chosen(table: pd.DataFrame, shown: Shown) -> pd.DataFrame:
    """Return the rows of the concepts and classes that are drawn."""
    if shown.classes is not None:
        table = table[table["class_index"].isin(list(shown.classes))]
    if shown.concepts is not None:
        table = table[table["concept"].isin(list(shown.concepts))]
    return table


def _round_up(x: float) -> float:
    """Return the end of an axis in logits: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(x))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= x * (1 - 1e-9))


def _fill(k: int) -> dict[str, Any]:
    """Return how the bars of the k-th class are filled, as keywords of matplotlib."""
    again, colour = divmod(k, len(PALETTE))
    fill = {"facecolor": PALETTE[colour], "edgecolor": "white"}
    hatch = _HATCHES[again % len(_HATCHES)]
    return fill | {"hatch": hatch} if hatch else fill
