"""The effect of erasing a region that was marked by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
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
from vtcav.images.input_box import Shares
from vtcav.results.effect_tables import read_effects
from vtcav.results.erased import ErasedPicture
from vtcav.results.notebook.erasure import erasure_html
from vtcav.results.provenance import Provenance
from vtcav.results.saved import (
    ErasedNumbers,
    read_box,
    read_picture,
    read_predictions,
)
from vtcav.results.tables.shapes import EFFECT_NUMBERS, json_text, printable
from vtcav.results.verdicts import image_sentences

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_WHAT = "the marked region"


@dataclass(frozen=True, eq=False)
class Erasure:
    """A region of an image erased by hand, and what the network answers.

    Attributes:
        image: The image's name.
        region: The region in words: a box, or the name of a mask.
        picture: The image as shown in figures, uint8 [H, W, 3].
        box: The network's input on the picture, as `LocalExplanation.box`.
        erased: The network's input before and after, with the region; the change is that of the
            first class.
        provenance: Everything that the numbers depend on.
    """

    image: str
    region: str
    picture: NDArray[np.uint8] = field(repr=False)
    box: Shares
    erased: ErasedPicture
    provenance: Provenance = field(repr=False)
    _effects: pd.DataFrame = field(repr=False)
    _predictions: pd.DataFrame = field(repr=False)

    def __repr__(self) -> str:
        return f"Erasure({self.image!r}, {self.region!r}: {self.sentences()[0]})"

    def _repr_html_(self) -> str:
        return erasure_html(self)

    @property
    def effects(self) -> pd.DataFrame:
        """One row per class, with the columns of `LocalExplanation.effects` that apply."""
        table = self._effects.drop(columns=["image", "layer", "concept", "seen"])
        return printable(table, *EFFECT_NUMBERS)

    @property
    def predictions(self) -> pd.DataFrame:
        """All classes before the region was erased: class_index, class_name, probability."""
        return self._predictions.copy()

    def sentences(self) -> list[str]:
        """Return what erasing the region says about each class, in their order."""
        return [
            image_sentences(self._effects.iloc[[i]], _WHAT)[0] for i in range(len(self._effects))
        ]

    def to_json(self) -> str:
        """Return sentences, numbers and provenance as JSON; missing numbers are null."""
        return json_text(self._content())

    def plot(self) -> Figure:
        """Draw the picture with the region, the picture without it, and the sentences."""
        from vtcav.results.figures.erasure import plot_erasure
        from vtcav.results.figures.page import new_figure

        return plot_erasure(self, new_figure())

    def save(self, folder: str | Path) -> Path:
        """Write table, pictures, figure and provenance, all or nothing.

        The files are `erasure.json` (sentences, numbers and provenance; written last, with a hash
        of each other file), `erasure_effects` and `erasure_predictions` (.csv, .parquet),
        `erasure_pictures.npz` and `erasure.png`. An earlier one there is replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, "erasure", "the erasure", self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.results.figures.erasure import plot_erasure
        from vtcav.results.figures.page import save_figure

        write_table(folder / "erasure_effects", self._effects)
        write_table(folder / "erasure_predictions", self._predictions)
        arrays = {"picture": self.picture, **self.erased.arrays()}
        np.savez_compressed(folder / "erasure_pictures.npz", allow_pickle=False, **arrays)
        save_figure(lambda figure: plot_erasure(self, figure), folder / "erasure.png")
        return self._content()

    def _content(self) -> dict[str, Any]:
        """Return sentences, numbers and provenance as plain data."""
        return {
            "image": self.image,
            "region": self.region,
            "box": self.box,
            "erased": self.erased.numbers(),
            "sentences": self.sentences(),
            "effects": records(self.effects),
            "predictions": records(self._predictions),
            "provenance": self.provenance.to_dict(),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ExplanationError: When it is missing, incomplete, damaged or of another version.
        """
        folder = given_path("folder", folder)
        manifest = load_manifest(folder, "erasure", "erasure")
        with reading(folder, "erasure"):
            data = checked(_Saved, manifest)
            stored = read_arrays(folder / "erasure_pictures.npz")
            return cls(
                image=data.image,
                region=data.region,
                picture=read_picture(stored, "picture"),
                box=read_box(data.box),
                erased=ErasedPicture.read(data.erased, stored),
                provenance=Provenance.read(manifest.get("provenance")),
                _effects=_read_effects(folder),
                _predictions=read_predictions(folder, "erasure_predictions"),
            )


def _read_effects(folder: str | Path) -> pd.DataFrame:
    """Return the effects: one row for each class."""
    effects = read_effects(folder, "erasure_effects")
    if effects.empty or not effects["class_index"].is_unique:
        raise ValueError("erasure_effects: expected one row for each class")
    return effects


class _Saved(Saved):
    image: str
    region: str
    box: Shares
    erased: ErasedNumbers
