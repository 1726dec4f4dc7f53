"""Files written all or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces it when the block succeeds."""
    path = path.absolute()  # pandas takes a relative "~" for the home folder
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
def replace_files(folder: Path, manifest: str = "") -> Iterator[Path]:
    """Yield an empty folder to write to; its content moves into `folder` when the block succeeds.

    The old manifest is moved away first and the new one comes last, so that whoever finds a
    manifest finds all its files. When the block or a move fails, `folder` is as it was.

    Args:
        folder: Where the content belongs; created when missing.
        manifest: Name of the file that makes the others valid, if there is one.
    """
    folder = folder.absolute()  # pandas takes a relative "~" for the home folder
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".vtcav-", dir=folder))
    try:
        yield staging
        _move_in(staging, folder, manifest)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if created and not any(folder.iterdir()):
            folder.rmdir()


def _move_in(staging: Path, folder: Path, manifest: str) -> None:
    """Move the content of `staging` into `folder`, all or nothing."""
    names = sorted((path.name for path in staging.iterdir()), key=lambda name: name == manifest)
    old = staging / ".old"
    old.mkdir()
    try:
        for name in reversed(names):
            if (folder / name).is_dir():
                raise IsADirectoryError(f"{name} is a folder there")
            if (folder / name).exists():
                (folder / name).replace(old / name)
        for name in names:
            (staging / name).replace(folder / name)
    except BaseException:
        for name in names:
            if not (staging / name).exists():
                (folder / name).replace(staging / name)
            if (old / name).exists():
                (old / name).replace(folder / name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
