"""Provenance of a result: versions, network, layers, examples, settings."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal

import numpy as np
import PIL
import torch
from pydantic import Field

from vtcav.files.schema import Saved, checked_as
from vtcav.images.input_box import shown_as
from vtcav.images.preprocess import Preprocess
from vtcav.method.variants import PAPER, Variant
from vtcav.models.base import LayerInfo, Model
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.image_set import ConceptRecord

_OTHER_INPUTS = (
    "If the network was trained with another size, mean or std, no number here can be relied on."
)


@dataclass(frozen=True)
class Provenance:
    """Everything that a result depends on.

    Attributes:
        versions: Versions of vtcav, torch, numpy, Pillow and Python.
        model: The network: description, fingerprint, how its logits are read, what computes its
            forward passes, preprocessing, and `assumed`, where nobody gave one.
        layers: Name, kind and shape of each layer, and how the network resumes from it.
        concepts: The images that each concept was learned from, and those skipped.
        settings: Quadrature, limits, seeds, classes.
        from_cache: What the cache contributed to learning (`CavBank.from_cache`). No number depends
            on it, and it is not compared.
        runtime_differences: How far the first results of what computes forward passes were from
            those of the network as it is written: relative differences of maps, logits and
            directions. Not compared either.
    """

    versions: Mapping[str, str]
    model: Mapping[str, Any]
    layers: tuple[Mapping[str, Any], ...]
    concepts: tuple[ConceptRecord, ...]
    settings: Mapping[str, Any]
    from_cache: Mapping[str, Any] = field(default_factory=dict, compare=False)
    runtime_differences: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        model: Model,
        layers: Sequence[LayerInfo],
        cavs: CavBank | None,
        settings: Mapping[str, Any],
    ) -> Provenance:
        """Return the provenance of a result that these make; without concepts `cavs` is None."""
        preprocess = model.preprocess
        described = (
            preprocess.describe() if isinstance(preprocess, Preprocess) else repr(preprocess)
        )
        shown = {"shown": text} if (text := shown_as(preprocess)) else {}
        return cls(
            versions=versions(),
            model={
                "network": model.described,
                "fingerprint": model.fingerprint,
                "logits": model.logits_source,
                "binary": model.binary,
                "device": str(model.device),
                "runtime": model.runtime,
                "preprocess": described,
                **shown,
                **({"assumed": model.assumed} if model.assumed else {}),
            },
            layers=tuple(
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "shape": list(layer.shape),
                    "resume": model.head(layer.name).resume,
                }
                for layer in layers
            ),
            concepts=() if cavs is None else cavs.concepts,
            settings=settings,
            from_cache={}
            if cavs is None
            else {role: dict(kinds) for role, kinds in cavs.from_cache.items()},
            runtime_differences=model.runtime_differences,
        )

    @property
    def variant(self) -> Variant:
        """How concepts are found in an image: "paper", "filter" or "places"."""
        variant: Variant = self.settings.get("fit", {}).get("variant", PAPER)
        return variant

    @property
    def caution(self) -> str:
        """A sentence where nobody said how pictures become inputs; else empty."""
        assumed = self.model.get("assumed")
        return f"No preprocess was given: {assumed}. {_OTHER_INPUTS}" if assumed else ""

    @property
    def picture_notes(self) -> list[str]:
        """What to know of the pictures: that no preprocess was given, which channels they show."""
        shown = self.model.get("shown")
        return [*filter(None, [self.caution]), *([f"Pictures show {shown}."] if shown else [])]

    @property
    def null_cavs(self) -> int:
        """How many null CAVs attributions were tested against; 0 where none were."""
        return int(self.settings.get("fit", {}).get("null_cavs") or 0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def read(cls, data: Any) -> Provenance:
        """Return what `to_dict` wrote.

        Raises:
            ValueError: Naming the first field that does not fit its declaration.
        """
        checked_as(_Saved, data, "provenance")
        return cls(
            versions=data["versions"],
            model=data["model"],
            layers=tuple(data["layers"]),
            concepts=tuple(ConceptRecord.from_dict(entry) for entry in data["concepts"]),
            settings=data["settings"],
            from_cache=data.get("from_cache", {}),
            runtime_differences=data.get("runtime_differences", {}),
        )


class _Fit(Saved):
    variant: Variant = PAPER
    null_cavs: Annotated[int, Field(ge=0, le=10**6)] | None = 0
    bootstraps: Annotated[int, Field(ge=0, le=10**6)] | None = 0


class _Settings(Saved):
    fit: _Fit = _Fit()
    seed: int | None = None
    steps: int | Literal["adaptive"] | None = None
    resamples: Annotated[int, Field(ge=0)] = 0
    fill: str | None = None
    placebos: int | None = None


class _Network(Saved):
    network: str
    fingerprint: str
    assumed: str = ""


class _Layer(Saved):
    name: str


class _Saved(Saved):
    versions: dict[str, str]
    model: _Network
    layers: tuple[_Layer, ...]
    concepts: tuple[ConceptRecord, ...]
    settings: _Settings
    from_cache: Mapping[str, Any] = Field(default_factory=dict)
    runtime_differences: Mapping[str, Any] = Field(default_factory=dict)


def versions(*packages: str) -> dict[str, str]:
    """Return the versions that numbers may depend on.

    Args:
        packages: Other packages that they depend on; "absent" where one is not installed.
    """
    found = {
        "vtcav": version("vtcav"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
