"""Files written all or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from vtcav.files.paths import is_folder, is_there, usable

_STAGING, _OLD = ".vtcav-", ".old"
_ABANDONED = 3600.0  # seconds after which a result that is being written counts as abandoned
_PATIENCE = 60.0  # seconds to wait for another writer


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces it when the block succeeds."""
    path = usable(path).absolute()  # pandas takes a relative "~" for the home folder
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
    folder = usable(folder).absolute()  # pandas takes a relative "~" for the home folder
    created = not is_there(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder) as alone:
        _remove_abandoned(folder, 0 if alone else _ABANDONED)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
        try:
            yield staging
            _move_in(staging, folder, manifest)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if created and not any(folder.iterdir()):
                folder.rmdir()


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Wait until no other process writes to a folder; yield whether that is sure.

    The system ends the lock with the process, however that ends. Windows and some network file
    systems have no locks of folders.

    Raises:
        OSError: When another process does not come to an end.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield _locked(fcntl, handle, folder)
    finally:
        os.close(handle)


def _locked(fcntl: ModuleType, handle: int, folder: Path) -> bool:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise OSError(f"another process is writing to {str(folder)!r}") from None
            time.sleep(0.05)
        except OSError:
            return False
        else:
            return True


def _remove_abandoned(folder: Path, age: float) -> None:
    """Remove what killed processes left of a result, where it is older than so many seconds."""
    for left in folder.glob(f"{_STAGING}*"):
        with suppress(OSError):
            if left.stat().st_mtime <= time.time() - age:
                _restore(left / _OLD, folder)
                shutil.rmtree(left, ignore_errors=True)


def _restore(old: Path, folder: Path) -> None:
    """Put back what a killed process had moved aside and not replaced."""
    if is_folder(old):
        for path in old.iterdir():
            if not is_there(folder / path.name):
                path.replace(folder / path.name)


def _move_in(staging: Path, folder: Path, manifest: str) -> None:
    """Move the content of `staging` into `folder`, all or nothing."""
    names = sorted((path.name for path in staging.iterdir()), key=lambda name: name == manifest)
    old = staging / _OLD
    old.mkdir()
    try:
        for name in reversed(names):
            if is_folder(folder / name):
                raise IsADirectoryError(f"{name} is a folder there")
            if is_there(folder / name):
                (folder / name).replace(old / name)
        for name in names:
            (staging / name).replace(folder / name)
    except BaseException:
        for name in names:
            if not is_there(staging / name):
                (folder / name).replace(staging / name)
            if is_there(old / name):
                (old / name).replace(folder / name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
