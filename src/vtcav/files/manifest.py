"""Results on disk: a folder of tables, arrays and figures, made valid by a manifest written last.

The manifest `KIND.json` holds the format, a hash of every other file, and a hash of itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.errors import ExplanationError, VtcavError, text_of, why
from vtcav.files.atomic import replace_files
from vtcav.files.csv_text import write_csv
from vtcav.files.hashing import file_hash, text_hash
from vtcav.files.json_text import parsed
from vtcav.files.paths import given_path, is_file

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


FORMAT = 2


def save_result(
    folder: str | Path, kind: str, what: str, write: Callable[[Path], Mapping[str, Any]]
) -> Path:
    """Write a result, all or nothing; an earlier one of its kind there is replaced.

    Args:
        folder: Where; created when missing.
        kind: Of the result: the manifest is `KIND.json`.
        what: The result in words, for messages: "the local explanation".
        write: Writes the other files into a folder and returns what the manifest says besides.

    Returns:
        The folder.

    Raises:
        ExplanationError: When they cannot be written.
    """
    folder = given_path("folder", folder)
    try:
        with replace_files(folder, f"{kind}.json") as staging:
            content = write(staging)
            files = {path.name: file_hash(path) for path in sorted(staging.iterdir())}
            manifest = {"format": FORMAT, "kind": kind, "files": files, **content}
            _write_manifest(staging / f"{kind}.json", manifest)
    except OSError as error:
        raise ExplanationError(
            f"cannot save {what} to {str(folder)!r}: {why(error)}; nothing was changed there"
        ) from error
    return folder


def replace_file(
    folder: str | Path, kind: str, what: str, name: str, write: Callable[[Path], None]
) -> None:
    """Write one file of a saved result anew, and its hash into the manifest.

    Args:
        folder: Where the result was saved.
        kind: Of the result.
        what: The result in words, for messages.
        name: The file.
        write: Writes the file at a path.

    Raises:
        ExplanationError: When the result is damaged or cannot be written.
    """
    folder = given_path("folder", folder)
    manifest = load_manifest(folder, kind, what)
    try:
        with replace_files(folder, f"{kind}.json") as staging:
            write(staging / name)
            manifest["files"][name] = file_hash(staging / name)
            _write_manifest(staging / f"{kind}.json", manifest)
    except OSError as error:
        raise ExplanationError(
            f"cannot write {str(folder / name)!r}: {why(error)}; nothing was changed there"
        ) from error


def load_manifest(
    folder: str | Path,
    kind: str,
    what: str,
    again: str = "save it again",
    formats: tuple[int, ...] = (FORMAT,),
) -> dict[str, Any]:
    """Read the manifest of a saved result and check every file against it.

    Args:
        folder: Where the result was saved.
        kind: Of the result.
        what: The result in words, for messages: "local explanation".
        again: What to do when it is damaged.
        formats: Formats of the manifest that can be read.

    Raises:
        ExplanationError: When it is missing, incomplete, damaged or of another version.
    """
    folder = given_path("folder", folder)
    path, named = folder / f"{kind}.json", what.removeprefix("the ")
    if not is_file(path):
        raise ExplanationError(f"{str(folder)!r} holds no complete {named}: {path.name} is missing")
    try:
        manifest = parsed(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ExplanationError(f"cannot read {str(path)!r}: {why(error)}; {again}") from error
    came = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or came not in formats:
        expected = " or ".join(map(str, formats))
        raise ExplanationError(
            f"{str(path)!r} is of format {came}, expected {expected}; {again} with this version"
        )
    if not _own(manifest) or manifest.get("kind") != kind:
        raise ExplanationError(f"{str(path)!r} was changed after it was saved; {again}")
    for name, digest in _files(manifest, path):
        if _hash_of(folder / name) != digest:
            raise ExplanationError(
                f"{str(folder / name)!r} is missing or was changed after it was saved; {again}"
            )
    return manifest


@contextmanager
def reading(folder: str | Path, what: str, again: str = "save it again") -> Iterator[None]:
    """Turn every exception of reading a saved result into one that names its folder.

    Args:
        folder: Where the result was saved.
        what: The result in words, for messages: "local explanation".
        again: What to do.

    Raises:
        ExplanationError: When something in it does not fit its declaration.
    """
    try:
        yield
    except VtcavError:
        raise
    except Exception as error:  # whatever files of other software hold
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        fault = " ".join(f"{kind}{text_of(error)}".split())[:500]
        raise ExplanationError(
            f"the {what} in {str(folder)!r} cannot be used: {fault}; {again}"
        ) from error


def write_table(stem: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV (`files.csv_text` says how) and Parquet."""
    write_csv(stem.with_suffix(".csv"), table)
    table.to_parquet(stem.with_suffix(".parquet"), index=False)


def read_table(stem: Path) -> pd.DataFrame:
    """Read what `write_table` wrote."""
    import pandas as pd

    # pandas takes a relative "~" for the home folder
    return pd.read_parquet(stem.with_suffix(".parquet").absolute())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an NPZ file. Nothing in it is executed."""
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON data: numbers of 15 digits, None where one is missing.

    Where rows are not for JSON, `table.to_dict("records")` keeps all digits, and NaN.
    """
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return rows


def _write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with a hash of itself."""
    manifest["sha256"] = _content_hash(manifest)
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False), "utf-8")


def _own(manifest: dict[str, Any]) -> bool:
    """Whether a manifest has its own hash, which is taken out."""
    try:
        return bool(manifest.pop("sha256", None) == _content_hash(manifest))
    except (ValueError, RecursionError):  # NaN, letters that are none, or nested too deep
        return False


def _hash_of(path: Path) -> str:
    """Return a file's hash; empty where there is none, also since a moment ago."""
    try:
        return file_hash(path) if is_file(path) else ""
    except (OSError, ValueError):  # of ValueError: names that no file can have
        return ""


def _files(manifest: Mapping[str, Any], path: Path) -> list[tuple[str, str]]:
    """Return the names of the files of a manifest, with their hashes."""
    files = manifest.get("files")
    if not isinstance(files, dict) or any(Path(name).name != name for name in files):
        raise ExplanationError(f"{str(path)!r} does not list its files by name; save it again")
    return list(files.items())


def _content_hash(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's content, whatever its line breaks."""
    return text_hash(json.dumps(manifest, ensure_ascii=False, allow_nan=False))
