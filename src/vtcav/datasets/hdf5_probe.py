"""Read an HDF5 file's labels and outer images: the program that `arrays` runs in another process.

HDF5's library may end the process that reads a damaged file. It is run as a file, by
`python hdf5_probe.py FILE IMAGES LABELS`, and imports nothing of vtcav.
"""

from __future__ import annotations

import sys


def probe(file: str, images: str, labels: str) -> None:
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


if __name__ == "__main__":
    probe(*sys.argv[1:])
