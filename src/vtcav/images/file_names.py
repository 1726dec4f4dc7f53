"""Names of files and folders: what systems leave beside images, and what a suffix means."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import PurePath

# Made by macOS, Windows, Synology, QNAP, Picasa, ext4 and Python, which no user put there; in lower
# case, as patterns.
_OF_SYSTEMS = re.compile(
    "|".join(
        map(
            fnmatch.translate,
            (
                *("__macosx", "icon\r", "network trash folder", "temporary items"),
                *("thumbs.db*", "ehthumbs*.db", "desktop.ini", "~$*", "*:zone.identifier"),
                *("$recycle.bin", "recycler", "recycled", "system volume information"),
                *("found.[0-9][0-9][0-9]", "lost+found", "@eadir", "@tmp", "@synoresource"),
                *("*@synoeastream", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
                *("picasa.ini", "zbthumbnail.info", "__pycache__"),
            ),
        )
    )
)


def hidden(name: str) -> bool:
    """Tell whether a file or folder of this name is left out of folders.

    Names that begin with a dot are, and those that operating systems and storage devices make.

    Example:
        >>> hidden(".DS_Store"), hidden("Thumbs.db"), hidden("zebra.png")
        (True, True, False)
    """
    return name.startswith(".") or made_by_system(name)


def made_by_system(name: str) -> bool:
    """Tell whether an operating system or a storage device makes files or folders of this name."""
    return _OF_SYSTEMS.match(name.casefold()) is not None


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path or URI names a Parquet file.

    Example:
        >>> is_parquet("images.PARQUET"), is_parquet("images.csv")
        (True, False)
    """
    return PurePath(path).suffix.lower() == ".parquet"
