"""The folder of a run: finished parts, and what they depend on.

```
RUN/run.json             what the numbers depend on; another run is refused
    part-00000.parquet   rows
    effects-00000.parquet
    part-00000.json      the rest of the part, with the hashes of its tables; written last
    .lock                held by the computing process, released when it ends in any way
```
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from pydantic import Field

from vtcav.errors import ExplanationError, warn
from vtcav.explainer.runs.part import EFFECTS, Chunk, Part, table_of
from vtcav.files.atomic import atomic_path
from vtcav.files.claim import claim
from vtcav.files.hashing import file_hash, json_hash
from vtcav.files.json_text import parsed
from vtcav.files.schema import Saved, checked
from vtcav.images.facts import Fact, fact_of
from vtcav.images.references import Skipped
from vtcav.models.behaviour import same_behaviour

FORMAT = 5
_ALIKE = 0.002  # tolerance of a behaviour; device and versions are the same
_MANIFEST, _LOCK = "run.json", ".lock"


class DamagedPartWarning(UserWarning):
    """A part of a run is damaged, or its images have changed; it is computed again."""


@contextmanager
def opened(
    path: Path, identity: Mapping[str, Any], columns: Mapping[str, type[Any]] = {}
) -> Iterator[RunFolder]:
    """Open a run folder and hold its lock.

    Args:
        path: The folder; created when missing.
        identity: The run's settings and other dependencies, as JSON data.
        columns: The columns of the tables of its parts, with their types.

    Raises:
        ExplanationError: When the folder holds a run with other settings, naming what differs;
            when another process holds the lock; or when it cannot be read or written.
    """
    identity = _with_known_behaviour(path, json.loads(json.dumps({"format": FORMAT, **identity})))
    with _usable(path):
        path.mkdir(parents=True, exist_ok=True)
        file = (path / _LOCK).open("a+", encoding="utf-8")
    with file:
        alone = _lock(file, path)
        with _usable(path):
            _claim(path, identity)
            if alone:
                _remove_half_written(path)
        yield RunFolder(path, json_hash(identity), columns)


class RunFolder:
    """The parts of a run on disk."""

    def __init__(self, path: Path, identity: str, columns: Mapping[str, type[Any]]) -> None:
        self._path = path
        self._identity = identity
        self._columns = {"rows": columns, "effects": EFFECTS}

    def holds(self, chunk: Chunk) -> bool:
        """Whether a chunk is finished and intact, and its images have not changed since.

        Warns:
            DamagedPartWarning: When it was finished but cannot be used.
        """
        record = self._file(chunk.number, "json")
        if not record.exists():
            return False
        fault = self._fault(chunk)
        if fault:
            warn(
                f"{record.stem} of the run in {str(self._path)!r} is computed again: {fault}",
                DamagedPartWarning,
            )
            with _usable(self._path):
                record.unlink(missing_ok=True)
        return not fault

    def load(self, number: int) -> Part:
        """Read a finished part.

        Raises:
            ExplanationError: When it is damaged.
        """
        try:
            return self._loaded(number)
        except Exception as error:  # whatever files of other software hold
            raise ExplanationError(
                f"part {number} of the run in {str(self._path)!r} was damaged while it was used "
                f"({error}); repeat the call"
            ) from error

    def _loaded(self, number: int) -> Part:
        record = self._record(number)
        return Part(
            **{name: self._table(name, number) for name in self._columns},
            used=record.used,
            skipped=record.skipped,
            sums={layer: _decoded(text) for layer, text in record.sums.items()},
            shape=record.shape,
            first=record.first,
            facts=tuple(Fact(*fact) for fact in record.facts),
        )

    def _table(self, name: str, number: int) -> pa.Table:
        """Return a table of a part.

        Raises:
            ValueError: When its columns or their kinds are others.
        """
        table = parquet.read_table(self._tables(number)[name], memory_map=False)
        wanted = table_of((), self._columns[name]).schema
        if not table.schema.equals(wanted):
            raise ValueError(f"its {name} have other columns")
        return table

    def save(self, number: int, part: Part) -> None:
        """Write a part, all or nothing: it counts once its record is written.

        Raises:
            ExplanationError: When it cannot be written.
        """
        record = {
            "run": self._identity,
            "used": part.used,
            "skipped": [asdict(skip) for skip in part.skipped],
            "sums": {layer: _encoded(values) for layer, values in part.sums.items()},
            "shape": list(part.shape),
            "first": part.first,
            "facts": [[fact.size, fact.mtime_ns, fact.digest] for fact in part.facts],
        }
        with _usable(self._path):
            for name, file in self._tables(number).items():
                with atomic_path(file) as partial:
                    parquet.write_table(getattr(part, name), partial, compression="zstd")
                    record[name] = file_hash(partial)
            with atomic_path(self._file(number, "json")) as partial:
                text = json.dumps({**record, "sha256": json_hash(record)})
                partial.write_text(text, encoding="utf-8")

    def _fault(self, chunk: Chunk) -> str:
        """Return why a part cannot be used; empty where it can."""
        try:
            part = self._loaded(chunk.number)
        except Exception as error:  # noqa: BLE001 - whatever files of other software hold
            return f"it is damaged ({error})"
        known = part.facts
        if part.used + len(part.skipped) != len(chunk.refs):
            return "it is of another number of images"
        if len(known) != len(chunk.refs):
            return "it is of other images"
        for ref, was in zip(chunk.refs, known, strict=True):
            if fact_of(ref, was).digest != was.digest:
                return f"the image {ref.name!r} has changed since"
        return ""

    def _record(self, number: int) -> _Record:
        """Return the record of a part.

        Raises:
            ValueError: When it or its rows are damaged, or were written by another run.
        """
        record = parsed(self._file(number, "json").read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.pop("sha256", None) != json_hash(record):
            raise ValueError("its record is damaged")
        found = checked(_Record, record)
        if found.run != self._identity:
            raise ValueError("it belongs to a run with other settings")
        for name, file in self._tables(number).items():
            if file_hash(file) != getattr(found, name):
                raise ValueError(f"its {name} are damaged")
        return found

    def _tables(self, number: int) -> dict[str, Path]:
        """Return the files of a part's tables."""
        effects = self._path / f"effects-{number:05d}.parquet"
        return {"rows": self._file(number, "parquet"), "effects": effects}

    def _file(self, number: int, kind: str) -> Path:
        return self._path / f"part-{number:05d}.{kind}"


class _Record(Saved):
    run: str
    rows: str
    effects: str
    used: Annotated[int, Field(ge=0)]
    skipped: tuple[Skipped, ...]
    sums: Mapping[str, str]
    shape: tuple[()] | tuple[int, int, int]
    first: str
    facts: tuple[tuple[int, int, str], ...]


def _claim(path: Path, identity: Mapping[str, Any]) -> None:
    """Claim a run folder, and write its manifest again where that is damaged."""
    manifest = path / _MANIFEST
    try:
        claim(manifest, identity)
    except ValueError as error:
        # Each part knows its run, so no part of another run can slip in.
        warn(f"{str(manifest)!r} is damaged and is written again: {error}", DamagedPartWarning)
        manifest.unlink()
        claim(manifest, identity)


def _with_known_behaviour(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Return an identity with the behaviour that a run recorded, where the network's is like it.

    Threads and processors change the last digits.
    """
    try:
        known = parsed((path / _MANIFEST).read_text("utf-8"))["model"]["behaviour"]
        alike = same_behaviour(known, identity["model"]["behaviour"], _ALIKE)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return identity
    model = identity["model"] | ({"behaviour": known} if alike else {})
    return identity | {"model": model}


def _remove_half_written(path: Path) -> None:
    """Remove files that a killed process left unfinished."""
    for name in (f".{_MANIFEST}-*", ".part-*", ".effects-*"):
        for half in path.glob(name):
            half.unlink(missing_ok=True)


def _lock(file: TextIOWrapper, folder: Path) -> bool:
    """Take a lock that the system releases when the process ends, even by `kill -9`.

    Returns:
        Whether it is held. Some network file systems have no locks. There two processes only do
        the same work twice, as parts are written all or nothing.
    """
    try:
        _system_lock(file)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise ExplanationError(
            f"the run in {str(folder)!r} is being computed by {holder}; wait for it, end it, or "
            "choose another folder"
        ) from error
    except OSError:
        return False
    with suppress(OSError):  # on a full disk the lock still holds, without its holder's name
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
    return True


def _system_lock(file: TextIOWrapper) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(1 << 20)  # beyond the text, so that others can read it
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Turn errors of the file system into advice."""
    try:
        yield
    except OSError as error:
        raise ExplanationError(
            f"cannot use the run folder {str(path)!r}: {error}. Finished parts are kept: solve the "
            "problem and repeat the call, or choose another folder"
        ) from error


def _encoded(values: NDArray[np.float64]) -> str:
    return base64.b64encode(values.astype("<f8").tobytes()).decode()


def _decoded(text: str) -> NDArray[np.float64]:
    values = np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("its sums are not finite")
    return values
