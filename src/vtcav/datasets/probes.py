"""Read damaged files first: the program that `arrays` and `databases` run in another process.

HDF5's library may end the process that reads a damaged file. LMDB maps its file into memory and
trusts it, with the same end. It is run as a file, by `python probes.py hdf5 FILE IMAGES LABELS` or
`python probes.py lmdb PATH KIND`, and imports nothing of vtcav.
"""

from __future__ import annotations

import sys


def probe_hdf5(file: str, images: str, labels: str) -> None:
    """Read the labels, and the first and the last image, where there are such arrays.

    Args:
        file: The file.
        images: The name of the array of images.
        labels: The name of the array of labels.

    Raises:
        Exception: Of any kind, where HDF5 cannot read them.
    """
    import h5py

    with h5py.File(file, "r") as arrays:
        for name, rows in ((labels, [slice(None)]), (images, [0, -1])):
            item = arrays.get(name)
            if isinstance(item, h5py.Dataset) and item.ndim and len(item):
                for row in rows:
                    item[row]


def probe_lmdb(path: str, kind: str) -> None:
    """Find every key, and touch the ends of its value.

    Args:
        path: The file, or the folder that it is in.
        kind: "file" or "folder".

    Raises:
        Exception: Of any kind, where LMDB cannot read it.
    """
    import lmdb

    with lmdb.open(
        path, subdir=kind == "folder", readonly=True, lock=False, readahead=False, create=False
    ) as found:
        # a key that leads to itself would be met again for ever
        left = found.info()["last_pgno"] * found.stat()["psize"]
        with found.begin(buffers=True) as reading:
            for key, value in reading.cursor():
                bytes(value[:1]), bytes(value[-1:])
                reading.get(bytes(key))
                left -= len(key)
                if left < 0:
                    raise ValueError("its keys have no end")


if __name__ == "__main__":
    if sys.argv[1] == "hdf5":
        probe_hdf5(*sys.argv[2:])
    else:
        probe_lmdb(*sys.argv[2:])
