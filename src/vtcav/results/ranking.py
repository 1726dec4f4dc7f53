"""Images in the order of how strongly they show a concept: a frozen result, saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

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
from vtcav.files.schema import ANY_OR_NONE, Saved, checked, checked_array, checked_table
from vtcav.images.input_box import Shares
from vtcav.images.references import Skipped
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.notebook.ranking import ranking_html
from vtcav.results.provenance import Provenance
from vtcav.results.rows import RankedRow
from vtcav.results.saved import (
    COLUMNS,
    THUMBNAIL,
    Number,
    read_box,
    read_map,
    read_picture,
)
from vtcav.results.tables.shapes import json_text
from vtcav.results.words import count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

UNREADABLE = "cannot be read: "
KIND = "ranking"
_WHAT = "the ranking"


@dataclass(frozen=True, eq=False)
class RankedImage:
    """An image of a ranking with its map.

    Attributes:
        image: Its name.
        position: Its position in the order, from 1.
        presence: How strongly it shows the concept.
        picture: The image as shown in figures, uint8 [H, W, 3].
        box: The network's input on the picture: left, top, right and bottom in shares.
        concept_map: M [h, w] in [0, 1]; of the layers together means of cells, at most 64 a side.
    """

    image: str
    position: int
    presence: float
    picture: NDArray[np.uint8] = field(repr=False)
    box: Shares = field(repr=False)
    concept_map: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Images in the order of how strongly they show a concept at a layer.

    Attributes:
        concept: The concept.
        layer: The layer, or "layers together".
        skipped: Images that could not be read, with reasons.
        shown: Some images with their maps, in order: half of them the first, a quarter spread
            evenly over the rest, a quarter the last.
        examples: A few examples of the concept, uint8 [n, 96, 96, 3].
        caution: What casts doubt on the whole order; empty where nothing does.
        provenance: Everything that the numbers depend on.
    """

    concept: str
    layer: str
    skipped: tuple[Skipped, ...]
    shown: tuple[RankedImage, ...] = field(repr=False)
    examples: NDArray[np.uint8] = field(repr=False)
    caution: str
    provenance: Provenance = field(repr=False)
    _rows: pd.DataFrame = field(repr=False)

    def __repr__(self) -> str:
        return f"Ranking({self.concept!r}, {self.place}: {self.described})"

    def _repr_html_(self) -> str:
        return ranking_html(self)

    @property
    def place(self) -> str:
        """Whose maps were ranked, in words."""
        return f"the {TOGETHER}" if self.layer == TOGETHER else f"layer {self.layer}"

    @property
    def described(self) -> str:
        """The number of images, and of those that show the concept, in words."""
        ranked = len(self._rows) - len(self.skipped)
        lost = f", {len(self.skipped)} cannot be read" if self.skipped else ""
        return (
            f"{count(ranked, 'image')}, {self.present} with M > 0.5 somewhere, "
            f"{self.empty} with an empty map{lost}"
        )

    @property
    def present(self) -> int:
        """The number of images whose map is above 0.5 anywhere."""
        return int((self._rows["area"] > 0).sum())

    @property
    def empty(self) -> int:
        """The number of images with an empty map, whose order is that of the list."""
        return int((self._rows["presence"] == 0).sum())

    @property
    def table(self) -> pd.DataFrame:
        """One row per image, that which shows the concept most first.

        Columns: image, layer, concept, presence (the self-weighted mean of the map M,
        sum(M^2) / sum(M): 0 for an empty map, 1 where it responds as the concept's examples do),
        area (the share of locations with M above 0.5), predicted_class, probability, note. Of
        images with the same presence the larger area comes first, then the order of the list. Those
        that cannot be read stand last, without numbers and with the reason as note.
        """
        return self._rows.copy()

    def summary(self) -> dict[str, Any]:
        """Return the counts of the order as plain data."""
        return {
            "concept": self.concept,
            "layer": self.layer,
            "place": self.place,
            "images": len(self._rows) - len(self.skipped),
            "present": self.present,
            "empty": self.empty,
            "described": self.described,
            "skipped": [asdict(skip) for skip in self.skipped],
            "caution": self.caution,
        }

    def to_json(self) -> str:
        """Return the table and provenance as JSON; missing numbers are null."""
        return json_text(self._content() | {"table": records(self._rows)})

    def plot(self) -> Figure:
        """Draw the curve of presence, and the first and last images with their maps."""
        from vtcav.results.figures.page import new_figure
        from vtcav.results.figures.ranking import plot_ranking

        return plot_ranking(self, new_figure())

    def save(self, folder: str | Path) -> Path:
        """Write table, pictures, figure and provenance, all or nothing.

        The files are `ranking.json` (counts and provenance; written last, with a hash of each
        other file), `ranking_table` (.csv, .parquet), `ranking_pictures.npz` and `ranking.png`. An
        earlier one there is replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, KIND, _WHAT, self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.results.figures.page import save_figure
        from vtcav.results.figures.ranking import plot_ranking

        write_table(folder / "ranking_table", self._rows)
        arrays: dict[str, NDArray[Any]] = {"examples": self.examples}
        for i, one in enumerate(self.shown):
            arrays |= {f"picture/{i}": one.picture, f"map/{i}": one.concept_map}
        np.savez_compressed(folder / "ranking_pictures.npz", allow_pickle=False, **arrays)
        save_figure(lambda figure: plot_ranking(self, figure), folder / "ranking.png")
        return self._content()

    def _content(self) -> dict[str, Any]:
        """Return counts and provenance as plain data."""
        numbers = ("image", "position", "presence", "box")
        return {
            **self.summary(),
            "shown": [{name: getattr(one, name) for name in numbers} for one in self.shown],
            "provenance": self.provenance.to_dict(),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; the network is not needed.

        Raises:
            ExplanationError: When it is missing, incomplete, damaged or of another version.
        """
        folder = given_path("folder", folder)
        manifest = load_manifest(folder, KIND, KIND)
        with reading(folder, KIND):
            data = checked(_Saved, manifest)
            stored = read_arrays(folder / "ranking_pictures.npz")
            return cls(
                concept=data.concept,
                layer=data.layer,
                skipped=data.skipped,
                shown=tuple(one.read(stored, str(i)) for i, one in enumerate(data.shown)),
                examples=checked_array(
                    stored, "examples", "uint8", ANY_OR_NONE, THUMBNAIL, THUMBNAIL, 3
                ),
                caution=data.caution,
                provenance=Provenance.read(manifest.get("provenance")),
                _rows=_read_rows(folder, data),
            )


class ShownNumbers(Saved):
    """The numbers of an image that is shown with its map."""

    image: str
    position: Annotated[int, Field(ge=1)]
    presence: Number
    box: Shares

    def read(self, stored: Mapping[str, NDArray[Any]], key: str) -> RankedImage:
        """Return the image with its picture and map.

        Raises:
            ValueError: When these are missing or no pictures.
        """
        return RankedImage(
            image=self.image,
            position=self.position,
            presence=self.presence,
            box=read_box(self.box),
            picture=read_picture(stored, f"picture/{key}"),
            concept_map=read_map(stored, f"map/{key}", -1, -1),
        )


class _Saved(Saved):
    concept: str
    layer: str
    skipped: tuple[Skipped, ...]
    shown: tuple[ShownNumbers, ...]
    caution: str


def _read_rows(folder: Path, data: _Saved) -> pd.DataFrame:
    """Return the table; the images at its end could not be read and have no numbers."""
    rows = read_table(folder / "ranking_table")
    used = len(rows) - len(data.skipped)
    columns = {name: COLUMNS[name] for name in RankedRow._fields}
    names = {"layer": [data.layer], "concept": [data.concept]}
    checked_table(rows.iloc[: max(used, 0)], "ranking_table", columns, names)
    texts = {"image": COLUMNS["image"], "note": COLUMNS["note"]}
    return checked_table(rows, "ranking_table", texts)


def in_order(rows: pd.DataFrame, skipped: Sequence[Skipped]) -> pd.DataFrame:
    """Return the rows of a ranking in order, with those that could not be read at the end.

    Args:
        rows: One row per image that could be read, in the order of the list.
        skipped: The others.

    Example:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"image": ["a", "b", "c"], "presence": [0.0, 0.9, 0.0]})
        >>> rows["area"] = 0.0
        >>> in_order(rows, [Skipped("d", "the file is empty")])["image"].tolist()
        ['b', 'a', 'c', 'd']
    """
    import pandas as pd

    keys = ["presence", "area"]
    ordered = rows.sort_values(keys, ascending=False, kind="stable", ignore_index=True)
    if not skipped:
        return ordered
    first = {name: ordered[name].iloc[0] for name in ("layer", "concept") if name in ordered}
    lost = pd.DataFrame(
        [{**first, "image": s.name, "note": UNREADABLE + s.reason} for s in skipped]
    )
    return pd.concat([ordered, lost], ignore_index=True)


def shown_positions(images: int, shown: int) -> list[int]:
    """Return the positions, from 0, of the images of a ranking that are shown with their maps.

    Args:
        images: The number of images in order.
        shown: How many to show: half of them the first, a quarter spread evenly over the rest, a
            quarter the last.

    Example:
        >>> shown_positions(100, 8)
        [0, 1, 2, 3, 35, 66, 98, 99]
        >>> shown_positions(3, 8)
        [0, 1, 2]
    """
    if shown >= images:
        return list(range(images))
    last = shown // 4
    between = shown // 4
    first = shown - last - between
    rest = range(first, images - last)
    middle = [rest[(i + 1) * len(rest) // (between + 1)] for i in range(between)]
    return [*range(first), *middle, *range(images - last, images)]
