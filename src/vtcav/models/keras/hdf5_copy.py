"""Copy an HDF5 file value by value: the program that `hdf5_reading` runs in a process of its own.

HDF5's library may end the process that reads a damaged file. It is run as a file, by
`python hdf5_copy.py FROM TO LARGEST`, and imports nothing of vtcav.
"""

from __future__ import annotations

import sys
from typing import Any


def copy(source: str, target: str, largest: int) -> None:
    """Copy groups, data sets and attributes.

    Args:
        source: The file to read.
        target: The file to write.
        largest: The most bytes that all values may have.

    Raises:
        ValueError: For links out of the file, values of other kinds, or too many bytes.
    """
    import h5py

    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        _copy_group(old, new, [largest], 0)


def _copy_group(old: Any, new: Any, left: list[int], depth: int) -> None:
    import h5py

    if depth > 100:
        raise ValueError("its groups are nested too deep")
    for name, value in old.attrs.items():
        _take(left, getattr(value, "nbytes", len(value) if isinstance(value, str | bytes) else 8))
        new.attrs[name] = value
    for name in old:
        if not isinstance(old.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name!r} is a link, which may lead to other files")
        item = old[name]
        if isinstance(item, h5py.Group):
            _copy_group(item, new.create_group(name), left, depth + 1)
        elif not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
            raise ValueError(f"{name!r} is neither a group nor values of this file")
        else:
            _take(left, item.nbytes)
            made = new.create_dataset(name, data=item[()])
            for key, value in item.attrs.items():
                made.attrs[key] = value


def _take(left: list[int], size: int) -> None:
    left[0] -= size
    if left[0] < 0:
        raise ValueError("its values are many times larger than the file")


if __name__ == "__main__":
    try:
        copy(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    except Exception as error:  # noqa: BLE001 - the caller says it
        sys.stderr.write(" ".join(f"{type(error).__name__}: {error}".split())[:300])
        sys.exit(1)
