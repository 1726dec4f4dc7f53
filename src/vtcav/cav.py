"""Concept activation vectors: directions and emblems (steps 1 and 3), and a bank of them.

Letters and shapes as everywhere in vtcav: v [K, C] directions, e+ and e- [K] emblems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.concept_map import concept_map, raw_map
from vtcav.errors import CavError
from vtcav.evidence import SetEvidence
from vtcav.images import Skipped
from vtcav.models.base import Model
from vtcav.preprocess import same_preprocessing
from vtcav.variants import PAPER, Variant

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CavBank", "ConceptRecord", "LayerCavs", "Resampling", "direction", "emblem"]


def direction(positives: Tensor, negatives: Tensor) -> Tensor:
    """Return v: the mean over examples minus the mean over negatives, step 1.

    Args:
        positives: GAP activations of the concept's examples [n1, C].
        negatives: GAP activations of the negatives [n2, C].

    Returns:
        The direction v [C], not normalised.

    Example:
        >>> import torch
        >>> direction(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([1., 1.])
    """
    return positives.mean(0) - negatives.mean(0)


def emblem(values: Tensor) -> Tensor:
    """Return the true median over images of the raw maps' contraharmonic means, step 3.

    Args:
        values: Contraharmonic means [n] or [n, K].

    Returns:
        One emblem, or K. For an even count the mean of the two middle values.

    Example:
        >>> import torch
        >>> emblem(torch.tensor([1.0, 9.0, 2.0, 4.0]))
        tensor(3.)
    """
    ordered = values.sort(0).values
    n = len(values)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


@dataclass(frozen=True)
class ConceptRecord:
    """What a concept's CAVs were made from.

    Attributes:
        name: The concept.
        examples: Names of the example images used.
        negatives: Names of the negatives used.
        skipped_examples: Examples that could not be read, with reasons.
        skipped_negatives: Negatives that could not be read, with reasons.
    """

    name: str
    examples: tuple[str, ...]
    negatives: tuple[str, ...]
    skipped_examples: tuple[Skipped, ...] = ()
    skipped_negatives: tuple[Skipped, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ConceptRecord:
        """Return what `dataclasses.asdict` made of a record."""
        return cls(
            data["name"],
            tuple(data["examples"]),
            tuple(data["negatives"]),
            tuple(Skipped(**skip) for skip in data["skipped_examples"]),
            tuple(Skipped(**skip) for skip in data["skipped_negatives"]),
        )


@dataclass(frozen=True, eq=False)
class LayerCavs:
    """The CAVs of all concepts at one layer.

    Attributes:
        v: Directions [K, C].
        e_pos: Emblems of the examples [K].
        e_neg: Emblems of the negatives [K].
        values_pos: For each concept the contraharmonic means of its examples' raw maps [n_k],
            whose median is e+.
        values_neg: The same of its negatives [m_k].
        place_pos: Where the raw maps of the examples lie on average: each map divided by its sum
            [K, h, w].
        place_neg: The same of the negatives [K, h, w].
        resampled: Null and bootstrap CAVs, J of them; `CavBank.resampling` says which are whose.
        w: Filters [K, C] that find the concepts in place of v (`vtcav.filter_map`); None for the
            paper's definition.
    """

    v: Tensor
    e_pos: Tensor
    e_neg: Tensor
    values_pos: tuple[Tensor, ...] = ()
    values_neg: tuple[Tensor, ...] = ()
    place_pos: Tensor | None = None
    place_neg: Tensor | None = None
    resampled: LayerCavs | None = None
    w: Tensor | None = None

    def to(self, device: torch.device) -> LayerCavs:
        """Return directions and emblems on a device, without what the method does not need."""
        w = None if self.w is None else self.w.to(device)
        return LayerCavs(self.v.to(device), self.e_pos.to(device), self.e_neg.to(device), w=w)

    def part(self, chosen: range) -> LayerCavs:
        """Return the CAVs of a range of positions, without what the method does not need."""
        i = slice(chosen.start, chosen.stop)
        w = None if self.w is None else self.w[i]
        return LayerCavs(self.v[i], self.e_pos[i], self.e_neg[i], w=w)

    def maps(self, F: Tensor) -> Tensor:
        """Return the concept maps M [N, K, h, w] of feature maps F [N, C, h, w], steps 2 to 4."""
        here = self.to(F.device)
        return concept_map(raw_map(F, here.v if here.w is None else here.w), here.e_pos, here.e_neg)

    @property
    def separated(self) -> Tensor:
        """Whether the layer separates each concept from its negatives, e+ > e- [K]."""
        return self.e_pos > self.e_neg


@dataclass(frozen=True)
class Resampling:
    """Which of the J resampled CAVs of every layer belong to which concept.

    Concepts of one size that share their negatives share their null CAVs.

    Attributes:
        null: Positions of each concept's null CAVs; empty where it has none.
        bootstrap: Positions of each concept's bootstrap CAVs.
        untested: Why a concept has no null CAVs; empty where it has.
    """

    null: tuple[range, ...]
    bootstrap: tuple[range, ...]
    untested: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "null": [[r.start, r.stop] for r in self.null],
            "bootstrap": [[r.start, r.stop] for r in self.bootstrap],
            "untested": list(self.untested),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Resampling:
        """Return what `to_dict` made."""
        return cls(
            tuple(range(*pair) for pair in data["null"]),
            tuple(range(*pair) for pair in data["bootstrap"]),
            tuple(data["untested"]),
        )


@dataclass(frozen=True, eq=False)
class CavBank:
    """Concepts learned at the layers of one network.

    Attributes:
        concepts: What each concept was made from, in order (K of them).
        layers: The CAVs by layer name, in the order of the network.
        thumbnails: A few examples of each concept, uint8 [n, 96, 96, 3], for figures.
        fingerprint: Of the network.
        preprocessing: Behaviour signature of the preprocessing.
        described: The network and the preprocessing in words, for messages.
        versions: Of vtcav and torch.
        settings: Limits and seeds of the fit.
        sets: What is kept of every set of images, examples and negatives.
        contrast: For each concept the positions of its examples and negatives in `sets`.
        resampling: Whose the resampled CAVs are.
        from_cache: Of each set of images and kind of entry, how many came from the cache, of how
            many. It is not saved: the bank is the same to the last bit either way.
    """

    concepts: tuple[ConceptRecord, ...]
    layers: Mapping[str, LayerCavs]
    thumbnails: Mapping[str, NDArray[np.uint8]]
    fingerprint: str
    preprocessing: tuple[float, ...]
    described: Mapping[str, str]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    sets: tuple[SetEvidence, ...]
    contrast: tuple[tuple[int, int], ...]
    resampling: Resampling
    from_cache: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)

    def __repr__(self) -> str:
        variant = "" if self.variant == PAPER else f", variant={self.variant!r}"
        return f"CavBank(concepts={list(self.names)}, layers={list(self.layers)}{variant})"

    def _repr_html_(self) -> str:
        from vtcav.notebook.concepts import bank_html

        return bank_html(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts' names."""
        return tuple(record.name for record in self.concepts)

    @property
    def variant(self) -> Variant:
        """How the concepts are found: "paper" or "filter"."""
        variant: Variant = self.settings.get("variant", PAPER)
        return variant

    def evidence(self, concept: str) -> tuple[SetEvidence, SetEvidence]:
        """Return what is kept of a concept's examples and of its negatives.

        Raises:
            CavError: For a concept that the bank does not have.
        """
        if concept not in self.names:
            raise CavError(f"the bank has no concept {concept!r}; it has {_names(self.names)}")
        examples, negatives = self.contrast[self.names.index(concept)]
        return self.sets[examples], self.sets[negatives]

    def concepts_of(self, digest: str) -> frozenset[str]:
        """Return the concepts that an image, or a part of it, is an example or a negative of.

        Args:
            digest: Of the image.
        """
        held = {i for i, s in enumerate(self.sets) if digest in (*s.digests, *s.origins)}
        pairs = zip(self.names, self.contrast, strict=True)
        return frozenset(name for name, pair in pairs if held & set(pair))

    def table(self) -> pd.DataFrame:
        """Return one row per layer and concept: emblems, separation, counts of images."""
        import pandas as pd

        rows = [
            {
                "layer": layer,
                "concept": record.name,
                "e_pos": float(cavs.e_pos[k]),
                "e_neg": float(cavs.e_neg[k]),
                "separated": bool(cavs.separated[k]),
                "examples": len(record.examples),
                "negatives": len(record.negatives),
                "skipped": len(record.skipped_examples) + len(record.skipped_negatives),
            }
            for layer, cavs in self.layers.items()
            for k, record in enumerate(self.concepts)
        ]
        return pd.DataFrame(rows)

    def select(self, layers: Sequence[str]) -> CavBank:
        """Return the bank with only these layers.

        Raises:
            CavError: When the bank has no CAVs for one of them.
        """
        missing = [layer for layer in layers if layer not in self.layers]
        if missing:
            raise CavError(
                f"the CAVs were learned at {_names(self.layers)}, not at {_names(missing)}; "
                "fit again with these layers, or ask for learned ones"
            )
        return replace(
            self,
            layers={name: self.layers[name] for name in layers},
            sets=tuple(images.select(layers) for images in self.sets),
        )

    def check_fits(self, model: Model, preprocessing: tuple[float, ...]) -> None:
        """Refuse a network or preprocessing other than the one the CAVs were learned with.

        Args:
            model: The network to explain.
            preprocessing: Behaviour signature of its preprocessing.

        Raises:
            CavError: Naming both sides.
        """
        here = describe(model)
        if model.fingerprint != self.fingerprint:
            raise CavError(
                "the CAVs were learned on another network: expected "
                f"{self.described['network']} (fingerprint {self.fingerprint[:12]}), got "
                f"{here['network']} (fingerprint {model.fingerprint[:12]}); load that network with "
                "the same weights, or fit again"
            )
        if not same_preprocessing(preprocessing, self.preprocessing):
            raise CavError(
                "the CAVs were learned with another preprocessing: expected "
                f"{self.described['preprocess']}, got {here['preprocess']}; use the same, "
                "or fit again"
            )
        usable = {layer.name: layer.shape for layer in model.layers()}
        for name, cavs in self.layers.items():
            came = usable[name][0] if name in usable else "no usable layer of this name"
            if came != cavs.v.shape[1]:
                raise CavError(
                    f"the CAVs of layer {name!r} have {cavs.v.shape[1]} channels, "
                    f"the network has {came}; fit again"
                )

    def check_variant(self, variant: Variant) -> None:
        """Refuse a variant other than the one the CAVs were learned with.

        Raises:
            CavError: Naming both.
        """
        if variant != self.variant:
            raise CavError(
                f"the CAVs were learned with the variant {self.variant!r}, and {variant!r} is "
                "asked for: their emblems belong to its maps; fit again, or ask for theirs"
            )

    # -- files --------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the bank as one safetensors file, all or nothing.

        Raises:
            CavError: When the file cannot be written.
        """
        from vtcav.cav_file import write

        write(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> CavBank:
        """Read a bank. Nothing in the file is executed.

        Raises:
            CavError: When the file is missing, damaged, or no bank of CAVs.
        """
        from vtcav.cav_file import read

        return read(Path(path))


def describe(model: Model) -> dict[str, str]:
    """Return the network and its preprocessing in words."""
    return {"network": model.described, "preprocess": repr(model.preprocess)}


def _names(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
