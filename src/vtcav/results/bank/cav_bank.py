"""A bank of CAVs: concepts learned at layers of one network, with what they were learned from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import CavError, brief
from vtcav.files.paths import given_path
from vtcav.files.schema import checked
from vtcav.images.signature import same_preprocessing
from vtcav.method.cav import direction, points_along
from vtcav.method.variants import PAPER, Variant
from vtcav.models.base import Model
from vtcav.models.behaviour import Behaviour, behaviour, same_behaviour
from vtcav.results.bank import file as bank_file
from vtcav.results.bank.check import faults
from vtcav.results.bank.header import BankData
from vtcav.results.bank.layer_cavs import LayerCavs, Resampling, TextAlignment
from vtcav.results.image_set import ConceptRecord, ImageSetRecord
from vtcav.results.words import named_layers

_PLAIN = "fingerprint", "described", "versions", "settings"  # fields that are JSON data


@dataclass(frozen=True, eq=False)
class CavBank:
    """Concepts learned at the layers of one network.

    Attributes:
        concepts: The images of each concept, in order (K concepts).
        layers: The CAVs by layer name, in the order of the network.
        thumbnails: A few examples of each concept, uint8 [n, 96, 96, 3], for figures.
        fingerprint: The network's fingerprint.
        preprocessing: Behaviour signature of the preprocessing.
        described: Descriptions of the network and the preprocessing, for messages.
        versions: Versions of vtcav and of the packages that numbers depend on.
        settings: The settings of the fit.
        sets: The records of all sets of images, examples and negatives.
        contrast: For each concept the positions of its examples and negatives in `sets`.
        resampling: Which resampled CAVs belong to which concept.
        behaviour: Logits and maps of the network for a fixed picture; empty in older files.
        from_cache: For each set of images and kind of cache entry, how many entries came from the
            cache and how many were needed. It is not saved: the bank is the same to the last bit
            either way.
    """

    concepts: tuple[ConceptRecord, ...]
    layers: Mapping[str, LayerCavs]
    thumbnails: Mapping[str, NDArray[np.uint8]]
    fingerprint: str
    preprocessing: tuple[float, ...]
    described: Mapping[str, str]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    sets: tuple[ImageSetRecord, ...]
    contrast: tuple[tuple[int, int], ...]
    resampling: Resampling
    behaviour: Behaviour = field(default_factory=dict)
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
        """How concepts are found in an image: "paper", "filter" or "places"."""
        variant: Variant = self.settings.get("variant", PAPER)
        return variant

    @property
    def null_cavs(self) -> int:
        """The most null CAVs that a concept has."""
        return max(map(len, self.resampling.null), default=0)

    def evidence(self, concept: str) -> tuple[ImageSetRecord, ImageSetRecord]:
        """Return the records of a concept's examples and of its negatives.

        Raises:
            CavError: For a concept that the bank does not have.
        """
        if not isinstance(concept, str) or concept not in self.names:
            raise CavError(f"the bank has no concept {brief(concept)}; it has {_names(self.names)}")
        examples, negatives = self.contrast[self.names.index(concept)]
        return self.sets[examples], self.sets[negatives]

    def given(self, layer: str) -> list[Tensor | None]:
        """Return the directions [C] at a layer that are not learned from the concepts' images.

        Returns:
            One for each concept; None where it is learned from them, or was given and is the same.
        """
        found: list[Tensor | None] = []
        for k, record in enumerate(self.concepts):
            v = self.layers[layer].v[k]
            pair = (images.gap[layer] for images in self.evidence(record.name))
            learned = not record.origin or points_along(v, direction(*pair))
            found.append(None if learned else v)
        return found

    def best_layer(self, concept: str) -> str:
        """Return the layer to read first for a concept, chosen without knowing what it should say.

        Of the layers that see the concept (separated, and with a held-out AUC of at least 0.8,
        where place filters were learned) it is the one at which the classes' scores at zero feature
        maps lie closest together, because attributions begin there. Where no layer sees it, all are
        considered, and every row of the concept says so.

        Raises:
            CavError: For a concept that the bank does not have, and for a bank that was learned
                before these scores were kept.
        """
        self.evidence(concept)
        k, apart = self.names.index(concept), {}
        for layer, cavs in self.layers.items():
            if cavs.zero is None:
                raise CavError(
                    "these CAVs were learned before the scores at zero feature maps were kept, by "
                    "which a layer is chosen; fit again, or choose a layer yourself"
                )
            spread = cavs.zero.apart
            apart[layer] = (not cavs.sees(k), math.inf if math.isnan(spread) else spread)
        return min(apart, key=apart.__getitem__)

    @property
    def best_layers(self) -> dict[str, str]:
        """The layer to read first for every concept that a layer sees; empty in older files."""
        if any(cavs.zero is None for cavs in self.layers.values()):
            return {}
        best = {name: self.best_layer(name) for name in self.names}
        return {
            name: layer
            for k, (name, layer) in enumerate(best.items())
            if self.layers[layer].sees(k)
        }

    def concepts_of(self, digest: str) -> frozenset[str]:
        """Return the concepts that have an image, or a part of it, as example or negative.

        Args:
            digest: SHA-256 of the image's content.
        """
        held = {i for i, s in enumerate(self.sets) if digest in (*s.digests, *s.origins)}
        pairs = zip(self.names, self.contrast, strict=True)
        return frozenset(name for name, pair in pairs if held & set(pair))

    def table(self) -> pd.DataFrame:
        """Return one row per layer and concept: emblems, separation, counts of images.

        Where concepts are texts it has their R2 on held-out images and the level that follows.
        """
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
                "direction": record.origin or "learned",
                **({} if cavs.texts is None else _of_text(cavs.texts, k)),
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
            known = named_layers(list(self.layers))
            raise CavError(
                f"the CAVs were learned at {known}, not at {_names(missing)}; fit again with "
                "these layers, or choose among those"
            )
        return replace(
            self,
            layers={name: self.layers[name] for name in layers},
            sets=tuple(images.select(layers) for images in self.sets),
        )

    def of_concepts(self, concepts: Sequence[str]) -> CavBank:
        """Return the bank with only these concepts, in this order.

        The scores at zero feature maps stay, which say something of the layer and not of a concept.

        Raises:
            CavError: For a concept that the bank does not have, or for none.
        """
        missing = [name for name in concepts if not isinstance(name, str) or name not in self.names]
        if missing or not concepts:
            raise CavError(
                f"expected concepts of the bank, which are {_names(self.names)}; got "
                f"{_names(missing or concepts)}"
            )
        ks = [self.names.index(name) for name in concepts]
        kept = list(dict.fromkeys(i for k in ks for i in self.contrast[k]))
        resampling, needed = self.resampling.chosen(ks)
        return replace(
            self,
            concepts=tuple(self.concepts[k] for k in ks),
            layers={name: cavs.chosen(ks, needed) for name, cavs in self.layers.items()},
            thumbnails={name: self.thumbnails[name] for name in concepts},
            sets=tuple(self.sets[i] for i in kept),
            contrast=tuple(
                (kept.index(first), kept.index(second))
                for first, second in (self.contrast[k] for k in ks)
            ),
            resampling=resampling,
        )

    def followed_by(self, other: CavBank) -> CavBank:
        """Return one bank of the concepts of this one, then those of another.

        Both are of one network, preprocessing and variant, at the same layers. Sets of images that
        both have are one set. The settings are those of this bank; those of the other are kept
        with the names of its concepts, as `added`, where they differ.

        Raises:
            CavError: For banks of other networks, layers or variants, and for a concept that both
                have.
        """
        self._check_joins(other)
        sets = list(self.sets)
        at = [_position(sets, images) for images in other.sets]
        resampled = next(iter(self.layers.values())).resampled
        count = 0 if resampled is None else len(resampled.v)
        return replace(
            self,
            concepts=self.concepts + other.concepts,
            layers={name: own.followed_by(other.layers[name]) for name, own in self.layers.items()},
            thumbnails={**self.thumbnails, **other.thumbnails},
            settings=_joined_settings(self, other),
            sets=tuple(sets),
            contrast=self.contrast + tuple((at[i], at[j]) for i, j in other.contrast),
            resampling=self.resampling.followed_by(other.resampling, count),
            from_cache={**self.from_cache, **other.from_cache},
        )

    def _check_joins(self, other: CavBank) -> None:
        sides = [
            ("networks", self.fingerprint, other.fingerprint),
            ("layers", list(self.layers), list(other.layers)),
            ("variants", self.variant, other.variant),
        ]
        for what, mine, others in sides:
            if mine != others:
                raise CavError(
                    f"expected two banks of one network at the same layers, got other {what}: "
                    f"{mine} and {others}; fit both in one way"
                )
        if not same_preprocessing(self.preprocessing, other.preprocessing):
            raise CavError("the two banks were learned with other preprocessings; fit both in one")
        if both := [name for name in other.names if name in self.names]:
            raise CavError(f"both banks have a concept {_names(both)}; choose another name")

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

    def check_behaviour(self, model: Model) -> None:
        """Refuse a network that computes otherwise than the one the CAVs were learned with.

        Raises:
            CavError: When its logits or maps for a fixed picture are others.
        """
        if self.behaviour and not same_behaviour(
            self.behaviour, behaviour(model, list(self.layers))
        ):
            raise CavError(
                "the CAVs were learned on a network with these weights that computes otherwise: "
                "its logits or feature maps for a fixed picture differ. Its code, or an attribute "
                "that it reads, has changed; fit again"
            )

    def check_variant(self, variant: Variant) -> None:
        """Refuse a variant other than the one the CAVs were learned with.

        Raises:
            CavError: Naming both.
        """
        if variant != self.variant:
            raise CavError(
                f"the CAVs were learned with the variant {self.variant!r}, but {variant!r} was "
                "requested; their emblems belong to maps of their variant: fit again, or request "
                f"{self.variant!r}"
            )

    # -- files --------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the bank as one safetensors file, all or nothing.

        Raises:
            CavError: When the file cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        for layer, cavs in self.layers.items():
            tensors |= {f"cav/{layer}/{name}": t for name, t in cavs.tensors().items()}
        for i, images in enumerate(self.sets):
            tensors |= {f"set/{i}/{name}": t for name, t in images.tensors().items()}
        for name, pictures in self.thumbnails.items():
            tensors[f"thumbnails/{name}"] = torch.tensor(pictures, device="cpu")
        data = {
            **{name: getattr(self, name) for name in _PLAIN},
            "concepts": [asdict(record) for record in self.concepts],
            "layers": list(self.layers),
            "preprocessing": self.preprocessing,
            "sets": [images.to_dict() for images in self.sets],
            "contrast": self.contrast,
            "resampling": self.resampling.to_dict(),
            "behaviour": self.behaviour,
        }
        bank_file.write(given_path("path", path, CavError), tensors, data)

    @classmethod
    def load(cls, path: str | Path) -> CavBank:
        """Read a bank. Nothing in the file is executed.

        Raises:
            CavError: When the file is missing, damaged, or no bank of CAVs.
        """
        tensors, data = bank_file.read(given_path("path", path, CavError))
        try:
            header = checked(BankData, data)
            numbers = {"behaviour": header.behaviour, "preprocessing": header.preprocessing}
            bank = cls._from(tensors, {**data, **numbers, "contrast": header.contrast})
            wrong = next(faults(bank), "")
        except ValueError as error:
            wrong = str(error)
        except Exception as error:  # whatever a file of other software holds
            raise CavError(f"the CAVs in {str(path)!r} are incomplete: {error!r}") from error
        if wrong:
            raise CavError(f"the CAVs in {str(path)!r} cannot be used: {wrong}; fit again and save")
        return bank

    @classmethod
    def _from(cls, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> CavBank:
        concepts = tuple(ConceptRecord.from_dict(entry) for entry in data["concepts"])
        layers = data["layers"]
        return cls(
            concepts=concepts,
            layers={
                layer: LayerCavs.from_tensors(tensors, f"cav/{layer}/", len(concepts))
                for layer in layers
            },
            thumbnails={c.name: tensors[f"thumbnails/{c.name}"].numpy() for c in concepts},
            **{name: data[name] for name in _PLAIN},
            preprocessing=tuple(data["preprocessing"]),
            sets=tuple(
                ImageSetRecord.from_file(entry, tensors, f"set/{i}/", layers)
                for i, entry in enumerate(data["sets"])
            ),
            contrast=tuple((first, second) for first, second in data["contrast"]),
            resampling=Resampling.from_dict(data["resampling"]),
            behaviour={name: list(each) for name, each in data.get("behaviour", {}).items()},
        )


def describe(model: Model) -> dict[str, str]:
    """Return descriptions of a network and its preprocessing."""
    return {"network": model.described, "preprocess": repr(model.preprocess)}


def _of_text(texts: TextAlignment, k: int) -> dict[str, Any]:
    return {"r2": float(texts.r2[k]), "r2_low": float(texts.low[k]), "level": texts.level(k)}


def _position(sets: list[ImageSetRecord], images: ImageSetRecord) -> int:
    """Return the position of a set among others, at whose end it is put if it is new."""
    for i, known in enumerate(sets):
        if (known.role, known.digests, known.names) == (images.role, images.digests, images.names):
            return i
    sets.append(images)
    return len(sets) - 1


def _joined_settings(bank: CavBank, other: CavBank) -> dict[str, Any]:
    """Return the settings of a bank that another is joined to."""
    settings, added = dict(bank.settings), dict(other.settings)
    later = [*settings.pop("added", []), *added.pop("added", [])]
    if added != settings:
        later.append({"concepts": list(other.names), **added})
    return settings | ({"added": later} if later else {})


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(brief, names)) or "none"
