"""The file of a bank of CAVs: tensors, and JSON data in its header. Nothing in it is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vtcav.errors import CavError, why
from vtcav.files.atomic import atomic_path
from vtcav.files.hashing import digest
from vtcav.files.json_text import parsed
from vtcav.files.paths import is_file
from vtcav.models.inspection.ambient import ambient

FORMAT = 3


def write(path: Path, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
    """Write a safetensors file, all or nothing.

    Args:
        path: The file.
        tensors: Contiguous tensors by name.
        data: JSON data.

    Raises:
        CavError: When the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    header = json.dumps({"format": FORMAT, **data, "sha256": digest(tensors)})
    try:
        with atomic_path(path) as partial:
            save_file(dict(tensors), partial, metadata={"vtcav": header})
    except (OSError, SafetensorError) as error:  # of a full disk it is the second
        raise CavError(f"cannot write the CAVs to {str(path)!r}: {why(error)}") from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the data of a file.

    Raises:
        CavError: When the file is missing, damaged, or no bank of CAVs.
    """
    from safetensors import safe_open

    if not is_file(path):
        raise CavError(f"there is no file of CAVs at {str(path)!r}")
    try:
        # safetensors 0.4 makes tensors on the caller's default device
        with ambient(), safe_open(path, framework="pt") as file:
            data = parsed((file.metadata() or {}).get("vtcav", "null"))
            names = file.keys()  # the file itself cannot be iterated over
            tensors = {name: file.get_tensor(name) for name in names}
    except Exception as error:  # the parser of a foreign format, whatever the file holds
        raise CavError(
            f"cannot read CAVs from {str(path)!r}: {why(error)}; expected a safetensors file "
            "written by CavBank.save"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        came = data.get("format") if isinstance(data, dict) else "no vtcav metadata"
        raise CavError(
            f"{str(path)!r} is no bank of CAVs of this version: expected format {FORMAT}, "
            f"got {came}; fit again and save"
        )
    if data.get("sha256") != digest(tensors):
        raise CavError(
            f"the CAVs in {str(path)!r} are not those that were saved: the file is damaged or "
            "was edited; fit again and save"
        )
    return tensors, data
