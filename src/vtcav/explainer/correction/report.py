"""What a correction changes: accuracy, effects, and images that do not show the concept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, get_type_hints

from vtcav.explainer.correction.attributions import (
    ALL,
    COLUMNS,
    WITH,
    WITHOUT,
    compared,
    compared_attributions,
    mean_sizes,
    relative,
    uncancelled,
)
from vtcav.explainer.correction.groups import changes_by_group, group_sentences, tests_of_groups
from vtcav.explainer.correction.reliance import effect_shares, reliance_sentences
from vtcav.explainer.settings import When
from vtcav.files.manifest import read_table, records, write_table
from vtcav.files.schema import Column, Saved, checked, checked_table
from vtcav.images.references import Skipped
from vtcav.results.effect_tables import GROUP
from vtcav.results.provenance import Provenance
from vtcav.results.tables.shapes import json_text
from vtcav.results.words import clear, count, listed, named_layers, value

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_CLASSES = 3  # that a sentence names
_LOST = 0.1  # of the accuracy, from where on it is said first
_SIZES = ", for some classes and against others, mean size without the sign"
NO_IMAGES = "No labelled images were given, so nothing was measured."


class CorrectedRow(NamedTuple):
    """What a correction changes for an image, and for a concept in it.

    Attributes:
        image: The image's name.
        true_class: Its class.
        predicted_class: The class that the network predicts.
        predicted_after: The class that the corrected network predicts.
        shows: Whether it shows a concept that is taken out, at the layer.
        same: Whether its logits are the same to the last bit.
        change: The largest change of a logit.
        concept: A concept.
        area: The share of the picture that its region takes.
        drop: How far the logit of the true class falls when the region is erased, or its own part
            where that has less than a third of the effect; NaN where there is no region.
        drop_after: The same in the corrected network, with the same region.
        gap: How far that logit is above the negatives' mean; NaN where there is no region.
        gap_after: The same in the corrected network.
    """

    image: str
    true_class: str
    predicted_class: str
    predicted_after: str
    shows: bool
    same: bool
    change: float
    concept: str
    area: float
    drop: float
    drop_after: float
    gap: float
    gap_after: float


class Doubt(NamedTuple):
    """What diagnostics say of a concept that is taken out.

    Attributes:
        concept: The concept.
        level: "fine", "look" or "do not use".
        meaning: The finding that decides it; empty where it is fine.
    """

    concept: str
    level: str
    meaning: str


@dataclass(frozen=True, eq=False)
class CorrectionReport:
    """What a correction takes out, how far its concepts can be trusted, and what it changes.

    Attributes:
        concepts: What is taken out.
        layer: Where.
        when: "present" or "always".
        seen: For each round, the held-out AUC of the concepts that it takes out.
        doubts: What diagnostics say of each concept.
        skipped: Images that could not be read, with reasons.
        provenance: Everything that the numbers depend on.
    """

    concepts: tuple[str, ...]
    layer: str
    when: When
    seen: tuple[Mapping[str, float], ...]
    doubts: tuple[Doubt, ...]
    skipped: tuple[Skipped, ...]
    provenance: Provenance = field(repr=False)
    _rows: pd.DataFrame = field(repr=False)
    _attributions: pd.DataFrame | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"CorrectionReport({self.described})"

    @property
    def described(self) -> str:
        """What is taken out where, in words."""
        names = ", ".join(map(repr, self.concepts))
        where = "everywhere" if self.when == "always" else "where it is present"
        rounds = count(len(self.seen), "round")
        return f"{names} taken out at {named_layers([self.layer])}, {where}, in {rounds}"

    @property
    def loss(self) -> str:
        """A sentence on accuracy that is lost; empty where less than a tenth is, beyond chance."""
        table = self.accuracy
        [whole] = table[(table["class_name"] == "") & (table["shown"] == ALL)].to_dict("records")
        if not (whole["change"] <= -_LOST and whole["high"] < 0):
            return ""
        names = listed([repr(clear(name)) for name in self.concepts])
        found = int(self._rows.drop_duplicates("image")["shows"].sum())
        return (
            f"Accuracy falls from {100 * whole['before']:.0f} to {100 * whole['after']:.0f} %: "
            f"the network knew little else than {names}, or more than that was taken out. Do not "
            f"use the corrected network before you know which: {names} "
            f"{'was' if len(self.concepts) == 1 else 'were'} found in {found} of "
            f"{count(int(whole['n']), 'image')}; are these the images that show it?"
        )

    @property
    def images(self) -> pd.DataFrame:
        """One row per image and concept; the columns are those of `CorrectedRow`."""
        return self._rows.copy()

    @property
    def accuracy(self) -> pd.DataFrame:
        """Accuracy before and after.

        Columns: class_name (empty: all classes), shown ("with the concept", "without the concept":
        whether the layer finds one that is taken out, or "all"), n, before, after, change, low and
        high (95 % interval of the change, over images).
        """
        import pandas as pd

        one = self._rows.drop_duplicates("image")
        right = {
            "before": one["predicted_class"] == one["true_class"],
            "after": one["predicted_after"] == one["true_class"],
        }
        one = one.assign(**{name: found.astype(float) for name, found in right.items()})
        rows = []
        for name, of_class in [("", one), *one.groupby("true_class", sort=False)]:
            shows = of_class["shows"].astype(bool)
            for shown, group in (
                (ALL, of_class),
                (WITH, of_class[shows]),
                (WITHOUT, of_class[~shows]),
            ):
                rows.append(
                    {"class_name": name, "shown": shown, **compared(group, "before", "after")}
                )
        columns = ["class_name", "shown", "n", "before", "after", "change", "low", "high"]
        table = pd.DataFrame(rows, columns=columns)
        return table.assign(low=table["low"].clip(-1, 1), high=table["high"].clip(-1, 1))

    @property
    def effects(self) -> pd.DataFrame:
        """Effects before and after: how far the true class's logit falls without a concept.

        The concept's region is erased from the picture, the same for both networks; its own part
        alone where the rest has most of the effect and is another concept's. A concept may
        raise one class and lower another, which cancel in the mean over all classes: sentences and
        figure leave that out then. Columns: class_name (empty: all classes), concept, corrected
        (whether it is taken out), n (images with a region), before, after, change, low and high
        (95 % interval of the change, over images), relative (the change as a share of the effect
        before; missing where that is not above 0, or cancels), share_before and share_after (of the
        class's score above the negatives').
        """
        import pandas as pd

        known = self._rows[self._rows["drop"].notna() & self._rows["drop_after"].notna()]
        rows = []
        for name, of_class in [("", known), *known.groupby("true_class", sort=False)]:
            for concept in self._rows["concept"].drop_duplicates():
                own = of_class[of_class["concept"] == concept]
                found = compared(own, "drop", "drop_after")
                of = {"corrected": concept in self.concepts, "relative": relative(found)}
                of |= effect_shares(own)
                rows.append({"class_name": name, "concept": concept, **found, **of})
        columns = ["class_name", "concept", "corrected", "n", "before", "after", "change", "low"]
        columns += ["high", "relative", "share_before", "share_after"]
        table = pd.DataFrame(rows, columns=columns)
        return table.assign(
            relative=table["relative"].where(table.index.isin(uncancelled(table).index))
        )

    @property
    def attributions(self) -> pd.DataFrame:
        """Attributions of the true class before and after, at the corrected layer and after it.

        The CAVs are the same. Without `attributions=True` it is empty. Columns: class_name (empty:
        all classes), shown ("with the
        concept", "without the concept": whether the corrected layer finds one that is taken out, or
        "all"), layer, concept, corrected, n (images), unraised (images that are left out because
        one network does not raise their class above zero feature maps, where an attribution of 0 is
        no finding), before, after, change, low and high (95 % interval of the change, over images),
        relative (the change as a share of the attribution before; missing where that is 0), note
        (what casts doubt on them, and in how many images).
        """
        return compared_attributions(self.image_attributions, self.concepts)

    @property
    def image_attributions(self) -> pd.DataFrame:
        """One row per image, layer and concept; the columns are those of `AttributedRow`."""
        import pandas as pd

        if self._attributions is None:
            return pd.DataFrame(columns=list(COLUMNS))
        return self._attributions.copy()

    @property
    def grouped(self) -> bool:
        """Whether the images come in groups, over which intervals are then."""
        return GROUP in self._rows

    def by_group(self) -> pd.DataFrame:
        """Return accuracy and effects before and after for each group of images.

        Columns: group, quantity ("accuracy" or "effect"), concept (of an effect), n (images),
        before, after, change, low and high (95 % interval of the change, over the images of the
        group). Without groups there are no rows.
        """
        return changes_by_group(self._rows)

    def group_tests(self) -> pd.DataFrame:
        """Return whether changes differ between the groups of images.

        Columns: quantity, concept, groups (of at least two images), n (their images), p_value (rank
        test of Kruskal and Wallis), q_value (adjusted for the table), note.
        """
        return tests_of_groups(self._rows)

    @property
    def unchanged(self) -> dict[str, Any]:
        """Images that do not show the concept: how many there are, and what changes for them.

        Keys: images, same (logits the same to the last bit), other_class (predicted otherwise),
        largest_change (of a logit).
        """
        one = self._rows.drop_duplicates("image")
        one = one[~one["shows"].astype(bool)]
        return {
            "images": len(one),
            "same": int(one["same"].sum()),
            "other_class": int((one["predicted_class"] != one["predicted_after"]).sum()),
            "largest_change": float(one["change"].max()) if len(one) else 0.0,
        }

    def findings(self) -> list[str]:
        """Return what was measured, in sentences."""
        return list(_sentences(self))

    def summary(self) -> dict[str, Any]:
        """Return what is taken out, the doubts and the findings as plain data."""
        return {
            "described": self.described,
            "concepts": list(self.concepts),
            "layer": self.layer,
            "when": self.when,
            "seen": [dict(each) for each in self.seen],
            "doubts": [doubt._asdict() for doubt in self.doubts],
            "findings": self.findings(),
            "unchanged": self.unchanged,
            "attributed": self._attributions is not None,
            "skipped": [asdict(skip) for skip in self.skipped],
        }

    def to_json(self) -> str:
        """Return tables and provenance as JSON; missing numbers are null."""
        tables = {name: records(table) for name, table in self._tables().items()}
        return json_text(self.summary() | tables | {"provenance": self.provenance.to_dict()})

    def plot(self) -> Figure:
        """Draw accuracies and effects before and after."""
        from vtcav.explainer.correction.figure import plot_correction
        from vtcav.results.figures.page import new_figure

        return plot_correction(self, new_figure())

    def _tables(self) -> dict[str, pd.DataFrame]:
        tables = {"accuracy": self.accuracy, "effects": self.effects, "images": self._rows}
        # also where they are empty, so that none of an earlier correction stays in a folder
        tables |= {"attributions": self.attributions, "image_attributions": self.image_attributions}
        tables |= {"groups": self.by_group(), "group_tests": self.group_tests()}
        return {f"correction_{name}": table for name, table in tables.items()}

    def write(self, folder: Path) -> dict[str, Any]:
        """Write tables and figure into a folder, and return the rest as JSON data."""
        from vtcav.explainer.correction.figure import plot_correction
        from vtcav.results.figures.page import save_figure

        for name, table in self._tables().items():
            write_table(folder / name, table)
        save_figure(lambda figure: plot_correction(self, figure), folder / "correction.png")
        return self.summary() | {"provenance": self.provenance.to_dict()}

    @classmethod
    def read(cls, folder: Path, data: Mapping[str, Any]) -> Self:
        """Return what `write` wrote.

        Raises:
            ValueError: When something does not fit its declaration.
        """
        saved = checked(_Saved, data)
        rows = read_table(folder / "correction_images")
        if len(rows):
            if "gap" not in rows:  # older files
                rows = rows.assign(gap=nan, gap_after=nan)
            group = {GROUP: Column(str)} if GROUP in rows else {}
            rows = checked_table(rows, "correction_images", _COLUMNS | group, {})
        attributions = None
        if saved.attributed:
            name = "correction_image_attributions"
            attributions = checked_table(read_table(folder / name), name, COLUMNS)
        return cls(
            concepts=saved.concepts,
            layer=saved.layer,
            when=saved.when,
            seen=saved.seen,
            doubts=saved.doubts,
            skipped=saved.skipped,
            provenance=Provenance.read(data.get("provenance")),
            _rows=rows,
            _attributions=attributions,
        )


_COLUMNS = {
    **{
        name: Column(kind, gaps=kind is float)
        for name, kind in get_type_hints(CorrectedRow).items()
    },
    "change": Column(float, 0),
    "area": Column(float, 0, 1 + 1e-6, gaps=True),
}


class _Saved(Saved):
    concepts: tuple[str, ...]
    layer: str
    when: When
    seen: tuple[dict[str, float], ...]
    doubts: tuple[Doubt, ...]
    skipped: tuple[Skipped, ...]
    attributed: bool = False  # not in older files


def _sentences(report: CorrectionReport) -> Iterator[str]:
    yield from reliance_sentences(report.images, report.concepts, report.when)
    if not report.images.empty and (loss := report.loss):
        yield loss
    for doubt in report.doubts:
        if doubt.level == "do not use":
            yield f"Diagnostics say of {doubt.concept!r}: do not use. {doubt.meaning}"
    if report.images.empty:
        yield NO_IMAGES
        return
    accuracy = report.accuracy
    for row in accuracy[(accuracy["class_name"] == "") & (accuracy["n"] > 0)].to_dict("records"):
        which = "" if row["shown"] == ALL else f" {row['shown']}"
        own = accuracy[accuracy["shown"] == row["shown"]]
        yield (
            f"Accuracy on {count(row['n'], 'image')}{which}: {row['before']:.1%} before, "
            f"{row['after']:.1%} after{_classes(own, '.1%')}."
        ).replace("%", " %")
    effects = report.effects
    for row in effects[(effects["class_name"] == "") & (effects["n"] > 0)].to_dict("records"):
        taken = "" if row["corrected"] else " (not taken out)"
        own = effects[effects["concept"] == row["concept"]]
        before, after, what = row["before"], row["after"], ""
        if sizes := mean_sizes(own):
            (before, after), what = sizes, _SIZES
        yield (
            f"Effect of {row['concept']!r}{taken} in {count(row['n'], 'image')}{what}: "
            f"{before:z.2f} before, {after:z.2f} after{_classes(own, 'z.2f')}."
        )
    yield from _of_attributions(report)
    if report.grouped:
        yield from group_sentences(report.images)
    found = report.unchanged
    if found["images"]:
        yield (
            f"Of {count(found['images'], 'image')} without the concept, {found['same']} have the "
            f"same logits to the last bit, and {found['other_class']} are predicted otherwise."
        )


def _classes(table: pd.DataFrame, form: str) -> str:
    """Return the classes that change most, which may cancel in the mean; empty for a single one."""
    own = table[(table["class_name"] != "") & (table["n"] > 0)]
    if len(own) < 2 or not own["change"].any():
        return ""
    most = own["change"].abs().sort_values(ascending=False, kind="stable").index[:_CLASSES]
    each = (
        f"for {row['class_name']!r} {row['before']:{form}} and {row['after']:{form}}"
        for row in own.loc[most].to_dict("records")
    )
    return f"; {'most ' * (len(own) > _CLASSES)}{', '.join(each)}"


def _of_attributions(report: CorrectionReport) -> Iterator[str]:
    """Yield a sentence per concept, on the images that show one that is taken out."""
    table = report.attributions
    table = table[table["class_name"] == ""]
    for concept, rows in table[table["shown"] == WITH].groupby("concept", sort=False):
        taken = "" if rows["corrected"].all() else " (not taken out)"
        what = f"Attribution of {concept!r}{taken} to the true class in images {WITH}"
        out = int(rows["unraised"].max())
        rows = rows[(rows["before"] > 0) | (rows["after"] > 0)]
        if rows.empty:
            why = f" ({count(out, 'image')} left out, whose class one network does not raise)"
            yield f"{what}: none at any layer, before or after{why * bool(out)}."
            continue
        found = (
            f"{value(row['before'])} before and {value(row['after'])} after at "
            f"{named_layers([row['layer']])} "
            f"({count(row['n'], 'image')}, {row['unraised']} left out)"
            for row in rows.iloc[sorted({0, len(rows) - 1})].to_dict("records")
        )
        yield f"{what}: {'; '.join(found)}."
