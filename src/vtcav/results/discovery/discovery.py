"""Concepts that nobody named: what `VisualTCAV.discover` returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vtcav.errors import CavError, ExplanationError, brief
from vtcav.files.manifest import (
    load_manifest,
    reading,
    records,
    save_result,
    write_table,
)
from vtcav.files.paths import given_path
from vtcav.files.schema import checked
from vtcav.images.references import Skipped
from vtcav.parameters import Whole, check
from vtcav.results.discovery.found import FoundConcept, UncoveredImage
from vtcav.results.discovery.saved import ATTRIBUTIONS, SavedDiscovery, read_parts
from vtcav.results.provenance import Provenance
from vtcav.results.tables.shapes import json_text, printable
from vtcav.results.words import count, network_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vtcav.results.bank.cav_bank import CavBank

FINE = "fine"
"""The level of a concept that is stable, and that noise does not show."""


def no_attributions() -> pd.DataFrame:
    """Return the table of attributions before there are any."""
    return pd.DataFrame(columns=list(ATTRIBUTIONS))


class Home(Protocol):
    """The explainer and the images that concepts were found with."""

    def name(self, concept: FoundConcept, name: str) -> CavBank:
        """Put a concept into the bank of the explainer, and return the bank."""

    def attributions(
        self,
        found: Sequence[FoundConcept],
        images: int,
        null_cavs: int | None,
        seed: int,
        erased: bool,
    ) -> pd.DataFrame:
        """Return the attributions of concepts to the classes predicted for some images."""

    def uncovered(
        self, layers: Sequence[str], images: int, seed: int
    ) -> tuple[pd.DataFrame, list[NDArray[np.float32]], dict[str, NDArray[np.uint8]]]:
        """Return what named concepts cover of images' attributions, maps of the rest, pictures."""

    def concept_map(self, concept: FoundConcept, image: Any) -> NDArray[np.float32]:
        """Return M [h, w] of a concept for an image."""


class Finder(Protocol):
    """An explainer, as a saved discovery needs it."""

    def discovered_in(self, images: Any, provenance: Provenance) -> Home:
        """Return the home of concepts that were found in these images."""


@dataclass(frozen=True, eq=False)
class Discovery:
    """Concepts that nobody named, found in the feature maps of images.

    Attributes:
        layers: Layer names, in the order of the network.
        images: The number of images.
        skipped: Images that were left out, with reasons.
        provenance: What the numbers depend on.
    """

    layers: tuple[str, ...]
    images: int
    skipped: tuple[Skipped, ...] = field(repr=False)
    provenance: Provenance = field(repr=False)
    _concepts: pd.DataFrame = field(repr=False)
    _layers: pd.DataFrame = field(repr=False)
    _tried: pd.DataFrame = field(repr=False)
    _found: tuple[FoundConcept, ...] = field(repr=False)
    _attributions: pd.DataFrame = field(repr=False)
    _coverage: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)
    _uncovered: tuple[NDArray[np.float32], ...] = field(repr=False, default=())
    _pictures: Mapping[str, NDArray[np.uint8]] = field(repr=False, default_factory=dict)
    _home: Home | None = field(repr=False, default=None)

    def __repr__(self) -> str:
        fine = int((self._concepts["level"] == FINE).sum())
        return (
            f"Discovery({count(len(self._found), 'concept')} at "
            f"{count(len(self.layers), 'layer')} in {count(self.images, 'image')}, {fine} of them "
            "stable)"
        )

    @property
    def concepts(self) -> pd.DataFrame:
        """One row per concept, layer by layer.

        Columns: concept (its number, which `name` takes), layer, examples and negatives (how many
        images stand for it, and for its absence), e_pos and e_neg (emblems), separated,
        seeds (mean matched cosine with factorisations from other starts), halves (the lower matched
        cosine with those of two halves of the images), stability (the lower of both), noise
        (highest cosine with a direction found in noise), nearest (the named concept with the
        closest direction), cosine (with its direction), auc (how well this direction tells the
        named concept's examples from its negatives), prevalence (share of the images whose map is
        above 0.5 somewhere), level (fine: stability of at least 0.8, and not found in noise; look,
        do not use below 0.5), note (why).
        """
        return printable(
            self._concepts, "stability", "prevalence", "level", middle=("note", "e_pos", "e_neg")
        )

    @property
    def summary(self) -> pd.DataFrame:
        """One row per layer: how it was factorised, and how much of it is stable.

        Columns: layer, factorisation, channels, places (factorised), per_image, k, fine (concepts
        of that level), median (stability), error (what the concepts do not explain, relative),
        seconds.
        """
        return self._layers.copy()

    @property
    def tried(self) -> pd.DataFrame:
        """One row per layer and number of concepts that was tried: layer, k, stable, median."""
        return self._tried.copy()

    @property
    def attributions(self) -> pd.DataFrame:
        """One row per concept and class, once `attributed` has computed them; empty before.

        Columns: layer, concept (its number), class_index, class_name (predicted for the images), n
        (images), null_mean (mean attribution of null CAVs), effect, raised (share of the images
        that raise the class above zero feature maps), note, p_value (one-sided, against null
        CAVs), q_value (adjusted for all rows), share (of the class's score, which goes when the
        concept is erased), verdict ("used", "not used", "not seen" or "cannot be told") and
        sentence (what erasing it says), attribution (mean over the images). Without
        `attributed(erased=True)` there is no share, and verdict and sentence are empty.
        """
        return self._attributions.copy()

    def attributed(
        self,
        images: int = 24,
        layers: Sequence[str] | None = None,
        null_cavs: int | None = None,
        *,
        erased: bool = False,
    ) -> Self:
        """Return the discovery with the attributions of its concepts to the predicted classes.

        They are those of `explain_class`, for the up to five classes that are predicted most often.
        This takes gradients, and passes the images that stand for each concept once more.

        Args:
            images: How many of the images are explained, drawn with the seed of the discovery.
            layers: At which layers; None takes all.
            null_cavs: As for `fit`.
            erased: Whether each concept is also erased from these images, as the explainer fills
                (docs/erasure.md), which says whether a class uses what the network sees. For every
                image and concept this takes as many passes as there are placebos, and a few more.

        Raises:
            CavError: For a discovery that was loaded without its explainer and images.
            ExplanationError: For a layer that nothing was found at.
        """
        check("images", images, Whole(1))
        for layer in layers or ():
            self._check_layer(layer)
        chosen = [found for found in self._found if found.layer in (layers or self.layers)]
        seed = int(self.provenance.settings["seed"])
        rows = self._at_home().attributions(chosen, images, null_cavs, seed, erased)
        settings = dict(self.provenance.settings) | {"attributed": images, "erased": erased}
        provenance = replace(self.provenance, settings=settings)
        covered, maps, pictures = self._at_home().uncovered(layers or self.layers, images, seed)
        return replace(
            self,
            _attributions=rows,
            _coverage=covered,
            _uncovered=tuple(maps),
            _pictures=pictures,
            provenance=provenance,
        )

    @property
    def coverage(self) -> pd.DataFrame:
        """What the named concepts cover of each class's attribution: a row per layer and class.

        Columns: layer, class_index, class_name, n (images that the class is predicted for and that
        raise it above zero feature maps), attribution (mean sum of the attribution map), uncovered
        (share of it that no named concept covers, in [0, 1]). Empty before `attributed`, and
        where the explainer has no concepts at these layers.
        """
        rows = self._coverage
        if rows.empty:
            return rows.copy()
        keys = ["layer", "class_index", "class_name"]
        groups = rows[rows["attribution"] > 0].groupby(keys, sort=False)
        table = groups.agg(
            n=("image", "size"), attribution=("attribution", "mean"), covered=("covered", "mean")
        ).reset_index()
        return table.assign(uncovered=1 - table.pop("covered") / table["attribution"])

    def uncovered_map(self, layer: str, image: str) -> NDArray[np.float32]:
        """Return where an image has attribution that no named concept covers [h, w].

        Its sum is the uncovered part of the predicted class's attribution.

        Args:
            layer: A layer of `coverage`.
            image: The name of one of the images that were explained.

        Raises:
            ExplanationError: Where there is no such map.
        """
        for row, found in zip(self._coverage.itertuples(), self._uncovered, strict=True):
            if (row.layer, row.image) == (layer, image):
                return found.copy()
        images = ", ".join(map(repr, self._coverage.get("image", pd.Series()).unique()[:5]))
        raise ExplanationError(
            f"there is no map of what is uncovered of {image!r} at layer {layer!r}; call "
            f"attributed with an explainer that has concepts at this layer "
            f"(there are {images or 'none'})"
        )

    def most_uncovered(self) -> list[UncoveredImage]:
        """Return where attribution is left uncovered: one image for each layer and class.

        It is the one with the most attribution that no named concept covers. Empty where `coverage`
        is, and in discoveries of versions that kept no pictures.
        """
        rows = self._coverage
        if rows.empty or not self._pictures:
            return []
        left = (rows["attribution"] - rows["covered"]).to_numpy()
        groups = rows.groupby(["layer", "class_index"], sort=False).indices.values()
        found = []
        for group in groups:
            positions = np.asarray(group)
            i = int(positions[left[positions].argmax()])
            row = rows.iloc[i]
            if row["attribution"] > 0:
                share = float(left[i] / row["attribution"])
                picture = self._pictures[row["image"]]
                named = row["layer"], row["class_name"], row["image"], share
                found.append(UncoveredImage(*named, picture, self._uncovered[i].copy()))
        return found

    @property
    def best_layer(self) -> str:
        """The layer with the most concepts of level fine; of several, the one with fewest others.

        It is chosen by stability alone: nothing says that its concepts matter for a class.
        """
        counts = zip(self._layers["fine"], self._layers["k"], self.layers, strict=True)
        return max(counts, key=lambda each: (each[0], -each[1]))[2]

    def __getitem__(self, concept: int) -> FoundConcept:
        """Return a concept by its number.

        Raises:
            ExplanationError: For a number that no concept has.
        """
        numbers = range(len(self._found))
        whole = isinstance(concept, int | np.integer) and not isinstance(concept, bool)
        if not whole or concept not in numbers:
            raise ExplanationError(
                f"there is no found concept {brief(concept)}; they are numbered from 0 to "
                f"{len(numbers) - 1} (see .concepts)"
            )
        return self._found[concept]

    def __len__(self) -> int:
        return len(self._found)

    def name(self, concept: int, name: str) -> CavBank:
        """Put a concept into the bank of the explainer, after which it is like any other.

        Its direction is the one that was found; emblems and null CAVs come from the images that
        show it most, and from some of those that show it least. At the explainer's other layers its
        direction is learned from these images, as `fit` does.

        Args:
            concept: Its number.
            name: Its name.

        Returns:
            The bank.

        Raises:
            CavError: For a discovery that was loaded without its explainer and images.
            ExplanationError: For a number that no concept has.
        """
        return self._at_home().name(self[concept], name)

    def concept_map(self, concept: int, image: Any) -> NDArray[np.float32]:
        """Return M of a concept for an image: [h, w] in [0, 1].

        Args:
            concept: Its number.
            image: A path, URI, PIL image or uint8 array [H, W, 3].

        Raises:
            CavError: For a discovery that was loaded without its explainer and images.
            ExplanationError: For a number that no concept has.
            ImageError: When the image cannot be read.
        """
        return self._at_home().concept_map(self[concept], image)

    def _at_home(self) -> Home:
        if self._home is None:
            raise CavError(
                "this discovery was loaded by itself; load it with its explainer and images: "
                "vtcav.Discovery.load(folder, explainer, images)"
            )
        return self._home

    def plot(self, layer: str | None = None) -> Figure:
        """Draw the patches that show each concept most, one row per concept.

        Args:
            layer: A layer; None draws those of all.

        Raises:
            ExplanationError: For a layer that nothing was found at.
        """
        from vtcav.results.figures.discovery import plot_discovery
        from vtcav.results.figures.page import new_figure

        if layer is not None:
            self._check_layer(layer)
        return plot_discovery(
            self._rows_of(layer), self._title(), new_figure(), self.provenance.picture_notes
        )

    def _check_layer(self, layer: str) -> None:
        if not isinstance(layer, str) or layer not in self.layers:
            known = ", ".join(map(repr, self.layers))
            raise ExplanationError(f"nothing was found at layer {brief(layer)}; layers are {known}")

    def _rows_of(self, layer: str | None) -> list[tuple[Mapping[Any, Any], FoundConcept]]:
        rows = zip(self._concepts.to_dict("records"), self._found, strict=True)
        return [(row, found) for row, found in rows if layer in (None, found.layer)]

    def _title(self) -> str:
        network = network_name(str(self.provenance.model.get("network", "")))
        return f"What {network or 'the network'} sees in {count(self.images, 'image')}"

    def to_json(self) -> str:
        """Return numbers and provenance as JSON; missing numbers are null."""
        return json_text(self._content())

    def save(self, folder: str | Path) -> Path:
        """Write tables, directions, patches, figure and provenance, all or nothing.

        The files are `discovery.json` (numbers and provenance; written last, with a hash of each
        other file), `discovery_concepts`, `discovery_layers`, `discovery_tried`,
        `discovery_attributions` and `discovery_coverage` (.csv, .parquet), `discovery.npz` and
        `discovery.png`. An earlier discovery there is replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, "discovery", "the discovery", self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from vtcav.results.figures.discovery import plot_discovery
        from vtcav.results.figures.page import save_figure

        for name, table in self._tables().items():
            write_table(folder / f"discovery_{name}", table)
        arrays = {
            f"{name}/{found.number}": array
            for found in self._found
            for name, array in found.arrays().items()
        }
        arrays |= {f"uncovered/{i}": found for i, found in enumerate(self._uncovered)}
        arrays |= {f"picture/{i}": found for i, found in enumerate(self._pictures.values())}
        np.savez_compressed(folder / "discovery.npz", allow_pickle=False, **arrays)
        rows, title, notes = self._rows_of(None), self._title(), self.provenance.picture_notes
        save_figure(
            lambda figure: plot_discovery(rows, title, figure, notes), folder / "discovery.png"
        )
        return self._content()

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {
            "concepts": self._concepts,
            "layers": self._layers,
            "tried": self._tried,
            "attributions": self._attributions,
            "coverage": self._coverage,
        }

    def _content(self) -> dict[str, Any]:
        """Return numbers and provenance as plain data."""
        return {
            "layers": self.layers,
            "images": self.images,
            "skipped": [asdict(skip) for skip in self.skipped],
            "found": [found.to_dict() for found in self._found],
            **{name: records(table) for name, table in self._tables().items() if name != "layers"},
            "by_layer": records(self._layers),
            "provenance": self.provenance.to_dict(),
        }

    @classmethod
    def load(cls, folder: str | Path, explainer: Finder | None = None, images: Any = None) -> Self:
        """Read what `save` wrote.

        Args:
            folder: Where it was saved.
            explainer: An explainer of the same network, for `name` and `concept_map`.
            images: The images that the concepts were found in, for `name`.

        Raises:
            ExplanationError: When it is missing, incomplete, damaged or of another version.
            CavError: For an explainer of another network.
        """
        folder = given_path("folder", folder)
        manifest = load_manifest(folder, "discovery", "discovery", "discover again and save")
        with reading(folder, "discovery", "discover again and save"):
            data = checked(SavedDiscovery, manifest)
            loaded = cls(
                layers=data.layers,
                images=data.images,
                skipped=data.skipped,
                provenance=Provenance.read(manifest.get("provenance")),
                **read_parts(folder, data),
            )
        if explainer is None:
            return loaded
        return replace(loaded, _home=explainer.discovered_in(images, loaded.provenance))
