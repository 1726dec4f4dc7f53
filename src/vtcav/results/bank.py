"""Concept activation vectors: directions and emblems (steps 1 and 3), and a bank of them.

Letters and shapes as everywhere in vtcav: v [K, C] directions, e+ and e- [K] emblems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import CavError
from vtcav.images.preprocess import same_preprocessing
from vtcav.images.references import Skipped
from vtcav.method.cav import LayerCavs, Resampling
from vtcav.method.variants import PAPER, Variant
from vtcav.models.base import Model
from vtcav.results.image_set import SetEvidence

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CavBank", "ConceptRecord"]


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
        from vtcav.results.notebook.concepts import bank_html

        network = self.described.get("network", "a network")
        return bank_html(self.table(), self.thumbnails, network)

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
        from vtcav.results.bank_file import write

        write(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> CavBank:
        """Read a bank. Nothing in the file is executed.

        Raises:
            CavError: When the file is missing, damaged, or no bank of CAVs.
        """
        from vtcav.results.bank_file import read

        return read(Path(path))


def describe(model: Model) -> dict[str, str]:
    """Return the network and its preprocessing in words."""
    return {"network": model.described, "preprocess": repr(model.preprocess)}


def _names(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
