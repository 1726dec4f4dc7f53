"""The folder of a run: finished parts, and what they depend on.

```
RUN/run.json             what the numbers depend on; another run is refused
    part-00000.parquet, ...   the parts (`part_files`)
    .lock                held by the computing process, released when it ends in any way
```
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from io import TextIOWrapper
from math import ceil
from pathlib import Path
from typing import Any

from vtcav.errors import ExplanationError, warn, why
from vtcav.explainer.runs.part import EFFECTS, Chunk, Part
from vtcav.explainer.runs.part_files import MergedParts, PartFiles, PartRecord, usable
from vtcav.files import paths
from vtcav.files.claim import claim
from vtcav.files.hashing import json_hash
from vtcav.files.json_text import parsed
from vtcav.images.facts import Fact, fact_of
from vtcav.models.behaviour import same_behaviour

FORMAT = 6
MOST_GROUPS = 256
"""The most groups of parts: with three files each, a run of any length has fewer than 1,000."""
_AHEAD = 2  # groups that wait to be merged
_ALIKE = 0.002  # tolerance of a behaviour; device and versions are the same
_MANIFEST, _LOCK = "run.json", ".lock"


class DamagedPartWarning(UserWarning):
    """A part of a run is damaged, or its images have changed; it is computed again."""


@contextmanager
def opened(
    path: Path,
    identity: Mapping[str, Any],
    columns: Mapping[str, type[Any]] = {},
    parts: int = 1,
) -> Iterator[RunFolder]:
    """Open a run folder and hold its lock.

    Args:
        path: The folder; created when missing.
        identity: The run's settings and other dependencies, as JSON data.
        columns: The columns of the tables of its parts, with their types.
        parts: How many parts it has.

    Raises:
        ExplanationError: When the folder holds a run with other settings, naming what differs;
            when another process holds the lock; or when it cannot be read or written.
    """
    identity = _with_known_behaviour(path, json.loads(json.dumps({"format": FORMAT, **identity})))
    with usable(path):
        paths.usable(path).mkdir(parents=True, exist_ok=True)
        file = (path / _LOCK).open("a+", encoding="utf-8")
    with file:
        alone = _lock(file, path)
        with usable(path):
            _claim(path, identity)
            if alone:
                _remove_half_written(path)
        tables = {"rows": columns, "effects": EFFECTS}
        with closing(RunFolder(PartFiles(path, json_hash(identity), tables), parts)) as folder:
            yield folder


class RunFolder:
    """The parts of a run on disk, of which neighbours are merged in a thread where there are many.

    Args:
        files: The files of the parts.
        parts: How many parts the run has.
    """

    def __init__(self, files: PartFiles, parts: int) -> None:
        self._files = files
        self._parts = parts
        self._in_group = max(1, ceil(parts / MOST_GROUPS))
        self._held: dict[int, set[int]] = defaultdict(set)
        self._loose: dict[int, set[int]] = defaultdict(set)
        self._hashes: dict[int, Mapping[str, str]] = {}  # of the tables of merged parts
        self._opened: tuple[int, MergedParts] | None = None
        self._merging: deque[Future[None]] = deque()
        self._merger = ThreadPoolExecutor(1)

    def holds(self, chunk: Chunk) -> bool:
        """Whether a chunk is finished and intact, and its images have not changed since.

        Chunks are asked for in order.

        Warns:
            DamagedPartWarning: When it was finished but cannot be used.
        """
        loose = self._files.exists(chunk.number)
        known = self._checked(chunk.number, loose=loose)
        if known is None:
            return False
        if fault := _fault(chunk, known):
            self._warn(f"part-{chunk.number:05d}", fault)
            if loose:
                self._files.remove(chunk.number)
            return False
        self._keep(chunk.number, loose=loose)
        return True

    def _checked(self, number: int, *, loose: bool) -> PartRecord | None:
        """Return the record of a finished part whose files are intact; None where there is none."""
        if loose:
            try:
                return self._files.checked(number)
            except Exception as error:  # noqa: BLE001 - whatever files of other software hold
                self._warn(f"part-{number:05d}", f"it is damaged ({why(error)})")
                self._files.remove(number)
                return None
        group = number // self._in_group
        if self._opened is None or self._opened[0] != group:
            self._open(group)
        return self._opened[1].parts.get(number) if self._opened else None

    def _open(self, group: int) -> None:
        """Read the record of merged parts, and check their files."""
        self._opened = None
        if not self._files.merged_exist(group):
            return
        try:
            found = self._files.checked_group(group)
            self._opened, self._hashes[group] = (group, found), found.hashes
        except Exception as error:  # noqa: BLE001 - whatever files of other software hold
            self._warn(f"merged-{group:05d}", f"it is damaged ({why(error)})")
            self._files.remove_group(group)

    def _warn(self, what: str, fault: str) -> None:
        warn(
            f"{what} of the run in {str(self._files.path)!r} is computed again: {fault}",
            DamagedPartWarning,
        )

    def save(self, number: int, part: Part) -> None:
        """Write a part, all or nothing: it counts once its record is written.

        Raises:
            ExplanationError: When it, or parts that are merged, cannot be written.
        """
        self._files.save(number, part)
        self._keep(number, loose=True)

    def _keep(self, number: int, *, loose: bool) -> None:
        """Note a part that is on disk, and merge those of its group once all are there."""
        if self._in_group == 1:
            return
        group = number // self._in_group
        self._held[group].add(number)
        if loose:
            self._loose[group].add(number)
        numbers = self._numbers(group)
        if len(self._held[group]) == len(numbers) and self._loose.pop(group, set()):
            self._merging.append(self._merger.submit(self._merge, group, numbers))
            self._wait(_AHEAD)

    def _numbers(self, group: int) -> range:
        start = group * self._in_group
        return range(start, min(start + self._in_group, self._parts))

    def _merge(self, group: int, numbers: range) -> None:
        self._hashes[group] = self._files.merge(group, numbers)

    def _wait(self, most: int = 0) -> None:
        """Wait until at most so many groups are being merged."""
        while len(self._merging) > most:
            self._merging.popleft().result()

    def close(self) -> None:
        """Wait for the end of merging."""
        self._merger.shutdown()

    def files(self) -> dict[str, list[Path]]:
        """Return the files of the rows of all parts in order, by the name of the table."""
        self._wait()
        names: list[dict[str, Path]] = []
        for group in range(ceil(self._parts / self._in_group)):
            alone = self._in_group == 1
            names.append(
                self._files.tables(group)
                if alone
                else self._files.group_tables(group, self._hashes[group])
            )
        return {table: [each[table] for each in names] for table in self._files.columns}

    def parts(self) -> Iterator[tuple[int, Part]]:
        """Yield all parts in order.

        Raises:
            ExplanationError: When one is damaged.
        """
        self._wait()
        for group in range(ceil(self._parts / self._in_group)):
            try:
                if self._in_group == 1:
                    yield group, self._files.load(group)
                else:
                    yield from self._files.load_group(group)
            except Exception as error:  # whatever files of other software hold
                first, *_ = self._numbers(group)
                raise ExplanationError(
                    f"part {first} of the run in {str(self._files.path)!r} was damaged while it "
                    f"was used ({why(error)}); repeat the call"
                ) from error


def _fault(chunk: Chunk, known: PartRecord) -> str:
    """Return why a part cannot be used; empty where it can."""
    if known.used + len(known.skipped) != len(chunk.refs):
        return "it is of another number of images"
    if len(known.facts) != len(chunk.refs):
        return "it is of other images"
    for ref, fact in zip(chunk.refs, known.facts, strict=True):
        was = Fact(*fact)
        if fact_of(ref, was).digest != was.digest:
            return f"the image {ref.name!r} has changed since"
    return ""


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
    for name in (f".{_MANIFEST}-*", ".part-*", ".effects-*", ".rows-*", ".merged-*"):
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
