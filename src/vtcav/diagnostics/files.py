"""Diagnostics on disk: tables, matrices and a figure, valid by the manifest that comes last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExplanationError
from vtcav.files.atomic import replace_files
from vtcav.files.hashing import file_hash

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["load_diagnostics", "save_diagnostics"]

FORMAT = 1
_MANIFEST = "diagnostics.json"
_ARRAYS = "diagnostics.npz"
_AGAIN = "diagnose again and save"


def save_diagnostics(
    folder: str | Path,
    tables: Mapping[str, pd.DataFrame],
    arrays: Mapping[str, NDArray[np.float64]],
    content: Mapping[str, Any],
    draw: Callable[[Figure], Figure],
) -> Path:
    """Write diagnostics, all or nothing.

    Args:
        folder: Where; earlier diagnostics there are replaced.
        tables: By name.
        arrays: By name.
        content: What else the manifest says.
        draw: Draws the figure.

    Raises:
        ExplanationError: When they cannot be written.
    """
    from vtcav.results.figures.page import save_figure

    folder = Path(folder)
    try:
        with replace_files(folder, _MANIFEST) as staging:
            for name, table in tables.items():
                stem = staging / f"diagnostics_{name}"
                table.to_csv(stem.with_suffix(".csv"), index=False)
                table.to_parquet(stem.with_suffix(".parquet"), index=False)
            np.savez_compressed(staging / _ARRAYS, allow_pickle=False, **arrays)
            save_figure(draw, staging / "diagnostics.png")
            files = {path.name: file_hash(path) for path in sorted(staging.iterdir())}
            manifest = {"format": FORMAT, "kind": "diagnostics", "files": files, **content}
            manifest |= {name: _records(table) for name, table in tables.items()}
            manifest["sha256"] = _content_hash(manifest)
            text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
            (staging / _MANIFEST).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExplanationError(
            f"cannot save the diagnostics to {str(folder)!r}: {error}; nothing was changed there"
        ) from error
    return folder


def load_diagnostics(
    folder: str | Path,
) -> tuple[dict[str, pd.DataFrame], dict[str, NDArray[np.float64]], dict[str, Any]]:
    """Read what `save_diagnostics` wrote: tables, arrays and the manifest.

    Raises:
        ExplanationError: When it is missing, incomplete, damaged or of another version.
    """
    import pandas as pd

    folder = Path(folder)
    manifest = _manifest(folder)
    with np.load(folder / _ARRAYS, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    tables = {
        name: pd.read_parquet(folder / f"diagnostics_{name}.parquet")
        for name in ("findings", "curve", "duplicates")
    }
    return tables, arrays, manifest


def _manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest and check every file against it."""
    path = folder / _MANIFEST
    if not path.is_file():
        raise ExplanationError(
            f"there are no complete diagnostics in {str(folder)!r}: {path.name} is missing"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ExplanationError(f"cannot read {str(path)!r}: {error}; {_AGAIN}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        came = manifest.get("format") if isinstance(manifest, dict) else None
        raise ExplanationError(
            f"{str(path)!r} is of format {came}, expected {FORMAT}; {_AGAIN} with this version"
        )
    if manifest.pop("sha256", None) != _content_hash(manifest):
        raise ExplanationError(f"{str(path)!r} was changed after it was saved; {_AGAIN}")
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file() or file_hash(folder / name) != digest:
            raise ExplanationError(
                f"{str(folder / name)!r} is missing or was changed after it was saved; {_AGAIN}"
            )
    return manifest


def _content_hash(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as JSON data; missing numbers become null."""
    records: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return records
