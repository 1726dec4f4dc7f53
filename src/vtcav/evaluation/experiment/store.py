"""The folder of an experiment: one finished unit after another, so that a run can go on later.

```
OUT/run.json                         what the run's numbers depend on
OUT/units/seed-0_q-025/unit.json     facts and the hash of each other file; written last
                       classes.parquet, images.parquet, maps.parquet, network.safetensors
```
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file, save_file

from vtcav.errors import ExplanationError
from vtcav.evaluation.experiment.unit import UnitResult
from vtcav.files.atomic import replace_files
from vtcav.files.claim import claim
from vtcav.files.hashing import file_hash

__all__ = ["claim_folder", "load_unit", "save_unit", "unit_folder"]

FORMAT = 1
_TABLES = ("classes", "images", "maps")
_WEIGHTS = "network.safetensors"


def claim_folder(folder: Path, identity: dict[str, Any]) -> None:
    """Claim a folder for one run, or check that it is the folder of this run already.

    Args:
        folder: The run's folder; created when missing.
        identity: What the numbers depend on, as JSON data.

    Raises:
        ExplanationError: When another run is there, naming what differs, or it cannot be written.
    """
    try:
        claim(folder / "run.json", {"format": FORMAT, "kind": "experiment"} | identity)
    except (OSError, ValueError) as error:
        raise ExplanationError(
            f"cannot use the run folder {str(folder)!r}: {error}; choose another with -o"
        ) from error


def unit_folder(folder: Path, seed: int, agreement: float) -> Path:
    """Return the folder of a unit.

    Example:
        >>> unit_folder(Path("out"), 0, 0.25).name
        'seed-0_q-025'
    """
    return folder / "units" / f"seed-{seed}_q-{round(100 * agreement):03d}"


def save_unit(folder: Path, result: UnitResult) -> None:
    """Write a unit, all or nothing.

    Raises:
        ExplanationError: When it cannot be written.
    """
    try:
        with replace_files(folder, "unit.json") as staging:
            for name in _TABLES:
                getattr(result, name).to_parquet(staging / f"{name}.parquet", compression="zstd")
            save_file(result.weights, staging / _WEIGHTS)
            files = {path.name: file_hash(path) for path in sorted(staging.iterdir())}
            manifest = {"format": FORMAT, "files": files, "facts": result.facts}
            text = json.dumps(manifest, indent=1, allow_nan=False)
            (staging / "unit.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExplanationError(f"cannot write to {str(folder)!r}: {error}") from error


def load_unit(folder: Path) -> UnitResult | None:
    """Read a unit, or return None where it is not finished.

    Raises:
        ExplanationError: When it is damaged.
    """
    if not (folder / "unit.json").is_file():
        return None
    try:
        manifest = json.loads((folder / "unit.json").read_text(encoding="utf-8"))
        wrong = [n for n, known in manifest["files"].items() if file_hash(folder / n) != known]
        if wrong:
            raise ExplanationError(
                f"{wrong[0]!r} in {str(folder)!r} is not what was written there; delete that "
                "folder and run again: only this unit is computed anew"
            )
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES}
        return UnitResult(**tables, facts=manifest["facts"], weights=load_file(folder / _WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExplanationError(
            f"cannot read the unit in {str(folder)!r}: {error}; delete that folder and run again"
        ) from error
