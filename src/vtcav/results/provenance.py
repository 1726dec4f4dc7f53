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
from vtcav.results.words import clear, listed

_OTHER_INPUTS = (
    "If the network was trained with another size, mean or std, no number here can be relied on."
)

_SEVERAL = 5
"""The examples of a concept that negatives show at least, for it to be said; or all of fewer."""
_NAMED = 4
"""The most concepts that a note names."""


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
        negative_sets: How many different sets of negatives the concepts have.
        among_negatives: By concept, the others whose examples are among its negatives; concepts
            that have none such are left out.
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
    negative_sets: int = field(default=1, compare=False)
    among_negatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
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
            negative_sets=1 if cavs is None else len({second for _, second in cavs.contrast}),
            among_negatives={} if cavs is None else _among_negatives(cavs),
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
    def shares_note(self) -> str:
        """What shares are relative to, where negatives differ by concept or show other concepts.

        All concepts have one reference, the negatives of all of them: what is added to those of one
        concept changes the shares of all. It is empty where nothing was erased.
        """
        shown = list(dict.fromkeys(name for each in self.among_negatives.values() for name in each))
        if not self.settings.get("fill") or (self.negative_sets < 2 and not shown):
            return ""
        text = "Shares are of the score above that of the negatives"
        if self.negative_sets > 1:
            text += " of all concepts together"
        if shown:
            names = listed([repr(clear(name)) for name in shown])
            several = names if len(shown) <= _NAMED else f"{len(shown)} concepts"
            text += f", among them examples of {several}"
        return f"{text}: with other negatives they differ."

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
            negative_sets=data.get("negative_sets", 1),
            among_negatives={
                name: tuple(others) for name, others in data.get("among_negatives", {}).items()
            },
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
    negative_sets: Annotated[int, Field(ge=1)] = 1
    among_negatives: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    from_cache: Mapping[str, Any] = Field(default_factory=dict)
    runtime_differences: Mapping[str, Any] = Field(default_factory=dict)


def _among_negatives(cavs: CavBank) -> dict[str, tuple[str, ...]]:
    """Return the other concepts whose examples are among each concept's negatives, by content."""
    digests = [frozenset(images.digests) for images in cavs.sets]
    found: dict[str, tuple[str, ...]] = {}
    for name, (own, negatives) in zip(cavs.names, cavs.contrast, strict=True):
        others = [
            other
            for other, (examples, _) in zip(cavs.names, cavs.contrast, strict=True)
            if examples != own
            and len(digests[examples] & digests[negatives]) >= min(_SEVERAL, len(digests[examples]))
        ]
        if others:
            found[name] = tuple(others)
    return found


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
