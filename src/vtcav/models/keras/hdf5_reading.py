"""Sound copies of HDF5 files and Keras archives, which are safe to read in this process.

A damaged file can end the process inside of HDF5, and one of 1 MB can hold gigabytes. So a process
of its own copies the values; what it cannot read is refused.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from vtcav.errors import ModelError, why
from vtcav.files.apart import can_run, run_apart
from vtcav.models.keras import hdf5_copy

_TIMES, _LEAST = 20, 64 << 20  # a file's values may be so many times its size, and this
_WEIGHTS = "model.weights.h5"
_SIZES = {
    *("units", "filters", "input_dim", "output_dim", "kernel_size", "pool_size", "num_heads"),
    *("key_dim", "value_dim", "depth_multiplier", "groups", "size", "padding", "cropping"),
}


@contextmanager
def sound_copy(path: Path) -> Iterator[Path]:
    """Yield a copy of a `.h5` file or `.keras` archive, under the same name.

    Raises:
        ModelError: When it cannot be read, or is much larger than its file.
    """
    with tempfile.TemporaryDirectory(prefix="vtcav-") as folder:
        copy = Path(folder, path.name)
        try:
            if zipfile.is_zipfile(path):
                _copy_archive(path, copy)
            else:
                _copy_hdf5(path, copy, path)
        except (
            OSError,
            ValueError,
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise ModelError(
                f"expected a .keras or .h5 file, but {str(path)!r} is neither, or damaged: "
                f"{why(error)}"
            ) from error
        yield copy


def largest_side(path: Path) -> int:
    """Return the largest side of the arrays of weights in a sound copy; 0 where there are none.

    Args:
        path: A `.h5` file, or a `.keras` archive.
    """
    h5py = import_module("h5py")
    sides = [0]

    def look(name: str, item: object) -> None:
        sides.extend(getattr(item, "shape", None) or ())

    if not zipfile.is_zipfile(path):
        with h5py.File(path) as file:
            file.visititems(look)
        return max(sides)
    with zipfile.ZipFile(path) as archive:
        if _WEIGHTS in archive.namelist():
            with archive.open(_WEIGHTS) as data, h5py.File(data) as file:
                file.visititems(look)
    return max(sides)


def check_sizes(config: object, side: int, path: Path) -> None:
    """Refuse a description whose network would be far larger than the weights beside it.

    Args:
        config: The description.
        side: The largest side of the arrays of weights.
        path: The file, for the message.

    Raises:
        ModelError: When a layer has more units than any array of weights, or an input more pixels
            than any picture.
    """
    most = max(side, 1024)
    for key, value in _numbers(config, ""):
        limit = most if key in _SIZES else 1 << 15
        if key in (*_SIZES, "batch_shape", "batch_input_shape") and value > limit:
            raise ModelError(
                f"{str(path)!r} describes a network that does not fit its weights: {key} is "
                f"{value}, and no array of weights is larger than {side}. The file is damaged; "
                "save the network again"
            )


def _numbers(config: object, key: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(config, dict):
        for name, value in config.items():
            yield from _numbers(value, str(name))
    elif isinstance(config, list):
        for value in config:
            yield from _numbers(value, key)
    elif isinstance(config, int | float):
        yield key, abs(config)


def _copy_archive(path: Path, copy: Path) -> None:
    """Copy an archive with sound weights."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as new:
        entries = archive.infolist()
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("two of its files have one name")
        if sum(entry.file_size for entry in entries) > _most(path):
            raise ValueError("its files are many times larger than the archive")
        for entry in entries:
            if entry.filename != _WEIGHTS:
                new.writestr(entry.filename, archive.read(entry))
                continue
            raw, sound = (copy.with_name(f"{name}-{_WEIGHTS}") for name in ("raw", "sound"))
            with archive.open(entry) as data, raw.open("wb") as file:
                shutil.copyfileobj(data, file)
            _copy_hdf5(raw, sound, path)
            new.write(sound, _WEIGHTS)
            raw.unlink()
            sound.unlink()


def _copy_hdf5(source: Path, target: Path, path: Path) -> None:
    """Copy an HDF5 file in a process of its own; `path` is the user's file."""
    most = _most(source)
    if can_run():
        run_apart(hdf5_copy.__file__, [str(source), str(target), str(most)], source, "HDF5")
    else:
        hdf5_copy.copy(str(source), str(target), most)


def _most(path: Path) -> int:
    return _TIMES * path.stat().st_size + _LEAST
