"""Concepts that separate wrong predictions from right ones: a frozen result, saved and loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from vtcav.files.manifest import (
    load_manifest,
    read_arrays,
    reading,
    records,
    save_result,
    write_table,
)
from vtcav.files.paths import given_path
from vtcav.files.schema import Saved, checked
from vtcav.images.references import Skipped
from vtcav.method.erasure.region import LEVEL
from vtcav.method.separation import separation
from vtcav.method.significance import q_values
from vtcav.results.effect_tables import GROUP
from vtcav.results.provenance import Provenance
from vtcav.results.ranking import RankedImage, ShownNumbers
from vtcav.results.saved import read_columns
from vtcav.results.tables.shapes import json_text
from vtcav.results.words import SIGNIFICANT, clear, count, equal_or_less, value

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

KIND = "errors"
_WHAT = "the analysis of errors"
_FINDINGS = (
    *("true_class", "predicted_class", "concept", "layer", "wrong", "right", "auc"),
    *("low", "high", "p_value", "q_value", "present_wrong", "present_right", "note"),
)
_IMAGES = (
    *("image", "true_class", "layer", "concept", "presence", "area", "predicted_class"),
    *("probability", "note"),
)
_PRESENT = "present_wrong", "present_right"
LEAST = 5
"""The fewest wrong and right images that are compared."""
FAINT = (
    "not tested: no image responds nearly as the examples do (highest presence {:.2f}): none shows "
    "the concept, or the examples are of another kind"
)
FEW = "not tested: {} wrong and {} right, expected at least {} each"


@dataclass(frozen=True, eq=False)
class ErrorImages:
    """Wrong images of a finding with their maps.

    Attributes:
        true_class: The class that they are of.
        predicted_class: The class that they are taken for; empty for all others together.
        concept: The concept.
        shown: The images; those that show the concept most, or least where its absence goes with
            the errors.
    """

    true_class: str
    predicted_class: str
    concept: str
    shown: tuple[RankedImage, ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class ErrorAnalysis:
    """Which concepts separate the images that the network gets wrong from those it gets right.

    Attributes:
        layers: The layer of each concept's presence.
        skipped: Images that could not be read, with reasons.
        shown: Some wrong images of the clearest findings.
        provenance: Everything that the numbers depend on.
    """

    layers: Mapping[str, str]
    skipped: tuple[Skipped, ...]
    shown: tuple[ErrorImages, ...] = field(repr=False)
    provenance: Provenance = field(repr=False)
    _findings: pd.DataFrame = field(repr=False)
    _rows: pd.DataFrame = field(repr=False)

    def __repr__(self) -> str:
        return f"ErrorAnalysis({self.described})"

    @property
    def described(self) -> str:
        """The number of images and of errors, in words."""
        one = self._rows.drop_duplicates("image")
        wrong = int((one["true_class"] != one["predicted_class"]).sum())
        lost = f", {len(self.skipped)} cannot be read" if self.skipped else ""
        return f"{count(len(one), 'image')}, {wrong} predicted wrong{lost}"

    @property
    def table(self) -> pd.DataFrame:
        """One row per class, or confusion of two, and concept; the clearest first.

        Columns: true_class, predicted_class (empty: every other), concept, layer, wrong and right
        (images compared), auc (the share of pairs of a wrong and a right image in which the wrong
        one shows the concept more: below 0.5 where its absence goes with the errors), low and high
        (95 % interval), p_value (two-sided Mann-Whitney test), q_value (adjusted for the whole
        table), present_wrong and present_right (shares of the images whose map is above 0.5
        somewhere), note. Right images of a confusion are those of the true class that are
        predicted right.
        """
        return self._findings.copy()

    @property
    def images(self) -> pd.DataFrame:
        """One row per image and concept.

        Columns: image, true_class, layer, concept, presence, area, predicted_class, probability,
        note.
        """
        return self._rows.copy()

    def findings(self) -> list[str]:
        """Return the significant rows of the table as sentences, the clearest first."""
        return list(_sentences(self._findings, self._rows))

    @property
    def conclusion(self) -> str:
        """What can be said where there is no finding; empty where there are some."""
        if self.findings():
            return ""
        tested = int(self._findings["q_value"].notna().sum())
        if tested:
            pairs = count(tested, "comparison")
            said = f"none of {pairs} has q ≤ 0.05"
            return f"Whether a concept goes with the errors cannot be told: {said}."
        if self._findings.empty:
            return "The network gets every image right, so there is nothing to compare."
        return self._nothing_compared()

    def _nothing_compared(self) -> str:
        """Return why nothing could be compared: how few images there are, or else the notes."""
        whole = self._findings[self._findings["predicted_class"] == ""]
        few = whole[(whole["wrong"] < LEAST) | (whole["right"] < LEAST)]
        if few.empty or len(few) < len(whole):
            return "Nothing could be compared; the notes in the table say why."
        most = max(few.to_dict("records"), key=lambda row: min(row["wrong"], row["right"]))
        return (
            f"Nothing could be compared: it takes {LEAST} wrong and {LEAST} right images of a "
            f"class, and {clear(most['true_class'])!r}, which has most, has {most['wrong']} wrong "
            f"and {most['right']} right."
        )

    def summary(self) -> dict[str, Any]:
        """Return the counts and findings as plain data."""
        return {
            "described": self.described,
            "layers": dict(self.layers),
            "findings": self.findings(),
            "conclusion": self.conclusion,
            "skipped": [asdict(skip) for skip in self.skipped],
        }

    def to_json(self) -> str:
        """Return tables and provenance as JSON; missing numbers are null."""
        tables = {"table": records(self._findings), "images": records(self._rows)}
        return json_text(self._content() | tables)

    def plot(self) -> Figure:
        """Draw the clearest findings with their intervals, and wrong images with their maps."""
        from vtcav.results.figures.error_analysis import plot_errors
        from vtcav.results.figures.page import new_figure

        return plot_errors(self, new_figure())

    def save(self, folder: str | Path) -> Path:
        """Write tables, pictures, figure and provenance, all or nothing.

        The files are `errors.json` (findings and provenance; written last, with a hash of each
        other file), `errors_table` and `errors_images` (.csv, .parquet), `errors_pictures.npz` and
        `errors.png`. An earlier analysis there is replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, KIND, _WHAT, self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.results.figures.error_analysis import plot_errors
        from vtcav.results.figures.page import save_figure

        write_table(folder / "errors_table", self._findings)
        write_table(folder / "errors_images", self._rows)
        arrays: dict[str, NDArray[Any]] = {}
        for i, group in enumerate(self.shown):
            for j, one in enumerate(group.shown):
                arrays |= {f"picture/{i}/{j}": one.picture, f"map/{i}/{j}": one.concept_map}
        np.savez_compressed(folder / "errors_pictures.npz", allow_pickle=False, **arrays)
        save_figure(lambda figure: plot_errors(self, figure), folder / "errors.png")
        return self._content()

    def _content(self) -> dict[str, Any]:
        names = ("image", "position", "presence", "box")
        return {
            **self.summary(),
            "shown": [
                {
                    "true_class": group.true_class,
                    "predicted_class": group.predicted_class,
                    "concept": group.concept,
                    "shown": [{name: getattr(one, name) for name in names} for one in group.shown],
                }
                for group in self.shown
            ],
            "provenance": self.provenance.to_dict(),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; the network is not needed.

        Raises:
            ExplanationError: When it is missing, incomplete, damaged or of another version.
        """
        folder = given_path("folder", folder)
        manifest = load_manifest(folder, KIND, _WHAT)
        with reading(folder, "analysis of errors"):
            data = checked(_Saved, manifest)
            stored = read_arrays(folder / "errors_pictures.npz")
            names = {"concept": list(data.layers)}
            return cls(
                layers=data.layers,
                skipped=data.skipped,
                shown=tuple(group.read(stored, i) for i, group in enumerate(data.shown)),
                provenance=Provenance.read(manifest.get("provenance")),
                _findings=read_columns(folder, "errors_table", _FINDINGS, names),
                _rows=read_columns(folder, "errors_images", _IMAGES, names),
            )


class _Group(Saved):
    true_class: str
    predicted_class: str
    concept: str
    shown: tuple[ShownNumbers, ...]

    def read(self, stored: Mapping[str, NDArray[Any]], i: int) -> ErrorImages:
        """Return the images with their pictures."""
        shown = tuple(one.read(stored, f"{i}/{j}") for j, one in enumerate(self.shown))
        return ErrorImages(self.true_class, self.predicted_class, self.concept, shown)


class _Saved(Saved):
    layers: dict[str, str]
    skipped: tuple[Skipped, ...]
    shown: tuple[_Group, ...]


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table of findings: every class and confusion with every concept.

    A confusion has rows of its own where a class is taken for several others.

    Args:
        rows: One row per image and concept: true_class, predicted_class, concept, layer, presence
            (NaN where the concept is not seen), area, note; with groups, that of the image.

    Example:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"presence": [0.9, 0.8, 0.7, 0.9, 0.8, 0.1, 0.2, 0.1, 0.0, 0.3]})
        >>> rows = rows.assign(true_class="cat", concept="tag", layer="a", area=rows["presence"])
        >>> rows["predicted_class"], rows["note"] = ["dog"] * 5 + ["cat"] * 5, ""
        >>> compared(rows)[["wrong", "right", "auc", "present_right"]].values.tolist()
        [[5.0, 5.0, 1.0, 0.8]]
    """
    import pandas as pd

    found = []
    for true, of_class in rows.groupby("true_class", sort=False):
        right = of_class[of_class["predicted_class"] == true]
        wrong = of_class[of_class["predicted_class"] != true]
        groups = {"": wrong}
        if wrong["predicted_class"].nunique() > 1:
            groups |= {str(name): each for name, each in wrong.groupby("predicted_class")}
        for predicted, group in groups.items():
            key = {"true_class": true, "predicted_class": predicted}
            found += [
                key | _row(own, right[right["concept"] == concept])
                for concept, own in group.groupby("concept", sort=False)
            ]
    table = pd.DataFrame(found, columns=list(_FINDINGS))
    table["q_value"] = q_values(table["p_value"].to_numpy(float))
    order = (table["auc"].astype(float) - 0.5).abs()
    return (
        table.assign(order=-order)
        .sort_values(["q_value", "order"], kind="stable", ignore_index=True)
        .drop(columns="order")
    )


def _row(wrong: pd.DataFrame, right: pd.DataFrame) -> dict[str, Any]:
    """Compare the wrong images of a class with the right ones, for one concept."""
    n, m, notes = len(wrong), len(right), wrong["note"]
    row = {
        "concept": wrong["concept"].iloc[0],
        "layer": wrong["layer"].iloc[0],
        "wrong": n,
        "right": m,
        **dict.fromkeys(("auc", "low", "high", "p_value"), math.nan),
        "present_wrong": float((wrong["area"] > 0).mean()),
        "present_right": float((right["area"] > 0).mean()) if m else math.nan,
        "note": "",
    }
    if wrong["presence"].isna().all():
        absent = {"present_wrong": math.nan, "present_right": math.nan}
        return row | absent | {"note": str(notes.iloc[0])}
    if min(n, m) < LEAST:
        return row | {"note": FEW.format(n, m, LEAST)}
    if (highest := max(wrong["presence"].max(), right["presence"].max())) < LEVEL:
        return row | {"note": FAINT.format(highest)}
    values = [each["presence"].to_numpy(float) for each in (wrong, right)]
    groups = (wrong[GROUP].tolist(), right[GROUP].tolist()) if GROUP in wrong else None
    found = separation(values[0], values[1], groups=groups)
    return row | found._asdict()


def _sentences(table: pd.DataFrame, rows: pd.DataFrame) -> Iterator[str]:
    for row in table[table["q_value"] <= SIGNIFICANT].to_dict("records"):
        taken = f"taken for {row['predicted_class']!r}" * bool(row["predicted_class"])
        first, second = "is present in {} of", "in {} of"
        numbers = [f"{row[name]:.0%}".replace("%", " %") for name in _PRESENT]
        if numbers[0] == numbers[1]:  # what differs is how strongly it responds
            first, second = "has a mean presence of {} in", "of {} in"
            numbers = [value(each) for each in _mean_presence(row, rows)]
        yield (
            f"{row['concept']!r} {first.format(numbers[0])} the {row['wrong']} images of "
            f"{row['true_class']!r} that are {taken or 'predicted wrong'}, and "
            f"{second.format(numbers[1])} the {row['right']} that are predicted right (AUC "
            f"{value(row['auc'])}, {value(row['low'])} to {value(row['high'])}; "
            f"q {equal_or_less(row['q_value'])})."
        )


def _mean_presence(row: Mapping[Any, Any], rows: pd.DataFrame) -> tuple[float, float]:
    """Return the mean presence of a concept in the wrong and in the right images of a finding."""
    own = rows[(rows["concept"] == row["concept"]) & (rows["true_class"] == row["true_class"])]
    right = own["predicted_class"] == row["true_class"]
    taken = own["predicted_class"] == row["predicted_class"] if row["predicted_class"] else ~right
    return float(own[taken]["presence"].mean()), float(own[right]["presence"].mean())
