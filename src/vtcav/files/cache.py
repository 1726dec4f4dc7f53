"""The disk cache: tensors by key in a folder, which any number of processes may share.

```
FOLDER/gap-HASH.safetensors    tensors; the header holds the whole key and a hash of the tensors
```

Entries are written atomically. Nothing in them is executed. Whatever goes wrong costs a warning
and a second computation, never a result.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.errors import warn, why
from vtcav.files.atomic import atomic_path
from vtcav.files.hashing import digest, json_hash
from vtcav.files.json_text import parsed

if TYPE_CHECKING:
    from torch import Tensor


MAX_BYTES = 2 * 10**9

FORMAT = 2
_SUFFIX = ".safetensors"
_NAME = re.compile(r"[a-z]+-[0-9a-f]{64}\.safetensors")
_HALF = re.compile(r"\.[a-z]+-[0-9a-f]{64}\.safetensors-.+")
_ABANDONED = 3600.0  # seconds after which an unfinished file counts as abandoned


class CacheWarning(UserWarning):
    """The cache cannot be used, or an entry is damaged; what it held is computed again."""


@dataclass(frozen=True)
class Entry:
    """A file of the cache.

    Attributes:
        path: The file.
        kind: The kind of its content, in a word.
        size: The size in bytes.
        used: The time of its last use, in seconds since 1970.
    """

    path: Path
    kind: str
    size: int
    used: float


class _DamagedError(Exception):
    """An entry differs from what was written; the argument says how."""


class _ForeignError(Exception):
    """An entry belongs to another user; the argument says to whom."""


class Cache:
    """Tensors on disk, keyed by everything that they depend on.

    Args:
        folder: The folder; created with the first entry, readable by this user alone.
        max_bytes: The most bytes that stay after `trim`; the least recently used entries go first.
        asked: Whether the user asked for the cache, and is told where it cannot be used.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        max_bytes: int = MAX_BYTES,
        *,
        asked: bool = True,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.max_bytes = max_bytes
        self.asked = asked
        self._warned: set[str] = set()
        self._writes = True

    def __repr__(self) -> str:
        return f"Cache({str(self.folder)!r})"

    def get(
        self,
        kind: str,
        key: Mapping[str, Any],
        misfit: Callable[[Mapping[str, Tensor]], str] = lambda tensors: "",
    ) -> dict[str, Tensor] | None:
        """Return the tensors kept under a key, or None.

        Args:
            kind: The kind of content, in one word of lower-case letters.
            key: Everything that the tensors depend on, as JSON data.
            misfit: Returns why tensors are none of this kind; empty where they are.

        Warns:
            CacheWarning: When they are damaged, or the folder cannot be read.
        """
        path = self._path(kind, key)
        try:
            tensors = _read(path)
            if fault := misfit(tensors):
                raise _DamagedError(fault)
        except FileNotFoundError:
            return None
        except _ForeignError as error:
            self._warn(f"entries of {self.folder} are not used: {error}", "foreign")
            return None
        except _DamagedError as error:
            self._warn(
                f"the entry {str(path)!r} is damaged ({error}): it is computed again",
                path,
            )
            _remove([path])
            return None
        except OSError as error:
            self._warn(
                f"cannot read the cache: {why(error)}; what it holds is computed again", "read"
            )
            return None
        with suppress(OSError):  # it only decides which entry goes first
            os.utime(path)
        return tensors

    def put(self, kind: str, key: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors under a key.

        Warns:
            CacheWarning: When they cannot be written. Nothing more is written then.
        """
        if not self._writes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with atomic_path(self._path(kind, key)) as partial:
                partial.write_bytes(_content(kind, key, tensors))
        except OSError as error:
            self._writes = False
            self._warn(
                f"cannot write to the cache {str(self.folder)!r}: {why(error)}; results are the "
                "same, and will be computed again next time",
                "write",
            )

    def entries(self) -> list[Entry]:
        """Return the entries, the most recently used last.

        Raises:
            OSError: When the folder cannot be listed.
        """
        found = []
        for path, status in self._files(_NAME):
            kind = path.name.partition("-")[0]
            found.append(Entry(path, kind, status.st_size, status.st_mtime))
        return sorted(found, key=lambda entry: (entry.used, entry.path.name))

    def trim(self) -> int:
        """Remove the least recently used entries until the rest fits; return how many.

        Unfinished files of processes that were killed are removed as well.
        """
        try:
            before = time.time() - _ABANDONED
            _remove([path for path, status in self._files(_HALF) if status.st_mtime < before])
            entries = self.entries()
        except OSError:
            return 0
        excess = sum(entry.size for entry in entries) - self.max_bytes
        removed = accumulate((entry.size for entry in entries), initial=0)
        return _remove([e.path for e, size in zip(entries, removed, strict=False) if size < excess])

    def clear(self) -> int:
        """Remove all entries, and nothing else in the folder; return how many.

        Raises:
            OSError: When the folder cannot be listed.
        """
        _remove([path for path, _ in self._files(_HALF)])
        return _remove([entry.path for entry in self.entries()])

    def damaged(self) -> dict[Path, str]:
        """Read every entry and return the faults of those that are damaged."""
        found = {}
        for entry in self.entries():
            try:
                _read(entry.path)
            except FileNotFoundError:
                pass  # another process removed it
            except (_DamagedError, _ForeignError, OSError) as error:
                found[entry.path] = why(error)
        return found

    def _path(self, kind: str, key: Mapping[str, Any]) -> Path:
        return self.folder / _name(FORMAT, kind, key)

    def _files(self, pattern: re.Pattern[str]) -> Iterator[tuple[Path, os.stat_result]]:
        try:
            paths = list(self.folder.iterdir())
        except FileNotFoundError:
            return
        for path in paths:
            if pattern.fullmatch(path.name):
                with suppress(FileNotFoundError):  # another process removed it
                    yield path, path.lstat()

    def _warn(self, text: str, once: object) -> None:
        if str(once) not in self._warned:
            self._warned.add(str(once))
            warn(text, CacheWarning)


def _content(kind: str, key: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """Return the bytes of an entry."""
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "kind": kind, "key": key, "sha256": digest(whole)}
    return save(whole, {"vtcav-cache": json.dumps(metadata, sort_keys=True)})


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of an entry, checked against its key and hash.

    Raises:
        _DamagedError: When it differs from what was written under its name.
        OSError: When it cannot be read.
    """
    from safetensors.torch import load

    data = _content_of(path)
    try:
        size = int.from_bytes(data[:8], "little")
        metadata = parsed(parsed(data[8 : 8 + size])["__metadata__"]["vtcav-cache"])
        tensors: dict[str, Tensor] = load(data)
        found = digest(tensors)
    except Exception as error:  # the parser of a foreign format, whatever the file holds
        raise _DamagedError(f"{type(error).__name__}: {error}") from error
    if not isinstance(metadata, dict) or metadata.get("sha256") != found:
        raise _DamagedError("its tensors are not those that were written")
    if path.name != _name(metadata.get("format"), str(metadata.get("kind")), metadata.get("key")):
        raise _DamagedError("its key is not that of its name")
    return tensors


def _content_of(path: Path) -> bytes:
    """Return the bytes of an entry's file.

    Raises:
        _DamagedError: When it is no file: a folder, a pipe or a link to itself.
        _ForeignError: When another user owns it, who could decide the CAVs.
        OSError: When it cannot be read.
    """
    try:
        # a pipe that nobody writes to would be waited for
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _DamagedError("it is no file") from error
        raise
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _DamagedError("it is no file")
        if _is_foreign(status.st_uid, path.parent):
            raise _ForeignError(
                f"{path.name} belongs to another user (number {status.st_uid}), and whoever writes "
                "an entry decides the CAVs. Use a folder of your own"
            )
        return file.read()


def _is_foreign(owner: int, folder: Path) -> bool:
    """Whether a file's owner is neither this user, nor root, nor the owner of its folder."""
    if not hasattr(os, "getuid"):  # Windows
        return False
    return owner not in (os.getuid(), 0, folder.stat().st_uid)


def _name(version: object, kind: str, key: object) -> str:
    """Return the name of an entry's file."""
    return f"{kind}-{json_hash([version, kind, key])}{_SUFFIX}"


def _remove(paths: list[Path]) -> int:
    """Remove files and return how many went; others may be removing them too."""
    count = 0
    for path in paths:
        with suppress(OSError):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            count += 1
    return count
