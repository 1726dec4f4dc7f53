"""Walk through an LMDB database: the program that `databases` runs in another process.

LMDB maps the file into memory and trusts it, so that a damaged one may end the process that reads
it. It is run as a file, by `python lmdb_probe.py PATH FOLDER`, and imports nothing of vtcav.
"""

from __future__ import annotations

import sys


def probe(path: str, folder: bool) -> None:
    """Find every key, and touch the ends of its value.

    Args:
        path: The file, or the folder that it is in.
        folder: Whether it is a folder.

    Raises:
        Exception: Of any kind, where LMDB cannot read it.
    """
    import lmdb

    with lmdb.open(
        path, subdir=folder, readonly=True, lock=False, readahead=False, create=False
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
    probe(sys.argv[1], sys.argv[2] == "folder")
