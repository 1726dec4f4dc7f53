"""Writing files all or nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path", "file_hash", "replace_files"]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_files(folder: Path, manifest: str) -> Iterator[Path]:
    """Yield an empty folder to write files to; they move into `folder` when the block succeeds.

    The old manifest goes first and the new one comes last, so that whoever finds a manifest finds
    all its files. Until the block succeeds `folder` is untouched.

    Args:
        folder: Where the files belong; created when missing.
        manifest: Name of the file that makes the others valid.
    """
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".vtcav-", dir=folder))
    try:
        yield staging
        (folder / manifest).unlink(missing_ok=True)
        for path in sorted(staging.iterdir(), key=lambda path: path.name == manifest):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if created and not any(folder.iterdir()):
            folder.rmdir()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
