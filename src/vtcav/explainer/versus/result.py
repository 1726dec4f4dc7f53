"""Two networks side by side: a frozen result, saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vtcav.explainer.versus.differences import COLUMNS
from vtcav.explainer.versus.layer_pairs import LayerPairs
from vtcav.explainer.versus.sentences import doubt_sentences, found_sentences, nothing_found
from vtcav.files.manifest import (
    load_manifest,
    read_arrays,
    read_table,
    reading,
    records,
    save_result,
    write_table,
)
from vtcav.files.paths import given_path
from vtcav.files.schema import Column, Saved, checked, checked_table
from vtcav.images.input_box import Shares
from vtcav.results.provenance import Provenance
from vtcav.results.tables.shapes import json_text, printable
from vtcav.results.words import clear

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

KIND = "versus"
_WHAT = "the comparison of two networks"


@dataclass(frozen=True, eq=False)
class SideBySide:
    """An image with the map of a concept in both networks.

    Attributes:
        class_name: Its class.
        concept: The concept.
        image: Its name.
        layer_a: The layer of the first network, or "layers together".
        layer_b: That of the second.
        picture: The image as shown in figures, uint8 [H, W, 3].
        box: The network's input on the picture: left, top, right and bottom in shares.
        map_a: M of the first network [h, w] in [0, 1].
        map_b: M of the second.
    """

    class_name: str
    concept: str
    image: str
    layer_a: str
    layer_b: str
    picture: NDArray[np.uint8] = field(repr=False)
    box: Shares = field(repr=False)
    map_a: NDArray[np.float32] = field(repr=False)
    map_b: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Versus:
    """How much two networks differ in what their concepts count for.

    Attributes:
        names: What the two networks are called.
        layers: Which layers were compared, and how they were paired.
        margin: Differences from -margin to margin count as none.
        shown: Images of the clearest differences with both maps.
        provenance: Everything that the numbers of each network depend on: of all trainings of the
            first, then of the second.
        trainings: How many trainings of each were compared.
    """

    names: tuple[str, str]
    layers: LayerPairs
    margin: float
    shown: tuple[SideBySide, ...] = field(repr=False)
    provenance: tuple[Provenance, ...] = field(repr=False)
    _table: pd.DataFrame = field(repr=False)
    trainings: tuple[int, int] = (1, 1)

    def __repr__(self) -> str:
        return f"Versus({self.described})"

    @property
    def described(self) -> str:
        """The networks and the layers, in words."""
        pairs = ", ".join(a if a == b else f"{a} and {b}" for a, b in self.layers.pairs)
        first, second = map(clear, self.names)
        many = [f", {count} trainings" if count > 1 else "" for count in self.trainings]
        both = f"{first} (a{many[0]}) and {second} (b{many[1]})"
        return f"{both}, layers paired {self.layers.how}: {pairs}"

    @property
    def differences(self) -> pd.DataFrame:
        """One row per class, quantity, pair of layers and concept; the clearest first, doubts last.

        Columns: class_name, quantity ("attribution"; "share", what erasing the concept takes of the
        logit; or "own share", what its own part of regions does where verdicts go by it), layer_a,
        layer_b, concept, n (images), groups (of these; 0 where each is its own), a and b (means
        over them), difference (b - a), low and high (95 % interval over images, or groups of them,
        over trainings where there are several, and for attributions also over the choice of
        examples), detectable (the smallest difference that could have been significant, had it been
        the only one), p_value (of a difference within the margin), q_value (adjusted for the whole
        table), note_a and note_b (why there is no number), doubt (why the numbers say nothing of
        this concept).
        """
        order = self._table["difference"].abs()
        table = self._table.assign(order=-order, doubtful=self._table["doubt"] != "")
        by = ["doubtful", "q_value", "order"]
        table = table.sort_values(by, kind="stable", ignore_index=True)
        return printable(
            table.drop(columns=["order", "doubtful"]),
            "a",
            "b",
            "difference",
            "low",
            "high",
            "detectable",
            "q_value",
        )

    def findings(self) -> list[str]:
        """Return the significant differences as sentences, the clearest first."""
        return list(found_sentences(self.differences))

    def doubts(self) -> list[str]:
        """Return what differs, or is not seen, but says nothing of its concept, as sentences."""
        return list(doubt_sentences(self.differences))

    @property
    def conclusion(self) -> str:
        """What can be said where no difference is significant; empty where one is."""
        return "" if self.findings() else nothing_found(self.differences, self.margin)

    def sentences(self) -> list[str]:
        """Return all that is said: findings or the conclusion, then what cannot be told."""
        return [*(self.findings() or [self.conclusion]), *self.doubts()]

    def summary(self) -> dict[str, Any]:
        """Return what was compared and found, as plain data."""
        return {
            "described": self.described,
            "names": list(self.names),
            "paired": self.layers.how,
            "layers": [list(pair) for pair in self.layers.pairs],
            "left_out": [list(names) for names in self.layers.left_out],
            "margin": self.margin,
            "trainings": list(self.trainings),
            "findings": self.findings(),
            "conclusion": self.conclusion,
            "doubts": self.doubts(),
        }

    def to_json(self) -> str:
        """Return table and provenance as JSON; missing numbers are null."""
        return json_text(self._content() | {"differences": records(self._table)})

    def plot(self) -> Figure:
        """Draw the differences with their intervals, and images with the maps of both."""
        from vtcav.explainer.versus.figure import plot_versus
        from vtcav.results.figures.page import new_figure

        return plot_versus(self, new_figure())

    def save(self, folder: str | Path) -> Path:
        """Write table, pictures, figure and provenance, all or nothing.

        The files are `versus.json` (findings and provenance; written last, with a hash of each
        other file), `versus_differences` (.csv, .parquet), `versus_pictures.npz` and `versus.png`.
        An earlier comparison there is replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, KIND, _WHAT, self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.explainer.versus.figure import plot_versus
        from vtcav.results.figures.page import save_figure

        write_table(folder / "versus_differences", self._table)
        arrays: dict[str, NDArray[Any]] = {}
        for i, one in enumerate(self.shown):
            arrays |= {f"{name}/{i}": getattr(one, name) for name in _ARRAYS}
        np.savez_compressed(folder / "versus_pictures.npz", allow_pickle=False, **arrays)
        save_figure(lambda figure: plot_versus(self, figure), folder / "versus.png")
        return self._content()

    def _content(self) -> dict[str, Any]:
        return {
            **self.summary(),
            "shown": [{name: getattr(one, name) for name in _NAMES} for one in self.shown],
            "provenance": [each.to_dict() for each in self.provenance],
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; the networks are not needed.

        Raises:
            ExplanationError: When it is missing, incomplete, damaged or of another version.
        """
        folder = given_path("folder", folder)
        manifest = load_manifest(folder, KIND, _WHAT)
        with reading(folder, _WHAT.removeprefix("the ")):
            data = checked(_Saved, manifest)
            stored = read_arrays(folder / "versus_pictures.npz")
            table = read_table(folder / "versus_differences")
            if "doubt" not in table:  # older files
                table = table.assign(groups=0, detectable=nan, doubt="")
            return cls(
                names=data.names,
                layers=LayerPairs(data.layers, data.paired, data.left_out),
                margin=data.margin,
                shown=tuple(one.read(stored, i) for i, one in enumerate(data.shown)),
                provenance=tuple(Provenance.read(each) for each in manifest["provenance"]),
                trainings=data.trainings,
                _table=checked_table(table, "versus_differences", _COLUMNS, {}),
            )


_NAMES = "class_name", "concept", "image", "layer_a", "layer_b", "box"
_ARRAYS = "picture", "map_a", "map_b"
_COLUMNS = {
    **dict.fromkeys(COLUMNS, Column(float, gaps=True)),
    **dict.fromkeys(("class_name", "quantity", "layer_a", "layer_b", "concept"), Column(str)),
    **dict.fromkeys(("note_a", "note_b", "doubt"), Column(str)),
    **dict.fromkeys(("p_value", "q_value"), Column(float, 0, 1, gaps=True)),
    **dict.fromkeys(("n", "groups"), Column(int, 0)),
}


class _Shown(Saved):
    class_name: str
    concept: str
    image: str
    layer_a: str
    layer_b: str
    box: Shares

    def read(self, stored: Mapping[str, NDArray[Any]], i: int) -> SideBySide:
        """Return the image with its pictures."""
        content: dict[str, Any] = {name: stored[f"{name}/{i}"] for name in _ARRAYS}
        return SideBySide(**content | {name: getattr(self, name) for name in _NAMES})


class _Saved(Saved):
    names: tuple[str, str]
    layers: tuple[tuple[str, str], ...]
    paired: str
    left_out: tuple[tuple[str, ...], tuple[str, ...]]
    margin: Annotated[float, Field(ge=0, lt=1)]
    trainings: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 1)
    shown: tuple[_Shown, ...]
