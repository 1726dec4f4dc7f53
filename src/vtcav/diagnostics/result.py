"""Diagnostics: how far each concept can be trusted at each layer, with a reason for every level.

`vtcav.diagnostics.diagnosis.diagnose` makes them. This class shows, draws, saves and loads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vtcav.diagnostics.display import level_counts, summary_html
from vtcav.diagnostics.levels import BAD, CHECKS, FINE, LEVELS, LOOK, NOT_APPLICABLE
from vtcav.errors import ExplanationError, brief
from vtcav.files.manifest import (
    FORMAT,
    load_manifest,
    read_arrays,
    read_table,
    reading,
    records,
    save_result,
    write_table,
)
from vtcav.files.paths import given_path
from vtcav.files.schema import Saved, checked, checked_array, checked_table
from vtcav.parameters import Flag, check
from vtcav.results.provenance import Provenance
from vtcav.results.saved import COLUMNS, Names, read_columns
from vtcav.results.tables.shapes import json_text, printable
from vtcav.results.words import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FINDINGS = (
    *("layer", "concept", "check", "value", "low", "high", "level", "meaning", "note", "other"),
)
_CURVE = "layer", "concept", "n", "stability", "low", "high", "measured"
_COPIES = "set", "image", "other_set", "other_image", "kind", "similarity"


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """How far concepts can be trusted.

    Attributes:
        layers: Layer names, in the order of the network.
        concepts: Concept names.
        provenance: What the findings depend on.
    """

    layers: tuple[str, ...]
    concepts: tuple[str, ...]
    provenance: Provenance = field(repr=False)
    _findings: pd.DataFrame = field(repr=False)
    _curve: pd.DataFrame = field(repr=False)
    _copies: pd.DataFrame = field(repr=False)
    _arrays: Mapping[str, NDArray[np.float64]] = field(repr=False)

    def __repr__(self) -> str:
        return (
            f"Diagnostics({count(len(self.layers), 'layer')}, "
            f"{count(len(self.concepts), 'concept')}: {level_counts(self.summary())})"
        )

    def _repr_html_(self) -> str:
        return summary_html(self.summary())

    @property
    def table(self) -> pd.DataFrame:
        """One row per finding.

        Columns: layer (empty where it concerns all), concept (the same), check, value, low, high
        (95 % interval), level (fine, look, do not use; not applicable where a check needs a second
        concept), meaning (one sentence), note (why a number is missing), other (another concept
        that the layer does not tell from this one).
        """
        return printable(self._findings, "value", "level", middle=("meaning", "note", "other"))

    @property
    def curve(self) -> pd.DataFrame:
        """Stability by number of examples: layer, concept, n, stability, low, high, measured.

        Stability is the mean cosine between directions from two disjoint draws of n examples and
        the same share of the negatives; 95 % of the draws lie between low and high. Where
        `measured` is false, the Spearman-Brown formula extrapolates from half of the examples.
        """
        return self._curve.copy()

    @property
    def duplicates(self) -> pd.DataFrame:
        """Pairs of copies: set, image, other_set, other_image, kind (exact, near), similarity.

        An image with several copies in one set has a row for the closest.
        """
        return self._copies.copy()

    def not_apart(self) -> list[tuple[str, str, str]]:
        """Return the pairs of concepts that a layer has one direction for: layer and both names.

        That is a finding and no fault: one may stand for the other, and erasing each in turn tells
        which one counts.
        """
        found = self._findings[self._findings["other"] != ""]
        pairs = zip(found["layer"], found["concept"], found["other"], strict=True)
        order = self.concepts.index
        return list(dict.fromkeys((layer, *sorted(both, key=order)) for layer, *both in pairs))

    def summary(self) -> pd.DataFrame:
        """Return one row per layer and concept: the worst level, and what decides it.

        Columns: layer, concept, level, check and meaning (of the gravest finding of that level),
        look and do_not_use (the number of findings of these levels).
        """
        rows = [
            {"layer": layer, "concept": concept, **self._decided(layer, concept)}
            for layer in self.layers
            for concept in self.concepts
        ]
        return printable(pd.DataFrame(rows), "level", middle=("meaning",))

    def _decided(self, layer: str, concept: str) -> dict[str, Any]:
        """Return the level of a concept at a layer and its reason."""
        found = self._findings
        found = found[found["layer"].isin(["", layer]) & found["concept"].isin(["", concept])]
        found = found[found["level"] != NOT_APPLICABLE]
        # of one level what confuses the concept with another decides, then the order of the checks
        gravity = [
            (-LEVELS.index(level), not other, CHECKS.index(check))
            for level, check, other in zip(
                found["level"], found["check"], found["other"], strict=True
            )
        ]
        first = found.iloc[min(range(len(found)), key=gravity.__getitem__)]
        counts = found["level"].value_counts()
        return {
            "level": first["level"],
            "check": first["check"],
            "meaning": first["meaning"],
            "look": int(counts.get(LOOK, 0)),
            "do_not_use": int(counts.get(BAD, 0)),
        }

    def level(self, layer: str, concept: str) -> str:
        """Return "fine", "look" or "do not use" for a concept at a layer.

        Raises:
            ExplanationError: For a layer or concept that is not diagnosed.
        """
        self._index("layer", layer, self.layers)
        self._index("concept", concept, self.concepts)
        return str(self._decided(layer, concept)["level"])

    def judged(self, provenance: Provenance) -> dict[tuple[str, str], tuple[str, str]]:
        """Return the level and the reason of each concept of another result, by layer and concept.

        A concept of the same name that was learned from other images, or in another network, is
        left out, for these diagnostics say nothing about it. The reason of "fine" is empty.

        Args:
            provenance: That of the other result.
        """
        if self.provenance.model.get("fingerprint") != provenance.model.get("fingerprint"):
            return {}
        known = {concept.name: concept for concept in self.provenance.concepts}
        same = {c.name for c in provenance.concepts if c.name in known and known[c.name].same(c)}
        return {
            (row["layer"], row["concept"]): (
                row["level"],
                "" if row["level"] == FINE else row["meaning"],
            )
            for row in self.summary().to_dict("records")
            if row["concept"] in same
        }

    def cosines(self, layer: str, *, corrected: bool = False) -> pd.DataFrame:
        """Return the cosines between the concepts' directions at a layer, concepts by concepts.

        Args:
            layer: The layer.
            corrected: Whether to subtract what shared negatives and few images add to cosines.
                The result is then NaN where a direction is no longer than its chance errors.

        Raises:
            ExplanationError: For a layer that is not diagnosed.
        """
        i = self._index("layer", layer, self.layers)
        check("corrected", corrected, Flag())
        return self._square(f"{'corrected' if corrected else 'cosines'}/{i}", self.concepts)

    def agreement(self, concept: str) -> pd.DataFrame:
        """Return the rank correlations between layers of a concept's projections.

        Raises:
            ExplanationError: For a concept that is not diagnosed.
        """
        k = self._index("concept", concept, self.concepts)
        return self._square(f"agreement/{k}", self.layers)

    def _square(self, key: str, names: Sequence[str]) -> pd.DataFrame:
        return pd.DataFrame(self._arrays[key], index=list(names), columns=list(names))

    def place(self, layer: str, concept: str, *, negatives: bool = False) -> NDArray[np.float64]:
        """Return where a concept's examples activate: the mean of their maps [h, w], sum at most 1.

        Of volumes it is [d, h, w].

        Args:
            layer: The layer.
            concept: The concept.
            negatives: Whether to return the map of its negatives instead.

        Raises:
            ExplanationError: For a layer or concept that is not diagnosed.
        """
        i = self._index("layer", layer, self.layers)
        k = self._index("concept", concept, self.concepts)
        check("negatives", negatives, Flag())
        place: NDArray[np.float64] = self._arrays[f"place_{'neg' if negatives else 'pos'}/{i}"][k]
        return place.copy()

    def _index(self, what: str, name: str, names: Sequence[str]) -> int:
        if not isinstance(name, str) or name not in names:
            known = ", ".join(map(repr, names))
            raise ExplanationError(
                f"these diagnostics have no {what} {brief(name)}; they have {known}"
            )
        return names.index(name)

    def plot(self) -> Figure:
        """Draw levels, their reasons and the numbers behind them, a row per layer and concept."""
        from vtcav.diagnostics.figure import plot_diagnostics
        from vtcav.results.figures.page import new_figure

        return plot_diagnostics(self, new_figure())

    def to_json(self) -> str:
        """Return findings, levels and provenance as JSON; missing numbers are null."""
        return json_text(self._content())

    def save(self, folder: str | Path) -> Path:
        """Write tables, matrices, figure and provenance, all or nothing.

        The files are `diagnostics.json` (levels and provenance; written last, with a hash of each
        other file), `diagnostics_findings`, `diagnostics_summary`, `diagnostics_curve` and
        `diagnostics_duplicates` (.csv, .parquet), `diagnostics.npz` and `diagnostics.png`. Earlier
        diagnostics there are replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, "diagnostics", "the diagnostics", self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.diagnostics.figure import plot_diagnostics
        from vtcav.results.figures.page import save_figure

        for name, table in self._tables().items():
            write_table(folder / f"diagnostics_{name}", table)
        np.savez_compressed(folder / "diagnostics.npz", allow_pickle=False, **self._arrays)
        save_figure(lambda figure: plot_diagnostics(self, figure), folder / "diagnostics.png")
        return self._content()

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {
            "findings": self._findings,
            "summary": self.summary(),
            "curve": self._curve,
            "duplicates": self._copies,
        }

    def _content(self) -> dict[str, Any]:
        """Return tables and provenance as plain data."""
        return {
            "layers": self.layers,
            "concepts": self.concepts,
            "provenance": self.provenance.to_dict(),
            **{name: records(table) for name, table in self._tables().items()},
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ExplanationError: When they are missing, incomplete, damaged or of another version.
        """
        kind, again = "diagnostics", "diagnose again and save"
        folder = given_path("folder", folder)
        manifest = load_manifest(folder, kind, kind, again, formats=(1, FORMAT))
        with reading(folder, kind, again):
            data = checked(_Saved, manifest)
            names = {"layer": data.layers, "concept": data.concepts}
            return cls(
                layers=data.layers,
                concepts=data.concepts,
                provenance=Provenance.read(manifest.get("provenance")),
                _findings=_read_findings(folder, data),
                _curve=read_columns(folder, "diagnostics_curve", _CURVE, names),
                _copies=read_columns(folder, "diagnostics_duplicates", _COPIES),
                _arrays=_read_arrays(folder, data),
            )


class _Saved(Saved):
    layers: Names
    concepts: Names


def _read_findings(folder: Path, data: _Saved) -> pd.DataFrame:
    """Return the findings with the column `other`, which older files lack."""
    findings = read_table(folder / "diagnostics_findings")
    findings = findings if "other" in findings else findings.assign(other="")
    values = {
        "layer": ("", *data.layers),
        "concept": ("", *data.concepts),
        "other": ("", *data.concepts),
        "check": CHECKS,
        "level": (*LEVELS, NOT_APPLICABLE),
    }
    columns = {name: COLUMNS[name] for name in _FINDINGS}
    findings = checked_table(findings, "diagnostics_findings", columns, values)
    for layer in data.layers:
        here = findings[findings["layer"].isin(["", layer]) & (findings["level"] != NOT_APPLICABLE)]
        missing = set(data.concepts) - set(here["concept"])
        if missing and "" not in set(here["concept"]):
            raise ValueError(f"diagnostics_findings: {missing} have none at layer {layer!r}")
    return findings


def _read_arrays(folder: Path, data: _Saved) -> dict[str, NDArray[np.float64]]:
    """Return the matrices of each layer and concept."""
    arrays, K = read_arrays(folder / "diagnostics.npz"), len(data.concepts)
    for i in range(len(data.layers)):
        for name in ("cosines", "corrected"):
            checked_array(arrays, f"{name}/{i}", "float64", K, K, gaps=True)
        for name in ("place_pos", "place_neg"):
            sides = 3 if getattr(arrays.get(f"{name}/{i}"), "ndim", 3) == 4 else 2  # of volumes
            checked_array(arrays, f"{name}/{i}", "float64", K, *[-1] * sides, gaps=True)
    if len(data.layers) > 1:
        for k in range(K):
            square = len(data.layers), len(data.layers)
            checked_array(arrays, f"agreement/{k}", "float64", *square, gaps=True)
    return arrays
