"""Paths that begin in the user's home folder."""

from __future__ import annotations

import os
from pathlib import Path

from vtcav.files.paths import is_there


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with a leading ``~/`` replaced by the home folder.

    A folder in the working directory that is named ``~`` wins, as do names such as ``~old``.

    Example:
        >>> expanded("~/photos") == Path.home() / "photos", expanded("~old").name
        (True, '~old')
    """
    text = os.fspath(path)
    if (text == "~" or text.startswith(("~/", f"~{os.sep}"))) and not is_there(Path("~")):
        return Path(text).expanduser()
    return Path(text)
