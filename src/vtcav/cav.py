"""Concept activation vectors: directions and emblems (steps 1 and 3), and a bank that keeps them.

Letters and shapes as everywhere in vtcav: v [K, C] directions, e+ and e- [K] emblems.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import CavError
from vtcav.images import Skipped
from vtcav.models.base import Model
from vtcav.preprocess import same_preprocessing
from vtcav.storage import atomic_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CavBank", "ConceptRecord", "LayerCavs", "direction", "emblem"]

FORMAT = 1


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
    """

    v: Tensor
    e_pos: Tensor
    e_neg: Tensor

    @property
    def separated(self) -> Tensor:
        """Whether the layer separates each concept from its negatives, e+ > e- [K]."""
        return self.e_pos > self.e_neg


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
    """

    concepts: tuple[ConceptRecord, ...]
    layers: Mapping[str, LayerCavs]
    thumbnails: Mapping[str, NDArray[np.uint8]]
    fingerprint: str
    preprocessing: tuple[float, ...]
    described: Mapping[str, str]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"CavBank(concepts={list(self.names)}, layers={list(self.layers)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts' names."""
        return tuple(record.name for record in self.concepts)

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
        return replace(self, layers={name: self.layers[name] for name in layers})

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

    # -- files --------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the bank as one safetensors file, all or nothing.

        Raises:
            CavError: When the file cannot be written.
        """
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        for layer, cavs in self.layers.items():
            for field in ("v", "e_pos", "e_neg"):
                tensors[f"cav/{layer}/{field}"] = getattr(cavs, field).contiguous()
        for name, pictures in self.thumbnails.items():
            tensors[f"thumbnails/{name}"] = torch.tensor(pictures)
        metadata = {
            "format": FORMAT,
            "concepts": [asdict(record) for record in self.concepts],
            "layers": list(self.layers),
            "fingerprint": self.fingerprint,
            "preprocessing": self.preprocessing,
            "described": dict(self.described),
            "versions": dict(self.versions),
            "settings": dict(self.settings),
            "sha256": _digest(tensors),
        }
        try:
            with atomic_path(Path(path)) as partial:
                save_file(tensors, partial, metadata={"vtcav": json.dumps(metadata)})
        except OSError as error:
            raise CavError(f"cannot write the CAVs to {str(path)!r}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> CavBank:
        """Read a bank. Nothing in the file is executed.

        Raises:
            CavError: When the file is missing, damaged, or no bank of CAVs.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise CavError(f"there is no file of CAVs at {str(path)!r}")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads((file.metadata() or {}).get("vtcav", "null"))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise CavError(
                f"cannot read CAVs from {str(path)!r}: {error}; expected a safetensors file "
                "written by CavBank.save"
            ) from error
        if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
            came = metadata.get("format") if isinstance(metadata, dict) else "no vtcav metadata"
            raise CavError(
                f"{str(path)!r} is no bank of CAVs of this version: expected format {FORMAT}, "
                f"got {came}; fit again and save"
            )
        if metadata.get("sha256") != _digest(tensors):
            raise CavError(
                f"the CAVs in {str(path)!r} are not those that were saved: the file is damaged or "
                "was edited; fit again and save"
            )
        try:
            return cls._of_file(metadata, tensors)
        except (KeyError, TypeError) as error:
            raise CavError(f"the CAVs in {str(path)!r} are incomplete: {error!r}") from error

    @classmethod
    def _of_file(cls, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> CavBank:
        return cls(
            concepts=tuple(ConceptRecord.from_dict(entry) for entry in metadata["concepts"]),
            layers={
                layer: LayerCavs(*(tensors[f"cav/{layer}/{f}"] for f in ("v", "e_pos", "e_neg")))
                for layer in metadata["layers"]
            },
            thumbnails={
                entry["name"]: tensors[f"thumbnails/{entry['name']}"].numpy()
                for entry in metadata["concepts"]
            },
            fingerprint=metadata["fingerprint"],
            preprocessing=tuple(metadata["preprocessing"]),
            described=metadata["described"],
            versions=metadata["versions"],
            settings=metadata["settings"],
        )


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors and their names, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def describe(model: Model) -> dict[str, str]:
    """Return the network and its preprocessing in words."""
    return {"network": model.described, "preprocess": repr(model.preprocess)}


def _names(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
