"""The file of a bank of CAVs: safetensors with JSON in its header. Nothing in it is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtcav.errors import CavError
from vtcav.files.atomic import atomic_path
from vtcav.files.hashing import digest
from vtcav.method.cav import LayerCavs, Resampling
from vtcav.results.bank import CavBank, ConceptRecord
from vtcav.results.image_set import SetEvidence

__all__ = ["FORMAT", "read", "write"]

FORMAT = 3
_OPTIONAL = ("place_pos", "place_neg", "w")


def write(bank: CavBank, path: Path) -> None:
    """Write a bank, all or nothing.

    Raises:
        CavError: When the file cannot be written.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for layer, cavs in bank.layers.items():
        tensors |= _named(f"cav/{layer}", _tensors(cavs))
    for i, images in enumerate(bank.sets):
        tensors |= _named(f"set/{i}", images.tensors())
    for name, pictures in bank.thumbnails.items():
        tensors[f"thumbnails/{name}"] = torch.tensor(pictures)
    metadata = {
        "format": FORMAT,
        "concepts": [asdict(record) for record in bank.concepts],
        "layers": list(bank.layers),
        "fingerprint": bank.fingerprint,
        "preprocessing": bank.preprocessing,
        "described": dict(bank.described),
        "versions": dict(bank.versions),
        "settings": dict(bank.settings),
        "sets": [
            {
                "role": images.role,
                "names": images.names,
                "digests": images.digests,
                "origins": images.origins,
            }
            for images in bank.sets
        ],
        "contrast": bank.contrast,
        "resampling": bank.resampling.to_dict(),
        "sha256": digest(tensors),
    }
    try:
        with atomic_path(path) as partial:
            save_file(tensors, partial, metadata={"vtcav": json.dumps(metadata)})
    except OSError as error:
        raise CavError(f"cannot write the CAVs to {str(path)!r}: {error}") from error


def read(path: Path) -> CavBank:
    """Read a bank.

    Raises:
        CavError: When the file is missing, damaged, or no bank of CAVs.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CavError(f"there is no file of CAVs at {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("vtcav", "null"))
            names = file.keys()  # the file itself cannot be looped over
            tensors = {name: file.get_tensor(name) for name in names}
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
    if metadata.get("sha256") != digest(tensors):
        raise CavError(
            f"the CAVs in {str(path)!r} are not those that were saved: the file is damaged or "
            "was edited; fit again and save"
        )
    try:
        return _bank(metadata, tensors)
    except (KeyError, TypeError) as error:
        raise CavError(f"the CAVs in {str(path)!r} are incomplete: {error!r}") from error


def _bank(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> CavBank:
    """Return the bank of a file's content."""
    return CavBank(
        concepts=tuple(ConceptRecord.from_dict(entry) for entry in metadata["concepts"]),
        layers={
            layer: _layer_cavs(tensors, f"cav/{layer}", len(metadata["concepts"]))
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
        sets=tuple(
            SetEvidence(
                entry["role"],
                tuple(entry["names"]),
                tuple(entry["digests"]),
                tensors[f"set/{i}/prints"].numpy(),
                {layer: tensors[f"set/{i}/gap/{layer}"] for layer in metadata["layers"]},
                tuple(entry.get("origins", ())),
            )
            for i, entry in enumerate(metadata["sets"])
        ),
        contrast=tuple((first, second) for first, second in metadata["contrast"]),
        resampling=Resampling.from_dict(metadata["resampling"]),
    )


def _tensors(cavs: LayerCavs) -> dict[str, Tensor]:
    """Return the tensors of a layer's CAVs by name."""
    tensors = {"v": cavs.v, "e_pos": cavs.e_pos, "e_neg": cavs.e_neg}
    for field in _OPTIONAL:
        if (value := getattr(cavs, field)) is not None:
            tensors[field] = value
    for field in ("values_pos", "values_neg"):
        tensors |= {f"{field}/{k}": value for k, value in enumerate(getattr(cavs, field))}
    if cavs.resampled is not None:
        tensors |= _named("resampled", _tensors(cavs.resampled))
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _layer_cavs(tensors: Mapping[str, Tensor], prefix: str, K: int) -> LayerCavs:
    """Return the CAVs whose tensors have names that begin with a prefix."""
    return LayerCavs(
        v=tensors[f"{prefix}/v"],
        e_pos=tensors[f"{prefix}/e_pos"],
        e_neg=tensors[f"{prefix}/e_neg"],
        values_pos=tuple(tensors[f"{prefix}/values_pos/{k}"] for k in range(K)),
        values_neg=tuple(tensors[f"{prefix}/values_neg/{k}"] for k in range(K)),
        place_pos=tensors.get(f"{prefix}/place_pos"),
        place_neg=tensors.get(f"{prefix}/place_neg"),
        w=tensors.get(f"{prefix}/w"),
        resampled=(
            _layer_cavs(tensors, f"{prefix}/resampled", 0)
            if f"{prefix}/resampled/v" in tensors
            else None
        ),
    )


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}
