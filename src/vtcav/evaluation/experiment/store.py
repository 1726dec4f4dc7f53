"""Folder of an experiment: every finished unit, so that an interrupted run can resume.

```
OUT/run.json                         everything that the run's numbers depend on
OUT/units/seed-0_q-025/unit.json     facts and the hash of each other file; written last
                       classes.parquet, images.parquet, absent.parquet, against.parquet,
                       maps.parquet, network.safetensors
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vtcav.errors import ExplanationError, why
from vtcav.evaluation.experiment.unit import UnitResult
from vtcav.files.claim import claim
from vtcav.files.manifest import load_manifest, read_table, reading, save_result
from vtcav.files.paths import is_file

FORMAT = 3
_TABLES = ("classes", "images", "absent", "against", "maps")
_WEIGHTS = "network.safetensors"


def claim_folder(folder: Path, identity: dict[str, Any]) -> None:
    """Claim a folder for one run, or check that it is the folder of this run already.

    Args:
        folder: The run's folder; created when missing.
        identity: Everything that the numbers depend on, as JSON data.

    Raises:
        ExplanationError: When another run is there, naming what differs, or it cannot be written.
    """
    try:
        claim(folder / "run.json", {"format": FORMAT, "kind": "experiment"} | identity)
    except (OSError, ValueError) as error:
        raise ExplanationError(
            f"cannot use the run folder {str(folder)!r}: {why(error)}; choose another with -o"
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

    def write(staging: Path) -> dict[str, Any]:
        for name in _TABLES:
            getattr(result, name).to_parquet(staging / f"{name}.parquet", compression="zstd")
        try:
            save_file(result.weights, staging / _WEIGHTS)
        except SafetensorError as error:  # of a full disk
            raise OSError(str(error)) from error
        return {"facts": result.facts}

    save_result(folder, "unit", "the unit", write)


def load_unit(folder: Path) -> UnitResult | None:
    """Read a unit, or return None where it is not finished.

    Raises:
        ExplanationError: When it is damaged.
    """
    if not is_file(folder / "unit.json"):
        return None
    again = "delete that folder and run again: only this unit is computed anew"
    manifest = load_manifest(folder, "unit", "unit", again)
    with reading(folder, "unit", again):
        tables = {name: read_table(folder / name) for name in _TABLES}
        facts: dict[str, Any] = dict(manifest["facts"])
        return UnitResult(**tables, facts=facts, weights=load_file(folder / _WEIGHTS))
