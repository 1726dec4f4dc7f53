"""The CAVs of a bank at one layer: those of its concepts, and resampled CAVs to judge them by.

Letters and shapes as everywhere in vtcav: v [K, C] directions, e+ and e- [K] emblems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from vtcav.method.alignment import text_level
from vtcav.method.cav import Cavs
from vtcav.method.erasure.joined_map import SEEN
from vtcav.method.erasure.place_classifier import PlaceClassifier
from vtcav.method.erasure.place_filter import PlaceFilters
from vtcav.results.bank.zero_maps import ZeroMaps


@dataclass(frozen=True, eq=False)
class TextAlignment:
    """How well a layer knows how similar images are to the texts of concepts, on held-out images.

    Attributes:
        r2: R2 of each concept's text [K]; NaN where a concept is no text, or where the similarity
            is the network's own score.
        low: Lower end of its 95 % interval over the choice of images [K].
        high: Upper end [K].
        embedding: R2 of whole embeddings [K], of the same kind for all texts.
    """

    r2: Tensor
    low: Tensor
    high: Tensor
    embedding: Tensor

    @classmethod
    def of(cls, rows: Sequence[tuple[float, float, float, float]]) -> TextAlignment:
        """Return the alignment of concepts, each with r2, low, high and embedding."""
        return cls(*torch.tensor(rows, dtype=torch.float64).T.contiguous())

    @classmethod
    def none(cls, concepts: int) -> TextAlignment:
        """Return that of K concepts that are no texts."""
        return cls.of([(torch.nan,) * 4] * concepts)

    def level(self, k: int) -> str:
        """Return "fine", "look" or "do not use" for a text; empty for another concept."""
        return text_level(float(self.low[k]))

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerCavs(Cavs):
    """The CAVs of all concepts at one layer, with all that a bank keeps of them.

    `to` and `part` return plain `Cavs`: directions and emblems alone.

    Attributes:
        values_pos: For each concept the contraharmonic means of its examples' raw maps [n_k],
            whose median is e+; the highest responses of place filters.
        values_neg: The same of its negatives [m_k].
        location_pos: The mean raw map of each concept's examples, each map divided by its sum
            [K, h, w].
        location_neg: The same of the negatives [K, h, w].
        resampled: Null and bootstrap CAVs, J of them; `Resampling` assigns them to concepts. None
            if nothing was resampled.
        places: Place filters of the concepts, which erasure needs; None in older files.
        classifier: What tells the concepts apart at single locations; None for a single concept,
            more than 24, or concepts that were learned one after another, and in older files.
        zero: Scores at zero feature maps beside those of examples; None in older files.
        texts: How well the layer knows the concepts that are texts; None where there are none.
    """

    values_pos: tuple[Tensor, ...]
    values_neg: tuple[Tensor, ...]
    location_pos: Tensor
    location_neg: Tensor
    resampled: Cavs | None = None
    places: PlaceFilters | None = None
    classifier: PlaceClassifier | None = None
    zero: ZeroMaps | None = None
    texts: TextAlignment | None = None

    @property
    def seen(self) -> Tensor:
        """Held-out AUC of the place filters [K]; NaN where there are none."""
        return torch.full_like(self.e_pos, torch.nan) if self.places is None else self.places.seen

    def sees(self, k: int) -> bool:
        """Whether the layer separates concept k, and nothing says that it does not see it.

        That is the AUC of its place filter, or R2 where it is a text.

        Args:
            k: The position of the concept.
        """
        unknown = self.texts is not None and self.texts.level(k) == "do not use"
        return bool(self.separated[k]) and not unknown and not float(self.seen[k]) < SEEN

    def chosen(self, concepts: Sequence[int], resampled: Sequence[int]) -> LayerCavs:
        """Return the CAVs of some concepts, with some of the resampled ones.

        Args:
            concepts: Positions among the K concepts.
            resampled: Positions among the J resampled CAVs.
        """
        ks, js = torch.tensor(concepts), torch.tensor(resampled, dtype=torch.int64)
        places = self.places and PlaceFilters(**_at(ks, self.places.by_name()))
        return LayerCavs(
            **_at(ks, self.by_name()),
            values_pos=tuple(self.values_pos[k] for k in concepts),
            values_neg=tuple(self.values_neg[k] for k in concepts),
            location_pos=self.location_pos[ks],
            location_neg=self.location_neg[ks],
            resampled=Cavs(**_at(js, self.resampled.by_name()))
            if self.resampled is not None and resampled
            else None,
            places=places,
            classifier=self.classifier and self.classifier.of_concepts(concepts),
            zero=self.zero,
            texts=self.texts and TextAlignment(**_at(ks, self.texts.tensors())),
        )

    def followed_by(self, other: LayerCavs) -> LayerCavs:
        """Return the CAVs of two banks at one layer: concepts and resampled ones in order.

        Place filters and scores at zero maps are those of both, or none where either has none.
        There is no place classifier, which is learned of all concepts together.
        """
        both = self, other
        resampled = [each.resampled for each in both if each.resampled is not None]
        places = [each.places for each in both if each.places is not None]
        zero = [each.zero for each in both if each.zero is not None]
        return LayerCavs(
            **Cavs.joined(both).by_name(),
            values_pos=self.values_pos + other.values_pos,
            values_neg=self.values_neg + other.values_neg,
            location_pos=torch.cat([each.location_pos for each in both]),
            location_neg=torch.cat([each.location_neg for each in both]),
            resampled=Cavs.joined(resampled) if resampled else None,
            places=PlaceFilters.joined(places) if len(places) == len(both) else None,
            classifier=None,
            zero=ZeroMaps.joined(zero) if len(zero) == len(both) else None,
            texts=_joined_texts(both),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, for a file."""
        named = {
            **self.by_name(),
            "place_pos": self.location_pos,
            "place_neg": self.location_neg,
            **{f"values_pos/{k}": values for k, values in enumerate(self.values_pos)},
            **{f"values_neg/{k}": values for k, values in enumerate(self.values_neg)},
        }
        if self.resampled is not None:
            named |= {f"resampled/{name}": t for name, t in self.resampled.by_name().items()}
        if self.places is not None:
            named |= {f"places/{name}": t for name, t in self.places.by_name().items()}
        if self.classifier is not None:
            named |= {f"classifier/{name}": t for name, t in self.classifier.by_name().items()}
        if self.zero is not None:
            named |= {f"zero/{name}": t for name, t in self.zero.tensors().items()}
        if self.texts is not None:
            named |= {f"texts/{name}": t for name, t in self.texts.tensors().items()}
        return {name: tensor.contiguous() for name, tensor in named.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str, concepts: int) -> LayerCavs:
        """Return the CAVs of a file.

        Args:
            tensors: The tensors of the file.
            prefix: What the names of this layer's tensors begin with.
            concepts: The number of concepts, K.

        Raises:
            KeyError: When a tensor is missing.
        """
        cavs, resampled = _cavs(tensors, prefix), f"{prefix}resampled/"
        places = _kept(PlaceFilters, tensors, f"{prefix}places/")
        classifier = _kept(PlaceClassifier, tensors, f"{prefix}classifier/")
        zero = _kept(ZeroMaps, tensors, f"{prefix}zero/")
        texts = _kept(TextAlignment, tensors, f"{prefix}texts/")
        return cls(
            **cavs.by_name(),
            values_pos=tuple(tensors[f"{prefix}values_pos/{k}"] for k in range(concepts)),
            values_neg=tuple(tensors[f"{prefix}values_neg/{k}"] for k in range(concepts)),
            location_pos=tensors[f"{prefix}place_pos"],
            location_neg=tensors[f"{prefix}place_neg"],
            resampled=_cavs(tensors, resampled) if f"{resampled}v" in tensors else None,
            places=PlaceFilters(**places) if places else None,
            classifier=PlaceClassifier(**classifier) if classifier else None,
            zero=ZeroMaps(**zero) if zero else None,
            texts=TextAlignment(**texts) if texts else None,
        )


@dataclass(frozen=True)
class Resampling:
    """Which of the J resampled CAVs of every layer belong to which concept.

    Concepts with the same negatives whose tests take the same number of examples share their null
    CAVs.

    Attributes:
        null: Positions of each concept's null CAVs; empty if it has none.
        bootstrap: Positions of each concept's bootstrap CAVs.
        untested: Why a concept has no null CAVs; empty if it has some.
        subset: Position of each concept's subset CAV, which is tested against null CAVs of fewer
            images than the concept has; empty where its own CAV is tested.
    """

    null: tuple[range, ...]
    bootstrap: tuple[range, ...]
    untested: tuple[str, ...]
    subset: tuple[range, ...]

    def chosen(self, concepts: Sequence[int]) -> tuple[Resampling, list[int]]:
        """Return the resampling of some concepts, and the positions of the CAVs that it needs.

        Args:
            concepts: Positions among the concepts.
        """
        kinds = self.null, self.bootstrap, self.subset
        needed = sorted({j for kind in kinds for k in concepts for j in kind[k]})
        at = {j: i for i, j in enumerate(needed)}
        null, bootstrap, subset = (
            tuple(
                _moved(kind[k], at[kind[k].start] - kind[k].start if kind[k] else 0)
                for k in concepts
            )
            for kind in kinds
        )
        return Resampling(
            null, bootstrap, tuple(self.untested[k] for k in concepts), subset
        ), needed

    def followed_by(self, other: Resampling, resampled: int) -> Resampling:
        """Return the resampling of two banks, of which the first has J resampled CAVs.

        Args:
            other: That of the second bank.
            resampled: J.
        """
        null, bootstrap, subset = (
            own + tuple(_moved(positions, resampled) for positions in new)
            for own, new in (
                (self.null, other.null),
                (self.bootstrap, other.bootstrap),
                (self.subset, other.subset),
            )
        )
        return Resampling(null, bootstrap, self.untested + other.untested, subset)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        subset = {"subset": [[r.start, r.stop] for r in self.subset]} if any(self.subset) else {}
        return {
            "null": [[r.start, r.stop] for r in self.null],
            "bootstrap": [[r.start, r.stop] for r in self.bootstrap],
            "untested": list(self.untested),
            **subset,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Resampling:
        """Return what `to_dict` made."""
        return cls(
            tuple(range(*pair) for pair in data["null"]),
            tuple(range(*pair) for pair in data["bootstrap"]),
            tuple(data["untested"]),
            tuple(range(*pair) for pair in data.get("subset", [[0]] * len(data["null"]))),
        )


def _moved(positions: range, by: int) -> range:
    return range(positions.start + by, positions.stop + by) if positions else range(0)


def _joined_texts(both: Sequence[LayerCavs]) -> TextAlignment | None:
    if all(each.texts is None for each in both):
        return None
    parts = [(each.texts or TextAlignment.none(len(each.v))).tensors() for each in both]
    return TextAlignment(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def _at(positions: Tensor, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[positions] for name, tensor in named.items()}


def _kept(kind: type[Any], tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the fields of a data class that a file has; none in files older than it."""
    names = [field.name for field in fields(kind)]
    return {name: tensors[prefix + name] for name in names if prefix + name in tensors}


def _cavs(tensors: Mapping[str, Tensor], prefix: str) -> Cavs:
    v, e_pos, e_neg = (tensors[prefix + name] for name in ("v", "e_pos", "e_neg"))
    return Cavs(v, e_pos, e_neg, *(tensors.get(prefix + name) for name in ("w", "offset")))
